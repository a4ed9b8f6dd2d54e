"""Missing values: entries of X that are NaN are not observed, and F sums over the others.

A pass fills them by what the factors say of them, W H.  The F of the filled X is nowhere below the
F over the observed entries, and equal to it at the factors that filled it; so what lowers the one
lowers the other (Kiers, "Weighted least squares fitting using ordinary least squares algorithms",
Psychometrika 62(2), 1997).  A block of X is filled at a time, and is forgotten after its pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from snmf.core import nnls, quadratic
from snmf.core.solve import Alternation, Point
from snmf.storage.rows import cut

Array = Any
RowWise = Sequence[Any]

TOGETHER = 2**17  # entries of H and B for the rows solved together: 1 MiB, held about 16 times
ON_DEVICE = 2**20  # likewise on a device, which needs more work at a time


class Observed(NamedTuple):
    """Which entries of X are observed, with the column means.

    Attributes
    ----------
    entries : int
        The number of observed entries.
    rows : ndarray of bool, of shape (n,)
        Which rows have an observed entry.
    columns : ndarray of bool, of shape (p,)
        Which columns have one.
    means : ndarray of shape (p,)
        The weighted mean of the observed entries of a column, 0 where there is none.
    """

    entries: int
    rows: np.ndarray
    columns: np.ndarray
    means: np.ndarray


def observed(rows: Any, weights: RowWise | None = None) -> Observed:
    """Which entries of X are observed, in rows whose entries are finite or NaN.

    Parameters
    ----------
    rows : Rows of shape (n, p)
    weights : sequence of arrays of shape (b, 1), default=None
        Row-wise, the weights of the rows in the means, all above zero. None is 1 for each.
    """
    ops, (n, p) = rows.backend, rows.shape

    def ones(*shape: int) -> Array:
        return ops.asarray(np.ones(shape), rows.dtype)

    def look(X: Array, D: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
        left, right = ones(1, X.shape[0]), ones(1, p)
        missing = ops.filled(0 * X, left.T, right)  # 1 there, and 0 elsewhere
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

    in_rows, sums = rows.map_sum(look, *(() if weights is None else (weights,)))
    in_columns, *totals = (ops.algebra.to_host(A)[0] for A in sums)
    known = n - in_columns
    means = totals[0] / np.where(known > 0, known, 1)
    if weights is not None:
        total, weighted = totals[1:]
        # below that the difference of two sums is rounding, and weights may all have vanished
        clear = total > 64 * np.finfo(rows.dtype).eps * total.max()
        means = np.where(clear, weighted / np.where(clear, total, 1), means)
    seen = np.concatenate(list(rows.to_host(in_rows))) < p
    return Observed(round(known.sum()), seen, known > 0, means)


@dataclass(frozen=True)
class Incomplete(Alternation):
    """The alternation for rows of which entries are missing.

    Parameters
    ----------
    means : ndarray of shape (p,)
        What stands for them while H is not known.
    """

    means: np.ndarray | None = None

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        same = {f.name: getattr(self, f.name) for f in fields(Alternation)}
        filled = Alternation(**{**same, "rows": self.rows.filled(self.means)})
        point = filled.start(W, H)
        return self._point(point.W, point.H, *filled.sums(point.W))

    def _complete(self, X: Array, W: Array, H: Array) -> Array:
        return self._ops.filled(X, W, H)

    def _error(self, W: RowWise, H: Array, S: Array, T: Array) -> float:
        return self._residual(W, H)  # S and T know of what was filled in


def best_weights(
    ops: Any, X: Array, components: nnls.Components, l1: float
) -> tuple[Array, Array, Array]:
    """`snmf.core.nnls.best_weights` over the observed entries of every row.

    A row has a B of its own, B = H M Hᵀ with M for what is observed of it.  Where that is singular,
    as with fewer entries than components, a ridge picks one of the minimisers.
    """
    X = ops.to_dense(X)
    known = ~ops.xp.isnan(X)
    complete = ops.xp.all(known, axis=1)
    W = 0 * ops.matmul(ops.xp.astype(known, X.dtype), components.H.T)
    squares, powers = 0 * W[:, 0], 0 * W[:, 0]
    whole = ops.xp.nonzero(complete)[0]
    if whole.shape[0]:
        W[whole], squares[whole], powers[whole] = nnls.best_weights(ops, X[whole], components, l1)
    others = ops.xp.nonzero(~complete)[0]
    entries = TOGETHER if ops.on_host else ON_DEVICE
    together = max(1, entries // (components.H.shape[0] * max(components.H.shape)))
    for some in cut(0, others.shape[0], together):
        part = others[some]
        W[part], squares[part], powers[part] = _of_incomplete(
            ops, X[part], known[part], components, l1
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

    A = quadratic.times(ops, X, H.T[None, :, :]) - penalty  # each row by itself, as its B is
    W, left = quadratic.nnls(curvature, A, squares**0.5, gradient)
    if l1:
        W = quadratic.by_active_sets(curvature, A, W, left)
    else:
        if components.hides:
            left = ops.xp.nonzero(ops.xp.any(W > 0, axis=1))[0]
        _by_active_sets(ops, X, M, H, W, left)
    return W, ops.row_squares(M * (X - ops.matmul(W, H))), powers


def _by_active_sets(ops: Any, X: Array, M: Array, H: Array, W: Array, left: Array) -> None:
    """Put into those rows of W what Lawson & Hanson's method gives on H itself, if that is better.

    B squares its condition.
    """
    host, mask, data = (ops.to_host(A) for A in (H, M, X))
    for i in map(int, left):
        ours = ops.asarray(quadratic.active_set((host * mask[i]).T, data[i])[None, :])
        errors = [float(ops.row_squares(M[i] * (X[i] - w @ H))[0]) for w in (ours, W[i : i + 1])]
        if errors[0] <= errors[1]:
            W[i] = ours[0]
