"""The standard deviations of the columns of X, by which `scale` divides them.

They are those about the mean, though the fit does not subtract it: Σ d z² ÷ n − (Σ d z ÷ n)² with
z = x − c, the sample weights d and their sum n, over the observed entries.  The first pass has
c = 0.  Where a mean is far larger than the spread, the two terms cancel, and a second pass has the
mean for c.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from snmf.storage.csr import by_column
from snmf.storage.entries import canonical
from snmf.storage.rows import measure

Array = Any
RowWise = Sequence[Any]

CANCELLED = 0.25  # variances below eps to this power, times mean², have lost digits
SUM_ROUNDING = 64  # times eps of the sum of the weights: less than this is rounding


def divisors(
    scale: Any, rows: Any, weights: np.ndarray | None = None, missing: bool = False
) -> np.ndarray | None:
    """Return what `scale` divides the columns by, with the precision of the rows.

    Parameters
    ----------
    scale : bool or ndarray of shape (p,)
        True is the standard deviations, and False is None.
    rows, missing
        As for `deviations`.
    weights : ndarray of shape (n, 1), default=None
        The sample weights.
    """
    if scale is False:
        return None
    if scale is True:
        return deviations(rows, None if weights is None else rows.split(weights), missing)
    rounded: np.ndarray = scale.astype(rows.dtype).astype("float64")
    return rounded


def deviations(rows: Any, weights: RowWise | None = None, missing: bool = False) -> np.ndarray:
    """Return the standard deviation of every column of X; 1 for a constant one.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X that count.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights, block by block, all above zero. None is 1 for each.
    missing : bool, default=False
        Whether NaN is a missing value.

    Returns
    -------
    deviations : ndarray of shape (p,)
        In float64, with the precision of the rows.

    Raises
    ------
    ValueError
        If an entry is infinite, or NaN and not a missing value.
    """
    exponent = measure(rows, weights, missing).exponent
    rows = rows.scaled(exponent)
    mean, variance = _moments(rows, weights, missing, np.zeros(rows.shape[1]))
    if np.any(variance < np.finfo(rows.backend.widest).eps ** CANCELLED * mean**2):
        mean, variance = _moments(rows, weights, missing, mean)
    spread = np.sqrt(np.maximum(variance, 0))
    spread[spread <= np.finfo(rows.dtype).eps * np.abs(mean)] = 0  # rounding of equal entries
    found = np.ldexp(spread, exponent).astype(rows.dtype).astype("float64")
    return np.where(found > 0, found, 1.0)


def _moments(
    rows: Any, weights: RowWise | None, missing: bool, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of every column, from sums of the entries less `centre`."""
    ops = rows.backend
    step = partial(_sums_of_block, ops, ops.asarray(centre, ops.widest), missing)
    _, sums = rows.map_sum(step, weights)
    total, absent, zeros, first, second = (A[0] for A in sums)
    rounding = SUM_ROUNDING * np.finfo(ops.widest).eps * total
    count, zeros = (np.where(rounding < A, A, 0) for A in (total - absent, zeros))
    n = np.where(count > 0, count, 1)
    offset = (first - zeros * centre) / n
    return centre + offset, (second + zeros * centre**2) / n - offset**2


def _sums_of_block(
    ops: Any, centre: Array, missing: bool, X: Array, D: Array | None = None
) -> tuple[None, tuple[Array, ...]]:
    """Return sums over the rows, for every column.

    They are those of the weights: of all, of missing entries, and of zeros that are not stored.
    Then come those of z and z² over the other entries.
    """
    X, C = ops.asarray(X, ops.widest), centre[None, :]
    column, row = ops.asarray(np.ones((X.shape[0], 1)), ops.widest), 1 + 0 * C
    Dt = (column if D is None else ops.asarray(D, ops.widest)).T
    total = ops.xp.sum(Dt) * row
    absent = zeros = 0 * C
    if missing:
        absent = ops.matmul(Dt, ops.filled(0 * X, column, row))
        X = ops.filled(X, column, C)
    if hasattr(X, "nnz"):
        X = canonical(X)
        zeros = total - ops.matmul(Dt, by_column(lambda x, c: 0 * x + 1, X, centre))
    z = ops.matmul(Dt, by_column(lambda x, c: x - c, X, centre))
    squares = ops.matmul(Dt, by_column(lambda x, c: (x - c) * (x - c), X, centre))
    return None, (total, absent, zeros, z, squares)
