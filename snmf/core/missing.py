"""Missing values: NaN in X is an entry that is not observed, and F sums over the observed entries.

A pass fills the missing entries with W H.  The F of the filled X is never below the F over the
observed entries, and the two are equal at the factors that filled X.  So a step that lowers the
first lowers the second (Kiers, "Weighted least squares fitting using ordinary least squares
algorithms", Psychometrika 62(2), 1997).  One block of X is filled at a time, and is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from snmf.core import nnls, quadratic
from snmf.core.solve import Alternation, Point
from snmf.storage.rows import cut

Array = Any
RowWise = Sequence[Any]

TOGETHER = 2**17  # entries of H and B for the rows solved together: 1 MiB, held about 16 times
ON_DEVICE = 2**20  # the same number on a device, which needs more work at a time


class Observed(NamedTuple):
    """Which entries of X are observed, with the column means.

    Attributes
    ----------
    entries : int
        The number of observed entries.
    rows : ndarray of bool, of shape (n,)
        True for rows that have an observed entry.
    columns : ndarray of bool, of shape (p,)
        True for columns that have an observed entry.
    means : ndarray of shape (p,)
        The weighted mean of the observed entries of every column; 0 if it has none.
    """

    entries: int
    rows: np.ndarray
    columns: np.ndarray
    means: np.ndarray


def observed(rows: Any, weights: RowWise | None = None) -> Observed:
    """Count the observed entries of X, and compute the column means.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X; every entry is finite or NaN.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights for the means, block by block, all above zero. None is 1 for each.

    Returns
    -------
    Observed
    """
    ops, (n, p) = rows.backend, rows.shape

    def ones(*shape: int) -> Array:
        return ops.asarray(np.ones(shape), rows.dtype)

    def look(X: Array, D: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
        left, right = ones(1, X.shape[0]), ones(1, p)
        missing = ops.filled(0 * X, left.T, right)  # 1 for missing entries, 0 for the others
        known = ops.filled(X, left.T, 0 * right)
        in_row = ops.to_host(ops.matmul(missing, right.T))[:, 0]
        sums = ops.matmul(left, missing), ops.matmul(left, known)
        if D is None:
            return in_row, sums
        if hasattr(missing, "nnz"):  # the complement of a sparse matrix is dense
            total = ops.xp.sum(D) * right - ops.matmul(D.T, missing)
        else:
            total = ops.matmul(D.T, 1 - missing)
        return in_row, (*sums, total, ops.matmul(D.T, known))

    in_rows, sums = rows.map_sum(look, weights)
    in_columns, *totals = (A[0] for A in sums)
    known = n - in_columns
    means = totals[0] / np.where(known > 0, known, 1)
    if weights is not None:
        total, weighted = totals[1:]
        # a smaller total is rounding of the difference of two sums: use the unweighted mean
        clear = total > 64 * np.finfo(rows.dtype).eps * total.max()
        means = np.where(clear, weighted / np.where(clear, total, 1), means)
    seen = np.concatenate(list(rows.to_host(in_rows))) < p
    return Observed(round(known.sum()), seen, known > 0, means)


@dataclass(frozen=True)
class Incomplete(Alternation):
    """The alternation for rows with missing entries.

    Parameters
    ----------
    means : ndarray of shape (p,)
        The column means, which fill the missing entries at the start, before there is an H.
    """

    means: np.ndarray | None = None
    complete: ClassVar[type[Alternation]] = Alternation  # for rows without missing entries
    only_multiplies: ClassVar[bool] = False

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        same = {f.name: getattr(self, f.name) for f in fields(self.complete)}
        filled = self.complete(**{**same, "rows": self.rows.filled(self.means)})
        point = filled.start(W, H)
        return self._point(point.W, point.H, *filled.sums(point.W))

    def _complete(self, X: Array, W: Array, H: Array) -> Array:
        return self._ops.filled(X, self._columns(W), H)

    def _error(self, W: RowWise, H: Array, S: Array, T: Array) -> float:
        return self._residual(W, H)  # S and T include the filled entries


def best_weights(
    ops: Any, X: Array, components: nnls.Components, l1: float
) -> tuple[Array, Array, Array]:
    """Compute what `snmf.core.nnls.best_weights` computes, over the observed entries of each row.

    Each row has its own B = H M Hᵀ, where the diagonal M is 1 for its observed entries.  If B is
    singular, as with fewer entries than components, a ridge selects one of the minimisers.
    """
    k = components.H.shape[0]
    complete = ~ops.xp.isnan(ops.row_squares(X))
    W = ops.asarray(np.zeros((X.shape[0], k)))
    squares, powers = 0 * W[:, 0], 0 * W[:, 0]
    whole = ops.xp.nonzero(complete)[0]
    if whole.shape[0]:
        W[whole], squares[whole], powers[whole] = nnls.best_weights(ops, X[whole], components, l1)
    others = ops.xp.nonzero(~complete)[0]
    entries = TOGETHER if ops.on_host else ON_DEVICE
    together = max(1, entries // (k * max(components.H.shape)))
    for some in cut(0, others.shape[0], together):
        part = others[some]
        rows = ops.to_dense(X[part])
        W[part], squares[part], powers[part] = _of_incomplete(
            ops, rows, ~ops.xp.isnan(rows), components, l1
        )
    return W, squares, powers


def _of_incomplete(
    ops: Any, X: Array, known: Array, components: nnls.Components, l1: float
) -> tuple[Array, Array, Array]:
    H = components.H
    X, powers = nnls.at_unit_scale(ops, ops.xp.where(known, X, 0.0))
    M = ops.xp.astype(known, X.dtype)
    penalty = nnls.penalty_at_scale(ops, l1, powers)
    squares = ops.row_squares(X)
    curvature = quadratic.Curvature(ops, ops.matmul(H[None, :, :] * M[:, None, :], H.T))

    def gradient(rows: Array, W: Array) -> Array:
        residual = M[rows] * (X[rows] - quadratic.times(ops, W, H[None, :, :]))
        return quadratic.times(ops, residual, H.T[None, :, :]) - penalty[rows]

    A = quadratic.times(ops, X, H.T[None, :, :]) - penalty  # row by row, with the rounding of B
    W, left = quadratic.nnls(curvature, A, squares**0.5, gradient)
    if l1:
        W = quadratic.by_active_sets(curvature, A, W, left)
    else:
        if components.hides:
            left = ops.xp.nonzero(ops.xp.any(W > 0, axis=1))[0]
        _by_active_sets(ops, X, M, H, W, left)
    return W, ops.row_squares(M * (X - ops.matmul(W, H))), powers


def _by_active_sets(ops: Any, X: Array, M: Array, H: Array, W: Array, left: Array) -> None:
    """Solve the rows `left` again by Lawson & Hanson's method; change W in place if not worse.

    The method works on H itself, since the condition of B is that of H squared.
    """
    host, mask, data = (ops.to_host(A) for A in (H, M, X))
    for i in map(int, left):
        ours = ops.asarray(quadratic.active_set((host * mask[i]).T, data[i])[None, :])
        errors = [float(ops.row_squares(M[i] * (X[i] - w @ H))[0]) for w in (ours, W[i : i + 1])]
        if errors[0] <= errors[1]:
            W[i] = ours[0]
