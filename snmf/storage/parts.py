"""Files for W and other arrays with one row per row of X, written block by block.

`scratch` makes a temporary file, `write_npy` a .npy file, and `check_output` checks the parameter
`out` before the fit. `Filed` reads the parts back.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from snmf.storage.atomic import check_file, replacing

Array = Any
Output = str | os.PathLike[str] | Literal[False] | None


class Filed(Sequence[Array]):
    """A sequence of parts that lie in a file; each is read as an array of the backend.

    Parameters
    ----------
    A : ndarray of shape (n, k)
        The memory-mapped file.
    slices : list of slices
        The rows of every part.
    backend : snmf.backends.Backend
        The backend that the parts are arrays of.
    """

    def __init__(self, A: np.ndarray, slices: list[slice], backend: Any) -> None:
        self._A, self._slices, self._backend = A, slices, backend

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, number: Any) -> Array:
        return self._backend.asarray(self._A[self._slices[number]])


def scratch(
    parts: Iterable[np.ndarray], slices: list[slice], shape: tuple[int, int], dtype: str
) -> np.ndarray:
    """Write parts to an unnamed temporary file, and return it as a memory-mapped array.

    The file is deleted with the array.

    Raises
    ------
    OSError
        If the disk is full.
    """
    folder = tempfile.gettempdir()
    hint = f"in {folder}; set TMPDIR to a folder with more room"
    with tempfile.TemporaryFile(dir=folder) as file:
        _write(file, parts, slices, dtype, f"cannot be kept {hint}")
        return np.asarray(np.memmap(file, dtype, "r", shape=shape))


def write_npy(
    path: str | os.PathLike[str],
    parts: Iterable[np.ndarray],
    slices: list[slice],
    shape: tuple[int, int],
    dtype: str,
) -> np.memmap:
    """Write parts to a .npy file, and return it memory-mapped; it appears when it is complete.

    Raises
    ------
    OSError
        If the disk is full, or the path cannot be written.
    """
    with replacing(path, f".{Path(path).name}.part") as new, new.open("wb") as file:
        write_header(file, np.dtype(dtype), shape)
        _write(file, parts, slices, dtype, "cannot be written")
    mapped: np.memmap = np.load(path, mmap_mode="r")
    return mapped


def write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file whose rows follow."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)


def _write(
    file: IO[bytes], parts: Iterable[np.ndarray], slices: list[slice], dtype: str, failure: str
) -> None:
    for rows, part in zip(slices, parts, strict=True):
        try:
            file.write(np.ascontiguousarray(part, dtype).data)
            file.flush()
        except OSError as error:
            where = f"rows {rows.start} to {rows.stop - 1} of W"
            raise OSError(error.errno, f"{where} {failure}: {error.strerror}") from error


def check_output(out: Any, X: Any, shape: tuple[int, int], dtype: str) -> None:
    """Check before the fit that W can be written to `out`.

    Parameters
    ----------
    out : object
        The argument of the caller: a path, or None or False to write nothing.
    X : object
        The data. `out` must not be their file.
    shape : tuple
        The shape of W.
    dtype : str
        The dtype of W.

    Raises
    ------
    ValueError
        If `out` is no .npy path, or is the file of X, or X is a Dask array.
    OSError
        If the folder does not exist, cannot be written to, or has too little free space.
    """
    if out is None or out is False:
        return
    if hasattr(X, "__dask_graph__"):
        raise ValueError(
            "out must be None for a Dask array X, whose W is a Dask array too. Write that by its "
            "to_zarr."
        )
    if not isinstance(out, str | os.PathLike) or Path(out).suffix != ".npy":
        raise ValueError(f"out must be the path of a .npy file to write; got {out!r}")
    path = check_file(out)
    file = _file_below(X)
    if file and path.exists() and path.samefile(file):
        raise ValueError(f"out must not be the file of X; got '{path}'")
    size, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if free < size:
        raise OSError(
            errno.ENOSPC, f"W takes {size} bytes, and only {free} are free", str(path.parent)
        )


def _file_below(X: Any) -> Any:
    """Return the file of X if X is a `Store`, a memory map or a view of one; else None."""
    file = getattr(X, "file", None)
    X = getattr(X, "data", None) if hasattr(X, "nnz") else X
    while file is None and isinstance(X, np.ndarray):
        file, X = getattr(X, "filename", None), X.base
    return file
