"""The kernels of `_kernels.cu` for CuPy arrays; more columns than they hold go through products."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from snmf.storage.rows import cut

Array = Any

SOURCE = Path(__file__).with_name("_kernels.cu").read_text(encoding="utf-8")
SOURCE = SOURCE.encode("ascii", "ignore").decode()  # CuPy saves it in the encoding of the locale
REAL = {"float32": "float", "float64": "double"}
THREADS = 128  # in a block of the device
FUSED = {"float32": 64, "float64": 48}  # the most columns whose B fits in 48 KiB of shared memory


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


def multiplicative(A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """Make the W-step of `snmf.core.updates.multiplicative`; `l1` is not zero."""
    n, k = W.shape
    A, W = cupy.ascontiguousarray(A.T), W.T.copy(order="C")
    l1 = W.dtype.type(l1)
    if k <= FUSED[str(W.dtype)]:
        B = cupy.ascontiguousarray(B)
        launch("multiplicative", n, k, A, B, l1, W, np.int64(n), np.int32(repeats))
        return W.T
    B_plus, B_minus = cupy.maximum(B, 0), cupy.maximum(-B, 0)
    for _ in range(repeats):
        products = B_minus @ W, B_plus @ W
        launch("multiplicative_of_products", W.size, 1, A, *products, l1, W, np.int64(W.size))
    return W.T


def hals(A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """Make the W-step of `snmf.core.updates.hals`."""
    n, k = W.shape
    A, W, l1 = cupy.ascontiguousarray(A.T), W.T.copy(order="C"), W.dtype.type(l1)
    groups = cut(0, k, -(-k // -(-k // FUSED[str(W.dtype)])))
    alone = len(groups) == 1
    for _ in range(1 if alone else repeats):
        for some in groups:
            within, left = cupy.ascontiguousarray(B[some, some]), A
            if not alone:
                others = B[some].copy()
                others[:, some] = 0
                left = A[some] - others @ W
            sizes = np.int64(n), np.int32(repeats if alone else 1)
            launch("hals", n, len(within), left, within, l1, W[some], *sizes)
    return W.T
