"""NumPy and SciPy: dense and sparse blocks on the host, and the updates in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array
from threadpoolctl import ThreadpoolController

from snmf._stored import Store, is_stored
from snmf.backends import Backend, SparseBackend

Array = Any

WELL_CONDITIONED = 1e6  # up to there B⁻¹ keeps ten digits
SYSTEMS = 2**19  # entries of the systems that are solved together: 4 MiB


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
        blas = ThreadpoolController().select(user_api="blas").info()
        return max((library["num_threads"] for library in blas), default=1)

    def issparse(self, A: Any) -> bool:
        return bool(issparse(A))

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        return A.astype(dtype or A.dtype, copy=False) if issparse(A) else np.asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        return A  # type: ignore[no-any-return]

    def check(self, X: Any) -> Array:
        if is_stored(X):
            X = Store(X)
        if isinstance(X, Store):
            return _real(super().check(X))
        if np.ma.is_masked(X):
            raise ValueError("X must not be masked: fill or drop its masked entries")
        X = check_array(
            X, accept_sparse="csr", dtype="numeric", ensure_all_finite=False, input_name="X"
        )
        return _real(X)

    def slice(self, A: Array, rows: slice) -> Array:
        if not issparse(A):
            return A[rows]
        pointers = A.indptr[rows.start : rows.stop + 1]
        first, last = pointers[0], pointers[-1]
        view = A.data[first:last], A.indices[first:last], pointers - first  # A[rows] would copy
        return type(A)(view, shape=(len(pointers) - 1, A.shape[1]))

    def take(self, A: Array, indices: np.ndarray) -> Array:
        return A.take(indices) if isinstance(A, Store) else A[indices]

    def pinv(self, A: Array, rtol: float) -> Array:
        inverse = _inverse(A, min(WELL_CONDITIONED, 1 / rtol))  # then there is nothing to cut off
        return np.linalg.pinv(A, rcond=rtol, hermitian=True) if inverse is None else inverse

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

    def row_products(self, X: Array, H: Array) -> Array:
        if issparse(X):
            return X @ H.T
        columns = np.ascontiguousarray(H.T)
        return np.stack([np.ascontiguousarray(x) @ columns for x in X])

    def row_squares(self, X: Array) -> Array:
        return super().row_squares(X) if issparse(X) else np.einsum("ij,ij->i", X, X)

    def solve_passive(self, A: Array, B: Array, passive: Array) -> Array:
        """On the smaller side: few zeros come from u = a B⁻¹, less what makes them zero."""
        if B.ndim == 3:
            return super().solve_passive(A, B, passive)
        inverse = _inverse(B, WELL_CONDITIONED)
        if inverse is None:
            return _by_size(A, B, passive)
        few_zeros = 2 * passive.sum(axis=1) > len(B)
        Z = np.empty_like(A)
        Z[~few_zeros] = _by_size(A[~few_zeros], B, passive[~few_zeros])
        U, active = A[few_zeros] @ inverse, ~passive[few_zeros]
        U -= _by_size(U, inverse, active) @ inverse
        U[active] = 0
        Z[few_zeros] = U
        return Z


def _real(X: Array) -> Array:
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold real numbers; got dtype {X.dtype}")
    return X


def _inverse(A: Array, condition: float) -> Array | None:
    """The inverse of a symmetric matrix, if its condition is certain to be below that."""
    try:
        inverse = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return None
    return inverse if np.linalg.norm(A, 1) * np.linalg.norm(inverse, 1) < condition else None


def _by_size(A: Array, B: Array, passive: Array) -> Array:
    """`Backend.solve_passive`, in systems of the size of the passive set."""
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
