"""Wide data, p > n: the fit runs on coordinates within the span of the rows, which loses nothing.

H is free, so its rows lie in that span.  With X Xᵀ = U s² Uᵀ and V = Xᵀ U / s, X V = U s has n
columns at most, and a factorization U s ≈ W H' is one of X with H = H' Vᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh

from snmf import _svd


def pays(rows: Any) -> bool:
    """Whether the coordinates are at most half as many as what X stores."""
    n = len(rows)
    return n <= _svd.GRAM and 2 * n * n <= rows.stored


def coordinates(rows: Any) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    """Rows of X V in place of those of X, and the map from their H' to H = H' Vᵀ."""
    squares, U = eigh(_svd.gram_of_rows(rows))
    rounding = len(rows) * np.finfo(rows.backend.widest).eps * max(squares[-1], 0.0)
    U, s = U[:, squares > rounding], np.sqrt(squares[squares > rounding])
    if not len(s):
        return rows, np.copy  # X = 0

    def expand(H: np.ndarray) -> np.ndarray:
        return _svd.total(rows, _svd.cross, rows.split((U / s) @ H.T))

    return rows.over(U * s), expand
