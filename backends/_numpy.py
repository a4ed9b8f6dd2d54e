"""NumPy and SciPy: dense arrays, sparse matrices, and the updates in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import issparse

from snmf.backends import Backend

Array = Any

SYSTEMS = 2**19  # entries of the systems that are solved together: 4 MiB


class Adapter(Backend):
    """NumPy arrays and SciPy sparse matrices, on the host."""

    def __init__(self, device: Any = None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"device must be None or 'cpu' for backend='numpy'; got {device!r}")
        super().__init__("numpy")

    @property
    def algebra(self) -> Backend:
        return self

    def owns(self, X: Any) -> bool:
        return isinstance(X, np.ndarray) or issparse(X)

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        return A.astype(dtype or A.dtype, copy=False) if issparse(A) else np.asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        return A  # type: ignore[no-any-return]

    def take(self, A: Array, indices: np.ndarray) -> Array:
        return A[indices]

    def to_dense(self, A: Array) -> Array:
        return A.toarray() if issparse(A) else A

    def copy(self, A: Array) -> Array:
        return A.copy()

    def matmul(self, A: Array, B: Array) -> Array:
        return A @ B  # the operator, since SciPy's sparse products answer to it alone

    def pinv(self, A: Array, rtol: float) -> Array:
        return np.linalg.pinv(A, rcond=rtol, hermitian=True)

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
        scale = np.diag(B).copy()
        scale[scale == 0] = np.inf
        others = B / scale[:, None]
        np.fill_diagonal(others, 0)
        target = np.ascontiguousarray((A - l1).T) / scale[:, None]
        W = W.T.copy()  # components as rows: what is added up lies side by side
        for j in list(range(len(B))) * repeats:
            np.subtract(target[j], others[j] @ W, out=W[j])
            np.maximum(W[j], 0, out=W[j])
        return W.T

    def row_squares(self, X: Array) -> Array:
        if issparse(X):
            return np.asarray(X.multiply(X).sum(axis=1)).ravel()
        return np.einsum("ij,ij->i", X, X)

    def row_maxima(self, X: Array) -> Array:
        return abs(X).max(axis=1).toarray().ravel() if issparse(X) else super().row_maxima(X)

    def scale_rows(self, X: Array, factors: Array) -> Array:
        return X.multiply(factors[:, None]).tocsr() if issparse(X) else X * factors[:, None]

    def row_errors(self, X: Array, W: Array, H: Array) -> Array:
        if not issparse(X):
            return super().row_errors(X, W, H)
        cross = np.einsum("ij,ij->i", X @ H.T, W)
        model = np.einsum("ij,ij->i", W @ (H @ H.T), W)
        return np.maximum(self.row_squares(X) - 2 * cross + model, 0)

    def solve_passive(self, A: Array, B: Array, passive: Array) -> Array:
        """Rows by the number of their passive components, and systems of that size."""
        Z = np.zeros_like(A)
        size = passive.sum(axis=1)
        for s in np.unique(size[size > 0]):
            together = np.flatnonzero(size == s)
            for rows in np.array_split(together, math.ceil(len(together) * s * s / SYSTEMS)):
                P = np.nonzero(passive[rows])[1].reshape(len(rows), s)
                systems = B[P[:, :, None], P[:, None, :]]
                right = np.take_along_axis(A[rows], P, axis=1)
                Z[rows[:, None], P] = np.linalg.solve(systems, right[:, :, None])[:, :, 0]
        return Z
