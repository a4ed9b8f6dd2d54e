"""Sparse matrices on disk, in groups of HDF5 or Zarr as AnnData and 10x Genomics write them.

`opened` turns such a group into a `StoredCSR`, whose slices of rows are SciPy matrices.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

Array = Any

PARTS = ("data", "indices", "indptr")
FORMATS = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}  # "csr" before 0.7
CHUNK_CACHE = (521, 2**20, 0.75)  # slots, bytes, and which chunks go first: as before version 2


class StoredCSR:
    """A CSR matrix in a group of HDF5 or Zarr, read by slices of rows.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        A group with the arrays ``data``, ``indices`` and ``indptr``, and the shape: an attribute of
        AnnData, or an array of 10x Genomics.

    Raises
    ------
    ValueError
        If parts are missing, or do not fit together.
    """

    def __init__(self, group: Any) -> None:
        shape = _shape(group)
        missing = [name for name in PARTS if name not in group] + ["shape"] * (shape is None)
        if missing:
            raise ValueError(f"the sparse matrix {group.name} has no {missing[0]!r}: it is damaged")
        self._data, self._indices = (_array_of(group, name) for name in ("data", "indices"))
        p = np.asarray(group["indptr"][:]).astype(np.int64, copy=False)
        self.shape = tuple(int(n) for n in shape)
        self.dtype = self._data.dtype
        self.nnz = int(self._data.shape[0])
        in_order = len(p) == self.shape[0] + 1 and p[0] == 0 and not np.any(p[1:] < p[:-1])
        if not in_order or p[-1] > self.nnz or self._indices.shape[0] != self.nnz:
            raise ValueError(
                f"the sparse matrix {group.name} is damaged: its pointers must rise from 0 to at "
                f"most its {self.nnz} stored entries, one for each of its {self.shape[0]} rows"
            )
        self._pointers = p.astype(np.int32 if self.nnz < 2**31 else np.int64)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> csr_array:
        """Read adjacent rows."""
        start, stop, _ = rows.indices(len(self))
        pointers = self._pointers[start : stop + 1]
        some = slice(int(pointers[0]), int(pointers[-1]))
        parts = self._data[some], self._indices[some], pointers - some.start
        return csr_array(parts, shape=(len(pointers) - 1, self.shape[1]))


def _array_of(group: Any, name: str) -> Any:
    """Return an array of a group; that of HDF5 with a small cache for its chunks.

    Rows are read one after the other. Since version 2, HDF5 keeps 8 MiB of chunks of each array.
    """
    h5py = sys.modules.get("h5py")
    if h5py is None or not isinstance(group, h5py.Group):
        return group[name]
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(*CHUNK_CACHE)
    return h5py.Dataset(h5py.h5d.open(group.id, name.encode(), access))


def is_of_10x(group: Any) -> bool:
    """Whether a group is one of 10x Genomics: genes × cells in CSC, so cells × genes in CSR."""
    return all(name in group for name in ("barcodes", "shape", *PARTS))


def _shape(group: Any) -> Any:
    """Return the shape of the matrix in a group, samples first; None if it is missing."""
    if is_of_10x(group):
        return group["shape"][:][::-1]
    return group.attrs.get("shape", group.attrs.get("h5sparse_shape"))


def _format(group: Any) -> str | None:
    """Return "csr" or "csc" for a group that holds a matrix, with a row for every sample."""
    if is_of_10x(group):
        return "csr"
    found = group.attrs.get("encoding-type", group.attrs.get("h5sparse_format"))
    return FORMATS.get(found.decode() if isinstance(found, bytes) else found)


def opened(X: Any) -> Any:
    """Return a `StoredCSR` for a group with a CSR matrix, and any other X unchanged.

    Raises
    ------
    ValueError
        If X is a group without a matrix, or a sparse matrix that is stored by columns.
    """
    is_group = hasattr(X, "attrs") and hasattr(X, "keys") and not hasattr(X, "shape")
    form = _format(X) if is_group else None
    if form == "csr":
        return StoredCSR(X)
    by_columns = getattr(X, "format", None) == "csc" and not issparse(X)  # AnnData's own class
    if form == "csc" or by_columns:
        raise ValueError(
            "X must be stored by rows (CSR); got one that is stored by columns (CSC), where a few "
            "rows cannot be read without reading all. Read it into memory, convert it by tocsr(), "
            "and write it again."
        )
    if is_group:
        raise ValueError(
            f"X must be a matrix; got a group of {[*X.keys()]}. Choose one of these, such as "
            "file['X']."
        )
    return X
