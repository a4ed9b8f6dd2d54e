"""The exact W for a given H: one nonnegative least-squares problem per row.

`exact_weights` computes W for all rows of X, and `best_weights` for one block of them.
`Components` holds H and what is computed from it once.

With B = H Hᵀ and a = x Hᵀ − λ, each row is a problem of `snmf.core.quadratic`.  The solution has a
cold start, and the result of a row does not depend on the other rows, except for the rounding of
products of many rows.

If B is nearly singular, gradients come from the residual x − w H, since the terms of a − w B would
cancel.  Without a penalty, a solution may also have large weights that cancel each other, which B
does not show.  Such rows go one by one to the active-set method, on a factor of H itself.
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
ROUNDING = 2.0**-26  # accuracy of the basis of the span of H: smaller parts outside it are rounding
CANCELLED = 1e-8  # if the error is below this share of its terms, compute it from the residual
EQUAL = 2.0**-40  # difference of squared errors, in units of ‖x‖², that is rounding
TOGETHER = 2**17  # weights that are solved for together: 1 MiB for each array of them
ON_DEVICE = 2**24  # the same number on a device: 128 MiB


class Components:
    """H in float64, with its Gram matrix and its singular value decomposition.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    H : ndarray of shape (k, p)
        The components. For `best_weights` each row has unit norm or is zero.

    Attributes
    ----------
    H : array of shape (k, p)
        The components in float64.
    B : array of shape (k, k)
        H Hᵀ.
    eps : float
        The relative precision of the given H: the epsilon of its dtype.
    """

    def __init__(self, ops: Any, H: np.ndarray) -> None:
        self.ops, self.H = ops, ops.asarray(H, "float64")
        self.B = ops.matmul(self.H, self.H.T)
        self.eps = float(np.finfo(H.dtype).eps)
        self._curvatures: dict[float, Curvature] = {}

    def curvature(self, constant: float = 0.0) -> Curvature:
        """Return the `Curvature` of B + constant, and keep it for the next call."""
        if constant not in self._curvatures:
            self._curvatures[constant] = Curvature(self.ops, self.B + constant)
        return self._curvatures[constant]

    @cached_property
    def spanning(self) -> tuple[Array, Array]:
        """U (k, m) and F (p, m): U is orthonormal, and X Hᵀ = X F Uᵀ for every X."""
        U, s, Vt = self.factors
        return self.ops.asarray(U), self.ops.asarray(Vt.T * s)

    def products(self, X: Array) -> Array:
        """Return X Hᵀ, for a singular B projected on the span of H.

        Exact arithmetic would give no part outside of that span. A rounding error there would be
        multiplied by systems that have a small ridge in place of a zero.
        """
        if not self.curvature().ridge:
            return self.ops.matmul(X, self.H.T)
        U, F = self.spanning
        return self.ops.matmul(self.ops.matmul(X, F), U.T)

    @cached_property
    def ones(self) -> Array:
        """The row of ones that λ multiplies; for a singular B without rounding errors."""
        ones = self.ops.asarray(np.ones((1, len(self.H))))
        if not self.curvature().ridge:
            return ones
        U, _ = self.spanning
        within = self.ops.matmul(self.ops.matmul(ones, U), U.T)
        return self.ops.xp.where(self.ops.xp.abs(ones - within) < ROUNDING, within, ones)

    @cached_property
    def hides(self) -> bool:
        """Whether H has directions that rounding makes invisible in B."""
        s = self.factors[1]
        known = s[s > len(s) * self.eps * s[:1]]
        return bool(known[-1] ** 2 * quadratic.SINGULAR < s[0] ** 2) if len(s) else False

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The singular value decomposition of H, without singular values that are rounding."""
        host = self.ops.to_host(self.H)
        U, s, Vt = np.linalg.svd(host, full_matrices=False)
        U[~np.any(host, axis=1)] = 0  # rounding must not give an empty component a part
        some = s > len(s) * 2.0**-52 * s[0]
        return U[:, some], s[some], Vt[some]


