"""The intercept m of ``X ≈ 1 mᵀ + W H``: a row that is added to all rows of W H.

Without a penalty, H and m come from one least-squares step for the columns ``[W, 1]``.  With a
penalty, m is ``x̄ − w̄ H`` for every H, with the means x̄ and w̄ over the rows.  With this m, H
minimises what it minimises without an intercept, for the centred sums ``S − n w̄ᵀ x̄`` and
``T − n w̄ᵀ w̄``.  So the objective never rises, and X is neither copied nor changed; sparse rows stay
sparse.  The W-step needs ``(X − 1 mᵀ) Hᵀ``, which is X Hᵀ less a row.

For X + 1 cᵀ the result has the same W and H, and the intercept m + c; only a start by `svd` depends
on the mean of X.

In this module H has the intercept as its last row, its shape is (k + 1, p), and the sums S and T
are those of [W, 1].

Missing values are filled with 1 mᵀ + W H, as `snmf.core.missing` fills them with W H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from snmf.core import missing, nnls, updates
from snmf.core.solve import Alternation, Point

Array = Any
RowWise = Any

FLAT = 1e-10  # a column of W whose variance is below this share of its squares is constant
ENTRIES = 2**22  # entries of sparse rows less an intercept, which are dense, at a time


def moments(rows: Any, weights: RowWise | None, total: float) -> tuple[np.ndarray, float]:
    """Return the mean row of X, of shape (p,), and ‖X − 1 x̄ᵀ‖², in two passes.

    `weights` are the sample weights, block by block, and `total` is their sum.
    """
    ops = rows.backend

    def sum_of_block(X: Array, D: Array | None = None) -> tuple[None, tuple[Array]]:
        return None, (sum_of_rows(ops, X, D, rows.dtype),)

    mean = rows.map_sum(sum_of_block, weights)[1][0] / total
    there = ops.asarray(mean[None, :], rows.dtype)

    def square_of_block(X: Array, D: Array | None = None) -> tuple[None, tuple[Array]]:
        errors = ops.row_errors(X, ones(ops, X, rows.dtype), there)
        return None, (ops.xp.sum(errors if D is None else errors * D[:, 0]),)

    return mean, float(rows.map_sum(square_of_block, weights)[1][0])


@dataclass(frozen=True)
class Shifted(Alternation):
    """The alternation with an intercept.

    Parameters
    ----------
    mean : ndarray of shape (p,)
        The mean row x̄ of X. `square` is ‖X − 1 x̄ᵀ‖².
    total : float
        The number of rows, or the sum of the sample weights.
    """

    mean: Any = None
    total: float = 1.0

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        S, T, columns = self.sums(W)
        if H is not None:
            H = self._within_limits(H)
            return self._point(W, with_intercept(H, S, T), S, T, columns)
        first = np.vstack([0 * S[:-1], self.mean])  # all of the mean goes into the intercept
        # The columns of W may add up to a constant, as memberships do. What they and the intercept
        # can share, the intercept keeps, whatever rounding says of it.
        H = self._least_squares(S, T, first, float(np.finfo(self.rows.dtype).eps) ** 0.5)
        H = self._within_limits(H[:-1])
        if self.limits.ball:
            W, H = self._with_unit_rows(W, H)
            S, T, columns = self.sums(W)
        return self._point(W, with_intercept(H, S, T), S, T, columns)

    def sums(self, W: RowWise) -> list[Array]:
        return self._beside_ones(*super().sums(W))

    def _beside_ones(self, S: Array, T: Array, columns: Array, *of_x: Array) -> list[Array]:
        """Return S and T of [W, 1], and Wᵀ 1, from what `_w_step` sums."""
        (of_rows,) = of_x or (self.total * self.mean,)
        return [*beside_ones(S, T, columns, of_rows, self.total), columns]

    def _of_x(self, X: Array, weights: Array | None) -> tuple[Array, ...]:
        """Return the sum of the rows of a block, if it is not the same in every pass."""
        return ()

    def _w_step(self, Y: Array) -> Callable[..., Any]:
        ops, dtype = self._ops, self.rows.dtype
        H, B = (ops.asarray(A, dtype) for A in self._factors(Y))
        update = getattr(ops, self.update)

        def step(X: Array, W: Array, weights: Array | None = None) -> tuple[Array, Any]:
            X = self._complete(X, W, H)
            W = update(*less_intercept(ops.matmul(X, H.T), B), W, self.l1, self.repeats)
            return W, (*updates.sums_of_block(ops, X, W, weights), *self._of_x(X, weights))

        return step

    def row_problem(self, X: Array, W: Array, H: Array, B: Array) -> tuple[Array, Array]:
        return less_intercept(*super().row_problem(X, W, H, B))

    def _h_step(self, W: RowWise, H: Array, *sums: Array) -> Point:
        if self._beyond_numbers(sums[1]):
            return Point(W, H, np.inf)
        S, T, columns = self._beside_ones(*sums)
        if self.limits.none:
            H = self._least_squares(S, T, H)[:-1]
        else:
            H = self._best_components(*centred(S, T), H[:-1])
        return self._point(W, with_intercept(H, S, T), S, T, columns)

    def _error(self, W: RowWise, H: Array, S: Array, T: Array) -> float:
        S, T = centred(S, T)
        error = updates.squared_error(self._algebra, self.square, S, T, H[:-1])
        return self._residual(W, H) if self._cancels(error) else error

    def _columns(self, W: Array) -> Array:
        return self._ops.xp.concat([W, ones(self._ops, W, self.rows.dtype)], axis=1)


@dataclass(frozen=True)
class ShiftedIncomplete(missing.Incomplete, Shifted):
    """The alternation with an intercept, for rows with missing entries.

    `mean` and `square` are those of the rows that are filled with the column means.
    """

    complete = Shifted

    def _of_x(self, X: Array, weights: Array | None) -> tuple[Array, ...]:
        return (sum_of_rows(self._ops, X, weights, self.rows.dtype),)


def ones(ops: Any, X: Array, dtype: str) -> Array:
    """Return a column of ones, with a row for every row of X."""
    return ops.asarray(np.ones((X.shape[0], 1)), dtype)


def sum_of_rows(ops: Any, X: Array, weights: Array | None, dtype: str) -> Array:
    """Return Xᵀ D 1 of a block, of shape (p,). D holds the sample weights; None is 1 for each."""
    D = ones(ops, X, dtype) if weights is None else weights
    return ops.matmul(D.T, X)[0, :]


def beside_ones(
    S: Array, T: Array, columns: Array, of_rows: Array, total: float
) -> tuple[Array, Array]:
    """Return S and T of [W, 1], from S, T and Wᵀ 1 of W, and from Xᵀ 1 and the number of rows."""
    corner = np.full((1, 1), total)
    T = np.block([[T, columns[:, None]], [columns[None, :], corner]])
    return np.vstack([S, of_rows]), T


def centred(S: Array, T: Array) -> tuple[Array, Array]:
    """Return the centred sums of W, without components that are the same in all rows."""
    columns, squares, total = T[:-1, -1], np.diag(T)[:-1], T[-1, -1]
    less_means = T[:-1, :-1] - np.outer(columns, columns / total)
    varies = np.diag(less_means) > FLAT * squares
    S = (S[:-1] - np.outer(columns, S[-1] / total)) * varies[:, None]
    return S, less_means * np.outer(varies, varies)


def with_intercept(H: Array, S: Array, T: Array) -> Array:
    """Return the components with the best intercept for them, from the sums of [W, 1]."""
    total = T[-1, -1]
    return np.vstack([H, S[-1] / total - T[:-1, -1] / total @ H])


def less_intercept(A: Array, B: Array) -> tuple[Array, Array]:
    """Return A and B of a block for the components, from A = X Hᵀ and B = H Hᵀ."""
    return A[:, :-1] - B[-1:, :-1], B[:-1, :-1]


def solver(intercept: np.ndarray, best: nnls.Solver = nnls.best_weights) -> nnls.Solver:
    """Return the function that computes exact weights of rows less an intercept, of shape (p,).

    `best` computes those of rows without an intercept.
    """
    return partial(_best_weights, intercept, best)


def _best_weights(
    intercept: np.ndarray,
    best: nnls.Solver,
    ops: Any,
    X: Array,
    components: nnls.Components,
    l1: float,
) -> tuple[Array, Array, Array]:
    there = ops.asarray(intercept[None, :], "float64")
    found = [
        best(ops, ops.to_dense(ops.slice(X, some)) - there, components, l1)
        for some in ops.pieces(X, ENTRIES)
    ]
    W, squares, powers = (ops.xp.concat(parts, axis=0) for parts in zip(*found, strict=True))
    return W, squares, powers
