"""Where a fit starts: every function gives W row-wise, and H where the start names one.

`weights` are those of the rows, (n, 1) on the host; None is 1 for each.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from snmf import _nnls, _svd
from snmf._threads import BLAS, OPENMP

Array = Any
RowWise = Sequence[Any]
Start = tuple[RowWise, np.ndarray | None]  # W, and H of unit rows; None: by least squares

LIFT = 0.2  # what keeps W > 0 at the start, so that the multiplicative update locks nowhere
TOO_FAR = 2.0**60  # from 1, which X is about: its square is to be a float32
SAMPLE = (2000, 30)  # k-means sees at least so many rows, and so many for each component


def kmeans(
    rows: Any, k: int, rng: np.random.RandomState, weights: np.ndarray | None = None
) -> Start:
    """Membership of the k-means clusters of a sample, lifted by 0.2 (Ding et al., section 5)."""
    from sklearn.cluster import KMeans  # here, since it is slow to import

    n = len(rows)
    size = min(n, max(SAMPLE[0], SAMPLE[1] * k))
    chosen = np.sort(rng.permutation(n)[:size])
    sample = rows.take(chosen)
    if isinstance(sample, np.ndarray):
        sample = np.require(sample, requirements="W")  # it is centred in place
    else:  # so made it has indices of 32 bits, which are asked for, if they fit
        sample = csr_matrix((sample.data, sample.indices, sample.indptr), shape=sample.shape)
    on_host = config_context(array_api_dispatch=False)
    with BLAS, OPENMP, on_host, warnings.catch_warnings():  # one thread: the same bits every time
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        clusters = KMeans(min(k, size), n_init=1, random_state=rng, copy_x=False).fit(
            sample, sample_weight=None if weights is None else weights[chosen, 0]
        )
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
    """Columns drawn from the uniform distribution between 0.2 and 1.2."""
    return rows.uniform(rng, k, LIFT), None


def _filled_up(rows: Any, W: RowWise, missing: int, rng: np.random.RandomState) -> RowWise:
    if not missing:
        return W
    more, _ = random(rows, missing, rng)
    both: RowWise = rows.each(lambda *pair: rows.backend.xp.concat(pair, axis=1), W, more)
    return both


def svd(rows: Any, k: int, rng: np.random.RandomState, weights: np.ndarray | None = None) -> Start:
    """The start of Gillis & Kumar, from the leading singular vectors of X: see `snmf._svd`."""
    roots = None if weights is None else np.sqrt(weights[:, 0])
    V = _svd.right_singular_vectors(rows.times(roots), k)
    if V.shape[1] == 0:
        return random(rows, k, rng)
    Z = np.concatenate(list(rows.to_host(_svd.projected(rows, V))))
    signs = _svd.signs(Z if weights is None else Z[weights[:, 0] > 0])
    Z, V = Z * signs, V * signs
    W, R = _svd.nonnegative_span(Z, k, LIFT, weights)
    missing = k - W.shape[1]
    if R is None or missing:
        return _filled_up(rows, rows.split(W), missing, rng), None
    H, norms = unit_rows(R @ V.T)
    return rows.split(W * norms.astype(W.dtype)), H


def custom(
    rows: Any, W: np.ndarray | None, H: np.ndarray | None, l1: float, exponent: int, lift: bool
) -> Start:
    """A start of the caller's own: W, H, or both.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        They hold X times 2 ** -exponent.
    W : ndarray of shape (n, k) or None
    H : ndarray of shape (k, p) or None
    l1 : float
        The penalty λ, at the scale of the rows.
    exponent : int
    lift : bool
        Whether the W that completes a given H is to be made positive.

    Returns
    -------
    W : sequence of arrays
        As given, but for factors of its columns where least squares are to complete it, and for
        columns of minute weights, which are none; or the exact W for the given H.
    H : ndarray of shape (k, p) or None
        As given, its rows at unit norm; None where least squares are to complete W.
    """
    if H is None:
        assert W is not None
        return rows.split(np.ldexp(W, -np.frexp(W.max(axis=0))[1])), None
    H, norms = unit_rows(H)
    if W is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            W = np.ldexp(W * norms, -exponent)
        if not np.max(W) < TOO_FAR:
            raise ValueError("W and H are too large a start for X: W H must be about as large as X")
        minute = np.max(W, axis=0) < np.max(W) / TOO_FAR
        return rows.split(np.where(minute, 0, W)), H
    return _weights_for(rows, H, l1, lift), H


def beside(rows: Any, H: np.ndarray, start: RowWise | None, l1: float, lift: bool) -> RowWise:
    """The W for H, of unit rows, and beside it that of a start with other components."""
    W = _weights_for(rows, H, l1, lift)
    if start is None:
        return W
    concat = rows.backend.xp.concat
    both: RowWise = rows.each(lambda *pair: concat(pair, axis=1), W, start)
    return both


def _weights_for(rows: Any, H: np.ndarray, l1: float, lift: bool) -> RowWise:
    parts, _, squares = _nnls.exact_weights(rows, H, l1)
    mean_square = float(squares.sum()) / (len(rows) * len(H))
    more = LIFT * mean_square**0.5 if lift else 0.0
    lifted: RowWise = rows.each(lambda part: part + more, parts)
    return lifted


def unit_rows(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H with rows of unit norm (or zero), in float64, and the norms."""
    largest = np.max(np.abs(H), axis=1, initial=0.0).astype("float64")
    scaled = H / np.where(largest > 0, largest, 1.0)[:, None]
    norms = np.linalg.norm(scaled, axis=1)
    return scaled / np.where(norms > 0, norms, 1.0)[:, None], norms * largest


STARTS = {"kmeans": kmeans, "svd": svd, "random": random}
