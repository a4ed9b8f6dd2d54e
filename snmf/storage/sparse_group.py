"""Sparse matrices on disk, in groups of HDF5 or Zarr as AnnData writes them.

`opened` turns such a group into a `StoredCSR`, whose slices of rows are SciPy matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

Array = Any

PARTS = ("data", "indices", "indptr")


class StoredCSR:
    """A CSR matrix in a group of HDF5 or Zarr, read by slices of rows.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        A group with the arrays ``data``, ``indices`` and ``indptr``, and the attribute ``shape``.

    Raises
    ------
    ValueError
        If parts are missing, or do not fit together.
    """

    def __init__(self, group: Any) -> None:
        if missing := [name for name in PARTS if name not in group]:
            raise ValueError(f"the sparse matrix {group.name} has no {missing[0]!r}: it is damaged")
        self._data, self._indices = group["data"], group["indices"]
        self._pointers = np.asarray(group["indptr"][:]).astype(np.int64, copy=False)
        self.shape = tuple(int(n) for n in group.attrs["shape"])
        self.dtype = self._data.dtype
        self.nnz = int(self._data.shape[0])
        n, p = len(self._pointers), self._pointers
        in_order = n == self.shape[0] + 1 and p[0] == 0 and not np.any(p[1:] < p[:-1])
        if not in_order or p[-1] > self.nnz or self._indices.shape[0] != self.nnz:
            raise ValueError(
                f"the sparse matrix {group.name} is damaged: its pointers must rise from 0 to at "
                f"most its {self.nnz} stored entries, one for each of its {self.shape[0]} rows"
            )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> csr_array:
        """Read adjacent rows."""
        start, stop, _ = rows.indices(len(self))
        pointers = self._pointers[start : stop + 1]
        some = slice(int(pointers[0]), int(pointers[-1]))
        parts = self._data[some], self._indices[some], pointers - some.start
        return csr_array(parts, shape=(len(pointers) - 1, self.shape[1]))


def opened(X: Any) -> Any:
    """Return a `StoredCSR` for a group with a CSR matrix, and any other X unchanged.

    Raises
    ------
    ValueError
        If X is a group without a matrix, or a sparse matrix that is stored by columns.
    """
    attributes: Any = getattr(X, "attrs", None)
    has_attributes = hasattr(attributes, "get")
    encoding = attributes.get("encoding-type") if has_attributes else None
    if encoding == "csr_matrix":
        return StoredCSR(X)
    by_columns = getattr(X, "format", None) == "csc" and not issparse(X)  # AnnData's own class
    if encoding == "csc_matrix" or by_columns:
        raise ValueError(
            "X must be stored by rows (CSR); got one that is stored by columns (CSC), where a few "
            "rows cannot be read without reading all. Read it into memory, convert it by tocsr(), "
            "and write it again."
        )
    if has_attributes and hasattr(X, "keys") and not hasattr(X, "shape"):
        raise ValueError(
            f"X must be a matrix; got a group of {[*X.keys()]}. Choose one of these, such as "
            "file['X']."
        )
    return X
