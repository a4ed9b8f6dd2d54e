"""Nonnegative quadratic programs: for every row a the w ≥ 0 that minimises ½ w B wᵀ − a wᵀ.

`nnls` solves many rows at once, in float64, from a cold start. The solution of a row does not
depend on the other rows.

1. Block principal pivoting solves most rows (Kim & Park, "Fast nonnegative matrix factorization:
   an active-set-like method and comparisons", SIAM J. Sci. Comput. 33(6), 2011).
2. The first passive sets, and a start for rows that pivoting does not solve, come from the
   alternating direction method of multipliers (Boyd et al., Found. Trends Mach. Learn. 3(1), 2011).
   One iteration is one product for all rows, and works for any condition of B.
3. From there, proximal steps lead to a minimiser (Rockafellar, "Monotone operators and the
   proximal point algorithm", SIAM J. Control Optim. 14(5), 1976). Each step pivots on
   B + ridge · I.

`nnls` returns the rows that are still not settled. `by_active_sets` solves them one by one, by a
method that always ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize

Array = Any
Gradient = Callable[[Array, Array], Array]
Stages = tuple[tuple[float, int], ...]

DELICATE = 1e6  # from this condition of B (at unit diagonal) on, rounding shows in W
SINGULAR = 1e12  # from this condition on, B + RIDGE · I replaces B
RIDGE = 1e-11
RIDGES = (1e-5, 1e-7, 1e-8, 1e-9, 1e-10, *[RIDGE] * 10)  # of proximal steps, as far as needed
FIRST = ((0.3, 20),)  # of multipliers, for the first passive set: their penalties, and iterations
STAGES = ((0.3, 30), (1e-2, 5), (1e-4, 5), (1e-6, 5))  # the same where B is nearly singular
# where B is singular every row takes proximal steps: they are few from where passive sets are right
LONG_STAGES, SMALL_RIDGES = ((0.3, 30), (1e-2, 20), (1e-4, 80)), (RIDGE,) * 30
MORE_RIDGES = RIDGES * 2 + (RIDGE,) * 50  # for the rows that are left then
MORE_STAGES = ((0.3, 100), (1e-2, 30), (1e-3, 60), (1e-4, 100), (1e-6, 200))
RELAXATION = 1.8  # of these iterations
SETTLED = 1e-10  # gradient, in units of the size of the row, at which multipliers have done all
REFINEMENTS = 3  # of a W that pivoting found, at most
EQUAL = 2.0**-48  # difference of objectives, in units of max |a| squared, that is rounding
MANY = 64  # up to so many components, active sets of one row are no slower than multipliers
LEAST = 1e-6  # this ridge selects about the minimiser of least norm, if there are several
ALIKE = 1e-8  # from this ridge down, only steps in w H count, and not steps in w
NEGLIGIBLE = (1e-8, 1e-10)  # a last step may have this size: of w / max w, of w H / size of the row
GAP = 1e-11  # what a last step may leave of the objective, / size of the row squared
ROUNDING = (1e-15, 1e-12)  # a weight is zero in pivoting below this: / max w, and / max |step|
FEW = 0.25  # with at most this share of zeros, the first passive set is that without bounds
PATIENCE = 20  # exchanges without fewer wrong signs, before pivoting gives up
SHORT_PATIENCE = 5  # the same in a proximal step, after which there is another
WORST = 0.5  # after such an exchange only entries above this share of the most wrong one move


class System:
    """The matrix of linear systems, and its inverse.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    matrix : array of shape (k, k) or (b, k, k)
        One matrix for all rows, or one for each. Symmetric and positive definite, with a diagonal
        of about one.
    delicate : bool
        Whether solutions must be refined before their signs are reliable.
    """

    def __init__(self, ops: Any, matrix: Array, delicate: bool) -> None:
        self.ops, self.matrix, self.delicate = ops, matrix, delicate

    @cached_property
    def inverse(self) -> Array:
        """The inverse, exactly symmetric: with another one refinement may not converge."""
        inverse = self.ops.xp.linalg.inv(self.matrix)
        return (inverse + self.ops.xp.matrix_transpose(inverse)) / 2

    def of(self, rows: Array) -> System:
        """Return the system for some of the rows."""
        if self.matrix.ndim == 2:
            return self
        return System(self.ops, self.matrix[rows], self.delicate)

    def times(self, W: Array) -> Array:
        """Return the product of every row with its matrix."""
        return times(self.ops, W, self.matrix)


class Curvature:
    """B scaled to unit diagonal, its condition, and the systems B + ridge · I.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    B : array of shape (k, k) or (b, k, k)
        One matrix for all rows, or one for each. In float64, symmetric and positive semidefinite.
    """

    def __init__(self, ops: Any, B: Array) -> None:
        self.ops = ops
        self.B, self.unit = _with_unit_diagonal(ops, B)
        self._systems: dict[float, System] = {}

    @cached_property
    def condition(self) -> float:
        """The condition of B; inf if every row has its own B, whose condition is not computed."""
        if self.B.ndim > 2:
            return math.inf
        least, largest = float(self.spectrum[0]), float(self.spectrum[-1])
        return largest / least if least > 0 else math.inf

    @cached_property
    def spectrum(self) -> Array:
        """The eigenvalues of B, (k,), in ascending order; only for one B for all rows."""
        return self.ops.xp.linalg.eigvalsh(self.B)

    @cached_property
    def least(self) -> float:
        """The smallest eigenvalue of B that does not count as zero."""
        if self.B.ndim > 2:
            return RIDGE
        zero = float(self.spectrum[-1]) / SINGULAR
        return float(self.ops.xp.min(self.spectrum[self.spectrum > zero]))

    @property
    def delicate(self) -> bool:
        """Whether B is so near to singular that rounding shows in W."""
        return self.condition > DELICATE

    @property
    def ridge(self) -> float:
        """The ridge that systems with B need to have a solution; 0 if they need none."""
        return 0.0 if self.condition < SINGULAR else RIDGE

    def system(self, ridge: float) -> System:
        """Return the system B + ridge · I, and keep it for the next call."""
        if ridge not in self._systems:
            matrix = self.B + ridge * self.ops.asarray(np.eye(self.B.shape[-1]))
            delicate = self.condition > DELICATE and ridge < 1 / DELICATE
            self._systems[ridge] = System(self.ops, matrix, delicate)
        return self._systems[ridge]

    def unit_of(self, rows: Array) -> Array:
        return self.unit if self.unit.ndim == 1 else self.unit[rows]


def nnls(
    curvature: Curvature, A: Array, size: Array | None = None, gradient: Gradient | None = None
) -> tuple[Array, Array]:
    """For each row a, find the w ≥ 0 that minimises ½ w B wᵀ − a wᵀ.

    If B is singular, there may be several minimisers. With at most `MANY` components the result is
    about the one of least ‖w‖; with more, it is the one that the multipliers lead to.

    Parameters
    ----------
    curvature : Curvature
        B.
    A : array of shape (b, k)
        The rows a, in float64.
    size : array of shape (b,), default=None
        The unit of gradients and steps in each row, such as the norm of x if a = x Hᵀ. None is
        max |a|, at unit diagonal of B.
    gradient : callable, default=None
        ``gradient(rows, W)`` returns a − w B with fewer rounding errors than that product.

    Returns
    -------
    W : array of shape (b, k)
        The minimisers.
    left : array of int
        The rows that are not settled. Give them to `by_active_sets`.
    """
    ops = curvature.ops
    A = A * curvature.unit
    size = _size(ops, A) if size is None else size
    W, left = ops.xp.zeros_like(A), ops.xp.zeros(A.shape[0], dtype=ops.xp.bool, device=ops.device)

    def slope(rows: Array, W: Array) -> Array:
        if gradient is None:
            return A[rows] - times(ops, W, _of(curvature.B, rows))
        unit = curvature.unit_of(rows)
        return gradient(rows, W * unit) * unit

    some = rest = ops.xp.nonzero(ops.xp.any(A > 0, axis=1))[0]  # w = 0 in the other rows
    if not some.shape[0]:
        return W, some
    singular, few = curvature.ridge > 0, A.shape[1] <= MANY
    stages, ridges = (LONG_STAGES, SMALL_RIDGES) if singular and not few else (STAGES, RIDGES)
    if curvature.delicate:
        W[some] = _by_multipliers(curvature, A, some, size, stages)
    if few or not singular:
        system, a = curvature.system(LEAST if singular else 0.0).of(some), A[some]
        guess = W[some] > 0 if curvature.delicate else _passive_at_first(curvature, A, some, size)
        found, settled = _pivot(system, a, None, guess, size[some])
        done, unsettled = (ops.xp.nonzero(which)[0] for which in (settled, ~settled))
        W[some[done]] = found[done]
        if few and unsettled.shape[0]:
            W[some[unsettled]] = _by_cholesky(ops, a[unsettled], system.of(unsettled).matrix)
        rest = some if singular else some[unsettled]
    if rest.shape[0] and not few and not curvature.delicate:
        W[rest] = _by_multipliers(curvature, A, rest, size, stages)
    _by_proximal_steps(curvature, ridges, slope, W, rest, left, size)
    again = ops.xp.nonzero(left)[0]
    if again.shape[0]:
        W[again] = _by_multipliers(curvature, A, again, size, MORE_STAGES)
        _by_proximal_steps(curvature, MORE_RIDGES, slope, W, again, left, size)
    if curvature.delicate and not singular:
        _by_proximal_steps(curvature, (0.0,) * REFINEMENTS, slope, W, some, left, size)
    return W * curvature.unit, ops.xp.nonzero(left)[0]


def on_passive_sets(curvature: Curvature, G: Array, passive: Array) -> Array:
    """For every row g, find u with u B = g on its passive set, and u = 0 elsewhere.

    If B is singular, B + LEAST · I replaces it, as in `nnls`.
    """
    system = curvature.system(LEAST if curvature.ridge else 0.0)
    G = G * curvature.unit
    return _solved(system, G, passive, _size(curvature.ops, G))[0] * curvature.unit


def by_active_sets(curvature: Curvature, A: Array, W: Array, rows: Array) -> Array:
    """Solve some rows by Lawson & Hanson's method, and keep the result where it is better than W.

    The method works on a Cholesky factor of B + RIDGE · I. W is changed in place, and returned.
    """
    if not rows.shape[0]:
        return W
    ops, unit = curvature.ops, curvature.unit_of(rows)
    B, a = _of(curvature.B, rows), A[rows] * unit
    found = _by_cholesky(ops, a, curvature.system(RIDGE).of(rows).matrix)
    ours = W[rows] / ops.xp.where(unit > 0, unit, 1.0)

    def objective(W: Array) -> Array:
        return ops.xp.sum(W * (times(ops, W, B) / 2 - a), axis=1)

    better = objective(found) < objective(ours) - EQUAL * _size(ops, a) ** 2
    W[rows] = ops.xp.where(better[:, None], found, ours) * unit
    return W


def _by_cholesky(ops: Any, A: Array, M: Array) -> Array:
    """Solve the rows one by one for a positive definite M, by Lawson & Hanson's method."""
    factors = [scipy.linalg.cholesky(m) for m in ops.to_host(M).reshape(-1, *M.shape[-2:])]
    rows = [
        active_set(R, scipy.linalg.solve_triangular(R, a, trans="T"))
        for a, R in zip(ops.to_host(A), factors if M.ndim == 3 else factors * len(A), strict=True)
    ]
    return ops.asarray(np.stack(rows))


