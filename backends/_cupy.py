"""The backend CuPy: one CUDA or ROCm device, dense or sparse blocks, W-steps as fused kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

import cupy
import numpy as np
from cupyx.scipy import sparse
from scipy.sparse import issparse

from snmf.backends import Backend, SparseBackend, portable
from snmf.storage.entries import canonical

Array = Any

_kernels = import_module("snmf.backends._kernels")

BATCHED = 256  # the largest systems that CuPy solves in one batch


class Adapter(SparseBackend):
    """CuPy arrays, and CSR of cupyx.scipy.sparse."""

    name = "cupy"
    on_host = False
    threaded = False  # every thread has its own current stream

    def __init__(self, device: Any = None) -> None:
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise RuntimeError(
                "backend='cupy' needs a CUDA device and its driver; found none: "
                f"{error}. Use backend='numpy', or a machine with a GPU."
            ) from error
        number = _number(device)
        if not 0 <= number < count:
            raise ValueError(
                f"device={device!r} is not there for cupy; it sees {count} device(s), from "
                "'cuda:0' on"
            )
        super().__init__("array_api_compat.cupy", f"cuda:{number}")

    @property
    def precise(self) -> Backend:
        return self

    def active(self) -> AbstractContextManager[Any]:
        device: AbstractContextManager[Any] = cupy.cuda.Device(_number(self.device))
        return device

    def issparse(self, A: Any) -> bool:
        return bool(sparse.issparse(A))

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        with self.active():
            if issparse(A):
                known = str(A.dtype) in _kernels.REAL
                A = canonical(sparse.csr_matrix(A if known else A.astype("float64")))
            if self.issparse(A):
                return A.tocsr().astype(dtype or A.dtype, copy=False)
            return cupy.asarray(portable(A), dtype)

    def to_host(self, A: Array) -> np.ndarray:
        host: np.ndarray = A.get()
        return host

    def check(self, X: Array) -> Array:
        with self.active():
            return super().check(canonical(X) if self.issparse(X) else X)

    def take(self, A: Array, indices: np.ndarray) -> Array:
        return A[self.asarray(indices)]

    def matmul(self, A: Array, B: Array) -> Array:
        tall = A.ndim == B.ndim == 2 and A.shape[0] > B.shape[1] and not self.issparse(A)
        return (B.T @ A.T).T if tall else super().matmul(A, B)  # W-steps read it by columns

    def pinv(self, A: Array, rtol: float) -> Array:
        return cupy.linalg.pinv(A, rcond=rtol)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        return _kernels.multiplicative(A, B, W, l1 + self.tiny(W.dtype), repeats)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        return _kernels.hals(A, B, W, l1, repeats)

    def solve(self, M: Array, B: Array) -> Array:
        if M.shape[-1] <= BATCHED:
            return super().solve(M, B)
        return self.asarray(np.linalg.solve(self.to_host(M), self.to_host(B)))  # else one by one


def _number(device: Any) -> int:
    """Return the number of a device: None, 1, "cuda", "cuda:1" or cupy.cuda.Device(1)."""
    if device is None:
        return int(cupy.cuda.runtime.getDevice())
    if isinstance(device, str):
        library, _, number = device.partition(":")
        if library != "cuda" or not (number or "0").isdigit():
            raise ValueError(f"device must be 'cuda' or 'cuda:N' for cupy; got {device!r}")
        return int(number or 0)
    number = getattr(device, "id", device)
    if not isinstance(number, int):
        raise ValueError(
            "device must be None, a number, 'cuda', 'cuda:N' or a cupy.cuda.Device for cupy; "
            f"got {device!r}"
        )
    return number
