"""The exact W for a given H, row by row: nonnegative least squares.

With B = H Hᵀ and a = x Hᵀ − λ the rows are those of `snmf.core.quadratic`.  Always from a cold
start, and every row for itself: a row's result does not depend on the rows beside it, but for the
rounding of products of many rows.

Where B is nearly singular, gradients are taken from the residual x − w H, and not from a − w B, in
which they cancel.  Without a penalty B may also hide an answer in which large weights cancel: then
the rows go one by one to the active-set method, on a factor of H itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from hashlib import blake2b
from typing import Any

import numpy as np

from snmf.core import quadratic
from snmf.core.quadratic import Curvature, active_set
from snmf.storage.rows import cut, too_large

Array = Any
RowWise = Sequence[Any]
Solver = Callable[..., tuple[Array, Array, Array]]

NORMAL = 2.0**400  # squared norms within 1/NORMAL … NORMAL neither overflow nor lose digits
ROUNDING = 2.0**-26  # of a penalty beside the span of H, whose basis is known to about that
CANCELLED = 1e-8  # below this share of their terms the sums have lost the error: take the residual
EQUAL = 2.0**-40  # difference of squared errors, in units of ‖x‖², that is rounding
TOGETHER = 2**17  # weights that are solved for together: 1 MiB for each array of them


class Components:
    """H, and what is to be known of it.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    H : ndarray of shape (k, p)
        Known to the precision of its dtype; for `best_weights` of rows of unit norm, or zero.

    Attributes
    ----------
    H : array of shape (k, p)
        In float64.
    B : array of shape (k, k)
        H Hᵀ.
    eps : float
        The relative precision to which H is known.
    """

    def __init__(self, ops: Any, H: np.ndarray) -> None:
        self.ops, self.H = ops, ops.asarray(H, "float64")
        self.B = ops.matmul(self.H, self.H.T)
        self.eps = float(np.finfo(H.dtype).eps)
        self._curvatures: dict[float, Curvature] = {}

    def curvature(self, constant: float = 0.0) -> Curvature:
        """That of B, to every entry of which a constant is added."""
        if constant not in self._curvatures:
            self._curvatures[constant] = Curvature(self.ops, self.B + constant)
        return self._curvatures[constant]

    @cached_property
    def spanning(self) -> tuple[Array, Array]:
        """U (k, m) and F (p, m): U is orthonormal, and X Hᵀ = X F Uᵀ for every X."""
        U, s, Vt = self.factors
        return self.ops.asarray(U), self.ops.asarray(Vt.T * s)

    def products(self, X: Array) -> Array:
        """X Hᵀ; where B is singular without rounding errors that no X could give.

        Systems with a small ridge in place of a zero would multiply them.
        """
        if not self.curvature().ridge:
            return self.ops.matmul(X, self.H.T)
        U, F = self.spanning
        return self.ops.matmul(self.ops.matmul(X, F), U.T)

    @cached_property
    def ones(self) -> Array:
        """What λ is multiplied by; as `products`, less what is rounding where B is singular."""
        ones = self.ops.asarray(np.ones((1, len(self.H))))
        if not self.curvature().ridge:
            return ones
        U, _ = self.spanning
        within = self.ops.matmul(self.ops.matmul(ones, U), U.T)
        return self.ops.xp.where(self.ops.xp.abs(ones - within) < ROUNDING, within, ones)

    @cached_property
    def hides(self) -> bool:
        """Whether B, by rounding, hides directions that H is known to have."""
        s = self.factors[1]
        known = s[s > len(s) * self.eps * s[:1]]
        return bool(known[-1] ** 2 * quadratic.SINGULAR < s[0] ** 2) if len(s) else False

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The singular value decomposition of H, less what is rounding."""
        host = self.ops.to_host(self.H)
        U, s, Vt = np.linalg.svd(host, full_matrices=False)
        U[~np.any(host, axis=1)] = 0  # of empty components not even rounding
        some = s > len(s) * 2.0**-52 * s[0]
        return U[:, some], s[some], Vt[some]