def active_set(R: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the w ≥ 0 that minimises ‖R w − target‖, by Lawson & Hanson's active sets."""
    w: np.ndarray = scipy.optimize.nnls(R, target, maxiter=100 * R.shape[1])[0]
    return w


def times(ops: Any, W: Array, B: Array) -> Array:
    """Return the products of the rows of W with one B, or of each row with its own B."""
    return ops.matmul(W, B) if B.ndim == 2 else ops.matmul(W[:, None, :], B)[:, 0, :]


def _of(B: Array, rows: Array) -> Array:
    """Return B for some of the rows."""
    return B if B.ndim == 2 else B[rows]


def _size(ops: Any, A: Array) -> Array:
    return ops.xp.max(ops.xp.abs(A), axis=1)


def _with_unit_diagonal(ops: Any, B: Array) -> tuple[Array, Array]:
    """Return B scaled to unit diagonal, and the factors; a zero row becomes one of the identity."""
    xp = ops.xp
    norm = xp.sqrt(xp.linalg.diagonal(B))
    unit = xp.where(norm > 0, 1 / xp.where(norm > 0, norm, 1.0), 0.0)
    empty = xp.astype(norm == 0, B.dtype)[..., None, :] * ops.asarray(np.eye(B.shape[-1]))
    return B * unit[..., :, None] * unit[..., None, :] + empty, unit


def _passive_at_first(curvature: Curvature, A: Array, rows: Array, size: Array) -> Array:
    """Guess the passive sets: where a B⁻¹ > 0, if that has few zeros; else by multipliers."""
    passive = times(curvature.ops, A[rows], curvature.system(0.0).inverse) > 0
    zeros = curvature.ops.xp.sum(~passive, axis=1)
    others = curvature.ops.xp.nonzero(zeros > FEW * passive.shape[1])[0]
    if others.shape[0]:
        passive[others] = _by_multipliers(curvature, A, rows[others], size, FIRST) > 0
    return passive


def _pivot(
    system: System, G: Array, V: Array | None, passive: Array, size: Array
) -> tuple[Array, Array]:
    """Minimise ½ (u − v) M (u − v)ᵀ − g (u − v)ᵀ over u ≥ 0, by block principal pivoting.

    Components of the wrong sign move between the passive set and its complement, until none has
    the wrong sign. To move all of them can go in circles. So where their number did not fall, only
    the most wrong ones move.

    Parameters
    ----------
    system : System
        The matrix M.
    G, V : arrays of shape (b, k)
        The rows g and v. None for V is 0.
    passive : array of bool, of shape (b, k)
        A guess where u > 0.
    size : array of shape (b,)
        The unit of gradients in each row.

    Returns
    -------
    U : array of shape (b, k)
        The minimisers.
    settled : array of bool, of shape (b,)
        True for rows whose u is the minimiser. Pivoting gave up on the others.
    """
    ops, xp = system.ops, system.ops.xp
    U, settled = xp.zeros_like(G), xp.zeros(G.shape[0], dtype=xp.bool, device=ops.device)
    fewest = xp.full(G.shape[0], G.shape[1] + 1, device=ops.device)
    most = PATIENCE if V is None else SHORT_PATIENCE
    patience = xp.full(G.shape[0], most, device=ops.device)
    rows = xp.arange(G.shape[0], device=ops.device)
    while rows.shape[0]:
        M, right, terms, v = system.of(rows), G[rows], size[rows], 0.0
        if V is not None:
            v = V[rows]
            right = right - M.times(xp.where(passive, 0.0, -v))  # the step to 0 of the others
            terms = terms + xp.sum(v, axis=1)
        D, R, rounding = _solved(M, right, passive, terms)
        u = xp.where(passive, v + D, 0.0)
        zero = ROUNDING[0] * _size(ops, u) + ROUNDING[1] * _size(ops, D)
        wrong = xp.where(passive, u < -zero[:, None], rounding[:, None] < R)
        by = xp.where(wrong, xp.where(passive, -u, R), 0.0)
        count = xp.sum(wrong, axis=1)
        U[rows], settled[rows] = xp.where(u > 0, u, 0.0), count == 0
        fewer = count < fewest
        fewest = xp.where(fewer, count, fewest)
        patience = xp.where(fewer, most, patience - 1)
        least = xp.where(fewer, 0.0, WORST * xp.max(by, axis=1))
        wrong = wrong & (by >= least[:, None])
        left = xp.nonzero((count > 0) & (patience > 0))[0]
        rows, passive = rows[left], passive[left] ^ wrong[left]
        fewest, patience = fewest[left], patience[left]
    return U, settled


def _solved(system: System, A: Array, passive: Array, other: Array) -> tuple[Array, Array, Array]:
    """For every row a, find z with z M = a on its passive set, and z = 0 elsewhere.

    z is refined until its residual is as small as elimination would leave it. By Cauchy & Schwarz
    the entries of |R|ᵀ|R|, R the Cholesky factor of a matrix with unit diagonal, are at most 1. So
    elimination leaves at most 3 k u Σ|z| (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2002, theorem 10.4), and computing the residual adds k u (|a| + Σ|z|). If z is a
    step from w, `other` (b,) is |a| + Σ|w|. If refinement ends above the bound, the system is
    solved by elimination, unless the residual is negligible compared with `other`.

    Returns
    -------
    Z, R : arrays of shape (b, k)
        The solution, and the residual a − z M.
    rounding : array of shape (b,)
        The size of the rounding errors in R.
    """
    ops, xp = system.ops, system.ops.xp
    Z = ops.solve_passive(A, system, passive)
    R = A - system.times(Z)
    rounding = xp.zeros_like(other)
    rows = xp.arange(A.shape[0], device=ops.device)
    before = xp.full(A.shape[0], math.inf, device=ops.device)
    while rows.shape[0]:
        residual = _size(ops, xp.where(passive[rows], R[rows], 0.0))
        bound = 4 * A.shape[1] * 2.0**-53 * (other[rows] + xp.sum(xp.abs(Z[rows]), axis=1))
        above, shrinks = residual > bound, residual < before / 2
        rounding[rows] = xp.where(above, residual, bound)
        stuck = rows[xp.nonzero(above & ~shrinks & (residual > SETTLED * other[rows]))[0]]
        if stuck.shape[0]:
            part = system.of(stuck)
            Z[stuck] = ops.eliminate(A[stuck], part.matrix, passive[stuck])
            R[stuck] = A[stuck] - part.times(Z[stuck])
            rounding[stuck] = _size(ops, xp.where(passive[stuck], R[stuck], 0.0))
        on = xp.nonzero(above & shrinks)[0]
        rows, before = rows[on], residual[on]
        if rows.shape[0]:
            part, p = system.of(rows), passive[rows]
            Z[rows] += ops.solve_passive(xp.where(p, R[rows], 0.0), part, p)
            R[rows] = A[rows] - part.times(Z[rows])
    return Z, R, rounding


def _by_multipliers(
    curvature: Curvature, A: Array, rows: Array, size: Array, stages: Stages
) -> Array:
    """Return an approximate W, from a few iterations of the method of multipliers.

    At a small penalty the weights of a row move far, and zeros come and go. So a row ends when half
    of its weights are zero.
    """
    ops, xp = curvature.ops, curvature.ops.xp
    W = 0 * A[rows]
    left = xp.arange(rows.shape[0], device=ops.device)
    a, w, dual = A[rows], W, W
    for penalty, iterations in stages:
        inverse = _of(curvature.system(penalty).inverse, rows[left])
        dual = dual / penalty

        def free(w: Array, dual: Array) -> Array:
            return times(ops, a + penalty * (w - dual), inverse)  # noqa: B023, called only here

        for _ in range(iterations):
            dual = dual + (1 - RELAXATION) * w + RELAXATION * free(w, dual)
            w = ops.positive_part(dual)
            dual = dual - w
        W[left] = w
        dual = dual * penalty
        B = _of(curvature.B, rows[left])
        slope = a - times(ops, w, B)
        slope = xp.where((w > 0) | (slope > 0), slope, 0.0)
        unsettled = _size(ops, slope) > SETTLED * size[rows[left]]
        on = xp.nonzero(unsettled & (2 * xp.sum(w > 0, axis=1) > w.shape[1]))[0]
        left, a, w, dual = left[on], a[on], w[on], dual[on]
        if not left.shape[0]:
            break
    return W


def _by_proximal_steps(
    curvature: Curvature,
    ridges: tuple[float, ...],
    slope: Gradient,
    W: Array,
    rows: Array,
    left: Array,
    size: Array,
) -> None:
    """Move some rows of W to their minimiser, in place; set `left` for rows that do not reach it.

    A step minimises the objective plus ½ ridge ‖w − w_before‖², so it never raises the objective.
    After a step of size d along an eigenvector of B, d × ridge / eigenvalue remains to the
    minimiser.
    """
    ops, xp = curvature.ops, curvature.ops.xp
    before, waiting = math.nan, rows[:0]  # rows that are not settled wait for another ridge
    for ridge in ridges:
        if ridge != before:
            before, rows, waiting = ridge, xp.concat([rows, waiting]), rows[:0]
        if not rows.shape[0]:
            continue
        V = W[rows]
        M = curvature.system(ridge).of(rows)
        U, settled = _pivot(M, slope(rows, V), V, V > 0, size[rows])
        D = U - V
        W[rows] = xp.where(settled[:, None], U, V)
        to_go = max(1.0, ridge / curvature.least)
        on = to_go * _size(ops, D) > NEGLIGIBLE[0] * _size(ops, U)
        if ridge <= ALIKE:  # weights of nearly equal components may still move, and W H does not
            step = xp.sqrt(ops.positive_part(xp.sum(D * (M.times(D) - ridge * D), axis=1)))
            rounding = (D.shape[1] * 2.0**-52) ** 0.5 * _size(ops, D)
            on = on & (step > NEGLIGIBLE[1] * size[rows] / to_go + rounding)
        gap = ridge * ops.xp.sum(ops.xp.abs(U * D), axis=1)  # ridge · D is the slope at U
        on = on | ~settled | (gap > GAP * size[rows] ** 2)
        left[rows] = on
        waiting = xp.concat([waiting, rows[xp.nonzero(~settled)[0]]])
        rows = rows[xp.nonzero(on & settled)[0]]
