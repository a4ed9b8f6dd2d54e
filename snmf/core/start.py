"""The starts of a fit, by name in `STARTS`; `custom` is for a given W or H.

Every start returns W block by block, and H or None. With None, the fit computes H from W by least
squares. `weights` are the sample weights, (n, 1) on the host; None is 1 for each.

The other functions scale a given W or H, and lift the zeros of an exact W.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from snmf.core import rotation as _rotation
from snmf.core import svd as _svd
from snmf.storage.threads import BLAS, openmp_on_one_thread

Array = Any
RowWise = Sequence[Any]
Start = tuple[RowWise, np.ndarray | None]  # W, and H of unit rows; None: by least squares

RISE = (1e-2, 1e-6)  # how much lifting W may raise F: as a share of F, and of ½‖X‖²
LIFT = 0.2  # keeps W > 0 at the start, since the multiplicative update cannot leave a zero
TOO_FAR = 2.0**60  # the largest factor between a start and X whose square is still a float32
SAMPLE = (2000, 30)  # the least number of rows in a sample, in all and per component


def _rotated(
    by: _rotation.Rotation,
    rows: Any,
    k: int,
    rng: np.random.RandomState,
    weights: np.ndarray | None = None,
) -> Start:
    """Start from the scores of principal components, rotated: see `snmf.core.rotation`.

    The components are those of a sample of the rows. If these have fewer than k principal
    components, start from their clusters, as `kmeans` does.
    """
    first = _rotation.drawn(k, rng)  # before the sample: what that draws depends on the rows
    chosen, sample = _sample(rows, k, rng)
    share = None if weights is None else weights[chosen, 0].astype("float64")
    with BLAS:
        scores = _rotation.nonnegative_scores(sample, share, first, by)
    if scores is None:
        return _clusters(rows, k, rng, sample, share)
    ops = rows.backend
    M, offset, lift = (
        ops.asarray(A, rows.dtype) for A in (scores.M, scores.offset[None, :], scores.mean * LIFT)
    )

    def weights_of(X: Array) -> tuple[Array, tuple[()]]:
        return ops.positive_part(ops.matmul(X, M) - offset) + lift, ()

    return rows.map_sum(weights_of)[0], None


skewness = partial(_rotated, _rotation.skewness)
varimax = partial(_rotated, _rotation.varimax)


def _sample(rows: Any, k: int, rng: np.random.RandomState) -> tuple[np.ndarray, Any]:
    """Draw rows for k components; return their indices, in ascending order, and the rows."""
    n = len(rows)
    chosen = np.sort(rng.permutation(n)[: max(SAMPLE[0], SAMPLE[1] * k)])
    return chosen, rows.take(chosen)


def kmeans(
    rows: Any, k: int, rng: np.random.RandomState, weights: np.ndarray | None = None
) -> Start:
    """Start from k-means: W is 1.2 for the cluster of a row, else 0.2 (Ding et al., section 5).

    The clusters are those of a sample of the rows.
    """
    chosen, sample = _sample(rows, k, rng)
    return _clusters(rows, k, rng, sample, None if weights is None else weights[chosen, 0])


def _clusters(
    rows: Any, k: int, rng: np.random.RandomState, sample: Any, weights: np.ndarray | None
) -> Start:
    """Start from the clusters of a sample of the rows, which has these weights."""
    from sklearn.cluster import KMeans  # slow to import

    if isinstance(sample, np.ndarray):
        sample = np.require(sample, requirements="W")  # KMeans centres it in place
    else:  # KMeans needs indices of 32 bits, which this constructor makes if they fit
        sample = csr_matrix((sample.data, sample.indices, sample.indptr), shape=sample.shape)
    on_host = config_context(array_api_dispatch=False)
    with BLAS, openmp_on_one_thread(), on_host, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # if distinct rows are too few
        most = min(k, sample.shape[0])
        clusters = KMeans(most, n_init=1, random_state=rng, copy_x=False)
        clusters.fit(sample, sample_weight=weights)
    centres = clusters.cluster_centers_[np.unique(clusters.labels_)].astype("float64")
    ops = rows.backend
    offset = ops.asarray(0.5 * (centres**2).sum(axis=1), rows.dtype)
    found = ops.asarray(centres, rows.dtype)
    W, _ = rows.map_sum(partial(_membership, ops, found, offset))
    return _filled_up(rows, W, k - len(centres), rng), None


def _membership(ops: Any, centres: Array, offset: Array, X: Array) -> tuple[Array, tuple[()]]:
    nearest = ops.xp.argmax(ops.matmul(X, centres.T) - offset[None, :], axis=1)
    member = nearest[:, None] == ops.xp.arange(offset.shape[0], device=ops.device)[None, :]
    return ops.xp.astype(member, centres.dtype) + LIFT, ()


def random(
    rows: Any, k: int, rng: np.random.RandomState, weights: np.ndarray | None = None
) -> Start:
    """Start from weights drawn from the uniform distribution between 0.2 and 1.2."""
    return rows.uniform(rng, k, LIFT), None


def _filled_up(rows: Any, W: RowWise, missing: int, rng: np.random.RandomState) -> RowWise:
    if not missing:
        return W
    more, _ = random(rows, missing, rng)
    return beside(rows, W, more)


def svd(rows: Any, k: int, rng: np.random.RandomState, weights: np.ndarray | None = None) -> Start:
    """Start from the leading singular vectors of X, as Gillis & Kumar do: see `snmf.core.svd`."""
    roots = None if weights is None else np.sqrt(weights[:, 0])
    V = _svd.right_singular_vectors(rows.times(roots), k)
    if V.shape[1] == 0:
        return random(rows, k, rng)
    Z = np.concatenate(list(rows.to_host(_svd.projected(rows, V))))
    signs = _svd.signs(Z)
    Z, V = Z * signs, V * signs
    W, R = _svd.nonnegative_span(Z, k, LIFT, weights)
    missing = k - W.shape[1]
    if R is None or missing:
        W = np.ldexp(W, column_powers(W))  # about as large as the random columns
        return _filled_up(rows, rows.split(W), missing, rng), None
    H, norms = unit_rows(R @ V.T)
    return rows.split(W * norms.astype(W.dtype)), H


def custom(
    rows: Any, W: np.ndarray, H: np.ndarray | None, exponent: int
) -> tuple[RowWise, np.ndarray | None]:
    """Start from a given W, or a given W and H.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X times 2 ** -exponent.
    W : ndarray of shape (n, k)
        The given weights.
    H : ndarray of shape (k, p) or None
        The given components.
    exponent : int
        The scale of the fit.

    Returns
    -------
    W : sequence of arrays
        The weights block by block. With an H, they carry the norms of its rows, and columns of
        minute weights are set to zero. Without an H, each column is scaled to about 1.
    H : ndarray of shape (k, p) or None
        The components at unit norm; None if the fit must compute H from W.

    Raises
    ------
    ValueError
        If W H is far larger than X.
    """
    if H is None:
        return rows.split(np.ldexp(W, column_powers(W))), None
    H, norms = unit_rows(H)
    with np.errstate(over="ignore", invalid="ignore"):
        W = np.ldexp(W * norms, -exponent)
    if not np.max(W) < TOO_FAR:
        raise ValueError(
            "W and H are too large a start for X: W H must be about as large as X. Scale W or H."
        )
    minute = np.max(W, axis=0) < np.max(W) / TOO_FAR
    return rows.split(np.where(minute, 0, W)), H


def column_powers(W: np.ndarray) -> np.ndarray:
    """Return the exponents of the powers of two that scale the columns of W to about 1."""
    powers: np.ndarray = -np.frexp(W.max(axis=0))[1]
    return powers


def bounded(
    W: np.ndarray, taking_part: np.ndarray, norms: np.ndarray, exponent: int, dtype: str
) -> np.ndarray:
    """Scale the columns of a fixed W to about 1, in the rows that the fit uses.

    Other rows are clipped, so that W times the norms of H and 2 ** exponent does not overflow.
    """
    largest = float(np.finfo(dtype).max) / 2
    with np.errstate(over="ignore", divide="ignore"):
        most = np.minimum(largest, largest / np.ldexp(norms, exponent))
        within: np.ndarray = np.minimum(np.ldexp(W, column_powers(taking_part)), most)
    return within


def memberships(W: np.ndarray) -> np.ndarray:
    """Return a given W for a fit with locality, where the weights of a row sum to about 1.

    Raises
    ------
    ValueError
        If a weight is far larger than 1.
    """
    if not np.max(W) < TOO_FAR:
        raise ValueError(
            "W is too large a start: with locality its rows add up to about 1. Divide its rows by "
            "their sums."
        )
    return W


def prototypes(H: np.ndarray, scale: Any) -> np.ndarray:
    """Return a given H for a fit with locality, at the scale of the fit.

    Raises
    ------
    ValueError
        If H is far larger than X.
    """
    with np.errstate(over="ignore"):
        H = np.ldexp(H, -scale.exponent)
    if not np.max(np.abs(H)) < TOO_FAR * (scale.longest or 1.0):
        raise ValueError(
            "H is too large a start for X: with locality it must be at the scale of X. Scale H."
        )
    return H


def lifted(ops: Any, room: float, l1: float, A: Array, B: Array, W: Array) -> Array:
    """Return weights above zero near an exact W; F rises by at most `room` in each row.

    For each weight, compute the increase that alone would raise F by its share of `room`. All the
    increases together are a direction. F is quadratic along it, so the longest step within `room`
    has a formula.
    """
    xp, diagonal = ops.xp, ops.xp.linalg.diagonal(B)
    slope = ops.positive_part(ops.matmul(W, B) - A + l1)
    slope = xp.where(slope < xp.inf, slope, xp.finfo(slope.dtype).max)  # λ may exceed the dtype
    ray = _rise(xp, slope, xp.where(diagonal > 0, diagonal, 1.0)[None, :], room / B.shape[0])
    bend = ops.positive_part(xp.sum(ops.matmul(ray, B) * ray, axis=1))
    step = _rise(xp, xp.sum(slope * ray, axis=1), bend, room)
    return W + ray * xp.where(step < 1, step, 1.0)[:, None]


def _rise(xp: Any, slope: Array, bend: Array, room: float) -> Array:
    """Return the t ≥ 0 with slope t + ½ bend t² = room."""
    below = slope + xp.sqrt(slope * slope + 2 * room * bend)
    return 2 * room / xp.where(below > 0, below, 1.0)


def beside(rows: Any, *starts: RowWise) -> RowWise:
    """Join the columns of several W into one."""
    concat = rows.backend.xp.concat
    both: RowWise = rows.each(lambda *parts: concat(parts, axis=1), *starts)
    return both


def unit_rows(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return H in float64 with rows of unit norm (or zero), and the norms."""
    largest = np.max(np.abs(H), axis=1, initial=0.0).astype("float64")
    scaled = H / np.where(largest > 0, largest, 1.0)[:, None]
    norms = np.linalg.norm(scaled, axis=1)
    return scaled / np.where(norms > 0, norms, 1.0)[:, None], norms * largest


STARTS: dict[str, Callable[..., Start]] = {
    "auto": skewness,
    "skewness": skewness,
    "varimax": varimax,
    "kmeans": kmeans,
    "svd": svd,
    "random": random,
}


def made_by(init: str, locality: float = 0.0) -> Callable[..., Start]:
    """Return the start of this name; "auto" is k-means with locality, and else by skewness."""
    return STARTS["kmeans" if locality and init == "auto" else init]
