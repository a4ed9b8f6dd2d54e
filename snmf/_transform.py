"""The exact weights of data for given components: the work behind `transform` and `score`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from snmf._arguments import check_weights
from snmf._data import Data
from snmf.backends import Backend, choose
from snmf.core import locality as _local
from snmf.core import missing as _missing
from snmf.core import nnls
from snmf.core.contributions import Contributions, contributions
from snmf.core.solvers import solver
from snmf.storage.parts import Output, check_output, write_npy
from snmf.storage.rows import Rows, RowWise, check_range, measure, taking_part

Array = Any


class Explained(NamedTuple):
    """The exact weights of some data, and the squared error that they leave.

    Attributes
    ----------
    W : array of shape (n_samples, n_components)
        The exact weights.
    n_samples : int
        The number of rows.
    left : float
        ‖X − W H‖², in units of 4 ** exponent.
    whole : float
        ‖X‖², in the same units.
    exponent : int
        2 ** exponent is about the largest norm of a row.
    entries : int
        The number of observed entries of X.
    contributions : Contributions or None
        What each component contributes to W H. None if it was not asked for.
    """

    W: np.ndarray
    n_samples: int
    left: float
    whole: float
    exponent: int
    entries: int
    contributions: Contributions | None = None

    @property
    def score(self) -> float:
        """The share of ‖X‖² that W H explains; 1 for X = 0."""
        return float(1.0 - self.left / self.whole) if self.whole else 1.0


def exact_transform(
    data: Data,
    H: np.ndarray,
    penalty: float,
    *,
    intercept: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    backend: Any,
    device: Any,
    n_jobs: int | None,
    missing_values: float | None,
    locality: float,
    rms: float,
    sample_weight: Any = None,
    out: Output = None,
    contributing: bool = False,
) -> Explained:
    """Compute the exact W of data for given components, and the squared error.

    Parameters
    ----------
    data : Data of shape (n_samples, n_features)
        The data, with a known number of rows.
    H : ndarray of shape (n_components, n_features)
        The components that a fit returned.
    penalty : float
        The λ of the fit.
    intercept : ndarray of shape (n_features,), default=None
        The intercept that a fit returned.
    scale : ndarray of shape (n_features,), default=None
        What the fit divided the columns by. With it, X stands for X / scale in all else.
    backend, device, n_jobs, missing_values, locality
        As for `SNMF`.
    rms : float
        The root mean square norm of the rows of the fit.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each row counts in the squared error.
    out : path, default=None
        Writes W to this .npy file. With False there is no W.
    contributing : bool, default=False
        Computes the contributions of the components too, in one more pass.

    Returns
    -------
    Explained

    Raises
    ------
    ValueError
        If X or a parameter is invalid, or X is too large.
    OSError
        If rows of X cannot be read, or W cannot be written.
    """
    ops = choose(backend, data.owner, device)
    D, _ = check_weights(sample_weight, data.shape[0])
    check_output(out, data.X, (data.shape[0], len(H)), data.dtype)
    with ops.active(), data.threaded(ops, n_jobs) as rows:
        rows = rows.divided(scale)
        missing = missing_values is not None
        rows, D, members = taking_part(rows, D, missing)
        assert members is None or out is False, "W has a row for every row of X"
        weights = None if D is None else rows.split(D)
        size = measure(rows, weights, missing)
        exponent = power = size.exponent + math.frexp(size.longest)[1]
        if locality:  # H and λ at the scale of the fit; W has no unit
            exponent, power = _exponent_of_fit(rms, exponent, sums=out is False), 0
            rms, H = math.ldexp(rms, -exponent), np.ldexp(H, -exponent)
            penalty = math.ldexp(penalty, -exponent) * rms
        m = None if intercept is None else intercept.astype("float64")
        solve = solver(locality, rms, exponent, missing=missing, intercept=m)
        W, square, squares, _ = nnls.exact_weights(rows, H, penalty, power, weights, solve)
        check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
        whole = float(np.ldexp(size.square, -2 * (exponent - size.exponent)))
        found = None
        if contributing:
            scaled, m = rows.scaled(exponent), None if m is None else np.ldexp(m, -exponent)
            found = contributions(scaled, W, H, weights, power, missing, m)
        W = handed_back(rows, W, data.owner, data.dtype, out)
        count = _missing.observed(rows).entries if missing else len(rows) * data.shape[1]
        return Explained(W, len(rows), square, whole, exponent, count, found)


def exact_weights(data: Data, H: np.ndarray, *, backend: Any, device: Any, **fitted: Any) -> Array:
    """Compute only the W of `exact_transform`. If X is lazy (Dask), W is lazy too."""
    ops = choose(backend, data.owner, device)
    check_output(fitted["out"], data.X, (data.shape[0], len(H)), data.dtype)
    fitted["n_jobs"] = data.owner.threads_of_call(fitted["n_jobs"])
    weights = partial(_exact_weights, H=H, backend=ops, device=device, **fitted)
    with data.naming_columns():
        return data.owner.map_rows(weights, data.X, len(H))


def _exact_weights(X: Any, source: Backend, **fitted: Any) -> Array:
    return exact_transform(Data(X, source), **fitted).W


def handed_back(rows: Rows, W: RowWise, source: Backend, dtype: str, out: Output) -> Array:
    """Return W as an array of the caller's library, or as the file `out`, or None."""
    if out is False:
        return None
    if out is None:
        return source.asarray(source.bring(rows.join(W), rows.backend), dtype)
    shape = len(rows), W[0].shape[1]
    return write_npy(out, map(rows.backend.to_host, W), rows.slices, shape, dtype)


def _exponent_of_fit(rms: float, exponent: int, sums: bool) -> int:
    """Return the exponent of the data of the fit.

    `exponent` is that of X. A row of X that is far larger than the rows of the fit gets zero
    weights. If `sums` is true, the squared error is needed too, and such a row would overflow it.

    Raises
    ------
    ValueError
        If `sums` is true and X is too large.
    """
    own = math.frexp(rms)[1]
    if rms and sums and exponent - own > _local.FAR:
        raise ValueError(
            f"X is too large: its rows are 2**{exponent - own} times as long as those of the fit. "
            "Bring X to the scale of the data of the fit."
        )
    return own if rms else exponent
