"""The rotation of principal components that a fit starts from: by skewness, or varimax.

Z are the scores of the leading principal components at unit variance.  For some rotation R, the
scores Z R are as far from Gaussian as they can be.  Such scores belong to the components that the
data are made of (P. Comon, "Independent component analysis, a new concept?", Signal Processing
36(3), 1994; K. Rohe & M. Zeng, "Vintage factor analysis with varimax performs statistical
inference", J. R. Stat. Soc. B 85(4), 2023).

`skewness` takes the third moments of Z R, and `varimax` the fourth (H. F. Kaiser, "The varimax
criterion for analytic rotation in factor analysis", Psychometrika 23(3), 1958).  Nonnegative
weights are skewed, and noise disturbs a third moment less than a fourth.

`principal` finds the directions of Z from a sample of rows.  `nonnegative_scores` rotates Z, and
gives Z R the signs and the shift that make most of it positive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from snmf.core import svd

DENSE = 2048  # the largest matrix to decompose; beyond this size use Lanczos iterations
PASSES = 100  # of the rotation
RISE = 1e-5  # the relative rise of the criterion at which the rotation stops
LOWEST = 0.05  # the quantile of the scores that becomes zero
ROUNDING = 1e-6  # a standard deviation below this share of the mean or of the largest is rounding

Rotation = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Scores(NamedTuple):
    """The scores of a row x: ``x M − offset``, which are positive for most rows.

    Attributes
    ----------
    M : ndarray of shape (p, k)
        The rotated directions.
    offset : ndarray of shape (k,)
        The scores that become zero.
    mean : ndarray of shape (k,)
        The means of the scores above zero.
    """

    M: np.ndarray
    offset: np.ndarray
    mean: np.ndarray


def drawn(k: int, rng: np.random.RandomState) -> np.ndarray:
    """Draw an orthogonal matrix (k, k), for a rotation to begin with."""
    Q: np.ndarray = np.linalg.qr(rng.standard_normal((k, k)))[0]
    return Q


def nonnegative_scores(
    X: Any, weights: np.ndarray | None, first: np.ndarray, rotation: Rotation
) -> Scores | None:
    """Return the rotated scores of principal components, from a sample of rows.

    Each column has the sign that makes its third moment positive, and is shifted so that a
    twentieth of the scores lie below zero.

    Parameters
    ----------
    X : ndarray or SciPy sparse matrix of shape (n, p)
        The sample.
    weights : ndarray of shape (n,) or None
        The sample weights, above zero; None is 1 for each.
    first : ndarray of shape (k, k)
        The rotation to begin with.
    rotation : callable
        `skewness` or `varimax`.

    Returns
    -------
    Scores or None
        None if X has fewer than k principal components.
    """
    share = np.ones(X.shape[0]) if weights is None else weights
    share = share / share.sum()
    mean = np.asarray(share @ X, dtype="float64").ravel()
    directions = principal(X, share, mean, len(first))
    if directions is None:
        return None
    Z = np.asarray(X @ directions) - mean @ directions
    signs = _signs(Z, share)  # principal components have none: with these, `first` means the same
    Z, directions = Z * signs, directions * signs
    R = rotation(Z, share, first)
    L = Z @ R
    signs = _signs(L, share)
    L, M = L * signs, directions @ R * signs
    lowest = np.quantile(L, LOWEST, axis=0, weights=share, method="inverted_cdf")
    return Scores(M, mean @ M + lowest, share @ np.maximum(L - lowest, 0))


def _signs(L: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return a sign per column that makes its third moment positive."""
    cubes = L * L * L  # a power would take ten times as long
    return np.where(share @ cubes < 0, -1.0, 1.0)


def principal(X: Any, share: np.ndarray, mean: np.ndarray, k: int) -> np.ndarray | None:
    """Return directions (p, k) on which X less its mean has scores of unit variance.

    They are the leading principal components divided by their standard deviations; None if fewer
    than k are above rounding.
    """
    n, p = X.shape
    if k > min(n - 1, p):
        return None
    root = np.sqrt(share)[:, None]
    large = p > DENSE and (n > DENSE or issparse(X))  # sparse data of many columns stay sparse
    find = _by_lanczos if large and k < p else _by_gram
    deviation, V = find(X, root, mean, k)
    if not deviation[-1] > ROUNDING * max(float(np.linalg.norm(mean)), deviation[0]):
        return None
    directions: np.ndarray = V / deviation
    return directions


def _by_gram(X: Any, root: np.ndarray, mean: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest singular values of √share (X − mean), and their right vectors."""
    n, p = X.shape
    centred = root * ((X.toarray() if issparse(X) else X) - mean)
    gram = centred.T @ centred if p <= n else centred @ centred.T
    exponent = np.frexp(np.max(np.diagonal(gram)))[1]  # the accuracy of eigh is not relative
    last = (len(gram) - k, len(gram) - 1)
    squares, vectors = eigh(np.ldexp(gram, -exponent), subset_by_index=last)
    squares = np.ldexp(np.maximum(squares, 0), exponent)
    deviation, vectors = np.sqrt(squares[::-1]), vectors[:, ::-1]
    return deviation, vectors if p <= n else np.linalg.qr(centred.T @ vectors)[0]


def _by_lanczos(
    X: Any, root: np.ndarray, mean: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_by_gram` does, without a dense matrix of the size of X or of a Gram matrix."""
    deviation, V = svd.by_lanczos(_centred(X, root, mean), k)
    order = np.argsort(-deviation)
    return deviation[order], V[:, order]


def _centred(X: Any, root: np.ndarray, mean: np.ndarray) -> LinearOperator:
    """Return √share (X − mean) as an operator; X stays sparse."""

    def times(v: np.ndarray) -> np.ndarray:
        v = v.reshape(len(v), -1)
        return np.asarray(root * (X @ v - mean @ v))

    def transposed(u: np.ndarray) -> np.ndarray:
        u = root * u.reshape(len(u), -1)
        return np.asarray(X.T @ u - mean[:, None] * u.sum(axis=0))

    return LinearOperator(
        X.shape, times, transposed, matmat=times, rmatmat=transposed, dtype=np.float64
    )


def skewness(Z: np.ndarray, share: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the rotation R of Z, of unit variance, for which Σ (third moment of Z R)² is largest.

    This is Comon's criterion. `first` is the R to begin with, and `share` the shares of the rows in
    the moments.
    """
    R, best, before = first, first, 0.0
    weighted = Z * share[:, None]
    for _ in range(PASSES):
        L = Z @ R
        slope = weighted.T @ (L * L)
        third = np.sum(R * slope, axis=0)
        after = float(third @ third)
        if after <= before * (1 + RISE):
            break
        best, before = R, after
        U, _, Vt = np.linalg.svd(slope * third)
        R = U @ Vt
    return best


def varimax(Z: np.ndarray, share: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the rotation R of Z, of unit variance, for which Σ (Z R)⁴ is largest.

    This is Kaiser's criterion: what it subtracts, the squared variances, is the same for every R.
    `first` is the R to begin with, and `share` the shares of the rows in the sum.
    """
    R, before = first, 0.0
    weighted = Z * share[:, None]
    for _ in range(PASSES):
        L = Z @ R
        U, s, Vt = np.linalg.svd(weighted.T @ (L * (L * L - 1)))
        R, after = U @ Vt, float(s.sum())
        if after <= before * (1 + RISE):
            break
        before = after
    return R
