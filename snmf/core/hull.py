"""Convex NMF: components that are combinations of candidates, ``H = C Y`` with ``C ≥ 0``.

The candidates Y are m rows: rows of X, or others of their kind.  With ``K = Y Yᵀ`` (m, m) the
objective is

    ½‖X − W C Y‖² = ½‖X‖² − ⟨S Yᵀ, C⟩ + ½⟨T, C K Cᵀ⟩,    S = Wᵀ X,    T = Wᵀ W

Every function needs products with Y only, so a kernel may stand in their place:

    W-step     A = X Hᵀ = (X Yᵀ) Cᵀ and B = C K Cᵀ           `snmf.core.updates`, unchanged
    C-step     S Yᵀ = Wᵀ (X Yᵀ) (k, m), T (k, k) and K       `multiplicative` or `active_sets`
    exact W    A and B, row by row                           `solver`

With the linear kernel the blocks of a pass are rows of X, and H = C Y is formed once a pass.  With
another kernel the blocks are rows of X Yᵀ, which `KernelRows` computes block by block.  In this
module C is called H where it overrides a method of `Alternation`.

The method is that of Ding, Li & Jordan, "Convex and Semi-Nonnegative Matrix Factorizations", IEEE
TPAMI 32(1), 2010, section 3, where X is the only choice for Y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

from snmf.core import nnls, quadratic
from snmf.core.solve import Alternation, Point
from snmf.core.start import LIFT

Array = Any
RowWise = Any

SWEEPS = 2  # of the C-step over the components, in a pass
FIRST_SWEEPS = 5  # the same for the start
EXCHANGES = 30  # candidates that may enter a component in a sweep
SETTLED = 1e-9  # gradient, in units of the largest S Yᵀ, at which no candidate enters a component
LEAVE = 30  # candidates that may leave a component at a time; if more would, it begins at 0
RIDGES = (1e-13, 1e-10, 1e-7, 1e-4)  # times K_ii: nearly equal candidates give a singular system


def multiplicative(
    S: Array, T: Array, C: Array, K_plus: Array, K_minus: Array | None, repeats: int
) -> Array:
    """Make the C-step of Ding, Li & Jordan, with S = Wᵀ X Yᵀ; return the new C.

    C ← C ∘ √( (S⁺ + T C K⁻) / (S⁻ + T C K⁺) )

    None for K⁻ is 0, as for nonnegative data.
    """
    S_plus, S_minus = np.maximum(S, 0), np.maximum(-S, 0)
    tiny = math.sqrt(np.finfo("float64").smallest_normal)  # 0 × x/0 would be NaN
    for _ in range(repeats):
        TC = T @ C
        attract = S_plus if K_minus is None else S_plus + TC @ K_minus
        C = C * np.sqrt(attract / (S_minus + TC @ K_plus + tiny))
    return C


def active_sets(S: Array, T: Array, C: Array, K: Array, sweeps: int) -> Array:
    """Make the C-step by active sets: minimise each row of C, given the others.

    for j = 1…k:  c_j ← argmin ½ c K cᵀ − c r,  c ≥ 0,  r = c_j K + (S_j − T_j C K) / T_jj
    """
    C, diagonal = C.copy(), np.diag(T)
    products = C @ K
    for j in list(np.flatnonzero(diagonal > 0)) * sweeps:  # an unused component keeps its row
        target = products[j] + (S[j] - T[j] @ products) / diagonal[j]
        C[j] = _combination(K, target, C[j])
        products[j] = _times(C[j], K)
    return C


def _combination(K: Array, target: Array, c: Array) -> Array:
    """Lower ½ c K cᵀ − c r over c ≥ 0, mostly to its minimum: Lawson & Hanson's active sets.

    It begins at the given c, so that few candidates enter or leave. If many would leave, as from a
    start without zeros, it begins at 0.
    """
    norms = np.sqrt(np.diag(K))
    unit = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 0.0)
    given = np.where(norms > 0, c, 0.0)
    c, few = _at_minimum(K, target, given)
    exchanges = EXCHANGES
    if not few:
        exchanges, c = max(EXCHANGES, int(np.count_nonzero(given))), 0 * c
    least = SETTLED * np.max(np.abs(target) * unit)
    for _ in range(exchanges):
        slope = (target - _times(c, K)) * unit
        slope[c > 0] = 0
        enters = int(np.argmax(slope))
        if slope[enters] <= least:
            break
        new, _ = _at_minimum(K, target, c, enters)
        if not _objective(K, target, new) < _objective(K, target, c):  # rounding is reached
            break
        c = new
    return c if few or _objective(K, target, c) <= _objective(K, target, given) else given


def _objective(K: Array, target: Array, c: Array) -> float:
    P = np.flatnonzero(c)
    return float(c[P] @ (K[np.ix_(P, P)] @ c[P] / 2 - target[P]))


def _times(c: Array, K: Array) -> Array:
    """Return c K; most entries of c are zero."""
    P = np.flatnonzero(c)
    return c[P] @ K[P]


def _at_minimum(K: Array, target: Array, c: Array, *enters: int) -> tuple[Array, bool]:
    """Go to the minimum over the positive entries of c, and one more that enters.

    Where the way there leaves c ≥ 0 it stops, and goes on without the entries that became zero.
    Return the new c, and whether it is that minimum: not if more than `LEAVE` entries would leave.
    """
    P = np.append(np.flatnonzero(c > 0), enters).astype(int)
    now, new = c[P], np.zeros_like(c)
    for _ in range(LEAVE):
        z = now + _step(K[np.ix_(P, P)], target[P], now)
        below = z < 0
        if not below.any():
            new[P] = z
            return new, True
        if np.count_nonzero(below) > LEAVE:
            break
        share = now[below] / (now[below] - z[below])  # of the way, to where each becomes zero
        now = now + np.min(share) * (z - now)
        now[np.flatnonzero(below)[share <= np.min(share)]] = 0
        P, now = P[now > 0], now[now > 0]
    new[P] = now
    return new, not len(P)


def _step(system: Array, target: Array, c: Array) -> Array:
    """Return the step from c to the minimum of ½ c M cᵀ − c r.

    A ridge shortens the step where M is singular, as with equal candidates. Shorter steps lower
    the objective too.
    """
    if not len(c):
        return c
    residual, diagonal = target - system @ c, np.diag(system).copy()
    for ridge in RIDGES:
        system.flat[:: len(c) + 1] = diagonal * (1 + ridge)
        try:
            factor = scipy.linalg.cho_factor(system, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        step: Array = scipy.linalg.cho_solve(factor, residual, check_finite=False)
        return step
    return 0 * c


def row_norms(C: Array, K: Array) -> Array:
    """Return ‖c_j‖_K, the norms of the components."""
    return np.sqrt(np.maximum(np.sum((C @ K) * C, axis=1), 0))


@dataclass(frozen=True)
class Hull(Alternation):
    """The alternation with H = C Y: its H is C, of shape (k, m), and its S is S Yᵀ.

    Parameters
    ----------
    gram : ndarray of shape (m, m)
        K.
    candidates : array or sparse matrix of shape (m, p), default=None
        Y, at the scale of the rows. None if the blocks of `rows` are those of X Yᵀ.
    """

    gram: Any = None
    candidates: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what no block needs, since Dask sends this object to workers in every pass."""
        return {f.name: getattr(self, f.name) for f in fields(Alternation)}

    @cached_property
    def _signed_gram(self) -> tuple[Array, Array | None]:
        """K⁺ and K⁻; None for a K⁻ that is zero."""
        negative = np.maximum(-self.gram, 0)
        return np.maximum(self.gram, 0), negative if negative.any() else None

    def start(self, W: RowWise, H: np.ndarray | None) -> Point:
        """Return the first point; without a C, compute it from W by active sets."""
        S, T, total = self.sums(W)
        if H is None:
            H = active_sets(S, T, np.zeros_like(S), self.gram, FIRST_SWEEPS)
            if self.update == "multiplicative":  # it cannot change a zero
                H = H + LIFT * H.mean(axis=1, keepdims=True)
        return self._unit_point(W, H, S, T, total)

    def components(self, H: Array) -> Array:
        """Return the factor that multiplies W in the space of the blocks: C Y, or C."""
        return H if self.candidates is None else self._algebra.matmul(H, self.candidates)

    def _factors(self, H: Array) -> tuple[Array, Array]:
        return self.components(H), H @ self.gram @ H.T

    def sums(self, W: RowWise) -> list[Array]:
        S, *others = super().sums(W)
        return [self._onto_candidates(S), *others]

    def _onto_candidates(self, S: Array) -> Array:
        return S if self.candidates is None else self._algebra.matmul(S, self.candidates.T)

    def _h_step(self, W: RowWise, H: Array, *sums: Array) -> Point:
        S, T, total = sums
        if self._beyond_numbers(T):
            return Point(W, H, math.inf)
        S = self._onto_candidates(S)
        # with ‖c_j‖_K = 1 before the step, λ Σ_j total_j ‖c_j‖_K is nowhere above this quadratic
        curved = T + np.diag(self.l1 * total)
        if self.update == "multiplicative":
            H = multiplicative(S, curved, H, *self._signed_gram, self.repeats)
        else:
            H = active_sets(S, curved, H, self.gram, SWEEPS)
        return self._unit_point(W, H, S, T, total)

    def _unit_point(self, W: RowWise, H: Array, S: Array, T: Array, total: Array) -> Point:
        """Return the point; with a penalty at ‖c_j‖_K = 1, where W carries the scale."""
        if self.l1:
            norms = row_norms(H, self.gram)
            H = H / np.where(norms > 0, norms, 1.0)[:, None]
            S, T, total = S * norms[:, None], T * np.outer(norms, norms), total * norms
            scale = self._ops.asarray(norms, self.rows.dtype)
            W = self.rows.each(lambda part: part * scale, W)
        return self._point(W, H, S, T, total)

    def _error(self, W: RowWise, H: Array, S: Array, T: Array) -> float:
        error = squared_error(self.square, S, T, H, H @ self.gram @ H.T)
        if self.candidates is None or not self._cancels(error):
            return error
        return self._residual(W, self.components(H))


def squared_error(square: float, S: Array, T: Array, C: Array, B: Array) -> float:
    """Return ‖X − W C Y‖² from ‖X‖², S = Wᵀ X Yᵀ, T = Wᵀ W, C and B = C K Cᵀ."""
    return max(0.0, square - 2 * float(np.sum(S * C)) + float(np.sum(T * B)))


def solver(C: np.ndarray, B: np.ndarray) -> nnls.Solver:
    """Return the function that computes exact weights from rows of X Yᵀ, for `nnls.exact_weights`.

    That must get the same C. The errors that it returns are zero: they would need k(x, x).
    """
    own = nnls.order_of_their_own(C)  # in which `exact_weights` gives the components
    curvature: list[quadratic.Curvature] = []  # of B, made once

    def best_weights(
        ops: Any, X: Array, components: nnls.Components, l1: float
    ) -> tuple[Array, Array, Array]:
        if not curvature:
            curvature.append(quadratic.Curvature(ops, B[np.ix_(own, own)]))
        A = X @ components.H.T - l1
        W, left = quadratic.nnls(curvature[0], A)
        W = quadratic.by_active_sets(curvature[0], A, W, left)
        return W, 0 * W[:, 0], 0 * W[:, 0]

    return best_weights
