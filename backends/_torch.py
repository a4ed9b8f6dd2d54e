"""PyTorch: CPU, CUDA, ROCm, MPS, XPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from snmf.backends import Backend

Array = Any


class Adapter(Backend):
    """Tensors, without autograd; on a device without float64, float64 is left to NumPy."""

    name = "torch"

    def __init__(self, device: Any = None) -> None:
        try:
            there = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device={device!r} is not there for torch: {error}") from error
        super().__init__("array_api_compat.torch", str(there))

    @property
    def widest(self) -> str:
        return "float32" if self.device.startswith("mps") else "float64"

    @property
    def algebra(self) -> Backend:
        on_device = self.device != "cpu" and self.widest == "float64"
        return self if on_device else super().algebra  # NumPy shares the memory of the host

    @contextmanager
    def active(self) -> Iterator[None]:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # no TF32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        dtype = min(dtype, self.widest) if dtype and dtype[0] == "f" else dtype
        if isinstance(A, torch.Tensor):
            return A.detach().to(self.device, getattr(torch, dtype or "", None))
        if isinstance(A, np.ndarray) and not (A.flags.writeable and min(A.strides, default=0) >= 0):
            A = A.copy()  # torch takes neither read-only arrays nor negative strides
        if self.widest == "float32" and getattr(A, "dtype", None) == np.float64:
            A, dtype = A.astype("float32"), dtype and "float32"
        return super().asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        A = A.detach().cpu()
        return (A.float() if A.dtype == torch.bfloat16 else A).numpy()  # type: ignore[no-any-return]

    def copy(self, A: Array) -> Array:
        return A.clone()

    def pinv(self, A: Array, rtol: float) -> Array:
        return torch.linalg.pinv(A, rtol=rtol, hermitian=True)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        scale = torch.where(B.diagonal() > 0, B.diagonal(), torch.inf)[:, None]
        others = (B / scale).fill_diagonal_(0)
        target = (A - l1).T.contiguous() / scale
        W = W.T.clone(memory_format=torch.contiguous_format)  # components as rows, side by side
        for j in list(range(len(B))) * repeats:
            torch.sub(target[j], others[j] @ W, out=W[j]).clamp_(min=0)
        return W.T
