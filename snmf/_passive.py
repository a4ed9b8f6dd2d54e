"""Linear systems on passive sets, on the host: for every row a, z with B z = a there and else 0.

On the smaller side. With many zeros they are systems of the size of the passive set; few zeros come
from a B⁻¹, less what makes it zero there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray

WELL_CONDITIONED = 1e6  # up to there B⁻¹ keeps ten digits
RESIDUAL = 64 * 2.0**-52  # of a solution, in units of max |a| + max |z|; elimination leaves a third
SYSTEMS = 2**17  # entries of the systems that are solved together: 1 MiB


def solve(A: Array, B: Array, passive: Array, rough: bool) -> Array:
    """`snmf.backends.Backend.solve_passive`, for one B (k, k)."""
    B_inverse, condition = inverse(B)
    few_zeros = (2 * passive.sum(axis=1) > len(B)) & (condition < math.inf)
    Z = np.empty_like(A)
    Z[~few_zeros] = _by_size(A[~few_zeros], B, passive[~few_zeros])
    A, passive = A[few_zeros], passive[few_zeros]
    if condition < WELL_CONDITIONED:
        Z[few_zeros] = _by_zeros(A, B_inverse, passive)
    elif rough:
        Z[few_zeros] = _by_zeros(A, B_inverse, passive, _row_by_row)
    else:
        Z[few_zeros] = _refined(A, B, B_inverse, passive)
    return Z


def inverse(A: Array) -> tuple[Array, float]:
    """The inverse of a symmetric matrix, and a bound of its condition."""
    try:
        A_inverse = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return A, math.inf
    return A_inverse, float(np.linalg.norm(A, 1) * np.linalg.norm(A_inverse, 1))


def _by_zeros(
    A: Array, B_inverse: Array, passive: Array, times: Callable[..., Array] = np.matmul
) -> Array:
    """Z from u = a B⁻¹, less what makes it zero where it must be."""
    U, active = times(A, B_inverse), ~passive
    U -= times(_by_size(U, B_inverse, active), B_inverse)
    U[active] = 0
    return U


def _refined(A: Array, B: Array, B_inverse: Array, passive: Array) -> Array:
    """The same where B⁻¹ has few digits: refined; where that does not help, in own systems."""
    Z = _by_zeros(A, B_inverse, passive, _row_by_row)
    rows, before = np.arange(len(A)), np.inf
    unsolved = [rows[:0]]
    while len(rows):
        a, z, P = A[rows], Z[rows], passive[rows]
        R = np.where(P, a - _row_by_row(z, B), 0)
        residual = np.abs(R).max(axis=1) / (np.abs(a).max(axis=1) + np.abs(z).max(axis=1))
        solved, shrinks = residual <= RESIDUAL, residual < before / 2
        unsolved.append(rows[~solved & ~shrinks])
        on = ~solved & shrinks
        rows, before = rows[on], residual[on]
        Z[rows] += _by_zeros(R[on], B_inverse, P[on], _row_by_row)
    left = np.concatenate(unsolved)
    Z[left] = _by_size(A[left], B, passive[left])
    return Z


def _row_by_row(A: Array, B: Array) -> Array:
    """A B, where no row's rounding depends on the rows beside it."""
    product: Array = np.matmul(A[:, None, :], B)[:, 0]
    return product


def _by_size(A: Array, B: Array, passive: Array) -> Array:
    """The same in systems of the size of the passive set."""
    Z = np.zeros_like(A)
    size = passive.sum(axis=1)
    for s in np.unique(size[size > 0]):
        together = np.flatnonzero(size == s)
        for rows in np.array_split(together, math.ceil(len(together) * s * s / SYSTEMS)):
            P = np.nonzero(passive[rows])[1].reshape(len(rows), s)
            systems = B[P[:, :, None], P[:, None, :]]
            right = np.take_along_axis(A[rows], P, axis=1)
            Z[rows[:, None], P] = np.linalg.solve(systems, right[:, :, None])[:, :, 0]
    return Z
