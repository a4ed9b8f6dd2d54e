"""What the entries of X may be: real numbers, whatever they come as."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

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


def matrix(X: Any) -> Array:
    """X as scikit-learn takes it: a NumPy array, or CSR in canonical form, of real numbers.

    Raises
    ------
    TypeError, ValueError
        If it is not one.
    """
    if np.ma.is_masked(X):
        raise ValueError("X must not be masked: fill or drop its masked entries")
    if issparse(X):
        check_places(X)
        X = canonical(_checked(_with_products(X)))
    else:
        X = _checked(X)
    return numbers(X) if X.dtype.kind == "O" else refuse_others(X)


def check_not_empty(shape: tuple[int, ...]) -> None:
    """Raise ValueError, in scikit-learn's words, where there are no rows or no columns."""
    for count, name in zip(shape, ("sample", "feature"), strict=True):
        if not count:
            raise ValueError(
                f"Found array with 0 {name}(s) (shape={tuple(shape)}) while a minimum of 1 is "
                "required"
            )


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
    try:
        if pandas := sys.modules.get("pandas"):  # what else made its NA
            X = np.where(pandas.isna(X), np.nan, X)
        return X.astype("float64")
    except (TypeError, ValueError, ArithmeticError) as error:
        signaling = isinstance(error, InvalidOperation)  # of isna, which left what is missing
        for (row, column), value in np.ndenumerate(X):
            if not signaling or (isinstance(value, Decimal) and value.is_snan()):
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


def check_places(A: Any) -> None:
    """Make sure that a SciPy sparse matrix stores no entry outside of itself, and change nothing.

    SciPy's loops do not look: what a damaged file gives would end the process in a conversion or a
    product. Its own check rewrites the arrays, and skips a matrix whose last pointer is 0.

    Raises
    ------
    ValueError
        If an index, or a pointer of CSR, CSC or BSR, is out of range.
    """
    if A.format == "coo":
        places, lengths = list(A.coords), A.shape
    elif A.format in ("csr", "csc", "bsr"):
        height, width = getattr(A, "blocksize", (1, 1))
        lengths = A.shape[0] // height, A.shape[1] // width
        rows, columns = lengths[::-1] if A.format == "csc" else lengths
        pointers, stored = A.indptr, min(len(A.indices), len(A.data))
        in_order = len(pointers) == rows + 1 and not (pointers[1:] < pointers[:-1]).any()
        if not in_order or pointers[0] != 0 or pointers[-1] > stored:
            raise ValueError(
                f"the pointers of a sparse matrix of shape {A.shape} must rise from 0 to at most "
                f"its {stored} stored entries; these do not"
            )
        places, lengths = [A.indices[: pointers[-1]]], (columns,)
    else:
        return
    for indices, length in zip(places, lengths, strict=True):
        if len(indices) and not 0 <= indices.min() <= indices.max() < length:
            raise ValueError(
                f"the indices of a sparse matrix of shape {A.shape} must be from 0 to "
                f"{length - 1}; got {indices.min()} to {indices.max()}"
            )


def canonical(A: Any) -> Any:
    """A sparse matrix as CSR, sorted and without duplicates: its methods would make it so in place.

    Asked of all of it, once, and not of slices: it waits for a device, and they share its arrays.
    """
    A = A.tocsr()
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A


def _with_products(X: Any) -> Any:
    """A sparse matrix in a dtype that SciPy computes with."""
    half = X.dtype.kind == "f" and X.dtype.itemsize == 2
    return X.astype("float32" if half else X.dtype.newbyteorder("="), copy=False)


def _checked(X: Any) -> Array:
    try:
        return check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        if hasattr(X, "dtypes"):
            error.add_note(
                f"The columns of X are of dtype {', '.join(sorted({*map(str, X.dtypes)}))}"
            )
        raise
