"""The function `svd_bound`: the lowest error of any factorization of a given rank."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import svds

from snmf.plots.given import on_host

Array = Any

GRAM = 4096  # the largest Gram matrix whose eigenvalues are taken
BLOCK_ROWS = 4096


def svd_bound(X: Array, k: int, *, centred: bool = False, scale: Array | None = None) -> float:
    """Return the lowest ‖X − X_k‖² / ‖X‖² of any X_k of rank k, from the singular values of X.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The data. If there are more rows than columns, the rows are read in blocks.
    k : int
        The rank.
    centred : bool, default=False
        Takes X less its column means, as a fit with an intercept does. Rows of a sparse X are then
        made dense, block by block.
    scale : array of shape (n_features,), default=None
        Divides the columns of X first, as a fit with `scale` does.

    Returns
    -------
    bound : float
        The bound; 0 for X = 0.

    Raises
    ------
    ValueError
        If X has missing or infinite values.
    """
    n, p = X.shape
    if k >= min(n, p):
        return 0.0
    places = [slice(i, i + BLOCK_ROWS) for i in range(0, n, BLOCK_ROWS)]
    divisors = np.ones(p) if scale is None else on_host(scale)
    largest = float(np.max([abs(_block(X, rows, divisors)).max() for rows in places]))
    if not np.isfinite(largest):
        raise ValueError(
            "The SVD bound needs all entries of X; got NaN or infinity. Leave X out: a plot of the "
            "convergence then shows no bound."
        )
    if largest == 0:
        return 0.0
    divisors = divisors * largest
    mean = sum(_block(X, rows, divisors).sum(axis=0) for rows in places) / n if centred else None

    def scaled(rows: slice) -> Array:
        block = _block(X, rows, divisors)
        return block if mean is None else _dense(block) - mean

    if p <= n and p <= GRAM:
        gram = sum(_dense(block.T @ block) for block in map(scaled, places))
        return _tail(np.linalg.eigvalsh(gram).clip(0), k)
    whole = scaled(slice(None))
    if n <= GRAM:
        return _tail(np.linalg.eigvalsh(_dense(whole @ whole.T)).clip(0), k)
    squares = svds(whole, k, return_singular_vectors=False, v0=np.ones(min(n, p))) ** 2
    values = whole.data if issparse(whole) else whole.ravel()
    return max(0.0, 1 - float(squares.sum() / (values @ values)))


def _block(X: Array, rows: slice, divisors: np.ndarray) -> Array:
    """Return some rows / divisors in float64, as NumPy or SciPy sparse arrays."""
    block = X[rows]
    if not issparse(block):
        return on_host(block).astype("float64") / divisors
    block = block.astype("float64").tocsr()
    block.data /= divisors[block.indices]
    return block


def _tail(squares: np.ndarray, k: int) -> float:
    whole = float(squares.sum())
    return float(squares[:-k].sum()) / whole if whole else 0.0


def _dense(A: Array) -> np.ndarray:
    dense: np.ndarray = A.toarray() if issparse(A) else A
    return dense
