"""The backend NumPy and SciPy: dense and sparse blocks on the host, with updates in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from snmf.backends import Backend, SparseBackend
from snmf.core import in_place
from snmf.core import passive as _passive
from snmf.storage.csr import rows_of, transposed
from snmf.storage.entries import matrix, refuse_others
from snmf.storage.sparse_group import opened
from snmf.storage.stored import Store, is_stored
from snmf.storage.threads import BLAS

Array = Any


class Adapter(SparseBackend):
    """NumPy arrays, SciPy sparse matrices, and all that scikit-learn converts to these."""

    name = "numpy"

    def __init__(self, device: Any = None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu' for backend='numpy'; got {device!r}")
        super().__init__("numpy")

    @property
    def algebra(self) -> Backend:
        return self

    def threads_of_products(self) -> int:
        return BLAS.threads

    def issparse(self, A: Any) -> bool:
        return bool(issparse(A))

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        if isinstance(A, Store):
            A = A.read(slice(0, len(A)))
        return A.astype(dtype or A.dtype, copy=False) if issparse(A) else np.asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        return A  # type: ignore[no-any-return]

    def opened(self, X: Any) -> Any:
        return opened(X)

    def check(self, X: Any) -> Array:
        if is_stored(X):
            X = Store(X)
        if isinstance(X, Store):
            return refuse_others(super().check(X))
        return matrix(X)

    def slice(self, A: Array, rows: slice) -> Array:
        return rows_of(A, rows) if issparse(A) else A[rows]

    def take(self, A: Array, indices: np.ndarray) -> Array:
        return A[indices]

    def matmul(self, A: Array, B: Array) -> Array:
        if not issparse(B) or B.format != "csr":
            return super().matmul(A, B)
        return (transposed(B) @ A.T).T

    def pinv(self, A: Array, rtol: float) -> Array:
        inverse, condition = _passive.inverse(A)
        if condition < min(_passive.WELL_CONDITIONED, 1 / rtol):  # no singular value to cut off
            return inverse
        return np.linalg.pinv(A, rcond=rtol, hermitian=True)

    def positive_part(self, A: Array) -> Array:
        return np.maximum(A, 0)

    def negative_part(self, A: Array) -> Array:
        return np.maximum(-A, 0)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        return in_place.multiplicative(A, B, W, l1, repeats, self.tiny(W.dtype))

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        return in_place.hals(A, B, W, l1, repeats)

    def row_squares(self, X: Array) -> Array:
        return super().row_squares(X) if issparse(X) else np.einsum("ij,ij->i", X, X)
