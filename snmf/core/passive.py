"""Linear systems on passive sets.

For every row a with its passive set, find z with z M = a on the set and z = 0 elsewhere. `solve`
solves the smaller of two systems. If z has many zeros, that is the system on the passive set. If z
has few zeros, it starts from a M⁻¹, and corrects that to zero outside of the set.

``ops`` is a `snmf.backends.Backend`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snmf.storage.rows import cut

Array = Any

WELL_CONDITIONED = 1e6  # up to this condition an inverse keeps ten digits
SYSTEMS = 2**17  # entries of the systems that are solved together: 1 MiB
ON_DEVICE = 2**26  # the same number on a device: 512 MiB
SIZES = 8  # on a device, systems of up to so many sizes are solved together


def solve(ops: Any, A: Array, system: Any, passive: Array) -> Array:
    """Do the work of `snmf.backends.Backend.solve_passive`, for one M (k, k)."""
    few_zeros = 2 * ops.xp.sum(passive, axis=1) > passive.shape[1]
    many, few = (ops.xp.nonzero(which)[0] for which in (~few_zeros, few_zeros))
    Z = ops.xp.zeros_like(A)
    Z[many] = ops.eliminate(A[many], system.matrix, passive[many])
    Z[few] = _by_zeros(ops, A[few], system.inverse, passive[few])
    return Z


def inverse(A: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the inverse of a symmetric matrix, and an upper bound of its condition.

    If the matrix is singular, return the matrix itself and inf.
    """
    try:
        A_inverse = np.linalg.inv(A)
    except np.linalg.LinAlgError:
        return A, math.inf
    return A_inverse, float(np.linalg.norm(A, 1) * np.linalg.norm(A_inverse, 1))


def _by_zeros(ops: Any, A: Array, M_inverse: Array, passive: Array) -> Array:
    """Compute Z from u = a M⁻¹, corrected to zero outside of the passive sets."""
    U = ops.matmul(A, M_inverse)
    U = U - ops.matmul(ops.eliminate(U, M_inverse, ~passive), M_inverse)
    return ops.xp.where(passive, U, 0.0)


def by_size(ops: Any, A: Array, M: Array, passive: Array) -> Array:
    """Compute Z by elimination, for one M (k, k); sets of about one size are solved together."""
    xp = ops.xp
    sizes = xp.sum(xp.astype(passive, xp.int64), axis=1)
    order = xp.argsort(sizes)
    Z = xp.zeros_like(A)
    for some, least, size in _of_about_one_size(ops.to_host(sizes[order]), ops.on_host):
        rows = order[some]
        chosen = passive[rows]
        if least < size:
            chosen = _filled_up(xp, chosen, size)
        columns = xp.reshape(xp.nonzero(chosen)[1], (-1, size))
        system = M[columns[:, :, None], columns[:, None, :]]
        right = A[rows[:, None], columns]
        if least < size:
            inside = passive[rows[:, None], columns]
            both = inside[:, :, None] & inside[:, None, :]
            system = xp.where(both, system, ops.asarray(np.eye(size)))
            right = xp.where(inside, right, 0.0)
        Z[rows[:, None], columns] = ops.solve(system, right[:, :, None])[:, :, 0]
    return Z


def whole(ops: Any, A: Array, M: Array, passive: Array) -> Array:
    """Compute Z by elimination, for an M (b, k, k); outside of a set its system is the identity."""
    both = passive[:, :, None] & passive[:, None, :]
    system = ops.xp.where(both, M, ops.asarray(np.eye(M.shape[-1])))
    right = ops.xp.where(passive, A, 0.0)
    return ops.solve(system, right[:, :, None])[:, :, 0]


def _of_about_one_size(sizes: np.ndarray, on_host: bool) -> Iterator[tuple[slice, int, int]]:
    """Yield slices of the ascending sizes above 0, with the least and the largest size in each."""
    together, entries = (1, SYSTEMS) if on_host else (SIZES, ON_DEVICE)
    groups = -(-sizes // together)
    for group in np.unique(groups[groups > 0]):
        start, stop = np.searchsorted(groups, [group, group + 1])
        size = int(sizes[stop - 1])
        for some in cut(int(start), int(stop), max(1, entries // size**2)):
            yield some, int(sizes[some.start]), size


def _filled_up(xp: Any, passive: Array, size: int) -> Array:
    """Return the passive sets with further components, the first of each row, up to this size."""
    others = xp.astype(~passive, xp.int64)
    spare = size - (passive.shape[1] - xp.sum(others, axis=1))
    return passive | (xp.cumulative_sum(others, axis=1) <= spare[:, None])
