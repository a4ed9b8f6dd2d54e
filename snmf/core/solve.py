"""The loop of a fit: `solve` repeats passes over X until the objective stops falling.

`Alternation` makes a pass: the W-step, the H-step and the objective. `State` is what a checkpoint
keeps, and `Run` is the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from snmf.core import updates
from snmf.core.limits import NO_LIMITS, Limits, h_step
from snmf.storage.rows import COMFORTABLE

Array = Any
RowWise = Sequence[Any]

EXTRAPOLATION = (0.5, 1.05, 0.8)  # the first β, its growth in every pass, and its upper limit
MOST_STEPS = {"multiplicative": 5, "hals": 2, "kept": 1}  # the most W-steps in a pass


class Point(NamedTuple):
    """W block by block, H, and their objective divided by ½‖X‖²."""

    W: RowWise
    H: Array
    loss: float


class State(NamedTuple):
    """The state of the loop: a point, the H before it, the next β, and the objectives so far."""

    point: Point
    before: Array
    beta: float
    curve: list[float]

    @classmethod
    def of(cls, point: Point) -> State:
        """Return the state at the start of the loop, from a first point."""
        return cls(point, point.H, EXTRAPOLATION[0], [point.loss])


class Run(NamedTuple):
    """The result of the loop: H, the objectives, why the loop stopped, and the last W."""

    H: Array
    loss_curve: list[float]
    converged: bool
    reason: str
    W: RowWise | None = None


@dataclass(frozen=True)
class Alternation:
    """W-steps and H-steps in turn, for given rows.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    square : float
        ‖X‖².
    l1 : float
        The penalty λ.
    update : {"multiplicative", "hals", "kept"}
        Selects the W-step, by its name in `snmf.core.updates`.
    repeats : int
        Sets the number of W-steps in a pass; A = X Hᵀ and B = H Hᵀ stay the same for all of them.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights, block by block. None is 1 for each.
    fixed : array of shape (m, p), default=None
        The first rows of H, of unit norm. No H-step changes them.
    limits : Limits, default=NO_LIMITS
        What the other rows of H may be. With λ > 0 their norm must be limited.
    """

    rows: Any
    square: float
    l1: float
    update: str
    repeats: int
    weights: RowWise | None = None
    fixed: Array | None = None
    limits: Limits = NO_LIMITS
    only_multiplies: ClassVar[bool] = True  # whether a pass takes products of X and nothing else

    @property
    def _ops(self) -> Any:
        return self.rows.backend

    @property
    def _algebra(self) -> Any:
        return self.rows.backend.algebra

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        """Return the first point; without an H, compute it from W by least squares."""
        if H is not None:
            return self._point(W, self._within_limits(self._algebra.asarray(H)), *self.sums(W))
        S, T, total = self.sums(W)
        H = self._within_limits(self._least_squares(S, T, 0 * S))
        if not self.limits.ball:
            return self._point(W, H, S, T, total)
        W, H = self._with_unit_rows(W, H)
        return self._point(W, H, *self.sums(W))

    def _with_unit_rows(self, W: RowWise, H: Array) -> tuple[RowWise, Array]:
        """Return the same product with rows of H at unit norm, but for the fixed ones."""
        norms = self._algebra.xp.sqrt(self._algebra.row_squares(H))
        norms[: self._first] = 1.0
        scale = self._ops.asarray(norms, self.rows.dtype)
        W = self.rows.each(lambda part: part * scale, W)
        return W, H / self._algebra.xp.where(norms > 0, norms, 1.0)[:, None]

    def _within_limits(self, H: Array) -> Array:
        return self.limits.of_entries(H, self._first)

    @property
    def _first(self) -> int:
        """The number of fixed rows of H."""
        return 0 if self.fixed is None else int(self.fixed.shape[0])

    def advance(self, point: Point, Y: Array) -> Point:
        """Make one pass over X: the W-step at H = Y, then the H-step; return the new point."""
        rows = self.rows if self._divisors is None else self.rows.divided(None)
        W, (S, *sums) = self._map_sum(self._w_step(Y), point.W, rows=rows)
        return self._h_step(W, point.H, self._divided(S), *sums)

    @property
    def _divisors(self) -> Array | None:
        """What a pass divides H and S by, so that X is not: (X / d) Hᵀ is X (H / d)ᵀ.

        None if the columns are not divided, or X is divided block by block.
        """
        divisors, comfortable = self.rows.divisors, COMFORTABLE[self.rows.dtype]
        if divisors is None or not self.only_multiplies:
            return None
        if np.max(divisors) > comfortable or np.min(divisors) < 1 / comfortable:
            return None
        return self._algebra.asarray(divisors)

    def _divided(self, A: Array) -> Array:
        return A if self._divisors is None else A / self._divisors

    def _w_step(self, Y: Array) -> Callable[..., Any]:
        """Return the function that makes the W-step of a block at H = Y, and its sums."""
        ops, dtype = self._ops, self.rows.dtype
        H, B = (ops.asarray(A, dtype) for A in self._factors(Y))

        # Dask may make this step again later, so no other H may get the name of the one it uses
        def step(X: Array, W: Array, weights: Array | None = None) -> Any:
            X = self._complete(X, W, H)
            return ops.pass_over_block(self.update, X, W, H, B, self.l1, self.repeats, weights)

        return step

    def _factors(self, H: Array) -> tuple[Array, Array]:
        """Return H and B = H Hᵀ, for the W-step; H is divided if X is not."""
        return self._divided(H), self._algebra.matmul(H, H.T)

    def _h_step(self, W: RowWise, H: Array, *sums: Array) -> Point:
        """Make the H-step from H, for a new W and its sums; return the new point."""
        S, T, total = sums
        if self._beyond_numbers(T):
            return Point(W, H, math.inf)
        return self._point(W, self._best_components(S, T, H), S, T, total)

    def _best_components(self, S: Array, T: Array, H: Array) -> Array:
        """Make the H-step from H: by least squares, or row by row within the limits."""
        return h_step(self._algebra, self.limits, self._least_squares, S, T, H, self._first)

    def _beyond_numbers(self, T: Array) -> bool:
        """Whether weights or their squares have overflowed."""
        return not math.isfinite(float(self._algebra.xp.sum(T)))

    def each_row(self, function: Callable[[Array, Array, Array], Array], point: Point) -> RowWise:
        """Return the W that `function(A, B, W)` returns for each block, at the given factors."""
        ops, dtype = self._ops, self.rows.dtype
        H = ops.asarray(point.H, dtype)
        B = ops.asarray(self._algebra.matmul(point.H, point.H.T), dtype)
        W: RowWise = self.rows.map_sum(
            lambda X, W: (function(*self.row_problem(X, W, H, B), W), ()), point.W
        )[0]
        return W

    def row_problem(self, X: Array, W: Array, H: Array, B: Array) -> tuple[Array, Array]:
        """Return A and B of a block: each row w minimises ½ w B wᵀ − a wᵀ + λ Σ w."""
        return self._ops.matmul(self._complete(X, W, H), H.T), B

    def _complete(self, X: Array, W: Array, H: Array) -> Array:
        """Return the block of X to compute with; `snmf.core.missing` fills missing values here."""
        return X

    def _map_sum(
        self, function: Callable[..., Any], *row_wise: RowWise, rows: Any = None
    ) -> tuple[RowWise, Any]:
        rows = self.rows if rows is None else rows
        result: tuple[RowWise, Any] = rows.map_sum(function, *row_wise, self.weights)
        return result

    def sums(self, W: RowWise) -> list[Array]:
        """Return S, T and Wᵀ 1 over all rows."""
        sums = partial(updates.sums_of_block, self._ops)
        _, terms = self._map_sum(lambda *block: (None, sums(*block)), W)
        return list(terms)

    def _least_squares(self, S: Array, T: Array, H: Array, rtol: float | None = None) -> Array:
        if rtol is None:
            rtol = T.shape[0] * float(np.finfo(self.rows.dtype).eps)
        if self.fixed is None:
            return updates.least_squares(self._algebra, S, T, H, rtol)
        m = self._first
        if m == T.shape[0]:
            return self.fixed
        left = S[m:, :] - self._algebra.matmul(T[m:, :m], self.fixed)
        rest = updates.least_squares(self._algebra, left, T[m:, m:], H[m:, :], rtol)
        return self._algebra.xp.concat([self.fixed, rest], axis=0)

    def _point(self, W: RowWise, H: Array, S: Array, T: Array, total: Array) -> Point:
        if not self.square:
            return Point(W, H, 0.0)
        penalty = self.l1 * float(self._algebra.xp.sum(total)) if self.l1 else 0.0
        return Point(W, H, (self._error(W, H, S, T) + 2 * penalty) / self.square)

    def _error(self, W: RowWise, H: Array, S: Array, T: Array) -> float:
        error = updates.squared_error(self._algebra, self.square, S, T, H)
        return self._residual(W, H) if self._cancels(error) else error

    def _cancels(self, error: float) -> bool:
        """Whether a squared error from sums is so small that it may be rounding."""
        return bool(error < self.square * float(np.finfo(self.rows.dtype).eps) ** 0.5)

    def _residual(self, W: RowWise, H: Array) -> float:
        ops = self._ops
        H = ops.asarray(H, self.rows.dtype)

        def error_of_block(X: Array, W: Array, weights: Array | None = None) -> Any:
            errors = ops.row_errors(self._complete(X, W, H), self._columns(W), H)
            return None, (ops.xp.sum(errors if weights is None else errors * weights[:, 0]),)

        _, (error,) = self._map_sum(error_of_block, W)
        return float(error)

    def _columns(self, W: Array) -> Array:
        """Return the columns of W in the model W H of a block."""
        return W


def steps_per_pass(update: str, n_features: int, n_components: int) -> int:
    """Return the number of W-steps in a pass: they cost about as much as the rest of the pass."""
    return min(MOST_STEPS[update], 1 + n_features // (2 * n_components))


def solve(
    state: State,
    advance: Callable[[Point, Array], Point],
    *,
    tol: float,
    max_iter: int,
    accelerate: bool,
    watch: Callable[[int, Point], bool],
    keep: Callable[[State], None] | None = None,
) -> Run:
    """Repeat passes until the objective falls by less than `tol` in an iteration.

    With ``accelerate`` a pass starts from the extrapolated H + β (H − H_before). If the objective
    would then rise, or fall by less than `tol`, the pass is repeated from H itself, from where the
    objective cannot rise, and β is halved.

    Parameters
    ----------
    state : State
        Where the loop begins.
    advance : callable
        ``advance(point, H) → point`` makes one pass, as `Alternation.advance` does.
    tol, max_iter, accelerate
        As for `snmf.SNMF`.
    watch : callable
        ``watch(iteration, point)`` is called after every iteration. If it returns true, the loop
        ends.
    keep : callable, default=None
        ``keep(state)`` is called after every iteration but the last. From this state the loop
        continues to the same result.

    Returns
    -------
    Run
    """
    point, before, beta, curve = state
    del state  # so that no third W stays in memory
    growth, bound = EXTRAPOLATION[1:]
    if not accelerate:
        beta = bound = 0.0

    def ended(converged: bool, reason: str) -> Run:
        return Run(point.H, curve, converged, reason, point.W)

    for iteration in range(len(curve), max_iter + 1):
        new = advance(point, point.H + beta * (point.H - before))
        if point.loss - new.loss >= tol:
            beta = min(bound, beta * growth)
        elif beta and before is not point.H:
            del new  # free its W before the next pass makes one
            beta /= 2
            new = advance(point, point.H)
        if not new.loss <= point.loss:
            return ended(True, "the objective no longer falls: rounding is reached")
        before, fall, point = point.H, point.loss - new.loss, new
        curve.append(point.loss)
        if watch(iteration, point):
            return ended(False, "a callback stopped it")
        if fall < tol:
            return ended(True, f"the objective fell by less than tol={tol:g}")
        if keep is not None:
            keep(State(point, before, beta, curve))
    return ended(False, f"max_iter={max_iter} iterations were made")