def exact_weights(
    rows: Any,
    H: np.ndarray,
    l1: float,
    exponent: int = 0,
    weights: RowWise | None = None,
    solve: Solver | None = None,
) -> tuple[RowWise, float, np.ndarray, float]:
    """Compute the W that minimises ½‖X − W H‖² + λ Σ W over W ≥ 0, for all rows of X.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    H : ndarray of shape (k, p)
        The components. For `best_weights` each row has unit norm or is zero.
    l1 : float
        The penalty λ.
    exponent : int, default=0
        Scales the sums: 2 ** exponent is about the largest norm of a row.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights of the rows, block by block. They change the sums, and not W. None is 1
        for each.
    solve : callable, default=None
        Solves for some rows, with the arguments and results of `best_weights`. None is
        `best_weights`. Another function may minimise another objective.

    Returns
    -------
    W : sequence of arrays
        The weights block by block, in working precision.
    square : float
        ‖X − W H‖², in units of 4 ** exponent.
    squares : ndarray of shape (k,)
        ‖w_j‖² for every component j, in units of 4 ** exponent.
    total : float
        Σ W, in units of 2 ** exponent.

    Raises
    ------
    ValueError
        If a weight of a row with a sample weight exceeds the largest number of the dtype.
    """
    own = order_of_their_own(H)  # so that W does not depend on the order of the components
    components = Components(rows.backend.precise, H[own])
    solve = partial(solve or best_weights, components=components, l1=l1)
    of_rows = partial(_of_rows, rows.backend, solve, np.argsort(own), exponent, rows.dtype)
    step = in_pieces(rows.backend, of_rows, len(H))
    W, (square, squares, total) = rows.map_sum(step, weights)
    return W, float(square), squares, float(total)


