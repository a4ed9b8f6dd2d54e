"""The start of Gillis & Kumar: a nonnegative W from the singular value decomposition of X.

N. Gillis & A. Kumar, "Exact and heuristic algorithms for semi-nonnegative matrix factorization",
SIAM J. Matrix Anal. Appl. 36(4), 2015.

Let Z = X V for the k leading right singular vectors V.  If the span of Z has a positive vector, a
nonnegative W spans all of Z.  W H is then the best approximation of rank k, the global optimum.
Otherwise a nonnegative W of k columns spans the first k − 1 columns of Z.

`right_singular_vectors` computes V from passes over X, and `nonnegative_span` computes W from Z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import linprog
from scipy.sparse.linalg import LinearOperator, svds

Array = Any
RowWise = Sequence[Any]

PROGRAMS = 30  # the most linear programs; each adds the rows that violated the last margin
LEFT_BEHIND = 1e-7  # violation of the margin that counts; linear programs are exact to about 1e-9
MARGIN = 1e-3  # with a narrower margin W would be badly conditioned
GRAM = 2048  # the largest Gram matrix to decompose; beyond this size use Lanczos iterations


def nonnegative_span(
    Z: np.ndarray, k: int, lift: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find at most k nonnegative columns that span Z, or as much of Z as possible.

    Parameters
    ----------
    Z : ndarray of shape (n, r)
        X V, with r ≤ k.
    k : int
        The number of components.
    lift : float
        Sets the smallest weights, in units of the root mean square of Z.
    weights : ndarray of shape (n, 1), default=None
        The sample weights, above zero. None is 1 for each.

    Returns
    -------
    W : ndarray of shape (n, m)
        The columns, with m ≤ k.
    R : ndarray of shape (m, r) or None
        The matrix with W R = Z; None if W does not span Z.
    """
    if weights is None:
        weights = np.ones((len(Z), 1))
    direction = positive_direction(Z)
    if direction is not None:
        W, R = _around(Z, direction, lift, weights)
        return np.maximum(W, 0), R  # below 0 only in rows so short that their squares vanish
    if k == 1:
        halves = np.maximum(Z, 0), np.maximum(-Z, 0)
        return max(halves, key=lambda half: float(np.sum(weights * half**2))), None
    return _lifted(Z[:, : k - 1], lift, weights), None


def _lifted(Z: np.ndarray, lift: float, weights: np.ndarray) -> np.ndarray:
    """Return [Z + c 1ᵀ, c], with c so large that all entries are positive; it spans Z."""
    c = np.maximum(0, -Z.min(axis=1)) + lift * _rms(Z, weights)
    return np.column_stack([Z + c[:, None], c])


