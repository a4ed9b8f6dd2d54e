"""The locality penalty: components as prototypes, weights as memberships.

The penalty adds ``μ Σ_i [ ½ Σ_j w_ij ‖x_i − h_j‖² + s² (Σ_j w_ij − 1)² ]`` to the objective F, with
s² = mean ‖x_i‖².  Every row becomes a mixture of components near it, with weights that sum to about
1.  The first term is the local coordinate term of Chen, Zhang, Cai, Liu & He, "Nonnegative local
coordinate factorization for image representation", IEEE Trans. Image Process. 22(3), 2013.  The
second term sets the scale of W.

F stays quadratic and convex in W for a given H, and in H for a given W.  The part of a row is
``½ w B' wᵀ − a' wᵀ + λ Σ w`` with ``a' = (1 + μ) x Hᵀ − ½ μ (‖x‖² + diag B) + 2 μ s²`` and
``B' = B + 2 μ s² 11ᵀ``.  So the W-steps are those of `snmf.core.updates`, and the exact W is that
of `snmf.core.nnls`.  H solves ``(T + μ diag Σ_i w_i) H = (1 + μ) S``.  The penalty also holds H
near X, so its norm needs no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from snmf.core import nnls, quadratic, updates
from snmf.core.solve import Alternation, Point

Array = Any
RowWise = Sequence[Any]

FAR = 250  # rows larger than 2 ** FAR times the scale of the fit: their squares would overflow


def row_problem(
    ops: Any, X: Array, A: Array, B: Array, mu: float, mean_square: float
) -> tuple[Array, Array]:
    """Return A' and B' of a block of rows, from A = X Hᵀ and B = H Hᵀ."""
    distances = ops.row_squares(X)[:, None] + ops.xp.linalg.diagonal(B)[None, :]  # and −2 A
    A = (1 + mu) * A - 0.5 * mu * distances
    return A + 2 * mu * mean_square, B + 2 * mu * mean_square


@dataclass(frozen=True)
class Local(Alternation):
    """The alternation with the locality penalty.

    Parameters
    ----------
    mu : float
        The strength of the penalty.
    total : float
        The sum of the sample weights, or the number of rows: s² is square / total.
    """

    mu: float = 0.0
    total: float = 1.0
    only_multiplies: ClassVar[bool] = False

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        """Return the first point; without an H, rows of W get the sum 1, and H fits this W."""
        xp, tiny = self._ops.xp, self._ops.tiny
        if H is None:
            W = self.rows.each(
                lambda part: part / (xp.sum(part, axis=1) + tiny(part.dtype))[:, None], W
            )
        _, sums = self._map_sum(lambda *block: (None, self._local_sums(*block)), W)
        if H is None:
            return self._settled(W, 0 * sums[0], *sums)
        return self._local_point(W, self._within_limits(self._algebra.asarray(H)), *sums)

    def row_problem(self, X: Array, W: Array, H: Array, B: Array) -> tuple[Array, Array]:
        A = self._ops.matmul(X, H.T)
        return row_problem(self._ops, X, A, B, self.mu, self.square / self.total)

    def _w_step(self, Y: Array) -> Callable[..., Any]:
        ops, dtype = self._ops, self.rows.dtype
        H, B = ops.asarray(Y, dtype), ops.asarray(self._algebra.matmul(Y, Y.T), dtype)
        update = getattr(ops, self.update)

        def step(X: Array, W: Array, weights: Array | None = None) -> tuple[Array, Any]:
            W = update(*self.row_problem(X, W, H, B), W, self.l1, self.repeats)
            return W, self._local_sums(X, W, weights)

        return step

    def _h_step(self, W: RowWise, H: Array, *sums: Array) -> Point:
        if self._beyond_numbers(sums[1]):
            return Point(W, H, math.inf)
        return self._settled(W, H, *sums)

    def _local_sums(self, X: Array, W: Array, weights: Array | None = None) -> tuple[Array, ...]:
        """Return S, T, the column sums of W, and Σ_ij w_ij ‖x_i‖²."""
        DW = W if weights is None else W * weights
        reach = self._ops.xp.sum(self._ops.row_squares(X) * self._ops.xp.sum(DW, axis=1))
        return *updates.sums_of_block(self._ops, X, W, weights), reach

    def _settled(
        self, W: RowWise, H: Array, S: Array, T: Array, columns: Array, reach: Array
    ) -> Point:
        """Return the point with the best H for W; `H` is where the least squares begin."""
        S_near, T_near = self._with_distances(S, T, columns)
        H = self._best_components(S_near, T_near, H)
        return self._local_point(W, H, S, T, columns, reach)

    def _with_distances(self, S: Array, T: Array, columns: Array) -> tuple[Array, Array]:
        """Return S and T of the least squares for H, with the local coordinate term."""
        identity = self._algebra.asarray(np.eye(len(T)))
        return (1 + self.mu) * S, T + self.mu * identity * columns

    def _local_point(
        self, W: RowWise, H: Array, S: Array, T: Array, columns: Array, reach: Array
    ) -> Point:
        ops, mu = self._algebra, self.mu
        if not self.square:
            return Point(W, 0 * H, 0.0)
        sums = float(ops.xp.sum(T)) - 2 * float(ops.xp.sum(columns)) + self.total
        S, T = self._with_distances(S, T, columns)
        near = updates.squared_error(ops, self.square + mu * float(reach), S, T, H)
        penalty = mu * self.square / self.total * sums + self.l1 * float(ops.xp.sum(columns))
        return Point(W, H, (near + 2 * penalty) / self.square)


def solver(mu: float, rms: float, exponent: int) -> nnls.Solver:
    """Return the function that computes exact weights with locality, like `nnls.best_weights`.

    Parameters
    ----------
    mu : float
        The strength μ of the penalty.
    rms : float
        The s of the penalty, at the scale of the fit, as are H and λ.
    exponent : int
        The scale of the fit: rows are multiplied by 2 ** -exponent.
    """
    return partial(best_weights, mu=mu, mean_square=rms**2, exponent=exponent)


def best_weights(
    ops: Any,
    X: Array,
    components: nnls.Components,
    l1: float,
    mu: float,
    mean_square: float,
    exponent: int = 0,
) -> tuple[Array, Array, Array]:
    """Compute what `nnls.best_weights` computes, with the locality penalty: see `solver`."""
    X, H = _at_scale(ops, X, exponent), components.H
    curvature = components.curvature(2 * mu * mean_square)
    A = row_problem(ops, X, ops.matmul(X, H.T), components.B, mu, mean_square)[0] - l1
    W, left = quadratic.nnls(curvature, A)
    W = quadratic.by_active_sets(curvature, A, W, left)
    errors = ops.row_errors(X, W, H)
    return W, errors, 0 * errors


def _at_scale(ops: Any, X: Array, exponent: int) -> Array:
    """Return rows times 2 ** -exponent, at most about 2 ** FAR; such large rows get no weights."""
    X, powers = nnls.at_unit_scale(ops, X)
    above = powers - exponent
    if not bool(ops.xp.any(above)):
        return X
    above = ops.xp.where(above < FAR, above, 1.0 * FAR)
    return nnls.rows_times_power_of_two(ops, X, above)