def exact_weights(
    rows: Any,
    H: np.ndarray,
    l1: float,
    exponent: int = 0,
    weights: RowWise | None = None,
    solve: Solver | None = None,
) -> tuple[RowWise, float, np.ndarray]:
    """The W that minimises ½‖X − W H‖² + λ Σ W over W ≥ 0, or what `solve` does.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    H : ndarray of shape (k, p)
        Known to the precision of its dtype; for `best_weights` of rows of unit norm, or zero.
    l1 : float
        The penalty λ.
    exponent : int, default=0
        2 ** exponent is about the largest norm of a row.
    weights : sequence of arrays of shape (b, 1), default=None
        Row-wise, the weights with which rows enter the sums. None is 1 for each.
    solve : callable, default=None
        Solves for some of the rows, as `best_weights` does, which None stands for.

    Returns
    -------
    W : sequence of arrays
        Row-wise, in working precision.
    square : float
        ‖X − W H‖², in units of 4 ** exponent.
    squares : ndarray of shape (k,)
        ‖w_j‖² for every component j, in units of 4 ** exponent.
    """
    own = order_of_their_own(H)  # W does not depend on that in which components come
    components = Components(rows.backend.algebra, H[own])
    solve = partial(solve or best_weights, components=components, l1=l1)
    of_rows = partial(_of_rows, rows.backend, solve, np.argsort(own), exponent, rows.dtype)
    step = partial(_in_pieces, rows.backend, of_rows, max(1, TOGETHER // len(H)))
    W, (square, squares) = rows.map_sum(step, *(() if weights is None else (weights,)))
    return W, float(square), rows.backend.algebra.to_host(squares)


def _in_pieces(
    backend: Any, of_rows: Callable[..., Any], most: int, X: Array, *weights: Array
) -> tuple[Array, tuple[Array, ...]]:
    """A function of the rows of a block, and its sums, on so many of them at a time."""
    parts, sums = [], []
    for rows in cut(0, X.shape[0], most):
        part, terms = of_rows(*(backend.slice(A, rows) for A in (X, *weights)))
        parts.append(part)
        sums.append(terms)
    return backend.xp.concat(parts, axis=0), tuple(map(sum, zip(*sums, strict=True)))


def _of_rows(
    backend: Any,
    solve: Solver,
    order: np.ndarray,
    exponent: int,
    dtype: str,
    X: Array,
    weights: Array | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    ops, largest = backend.algebra, float(np.finfo(dtype).max)
    W, squares, powers = solve(ops, backend.to_algebra(X))
    W = ops.xp.take(W, ops.asarray(order), axis=1)
    above = powers - exponent  # of a row of zeros it may be far, and is of no account
    unit = _times_power_of_two(ops, 1 + 0 * powers, ops.xp.where(above < 1000, above, 0.0))
    errors, weight_squares = squares * unit * unit, (W * unit[:, None]) ** 2
    if weights is not None:
        D = backend.to_algebra(weights)
        errors, weight_squares = errors * D[:, 0], weight_squares * D
    sums = ops.xp.sum(errors), ops.xp.sum(weight_squares, axis=0)
    # beyond the largest number the caller is told by the sums, but for rows of little weight; rows
    # of weight 0, which come without weights, have the largest number then
    most = _times_power_of_two(ops, largest, -ops.positive_part(powers))[:, None]
    if weights is not None and bool(ops.xp.any(most < W)):
        raise too_large(dtype)
    W = _times_power_of_two(ops, ops.xp.where(most > W, W, most), powers[:, None])
    return backend.asarray(backend.bring(W, ops), dtype), sums


def best_weights(
    ops: Any, X: Array, components: Components, l1: float
) -> tuple[Array, Array, Array]:
    """The rows w ≥ 0 that minimise ½‖x − w H‖² + λ Σ w.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    X : array of shape (b, p)
        In float64, at any scale.
    components : Components
    l1 : float
        The penalty λ.

    Returns
    -------
    W : array of shape (b, k)
        Times 2 ** powers these are the rows.
    squares : array of shape (b,)
        Times 4 ** powers these are ‖x − w H‖².
    powers : array of shape (b,)
        0 for every row whose squares are floats.
    """
    X, powers = at_unit_scale(ops, X)
    H, B, curvature = components.H, components.B, components.curvature()
    penalty = penalty_at_scale(ops, l1, powers) * components.ones
    squares = ops.row_squares(X)
    A = components.products(X)

    def gradient(rows: Array, W: Array) -> Array:
        x, parts = ops.take(X, ops.to_host(rows)), []
        for some in ops.pieces(x):
            residual = ops.to_dense(ops.slice(x, some)) - ops.matmul(W[some, :], H)
            parts.append(components.products(residual))
        return ops.xp.concat(parts, axis=0) - penalty[rows]

    W, left = quadratic.nnls(
        curvature, A - penalty, squares**0.5, gradient if curvature.delicate else None
    )
    if l1:
        W = quadratic.by_active_sets(curvature, A - penalty, W, left)
    elif curvature.ridge or left.shape[0]:
        W = _with_cancelling_weights(ops, X, components, W, left)
    errors = squares + ops.xp.sum(W * (ops.matmul(W, B) - 2 * A), axis=1)
    if bool(ops.xp.any(errors < CANCELLED * (squares + ops.xp.sum(W, axis=1) ** 2))):
        errors = ops.row_errors(X, W, H)
    return W, errors, powers


def order_of_their_own(H: np.ndarray) -> np.ndarray:
    """An order of rows that depends on what they hold, and not on how they are ordered."""
    keys = digests(H)
    return np.array(sorted(range(len(H)), key=keys.__getitem__), dtype=np.intp)


def digests(H: np.ndarray) -> list[bytes]:
    """What tells rows apart, up to powers of two, without a sort of their many entries."""

    def digest(h: np.ndarray) -> bytes:
        _, exponent = np.frexp(np.max(np.abs(h), initial=0.0))
        return blake2b((np.ldexp(h, -exponent) + 0.0).data, digest_size=16).digest()

    return [digest(h) for h in H]


def at_unit_scale(ops: Any, X: Array) -> tuple[Array, Array]:
    """X with rows of extreme scale multiplied by 2 ** -powers, and these powers."""
    xp = ops.xp
    squares = ops.row_squares(X)
    extreme = (squares < 1 / NORMAL) | (squares > NORMAL)
    powers = xp.zeros_like(squares)
    if bool(xp.any(extreme)):
        largest = ops.row_maxima(X)
        logarithms = xp.floor(xp.log2(xp.where(largest > 0, largest, 1.0)))
        powers = xp.where(extreme, logarithms, powers)
        for share in _halves(ops, -powers):
            X = ops.scale_rows(X, share)
    return X, powers


def penalty_at_scale(ops: Any, l1: float, powers: Array) -> Array:
    """λ for rows multiplied by 2 ** -powers, (b, 1)."""
    mantissa, power = math.frexp(l1)
    bounded = ops.xp.where(power - powers < 1000, power - powers, 1000.0)
    return _times_power_of_two(ops, mantissa + 0 * powers, bounded)[:, None]


def _times_power_of_two(ops: Any, A: Array, powers: Array) -> Array:
    first, second = _halves(ops, powers)
    return A * first * second


def _halves(ops: Any, powers: Array) -> tuple[Array, Array]:
    """2 ** powers as a product of two, since 2 ** 1074 is not a float."""
    half = ops.xp.floor(powers / 2)
    return 2.0**half, 2.0 ** (powers - half)


def _with_cancelling_weights(
    ops: Any, X: Array, components: Components, W: Array, left: Array
) -> Array:
    """W, and in rows that were left, or whose minimiser B hides, those of the active-set method.

    That is unless they are worse.
    """
    if components.hides:
        left = ops.xp.nonzero(ops.xp.any(W > 0, axis=1))[0]
    if left.shape[0]:
        U, s, Vt = components.factors
        X, V = ops.take(X, ops.to_host(left)), W[left]
        ours = _row_by_row(ops, X, (U * s).T, Vt.T)
        errors, others = (ops.row_errors(X, weights, components.H) for weights in (ours, V))
        not_worse = errors <= others + EQUAL * ops.row_squares(X)
        W[left] = ops.xp.where(not_worse[:, None], ours, V)
    return W


def _row_by_row(ops: Any, X: Array, factor: np.ndarray, basis: np.ndarray) -> Array:
    """Nonnegative least squares for Hᵀ = basis × factor, which a singular H Hᵀ does not tell."""
    if isinstance(rows := ops.to_host(X), np.ndarray):
        rows = np.ascontiguousarray(rows)  # then each by itself: the same bits in any block
    targets = [x @ basis for x in rows]
    return ops.asarray(np.stack([active_set(factor, np.ravel(target)) for target in targets]))
