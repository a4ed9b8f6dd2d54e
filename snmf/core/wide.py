"""Wide data, p > n: the fit runs on coordinates within the span of the rows, which loses nothing.

H is free, so its rows lie in that span.  With X Xᵀ = U s² Uᵀ and V = Xᵀ U / s, X V = U s has n
columns at most, and a factorization U s ≈ W H' is one of X with H = H' Vᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh

from snmf.core import svd


def pays(rows: Any) -> bool:
    """Whether the coordinates are at most half as many as what X stores."""
    n = len(rows)
    return n <= svd.GRAM and 2 * n * n <= rows.stored


def coordinates(rows: Any) -> np.ndarray:
    """X V = U s, less what is rounding; without columns if X = 0."""
    squares, U = eigh(svd.gram_of_rows(rows))
    rounding = len(rows) * np.finfo(rows.backend.widest).eps * max(squares[-1], 0.0)
    known = squares > rounding
    return np.ascontiguousarray(U[:, known] * np.sqrt(squares[known]))  # as it is read from a file


def over(rows: Any, found: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Rows of the coordinates in place of those of X, and the map from their H' to H = H' Vᵀ."""
    if not found.shape[1]:
        return rows, np.copy

    def expand(H: np.ndarray) -> np.ndarray:
        return svd.total(rows, svd.cross, rows.split(found / np.sum(found**2, axis=0) @ H.T))

    return rows.over(found), expand
