"""Parts of SciPy's sparse matrices that share their arrays, and changes of stored entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy.sparse import csc_array, issparse

Array = Any


def rows_of(A: Any, rows: slice) -> Any:
    """Rows of a CSR matrix that lie side by side."""
    pointers = A.indptr[rows.start : rows.stop + 1]
    stored = slice(pointers[0], pointers[-1])
    shape = len(pointers) - 1, A.shape[1]
    return _sharing(type(A), shape, A.data[stored], A.indices[stored], pointers - pointers[0])


def transposed(A: Any) -> Any:
    """The transpose of a CSR matrix, as CSC."""
    return _sharing(csc_array, A.shape[::-1], A.data, A.indices, A.indptr)


def by_column(function: Callable[[Array, Array], Array], A: Any, row: Array) -> Any:
    """Return A, dense or CSR, with ``function(x, r)`` for every entry x that it stores.

    `row` has an entry r for every column. A and `row` are arrays of one library.
    """
    if not hasattr(A, "nnz"):
        return function(A, row[None, :])
    entries = function(A.data, row.take(A.indices))  # twice as fast as an index
    if issparse(A):
        return _sharing(type(A), A.shape, entries, A.indices, A.indptr)
    changed = A.copy()
    changed.data[...] = entries
    return changed


def _sharing(kind: Any, shape: tuple[int, int], data: Array, indices: Array, indptr: Array) -> Any:
    """A sparse matrix of these very arrays: its constructor copies a short piece of a long one."""
    A = kind(shape)
    A.data, A.indices, A.indptr = data, indices, indptr
    return A
