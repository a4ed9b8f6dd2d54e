"""Linear systems on passive sets, on the host: for every row a, z with B z = a there and else 0.

On the smaller side. With many zeros they are systems of the size of the passive set; few zeros come
from a B⁻¹, less what makes it zero there.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray

WELL_CONDITIONED = 1e6  # up to there an inverse keeps ten digits
SYSTEMS = 2**17  # entries of the systems that are solved together: 1 MiB


def solve(A: Array, B: Array, B_inverse: Array, passive: Array) -> Array:
    """`snmf.backends.Backend.solve_passive`, for one B (k, k)."""
    few_zeros = 2 * passive.sum(axis=1) > len(B)
    Z = np.empty_like(A)
    Z[~few_zeros] = by_size(A[~few_zeros], B, passive[~few_zeros])
    Z[few_zeros] = _by_zeros(A[few_zeros], B_inverse, passive[few_zeros])
    return Z


def inverse(A: Array) -> tuple[Array, float]:
    """The inverse of a symmetric matrix, and a bound of its condition."""
    try:
        A_inverse = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return A, math.inf
    return A_inverse, float(np.linalg.norm(A, 1) * np.linalg.norm(A_inverse, 1))


def _by_zeros(A: Array, B_inverse: Array, passive: Array) -> Array:
    """Z from u = a B⁻¹, less what makes it zero where it must be."""
    active: Array = ~passive
    U: Array = A @ B_inverse
    U -= by_size(U, B_inverse, active) @ B_inverse
    U[active] = 0
    return U


def by_size(A: Array, B: Array, passive: Array) -> Array:
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
