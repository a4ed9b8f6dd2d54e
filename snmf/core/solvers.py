"""The function that computes the exact W: with locality, an intercept or missing values."""

from __future__ import annotations

import numpy as np

from snmf.core import intercept as _intercept
from snmf.core import locality as _local
from snmf.core import missing as _missing
from snmf.core import nnls


def solver(
    locality: float,
    rms: float,
    exponent: int,
    *,
    missing: bool,
    intercept: np.ndarray | None,
) -> nnls.Solver:
    """Return the function that computes exact weights, for `snmf.core.nnls.exact_weights`.

    Parameters
    ----------
    locality : float
        The strength μ of the locality penalty. It goes with no intercept and no missing values.
    rms, exponent : float, int
        As for `snmf.core.locality.solver`.
    missing : bool
        Whether X may have missing values.
    intercept : ndarray of shape (p,) or None
        The intercept, at the scale of the rows.
    """
    if locality:
        return _local.solver(locality, rms, exponent)
    best = _missing.best_weights if missing else nnls.best_weights
    return best if intercept is None else _intercept.solver(intercept, best)
