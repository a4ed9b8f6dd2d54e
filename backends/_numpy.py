"""NumPy and SciPy: dense and sparse blocks on the host, and the updates in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_array, issparse

from snmf.backends import Backend, SparseBackend
from snmf.core import passive as _passive
from snmf.storage.entries import matrix, refuse_others
from snmf.storage.stored import Store, is_stored
from snmf.storage.threads import BLAS

Array = Any


class Adapter(SparseBackend):
    """NumPy arrays and SciPy sparse matrices, and all that scikit-learn makes one of them."""

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

    def check(self, X: Any) -> Array:
        if is_stored(X):
            X = Store(X)
        if isinstance(X, Store):
            return refuse_others(super().check(X))
        return matrix(X)

    def slice(self, A: Array, rows: slice) -> Array:
        if not issparse(A):
            return A[rows]
        pointers = A.indptr[rows.start : rows.stop + 1]
        stored = slice(pointers[0], pointers[-1])
        shape = len(pointers) - 1, A.shape[1]
        return _sharing(type(A), shape, A.data[stored], A.indices[stored], pointers - pointers[0])

    def take(self, A: Array, indices: np.ndarray) -> Array:
        return A[indices]

    def matmul(self, A: Array, B: Array) -> Array:
        if not issparse(B) or B.format != "csr":
            return super().matmul(A, B)
        transposed = _sharing(csc_array, B.shape[::-1], B.data, B.indices, B.indptr)
        return (transposed @ A.T).T

    def pinv(self, A: Array, rtol: float) -> Array:
        inverse, condition = _passive.inverse(A)
        if condition < min(_passive.WELL_CONDITIONED, 1 / rtol):  # then there is nothing to cut off
            return inverse
        return np.linalg.pinv(A, rcond=rtol, hermitian=True)

    def positive_part(self, A: Array) -> Array:
        return np.maximum(A, 0)

    def negative_part(self, A: Array) -> Array:
        return np.maximum(-A, 0)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        B_plus, B_minus = self.positive_part(B), self.negative_part(B)
        A_plus = self.positive_part(A)
        A_minus = A_plus - A
        A_minus += l1 + self.tiny(W.dtype)
        W = W.copy()
        attract, repel = np.empty_like(W), np.empty_like(W)
        for _ in range(repeats):
            np.matmul(W, B_minus, out=attract)
            attract += A_plus
            np.matmul(W, B_plus, out=repel)
            repel += A_minus
            attract /= repel
            np.sqrt(attract, out=attract)
            W *= attract
        return W

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        scale = np.diag(B).copy()[:, None]
        scale[scale == 0] = np.inf
        others = B / scale
        np.fill_diagonal(others, 0)
        target = A.T.copy()  # components as rows: what is added up lies side by side
        target -= l1
        target /= scale
        W = W.T.copy()
        for j in list(range(len(B))) * repeats:
            np.subtract(target[j], others[j] @ W, out=W[j])
            np.maximum(W[j], 0, out=W[j])
        return W.T

    def row_squares(self, X: Array) -> Array:
        return super().row_squares(X) if issparse(X) else np.einsum("ij,ij->i", X, X)

    def solve_passive(self, A: Array, system: Any, passive: Array) -> Array:
        if system.matrix.ndim == 3:
            return super().solve_passive(A, system, passive)
        return _passive.solve(A, system.matrix, system.inverse, passive)

    def eliminate(self, A: Array, M: Array, passive: Array) -> Array:
        by_size = super().eliminate if M.ndim == 3 else _passive.by_size
        return by_size(A, M, passive)


def _sharing(kind: Any, shape: tuple[int, int], data: Array, indices: Array, indptr: Array) -> Any:
    """A sparse matrix of these very arrays: its constructor copies a short piece of a long one."""
    A = kind(shape)
    A.data, A.indices, A.indptr = data, indices, indptr
    return A
