"""The exact W for a given H, row by row: nonnegative least squares.

Block principal pivoting (Kim & Park, "Fast nonnegative matrix factorization: an active-set-like
method and comparisons", SIAM J. Sci. Comput. 33(6), 2011), on B = H Hᵀ and a = x Hᵀ − λ, for
many rows at once.  In float64 throughout, always from a cold start, and every row for
itself: a row's result does not depend on the rows beside it.  A row in which pivoting does not come
nearer goes to the active-set method of SciPy, which always ends.

Where B is singular in float64 the minimiser is not unique, and a ridge picks one; larger ridges
before it, solved roughly, lead pivoting to its passive set.  Without a penalty B may also hide an
answer in which large weights cancel: then the rows go one by one to the active-set method, on a
factor of H itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

Array = Any
RowWise = Sequence[Any]
Solver = Callable[..., tuple[Array, Array, Array]]

NORMAL = 2.0**400  # squared norms within 1/NORMAL … NORMAL neither overflow nor lose digits
CANCELLED = 1e-8  # below this share of their terms the sums have lost the error: take the residual
DELICATE = 1e6  # condition of B, its diagonal at one, from which on rounding shows in W
SINGULAR = 1e12  # and from which on it decides
RIDGES = (1e-11, 1e-12, 1e-13)  # added to the diagonal of a singular B, one after the other
DESCENT = tuple(10.0**-power for power in range(2, 11))  # on the way to the first of them
STATIONARY = 1e-9  # what counts as a zero of the gradient, in units of max |a|
ROUNDING = (1e-13, 1e-15)  # what counts as zero while pivoting, in units of max |a| and of max |w|
SWEEPS = 8  # of coordinate descent, for the passive set to begin with
FEW = 0.25  # share of zeros in a row up to which it is begun from the solution without bounds
TOGETHER = 2**17  # weights that are solved for together: 1 MiB for each array of them
PATIENCE = 3  # exchanges that may pass without fewer wrong signs


class Components(NamedTuple):
    """H, and what is to be known of it.

    Attributes
    ----------
    H : array of shape (k, p)
        In float64; for `best_weights` of rows of unit norm, or zero.
    B : array of shape (k, k)
        H Hᵀ.
    condition : float
        Of B, less its empty rows and with unit diagonal.
    eps : float
        The relative precision to which H is known.
    """

    H: Array
    B: Array
    condition: float
    eps: float

    @classmethod
    def of(cls, ops: Any, H: np.ndarray) -> Components:
        """The components H, for that backend."""
        wide = ops.asarray(H, "float64")
        B = ops.matmul(wide, wide.T)
        return cls(wide, B, _condition(ops, B), float(np.finfo(H.dtype).eps))

    @property
    def delicate(self) -> bool:
        """Whether B is so near to singular that rounding shows in the exact W."""
        return self.condition > DELICATE


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
    own = np.lexsort(H.T)  # an order of their own: W does not depend on that in which they come
    components = Components.of(rows.backend.algebra, H[own])
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
    for start in range(0, X.shape[0], most):
        rows = slice(start, min(start + most, X.shape[0]))
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
    # beyond the largest number the caller is told by the sums
    most = _times_power_of_two(ops, largest, -ops.positive_part(powers))[:, None]
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
    H, B, condition, eps = components
    A = ops.row_products(X, H) if components.delicate else ops.matmul(X, H.T)
    ridges = (0.0,) if condition < SINGULAR else RIDGES if l1 else RIDGES[:1]
    W = nnls(ops, A - penalty_at_scale(ops, l1, powers), B, ridges)
    if condition >= SINGULAR and not l1:
        W = _with_cancelling_weights(ops, X, H, A, B, W, eps)
    squares = ops.row_squares(X)
    errors = squares + ops.xp.sum(W * (ops.matmul(W, B) - 2 * A), axis=1)
    if bool(ops.xp.any(errors < CANCELLED * (squares + ops.xp.sum(W, axis=1) ** 2))):
        errors = ops.row_errors(X, W, H)
    return W, errors, powers


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


def _condition(ops: Any, B: Array) -> float:
    spectrum = ops.xp.linalg.eigvalsh(_with_unit_diagonal(ops, B)[0])
    least = float(spectrum[0])
    return float(spectrum[-1]) / least if least > 0 else math.inf


def ridges(ops: Any, B: Array) -> tuple[float, ...]:
    """What `nnls` is to add to the diagonal of B, of any condition."""
    return (0.0,) if _condition(ops, B) < SINGULAR else RIDGES


def _with_unit_diagonal(ops: Any, B: Array) -> tuple[Array, Array]:
    """B scaled to unit diagonal (an empty row becomes one of the identity), and the factors."""
    xp = ops.xp
    norm = xp.sqrt(ops.diagonal(B))
    unit = xp.where(norm > 0, 1 / xp.where(norm > 0, norm, 1.0), 0.0)
    empty = xp.astype(norm == 0, B.dtype)[..., None, :] * ops.identity_like(B)
    return B * unit[..., :, None] * unit[..., None, :] + empty, unit


def nnls(ops: Any, A: Array, B: Array, ridges: tuple[float, ...] = (0.0,)) -> Array:
    """For every row a of A the w ≥ 0 that minimises ½ w B wᵀ − a wᵀ.

    Parameters
    ----------
    ops : Backend
        Does the arithmetic.
    A : array of shape (b, k), B : array of shape (k, k) or (b, k, k)
        In float64; B symmetric and positive semidefinite: one for all rows, or one for each.
    ridges : tuple of floats, default=(0,)
        What is added to the diagonal of B at unit diagonal, so that the minimiser is unique. A
        next, smaller one is a proximal step from there, for the rows that ask for it:
        argmin ½ w B wᵀ − a wᵀ + ½ ridge ‖w − w_before‖².

    Returns
    -------
    W : array of shape (b, k)
    """
    xp = ops.xp
    B, unit = _with_unit_diagonal(ops, B)
    A = A * unit
    W = xp.zeros_like(A)
    some = xp.nonzero(xp.any(A > 0, axis=1))[0]  # elsewhere w = 0
    if some.shape[0]:
        W[some] = _from_cold(ops, A[some], _of(B, some), ridges)
    return W * unit


def _of(B: Array, rows: Array) -> Array:
    """What B is for those rows."""
    return B if B.ndim == 2 else B[rows]


def _times(ops: Any, W: Array, B: Array) -> Array:
    """The products of rows of W, each with its B."""
    return ops.matmul(W, B) if B.ndim == 2 else ops.matmul(W[:, None, :], B)[:, 0, :]


def _from_cold(ops: Any, A: Array, B: Array, ridges: tuple[float, ...]) -> Array:
    """Nonnegative least squares where B has unit diagonal."""
    identity, (first, *smaller) = ops.identity_like(B), ridges
    path = (*DESCENT, first) if first else (first,)
    passive = _passive_at_first(ops, A, B + path[0] * identity)
    for ridge in path:
        W = _pivot(ops, A, B + ridge * identity, passive, rough=ridge in DESCENT)
        passive = W > 0
    for ridge in smaller:
        left = _unsettled(ops, A, B, W)
        if left.shape[0]:
            V = W[left]
            W[left] = _pivot(ops, A[left] + ridge * V, _of(B, left) + ridge * identity, V > 0)
    return W


def _passive_at_first(ops: Any, A: Array, B: Array) -> Array:
    """A guess: where a B⁻¹ > 0, if that is most of the row; elsewhere by coordinate descent."""
    if B.ndim == 3:
        return A > 0
    passive = ops.hals(A, B, ops.xp.zeros_like(A), 0.0, SWEEPS) > 0
    free = ops.matmul(A, ops.xp.linalg.inv(B)) > 0
    zeros = ops.xp.sum(ops.xp.astype(~free, A.dtype), axis=1)
    return ops.xp.where((zeros <= FEW * B.shape[0])[:, None], free, passive)


def _with_cancelling_weights(
    ops: Any, X: Array, H: Array, A: Array, B: Array, W: Array, eps: float
) -> Array:
    """W, and in rows that the ridge holds back the weights of the active-set method if better."""
    host = ops.to_host(H)
    U, s, Vt = np.linalg.svd(host, full_matrices=False)
    U[~np.any(host, axis=1)] = 0  # of empty components not even rounding
    known = s > len(s) * eps * s[0]  # what is below is none of H, but its rounding
    hidden = s[known][-1] ** 2 * SINGULAR < s[0] ** 2  # by the ridge, from the gradient too
    left = _unsettled(ops, A, B, W, 0.0 if hidden else STATIONARY)
    if left.shape[0]:
        X, V = X[left], W[left]
        ours = _row_by_row(ops, X, (U * s)[:, known].T, Vt[known].T)
        better = ops.row_errors(X, ours, H) < ops.row_errors(X, V, H)
        W[left] = ops.xp.where(better[:, None], ours, V)
    return W


def _size(ops: Any, A: Array) -> Array:
    return ops.xp.max(ops.xp.abs(A), axis=1)


def _unsettled(ops: Any, A: Array, B: Array, W: Array, stationary: float = STATIONARY) -> Array:
    """The rows whose gradient has an entry that a step within w ≥ 0 could follow."""
    gradient = _times(ops, W, B) - A
    slope = _size(ops, ops.xp.where((W > 0) | (gradient < 0), gradient, 0.0))
    return ops.xp.nonzero(slope > stationary * _size(ops, A))[0]


def _pivot(ops: Any, A: Array, B: Array, passive: Array, rough: bool = False) -> Array:
    """Exchange components of the wrong sign between the passive set and its complement.

    A row in which there are not fewer of them for too long goes to the active-set method; where
    it is a rough W that is asked for, it stays as it is.
    """
    xp = ops.xp
    W = xp.zeros_like(A)
    settled = xp.zeros(A.shape[0], dtype=xp.bool, device=ops.device)
    fewest = xp.full(A.shape[0], A.shape[1] + 1, device=ops.device)
    patience = xp.full(A.shape[0], PATIENCE, device=ops.device)
    rows = xp.arange(A.shape[0], device=ops.device)
    while rows.shape[0]:
        a, b = A[rows], _of(B, rows)
        Z = ops.solve_passive(a, b, passive, rough)
        W[rows] = xp.where(Z > 0, Z, 0.0)
        signs = xp.where(passive, Z, _times(ops, Z, b) - a)
        zero = ROUNDING[0] * _size(ops, a) + ROUNDING[1] * _size(ops, Z)
        wrong = signs < -zero[:, None]
        count = xp.sum(wrong, axis=1)
        settled[rows] = count == 0
        fewer = count < fewest
        fewest = xp.where(fewer, count, fewest)
        patience = xp.where(fewer, PATIENCE, patience - 1)
        left = xp.nonzero((count > 0) & (patience > 0))[0]
        rows, passive = rows[left], passive[left] ^ wrong[left]
        fewest, patience = fewest[left], patience[left]
    stuck = xp.nonzero(~settled)[0]
    if stuck.shape[0] and not rough:
        systems = ops.to_host(A[stuck]), ops.to_host(_of(B, stuck))
        W[stuck] = ops.asarray(_by_cholesky(*systems))
    return W


def _by_cholesky(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Nonnegative least squares by Lawson & Hanson's active sets, on a Cholesky factor of B."""
    factors = [scipy.linalg.cholesky(b) for b in B.reshape(-1, *B.shape[-2:])]
    return np.stack([
        _active_set(R, scipy.linalg.solve_triangular(R, a, trans="T"))
        for a, R in zip(A, factors if B.ndim == 3 else factors * len(A), strict=True)
    ])  # fmt: skip


def _row_by_row(ops: Any, X: Array, factor: np.ndarray, basis: np.ndarray) -> Array:
    """The same for Hᵀ = basis × factor, which a singular H Hᵀ does not tell."""
    if isinstance(rows := ops.to_host(X), np.ndarray):
        rows = np.ascontiguousarray(rows)  # then each by itself: the same bits in any block
    targets = [x @ basis for x in rows]
    return ops.asarray(np.stack([_active_set(factor, np.ravel(target)) for target in targets]))


def _active_set(R: np.ndarray, target: np.ndarray) -> np.ndarray:
    w: np.ndarray = scipy.optimize.nnls(R, target, maxiter=100 * R.shape[1])[0]
    return w
