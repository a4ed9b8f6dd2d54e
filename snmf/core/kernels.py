"""Kernels in place of products of rows, and the rows of a kernel matrix, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg

from snmf.storage.rows import COMFORTABLE, Rows, Scale, cut

Array = Any
RowWise = Any

IN_MEMORY = 2**28  # bytes of kernel values that a fit keeps; more are computed in every pass
RIDGE = 8  # in units of rounding: without it opposite candidates grow, and cancel each other
TOGETHER = 64  # rows whose k(x, x) is the diagonal of one matrix


@dataclass(frozen=True)
class Kernel:
    """A kernel of scikit-learn, or a function of two rows.

    Parameters
    ----------
    metric : str or callable
        The kernel, as `sklearn.metrics.pairwise.pairwise_kernels` takes it, or "precomputed".
    parameters : dict, default={}
        Its parameters. A kernel that is named ignores those that it does not have.
    """

    metric: str | Callable[..., float]
    parameters: dict[str, Any] = field(default_factory=dict)

    def between(self, X: Array, Y: Array) -> np.ndarray:
        """Return the kernel of every row of X with every candidate.

        The candidates are rows Y. For a precomputed kernel they are the indices of columns.
        """
        from sklearn.metrics.pairwise import pairwise_kernels  # slow to import

        if self.metric == "precomputed":
            columns = X[:, Y]
            return columns.toarray() if hasattr(columns, "toarray") else np.asarray(columns)
        named = isinstance(self.metric, str)
        values: np.ndarray = pairwise_kernels(
            X, Y, metric=self.metric, filter_params=named, **self.parameters
        )
        return values

    def diagonal(self, X: Array, places: np.ndarray) -> np.ndarray:
        """Return k(x, x) of some rows; a precomputed kernel has it in the columns `places`."""
        if self.metric == "precomputed":
            return np.ravel(X[np.arange(X.shape[0]), places])
        step = TOGETHER if isinstance(self.metric, str) else 1
        parts = (X[some] for some in cut(0, X.shape[0], step))
        return np.concatenate([np.diagonal(self.between(part, part)) for part in parts])


def check_gram(K: np.ndarray, eps: float) -> np.ndarray:
    """Return the kernel matrix of the candidates; raise ValueError if it is not one of products.

    `eps` is the precision of the entries. The diagonal gets a ridge of this size.
    """
    tolerance = eps**0.5 * float(np.max(np.abs(K)))
    if not tolerance:
        return K
    if not np.allclose(K, K.T, rtol=0, atol=tolerance):
        raise ValueError(
            "The kernel must be symmetric, k(x, y) = k(y, x); that of the candidates is not."
        )
    K = (K + K.T) / 2
    try:
        scipy.linalg.cholesky(K + tolerance * np.eye(len(K)), check_finite=False)
    except np.linalg.LinAlgError:
        raise ValueError(
            "The kernel must be positive semidefinite; that of the candidates has a negative "
            "eigenvalue. Choose another kernel, such as kernel='rbf'."
        ) from None
    K.flat[:: len(K) + 1] *= 1 + RIDGE * eps
    return K


class KernelRows:
    """The rows of the kernel matrix of X and the candidates: `Rows` whose blocks are computed.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X, on the host.
    kernel : Kernel
        The kernel.
    candidates : array of shape (m, p), or of indices, of shape (m,)
        The candidates, as `Kernel.between` takes them.
    """

    def __init__(self, rows: Rows, kernel: Kernel, candidates: Array) -> None:
        self.rows, self.kernel, self.candidates = rows, kernel, candidates
        self.shape = (len(rows), candidates.shape[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)

    def __len__(self) -> int:
        return self.shape[0]

    def scaled(self, exponent: int) -> KernelRows:
        """Return these rows: those of a kernel matrix are never scaled."""
        return self

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: RowWise | None
    ) -> tuple[RowWise, list[Any]]:
        """Map a function over the blocks, as `Rows.map_sum` does."""
        return self.rows.map_sum(lambda X, *parts: function(self._of(X), *parts), *row_wise)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return some rows, on the host."""
        return self._of(self.rows.take(indices))

    def _of(self, X: Array) -> np.ndarray:
        values = self.kernel.between(X, self.candidates).astype(self.rows.dtype, copy=False)
        if not np.isfinite(values).all():
            raise ValueError("The kernel must return finite values; got NaN or infinity. Scale X.")
        return values

    def kept_in_memory(self) -> Any:
        """Return the same rows, computed once if they are few enough to stay in memory."""
        if self.shape[0] * self.shape[1] * np.dtype(self.rows.dtype).itemsize > IN_MEMORY:
            return self
        parts, _ = self.map_sum(lambda G: (G, ()))
        return self.rows.over(self.rows.join(parts))


def scale_of(rows: Rows, kernel: Kernel, weights: RowWise | None = None) -> Scale:
    """Return the scale of rows in the space of the kernel, where ‖x‖² = k(x, x).

    Raises
    ------
    ValueError
        If k(x, x) is negative, or so large or small that its square is no number.
    """
    places = rows.split(rows.places(np.arange(len(rows)))[:, None])

    def of_block(X: Array, place: Array, D: Array | None = None) -> tuple[np.ndarray, tuple[Any]]:
        squares = kernel.diagonal(X, place[:, 0].astype(int)).astype("float64")
        return squares, (np.sum(squares if D is None else squares * D[:, 0]),)

    parts, (total,) = rows.map_sum(of_block, places, weights)
    squares, most = np.concatenate(list(parts)), COMFORTABLE[rows.dtype]
    if not np.min(squares) >= 0:
        raise ValueError(f"k(x, x) must be from 0; its smallest value is {np.min(squares):g}")
    longest = float(np.max(squares)) ** 0.5
    if longest and not 1 / most < longest < most:
        raise ValueError(
            f"k(x, x) must be between {most**-2:g} and {most**2:g} for {rows.dtype}; its largest "
            f"is {longest**2:g}. Scale X, or change the parameters of the kernel."
        )
    return Scale(0, float(total), longest, longest)
