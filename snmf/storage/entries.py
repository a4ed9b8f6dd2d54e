"""Checks and conversions of X: it must be a matrix of real numbers.

`matrix` accepts what scikit-learn accepts. `numbers` converts objects, such as decimals.
`check_places` and `canonical` are for sparse matrices.
"""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

Array = Any


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype holds real numbers: a NumPy dtype, or an extension such as bfloat16."""
    return dtype.kind in "biuf" or bool(np.can_cast(dtype, "float64"))


def refuse_others(X: Array, what: str = "X") -> Array:
    """Return X unchanged, if it holds real numbers.

    Raises
    ------
    ValueError
        If its dtype is not real.
    """
    if not is_real(X.dtype):
        raise ValueError(
            f"{what} must hold real numbers; got dtype {X.dtype}. Convert it to a numeric dtype."
        )
    return X


def matrix(X: Any) -> Array:
    """Convert X, as scikit-learn does, to a NumPy array or a CSR matrix in canonical form.

    Raises
    ------
    TypeError, ValueError
        If X is no matrix of real numbers.
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
    """Raise ValueError, as scikit-learn does, if there are no rows or no columns."""
    for count, name in zip(shape, ("sample", "feature"), strict=True):
        if not count:
            raise ValueError(
                f"Found array with 0 {name}(s) (shape={tuple(shape)}) while a minimum of 1 is "
                "required"
            )


def numbers(X: np.ndarray, first: int = 0) -> np.ndarray:
    """Convert objects to float64, such as decimals, or a DataFrame of several dtypes.

    None becomes NaN, and so do the missing values of pandas, such as pandas.NA.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        An array of dtype object.
    first : int, default=0
        The number of its first row, for messages.

    Raises
    ------
    TypeError, ValueError
        If an entry is no number. The message names the entry.
    """
    try:
        if pandas := sys.modules.get("pandas"):  # pandas.NA exists only if pandas is imported
            X = np.where(pandas.isna(X), np.nan, X)
        return X.astype("float64")
    except (TypeError, ValueError, ArithmeticError) as error:
        signaling = isinstance(error, InvalidOperation)  # isna failed on a signaling NaN
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
    """Check that all indices of a SciPy sparse matrix are inside of its shape; change nothing.

    SciPy's loops do not check this, so a matrix from a damaged file could crash the process. The
    check in SciPy rewrites the arrays, and skips a matrix whose last pointer is 0.

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
                f"its {stored} stored entries; these do not. Make the matrix anew."
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
    """Return a sparse matrix as CSR, with sorted indices and without duplicates.

    The caller's matrix is not changed; its own methods would sort it in place. Call this for the
    whole matrix and not for slices: the check waits for a device, and slices share its arrays.
    """
    A = A.tocsr()
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A


def _with_products(X: Any) -> Any:
    """Return a sparse matrix in a dtype that SciPy can compute with."""
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
