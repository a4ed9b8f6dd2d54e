"""The backend PyTorch: CPU, CUDA, ROCm, MPS or XPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from snmf.backends import Backend
from snmf.storage.threads import Shared

Array = Any


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 products without TF32 or bfloat16; the setting differs from torch 2.9 on."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        legacy = torch.get_float32_matmul_precision()  # from 2.9 on it may raise
        try:
            torch.set_float32_matmul_precision("highest")
            yield
        finally:
            torch.set_float32_matmul_precision(legacy)
        return
    products = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "ieee"
        yield
    finally:
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = "none"  # follow torch.backends
            if product.fp32_precision != precision:
                product.fp32_precision = precision


FULL_PRECISION = Shared(_full_precision)


class Adapter(Backend):
    """PyTorch tensors, without autograd; NumPy computes in float64 if the device cannot."""

    name = "torch"

    def __init__(self, device: Any = None) -> None:
        try:
            there = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:
            raise ValueError(f"device={device!r} is not there for torch: {error}") from error
        if there.type == "meta":
            raise ValueError(
                "the device 'meta' holds shapes, and no numbers to compute with. Give tensors on "
                "another device, or name another."
            )
        super().__init__("array_api_compat.torch", str(there))

    @property
    def widest(self) -> str:
        kind = self.device.split(":")[0]
        narrow = kind == "mps" or (
            kind == "xpu" and not torch.xpu.get_device_properties(self.device).has_fp64
        )
        return "float32" if narrow else "float64"

    @property
    def on_host(self) -> bool:
        return bool(self.device == "cpu")

    @property
    def threaded(self) -> bool:
        return self.on_host  # every thread has its own current stream

    @property
    def precise(self) -> Backend:
        on_device = self.device != "cpu" and self.widest == "float64"
        return self if on_device else super().precise  # NumPy shares the memory of the host

    @contextmanager
    def active(self) -> Iterator[None]:
        kind = self.device.split(":")[0]
        can = torch.amp.is_autocast_available(kind)
        no_autocast = torch.autocast(kind, enabled=False) if can else nullcontext()
        with FULL_PRECISION, no_autocast:
            yield

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        if isinstance(A, torch.Tensor):
            A = A.detach()
        if isinstance(A, np.ndarray) and not (A.flags.writeable and min(A.strides, default=0) >= 0):
            A = A.copy()  # torch accepts neither read-only arrays nor negative strides
        return super().asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        A = A.detach().cpu()
        return (A.float() if A.dtype == torch.bfloat16 else A).numpy()  # type: ignore[no-any-return]

    def is_dense(self, A: Any) -> bool:
        return super().is_dense(A) and getattr(A, "layout", torch.strided) is torch.strided

    def pinv(self, A: Array, rtol: float) -> Array:
        return torch.linalg.pinv(A, rtol=rtol, hermitian=True)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        scale = torch.where(B.diagonal() > 0, B.diagonal(), torch.inf)[:, None]
        others = (B / scale).fill_diagonal_(0)
        target = (A - l1).T.contiguous() / scale
        W = W.T.clone(memory_format=torch.contiguous_format)  # components as contiguous rows
        for j in list(range(len(B))) * repeats:
            torch.sub(target[j], others[j] @ W, out=W[j]).clamp_(min=0)
        return W.T