def _around(
    Z: np.ndarray, direction: np.ndarray, lift: float, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a positive W and a square R with W R = Z, for a direction with Z @ direction > 0.

    In an orthonormal basis that begins with the direction, Z is [u, V]; W is [u, V + u lᵀ].
    """
    basis = np.linalg.qr(np.column_stack([direction, np.eye(len(direction))]))[0]
    basis[:, 0] = direction
    u, others = Z @ direction.astype(Z.dtype), Z @ basis[:, 1:].astype(Z.dtype)
    inside = u > 0  # the other rows of Z are zero
    lifts = np.max(-others[inside] / u[inside, None], axis=0, initial=0.0)
    lifts = lifts + lift * _rms(others, weights) / _rms(u[:, None], weights)
    R = np.vstack([direction - basis[:, 1:] @ lifts, basis[:, 1:].T])
    return np.column_stack([u, others + lifts * u[:, None]]), R


def _rms(A: np.ndarray, weights: np.ndarray) -> Any:
    if not A.size:
        return A.dtype.type(0)
    return np.sqrt(np.average(np.mean(A**2, axis=1), weights=weights[:, 0])).astype(A.dtype)


def signs(Z: np.ndarray) -> np.ndarray:
    """Return a sign per column that makes its largest entry positive, since V has no sign."""
    largest = np.argmax(np.abs(Z), axis=0)
    heads: np.ndarray = np.take_along_axis(Z, largest[None, :], axis=0)[0]
    return np.where(heads < 0, -1, 1).astype(Z.dtype)


def positive_direction(Z: np.ndarray) -> np.ndarray | None:
    """Find a unit vector y with Z y > 0 in every row of Z that is not zero.

    Parameters
    ----------
    Z : ndarray of shape (n, k)

    Returns
    -------
    y : ndarray of shape (k,) or None
        None if there is no such vector, or if its margin is too narrow.

    Notes
    -----
    A linear program finds y and the widest margin t with z_i y ≥ t ‖z_i‖. It begins with few rows,
    and adds the rows that violate the margin, until none does. The result does not depend on how
    often a row occurs.
    """
    length = np.linalg.norm(Z, axis=1)
    Z = Z[length > 0] / length[length > 0, None]
    y = Z.mean(axis=0, dtype="float64")
    taken, margin = np.zeros(0, dtype=int), np.inf
    for _ in range(PROGRAMS):
        along = Z @ y.astype(Z.dtype)
        lowest = np.argsort(along)[: 10 * Z.shape[1]]
        behind = np.setdiff1d(lowest[along[lowest] < margin - LEFT_BEHIND], taken)
        if not len(behind):
            break
        taken = np.append(taken, behind)
        y, margin = _widest_margin(Z[taken].astype("float64"))
        if margin < MARGIN:
            return None
    length = np.linalg.norm(y)
    return y / length if margin < np.inf and along.min() > 0 else None


def _widest_margin(Z: np.ndarray) -> tuple[np.ndarray, float]:
    k = Z.shape[1]
    constraints = np.column_stack([-Z, np.ones(len(Z))])
    program = linprog(
        np.append(np.zeros(k), -1.0), constraints, np.zeros(len(Z)), bounds=[(-1, 1)] * (k + 1)
    )
    if not program.success:  # a numerical failure: the program is feasible and bounded
        return np.zeros(k), 0.0
    return program.x[:k], float(program.x[k])


def right_singular_vectors(rows: Any, k: int) -> np.ndarray:
    """Compute the k leading right singular vectors of X, without those of singular value zero.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    k : int
        The number of vectors.

    Returns
    -------
    V : ndarray of shape (p, r)
        An orthonormal basis of the span of the leading r ≤ k vectors, in float64.

    Notes
    -----
    The vectors come from the smaller Gram matrix, or from Lanczos iterations if that is large. One
    step of subspace iteration follows, since a Gram matrix has only half of the digits.
    """
    n, p = rows.shape
    k = min(k, n, p)
    if k < min(n, p) > GRAM:
        _, V = by_lanczos(_operator(rows), k)
    elif p <= n:
        V = _leading(total(rows, _gram), k)
    else:
        U = rows.split(_leading(gram_of_rows(rows), k))
        V = np.linalg.qr(total(rows, cross, U).T)[0]
    Vt: np.ndarray
    _, squares, Vt = np.linalg.svd(total(rows, partial(_reflected, V)), full_matrices=False)
    rounding = 10 * max(n, p) ** 0.5 * np.finfo(rows.backend.widest).eps
    known: np.ndarray = squares > rounding * squares[0]
    Vt = Vt[known & (squares > 0)]
    return Vt.T


def by_lanczos(operator: LinearOperator, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Approximate the k largest singular values, in no order, and their right singular vectors.

    One value and one vector, of zeros, stand for an operator that is zero.
    """
    n, p = operator.shape
    first = np.random.default_rng(0).standard_normal(min(n, p))  # orthogonal to nothing
    there, back = (operator, operator.adjoint()) if p <= n else (operator.adjoint(), operator)
    if not np.any(back @ (there @ first)):
        return np.zeros(1), np.zeros((p, 1))
    _, values, Vt = svds(operator, k, v0=first, return_singular_vectors="vh")
    return values, Vt.T


def projected(rows: Any, V: np.ndarray) -> RowWise:
    """Return X V block by block, in working precision."""
    ops = rows.backend
    basis = ops.asarray(V, rows.dtype)
    parts: RowWise = rows.map_sum(lambda X: (ops.matmul(X, basis), ()))[0]
    return parts


def _leading(gram: np.ndarray, k: int) -> np.ndarray:
    size = len(gram)
    vectors: np.ndarray = eigh(gram, subset_by_index=(size - k, size - 1))[1]
    return vectors[:, ::-1]


def total(rows: Any, function: Callable[..., Array], *row_wise: RowWise) -> np.ndarray:
    """Return the sum over blocks of function(ops, block, *parts) on the host; blocks in float64."""
    ops = rows.backend
    _, sums = rows.map_sum(
        lambda X, *parts: (None, (function(ops, ops.asarray(X, ops.widest), *parts),)), *row_wise
    )
    total: np.ndarray = sums[0]
    return total


def _gram(ops: Any, X: Array) -> Array:
    return ops.to_dense(ops.matmul(X.T, X))


def cross(ops: Any, X: Array, U: Array) -> Array:
    """Return Uᵀ X in the widest dtype."""
    return ops.matmul(ops.asarray(U, ops.widest).T, X)


def _reflected(V: np.ndarray, ops: Any, X: Array) -> Array:
    """Return Vᵀ Xᵀ X."""
    return ops.matmul(ops.matmul(X, ops.asarray(V, ops.widest)).T, X)


def gram_of_rows(rows: Any) -> np.ndarray:
    """Return X Xᵀ, from products of blocks; half of them, since it is symmetric."""
    ops, gram = rows.backend, np.empty((len(rows), len(rows)))
    numbers = rows.split(np.arange(len(rows))[:, None])

    def product(other: Array, start: int, X: Array, numbers: Array) -> tuple[Array, tuple[()]]:
        if float(numbers[-1, 0]) < start:
            return np.zeros((X.shape[0], other.shape[0])), ()
        return ops.to_dense(ops.matmul(ops.asarray(X, ops.widest), other.T)), ()

    for place in rows.slices:
        other = ops.asarray(rows.block(place), ops.widest)
        parts, _ = rows.map_sum(partial(product, other, place.start), numbers)
        below = np.concatenate(list(rows.to_host(parts)))[place.start :]
        gram[place.start :, place], gram[place, place.start :] = below, below.T
    return gram


def _operator(rows: Any) -> LinearOperator:
    """Return X as a SciPy LinearOperator, for Lanczos iterations."""
    ops = rows.backend

    def product(v: np.ndarray) -> np.ndarray:
        parts = projected(rows, v.reshape(len(v), -1))
        return np.concatenate(list(rows.to_host(parts))).reshape(-1, *v.shape[1:])

    def transposed(u: np.ndarray) -> np.ndarray:
        parts = rows.split(u.reshape(len(u), -1))
        _, (sums,) = rows.map_sum(lambda X, part: (None, (ops.matmul(part.T, X),)), parts)
        across: np.ndarray = sums.T
        return across.reshape(-1, *u.shape[1:])

    return LinearOperator(
        rows.shape, product, transposed, matmat=product, rmatmat=transposed, dtype=np.float64
    )
