"""Wide data, p > n: the fit runs on at most n coordinates in place of p columns.

This loses nothing: the best H for any W lies in the span of the rows of X.  With X Xᵀ = U s² Uᵀ
and V = Xᵀ U / s, the coordinates X V = U s have at most n columns.  A factorization U s ≈ W H'
is one of X, with H = H' Vᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh

from snmf.core import svd


def pays(rows: Any) -> bool:
    """Whether to use coordinates: they must be at most half as many as the entries of X."""
    n = len(rows)
    return n <= svd.GRAM and 2 * n * n <= rows.stored


def coordinates(rows: Any) -> np.ndarray:
    """Return X V = U s, without columns that are rounding; it has no column if X = 0."""
    squares, U = eigh(svd.gram_of_rows(rows))
    rounding = len(rows) * np.finfo(rows.backend.widest).eps * max(squares[-1], 0.0)
    known = squares > rounding
    # contiguous, as an array from a checkpoint is: then both give the same bits
    return np.ascontiguousarray(U[:, known] * np.sqrt(squares[known]))


def over(rows: Any, found: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Return the rows of the coordinates, and the function from their H' to H = H' Vᵀ."""
    if not found.shape[1]:
        return rows, np.copy

    def expand(H: np.ndarray) -> np.ndarray:
        return svd.total(rows, svd.cross, rows.split(found / np.sum(found**2, axis=0) @ H.T))

    return rows.over(found), expand
