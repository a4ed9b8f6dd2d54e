"""The backend CuPy: one CUDA or ROCm device, dense or sparse blocks, W-steps as fused kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np
from cupyx.scipy import sparse
from scipy.sparse import issparse

from snmf.backends import Backend, SparseBackend, portable
from snmf.core import passive as _passive
from snmf.storage.entries import canonical

Array = Any

SOURCE = Path(__file__).with_name("_kernels.cu").read_text(encoding="utf-8")
SOURCE = SOURCE.encode("ascii", "ignore").decode()  # CuPy saves it in the encoding of the locale
REAL = {"float32": "float", "float64": "double"}
THREADS = 128  # in a block of the device
BATCHED = 256  # the largest systems that CuPy solves in one batch


@cache
def kernel(name: str, dtype: Any) -> Any:
    """Return a kernel for a dtype; it compiles once for every device."""
    return cupy.RawKernel(f"typedef {REAL[str(dtype)]} real;\n{SOURCE}", name)


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
    def algebra(self) -> Backend:
        return self

    def active(self) -> AbstractContextManager[Any]:
        device: AbstractContextManager[Any] = cupy.cuda.Device(_number(self.device))
        return device

    def issparse(self, A: Any) -> bool:
        return bool(sparse.issparse(A))

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        with self.active():
            if issparse(A):
                known = str(A.dtype) in REAL
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

    def pinv(self, A: Array, rtol: float) -> Array:
        return cupy.linalg.pinv(A, rcond=rtol)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        step, real = kernel("multiplicative", W.dtype), W.dtype.type
        A, W = cupy.ascontiguousarray(A), W.copy(order="C")
        B_plus, B_minus = self.positive_part(B), self.negative_part(B)
        for _ in range(repeats):
            given = (A, W @ B_minus, W @ B_plus, real(l1 + self.tiny(W.dtype)), W, np.int64(W.size))
            step((-(-W.size // THREADS),), (THREADS,), given)
        return W

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        n, k = W.shape
        A, B, W = (cupy.ascontiguousarray(M) for M in (A.T, B, W.T.copy(order="C")))
        given = (A, B, W.dtype.type(l1), W, np.int64(n), np.int32(k), np.int32(repeats))
        kernel("hals", W.dtype)((-(-n // THREADS),), (THREADS,), given)
        return W.T

    def eliminate(self, A: Array, M: Array, passive: Array) -> Array:
        if M.shape[0] <= BATCHED:
            return super().eliminate(A, M, passive)
        A, M, passive = map(self.to_host, (A, M, passive))  # CuPy would solve them one by one
        return self.asarray(_passive.by_size(A, M, passive))


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
