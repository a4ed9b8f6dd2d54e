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
from snmf.storage.rows import cut

Array = Any

SOURCE = Path(__file__).with_name("_kernels.cu").read_text(encoding="utf-8")
SOURCE = SOURCE.encode("ascii", "ignore").decode()  # CuPy saves it in the encoding of the locale
REAL = {"float32": "float", "float64": "double"}
THREADS = 128  # in a block of the device
FUSED = {"float32": 64, "float64": 48}  # the most columns whose B fits in 48 KiB of shared memory
BATCHED = 256  # the largest systems that CuPy solves in one batch


@cache
def kernel(name: str, dtype: Any, columns: int = 1) -> Any:
    """Return a kernel for a dtype and a number of columns; it compiles once for every device."""
    return cupy.RawKernel(source(dtype, columns), name)


def source(dtype: Any, columns: int) -> str:
    """Return the source of the kernels for a dtype and a number of columns."""
    return f"typedef {REAL[str(dtype)]} real;\n#define K {columns}\n{SOURCE}"


def launch(name: str, count: int, columns: int, *given: Any) -> None:
    """Run a kernel on this many threads, with the given arguments."""
    kernel(name, given[0].dtype, columns)((-(-count // THREADS),), (THREADS,), given)


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

    def matmul(self, A: Array, B: Array) -> Array:
        tall = A.ndim == B.ndim == 2 and A.shape[0] > B.shape[1] and not self.issparse(A)
        return (B.T @ A.T).T if tall else super().matmul(A, B)  # W-steps read it by columns

    def pinv(self, A: Array, rtol: float) -> Array:
        return cupy.linalg.pinv(A, rcond=rtol)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        n, k = W.shape
        A, W = cupy.ascontiguousarray(A.T), W.T.copy(order="C")
        l1 = W.dtype.type(l1 + self.tiny(W.dtype))
        if k <= FUSED[str(W.dtype)]:
            B = cupy.ascontiguousarray(B)
            launch("multiplicative", n, k, A, B, l1, W, np.int64(n), np.int32(repeats))
            return W.T
        B_plus, B_minus = self.positive_part(B), self.negative_part(B)
        for _ in range(repeats):
            products = B_minus @ W, B_plus @ W
            launch("multiplicative_of_products", W.size, 1, A, *products, l1, W, np.int64(W.size))
        return W.T

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        n, k = W.shape
        A, W, l1 = cupy.ascontiguousarray(A.T), W.T.copy(order="C"), W.dtype.type(l1)
        groups = cut(0, k, -(-k // -(-k // FUSED[str(W.dtype)])))
        alone = len(groups) == 1
        for _ in range(1 if alone else repeats):
            for some in groups:
                within, others = cupy.ascontiguousarray(B[some, some]), B[some].copy()
                others[:, some] = 0
                left = A if alone else A[some] - others @ W
                sizes = np.int64(n), np.int32(repeats if alone else 1)
                launch("hals", n, len(within), left, within, l1, W[some], *sizes)
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
