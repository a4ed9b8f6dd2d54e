"""Linear systems on passive sets, with NumPy.

For every row a with its passive set, `solve` finds z with B z = a on the set and z = 0 elsewhere.
It solves the smaller of two systems. If z has many zeros, that is the system on the passive set. If
z has few zeros, it starts from a B⁻¹, and corrects that to zero outside of the set.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray

WELL_CONDITIONED = 1e6  # up to this condition an inverse keeps ten digits
SYSTEMS = 2**17  # entries of the systems that are solved together: 1 MiB


def solve(A: Array, B: Array, B_inverse: Array, passive: Array) -> Array:
    """Do the work of `snmf.backends.Backend.solve_passive`, for one B (k, k)."""
    few_zeros = 2 * passive.sum(axis=1) > len(B)
    Z = np.empty_like(A)
    Z[~few_zeros] = by_size(A[~few_zeros], B, passive[~few_zeros])
    Z[few_zeros] = _by_zeros(A[few_zeros], B_inverse, passive[few_zeros])
    return Z


def inverse(A: Array) -> tuple[Array, float]:
    """Return the inverse of a symmetric matrix, and an upper bound of its condition.

    If the matrix is singular, return the matrix itself and inf.
    """
    try:
        A_inverse = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return A, math.inf
    return A_inverse, float(np.linalg.norm(A, 1) * np.linalg.norm(A_inverse, 1))


def _by_zeros(A: Array, B_inverse: Array, passive: Array) -> Array:
    """Compute Z from u = a B⁻¹, corrected to zero outside of the passive sets."""
    active: Array = ~passive
    U: Array = A @ B_inverse
    U -= by_size(U, B_inverse, active) @ B_inverse
    U[active] = 0
    return U


def by_size(A: Array, B: Array, passive: Array) -> Array:
    """Compute Z from systems on the passive sets; sets of one size are solved together."""
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
