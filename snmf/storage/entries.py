"""What the entries of X may be: real numbers, whatever they come as."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is of real numbers: one of NumPy's, or of those that extend it, as bfloat16."""
    return dtype.kind in "biuf" or bool(np.can_cast(dtype, "float64"))


def refuse_others(X: Array, what: str = "X") -> Array:
    """X, if it holds real numbers.

    Raises
    ------
    ValueError
        If not.
    """
    if not is_real(X.dtype):
        raise ValueError(
            f"{what} must hold real numbers; got dtype {X.dtype}. Convert it to a numeric dtype."
        )
    return X


def numbers(X: np.ndarray, first: int = 0) -> np.ndarray:
    """Objects, as decimals or what a DataFrame of several dtypes holds, as the numbers they are.

    None, and what pandas counts as missing, as pandas.NA, is NaN.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Of dtype object.
    first : int, default=0
        The number of its first row.

    Raises
    ------
    TypeError, ValueError
        If an entry is no number; it is named.
    """
    if pandas := sys.modules.get("pandas"):  # what else made its NA
        X = np.where(pandas.isna(X), np.nan, X)
    try:
        return X.astype("float64")
    except (TypeError, ValueError, OverflowError):
        for (row, column), value in np.ndenumerate(X):
            _refuse_no_number(value, first + row, column)
        raise


def _refuse_no_number(value: Any, row: int, column: int) -> None:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"X must hold real numbers; got {value!r} in row {row}, column {column}: {error}"
        ) from error


def canonical(A: Any) -> Any:
    """A sparse matrix as CSR, sorted and without duplicates: its methods would make it so in place.

    Asked of all of it, once, and not of slices: it waits for a device, and they share its arrays.
    """
    A = A.tocsr()
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A