def in_pieces(backend: Any, of_rows: Callable[..., Any], k: int) -> Callable[..., Any]:
    """Return `of_rows` for a block of any size, whose weights fit in memory piece by piece.

    `of_rows` returns rows, and a tuple of sums. So does the result.
    """
    together = TOGETHER if backend.precise.on_host else ON_DEVICE
    return partial(_in_pieces, backend, of_rows, max(1, together // k))


def _in_pieces(
    backend: Any, of_rows: Callable[..., Any], most: int, X: Array, *weights: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Apply `of_rows` to at most `most` rows of a block at a time; join the rows, add the sums."""
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
) -> tuple[Array, tuple[Array, ...]]:
    ops, largest = backend.precise, float(np.finfo(dtype).max)
    W, squares, powers = solve(ops, backend.to_precise(X))
    W = ops.xp.take(W, ops.asarray(order), axis=1)
    above = powers - exponent  # may be large for a row of zeros, where it does not matter
    unit = _times_power_of_two(ops, 1 + 0 * powers, ops.xp.where(above < 1000, above, 0.0))
    errors, scaled = squares * unit * unit, W * unit[:, None]
    D = None if weights is None else backend.to_precise(weights)
    sums = totals(ops, errors, scaled, D)
    # The caller sees from the sums that weights exceed the largest number. The sums do not show it
    # for rows of little sample weight, so these are checked here. Rows of sample weight 0 come
    # without sample weights; for them W is clipped to the largest number.
    most = _times_power_of_two(ops, largest, -ops.positive_part(powers))[:, None]
    if weights is not None and bool(ops.xp.any(most < W)):
        raise too_large(dtype)
    W = _times_power_of_two(ops, ops.xp.where(most > W, W, most), powers[:, None])
    return backend.asarray(backend.bring(W, ops), dtype), sums


def totals(ops: Any, errors: Array, W: Array, D: Array | None) -> tuple[Array, Array, Array]:
    """Return the sums of the errors, of the squares in every column of W, and of W, for a block.

    D holds the sample weights of its rows, (b, 1); None is 1 for each.
    """
    D = 1.0 + 0 * W[:, :1] if D is None else D
    return ops.xp.sum(errors * D[:, 0]), ops.xp.sum(W * W * D, axis=0), ops.xp.sum(W * D)


def best_weights(
    ops: Any, X: Array, components: Components, l1: float
) -> tuple[Array, Array, Array]:
    """For each row x, find the w ≥ 0 that minimises ½‖x − w H‖² + λ Σ w.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    X : array of shape (b, p)
        The rows, in float64, at any scale.
    components : Components
        H, with rows of unit norm or zero.
    l1 : float
        The penalty λ.

    Returns
    -------
    W : array of shape (b, k)
        The weights, divided by 2 ** powers.
    squares : array of shape (b,)
        ‖x − w H‖², divided by 4 ** powers.
    powers : array of shape (b,)
        0, except for rows so large or so small that their squares leave the range of floats.
    """
    X, powers = at_unit_scale(ops, X)
    H, B, curvature = components.H, components.B, components.curvature()
    penalty = penalty_at_scale(ops, l1, powers) * components.ones
    squares = ops.row_squares(X)
    A = components.products(X)

    def gradient(rows: Array, W: Array) -> Array:
        x, parts = ops.take(X, rows), []
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
    """Return an order of the rows that depends on their content only."""
    keys = digests(H)
    return np.array(sorted(range(len(H)), key=keys.__getitem__), dtype=np.intp)


def digests(H: np.ndarray) -> list[bytes]:
    """Return a hash of each row; rows that differ by a power of two have the same one."""

    def digest(h: np.ndarray) -> bytes:
        _, exponent = np.frexp(np.max(np.abs(h), initial=0.0))
        return blake2b((np.ldexp(h, -exponent) + 0.0).data, digest_size=16).digest()

    return [digest(h) for h in H]


def at_unit_scale(ops: Any, X: Array) -> tuple[Array, Array]:
    """Return X with rows of extreme scale multiplied by 2 ** -powers, and these powers."""
    xp = ops.xp
    squares = ops.row_squares(X)
    extreme = (squares < 1 / NORMAL) | (squares > NORMAL)
    powers = xp.zeros_like(squares)
    if bool(xp.any(extreme)):
        largest = ops.row_maxima(X)
        logarithms = xp.floor(xp.log2(xp.where(largest > 0, largest, 1.0)))
        powers = xp.where(extreme, logarithms, powers)
        X = rows_times_power_of_two(ops, X, -powers)
    return X, powers


def rows_times_power_of_two(ops: Any, X: Array, powers: Array) -> Array:
    """Return every row of X times its 2 ** power."""
    for share in _halves(ops, powers):
        X = ops.scale_rows(X, share)
    return X


def penalty_at_scale(ops: Any, l1: float, powers: Array) -> Array:
    """Return λ for rows multiplied by 2 ** -powers, as an array (b, 1)."""
    mantissa, power = math.frexp(l1)
    bounded = ops.xp.where(power - powers < 1000, power - powers, 1000.0)
    return _times_power_of_two(ops, mantissa + 0 * powers, bounded)[:, None]


def _times_power_of_two(ops: Any, A: Array, powers: Array) -> Array:
    first, second = _halves(ops, powers)
    return A * first * second


def _halves(ops: Any, powers: Array) -> tuple[Array, Array]:
    """Return two factors with the product 2 ** powers, since 2 ** 1074 is not a float."""
    half = ops.xp.floor(powers / 2)
    return 2.0**half, 2.0 ** (powers - half)


def _with_cancelling_weights(
    ops: Any, X: Array, components: Components, W: Array, left: Array
) -> Array:
    """Solve some rows again by the active-set method, and keep what is not worse than W.

    These are the rows `left`, which are not settled. If B hides directions of H, they are all rows
    with a weight above zero.
    """
    if components.hides:
        left = ops.xp.nonzero(ops.xp.any(W > 0, axis=1))[0]
    if left.shape[0]:
        U, s, Vt = components.factors
        X, V = ops.take(X, left), W[left]
        ours = _row_by_row(ops, X, (U * s).T, Vt.T)
        errors, others = (ops.row_errors(X, weights, components.H) for weights in (ours, V))
        not_worse = errors <= others + EQUAL * ops.row_squares(X)
        W[left] = ops.xp.where(not_worse[:, None], ours, V)
    return W


def _row_by_row(ops: Any, X: Array, factor: np.ndarray, basis: np.ndarray) -> Array:
    """Solve nonnegative least squares for Hᵀ = basis × factor, without the singular H Hᵀ."""
    if isinstance(rows := ops.to_host(X), np.ndarray):
        rows = np.ascontiguousarray(rows)  # so that a row gives the same bits in any block
    targets = [x @ basis for x in rows]
    return ops.asarray(np.stack([active_set(factor, np.ravel(target)) for target in targets]))
