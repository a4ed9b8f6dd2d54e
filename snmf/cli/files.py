"""Reading and writing of data files for the command line: `read` and `write`.

The suffix selects the format. Arrays stay on disk (memory-mapped, HDF5 or Zarr) if the format
allows it.
"""

from __future__ import annotations

import csv
import errno
import math
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from snmf.cli.tables import read_text
from snmf.storage.atomic import check_replaceable, replacing
from snmf.storage.entries import check_places
from snmf.storage.npz import DAMAGE, Arrays, RefusedError

Array = Any

SPARSE = {"format", "shape", "data"}
MODEL = "snmf_model"  # the header of `snmf._model_file`


@dataclass(frozen=True)
class Reading:
    """The options for reading a file.

    Attributes
    ----------
    key : str, default=None
        Selects an array, if the file holds several.
    header : bool, default=None
        Says whether the first line of a text file names the columns. None lets snmf decide.
    row_names : bool, default=None
        Says whether the first column of a text file names the rows. None lets snmf decide.
    drop : sequence of str
        Leaves out these columns of a text file, by name or by number from 1.
    missing : bool, default=False
        Reads empty cells, and cells such as "NA", of a text file as missing values.
    known : sequence of str, default=None
        The expected names of the columns.
    """

    key: str | None = None
    header: bool | None = None
    row_names: bool | None = None
    drop: Sequence[str] = ()
    missing: bool = False
    known: Sequence[str] | None = None


class Table(NamedTuple):
    """The table that `read` returns.

    Attributes
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The numbers: memory-mapped, or an array of h5py or Zarr, if the format allows it.
    columns, rows : list of str or None
        The names of the columns and of the rows.
    kind : str
        The kind of file, in words.
    """

    X: Array
    columns: list[str] | None = None
    rows: list[str] | None = None
    kind: str = ""


def read(path: Path, reading: Reading | None = None) -> Table:
    """Read a table of numbers, and return it as `Table`.

    Raises
    ------
    ValueError
        If the suffix is not known, or the file is damaged or no table of real numbers.
    ImportError
        If the library for this format is not installed.
    OSError
        If the file cannot be read.
    """
    reading = reading or Reading()
    reader = _of_suffix(path, READERS)
    is_text = reader is _read_text
    if is_text and reading.key is not None:
        raise ValueError(
            f"{path}: a text file holds one table, without a name; got --key {reading.key}. Leave "
            "--key out."
        )
    if not is_text and (reading.drop or (reading.header, reading.row_names) != (None, None)):
        raise ValueError(
            f"{path}: --header, --row-names and --drop are only for .csv and .tsv. Leave them out."
        )
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    table: Table = reader(path, reading)
    shape, dtype = tuple(table.X.shape), np.dtype(table.X.dtype)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{path}: expected a table of rows and columns; got the shape {shape}")
    if dtype.kind not in "biuf":
        raise ValueError(f"{path}: expected real numbers; got the dtype {dtype}")
    return table


def write(path: Path, W: np.ndarray, columns: Sequence[str], rows: Sequence[str] | None) -> None:
    """Write a table, completely or not at all; include the names if the format has room for them.

    Raises
    ------
    ValueError
        If the suffix is not known.
    ImportError
        If the library for this format is not installed.
    OSError
        If the file cannot be written.
    """
    writer = _of_suffix(path, WRITERS)
    check_writable(path)
    with replacing(path) as new:
        writer(path, new, W, columns, rows)


def check_writable(path: Path) -> None:
    """Check before any work that `write` can write to this path; raise as `write` does."""
    _of_suffix(path, WRITERS)
    if path.suffix.lower() in LIBRARIES:
        _library(path)
    final, zarr = check_replaceable(path), path.suffix.lower() == ".zarr"
    if final.is_dir() and not (zarr and any((path / name).exists() for name in ZARR)):
        raise IsADirectoryError(errno.EISDIR, "is a folder, and not one of Zarr", str(path))
    if final.is_file() and zarr:
        raise NotADirectoryError(errno.ENOTDIR, "is a file; Zarr writes a folder", str(path))


def _of_suffix(path: Path, table: dict[str, Any]) -> Any:
    if path.suffix.lower() not in table:
        raise ValueError(f"{path}: the name must end in one of {', '.join(table)}")
    return table[path.suffix.lower()]


def _library(path: Path) -> Any:
    name = LIBRARIES[path.suffix.lower()]
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{path}: needs {name}: pip install 'snmf[files]'") from error


@contextmanager
def _whatever_is_raised(path: Path, kind: str) -> Iterator[None]:
    """Turn the many errors of a damaged file into a ValueError that names the file."""
    try:
        yield
    except RefusedError:
        raise
    except (*DAMAGE, OSError) as error:
        raise ValueError(f"{path}: expected {kind}, got something else or damaged ({error})") from (
            error
        )


def _chosen(path: Path, key: str | None, names: Sequence[str], holder: Container[str]) -> str:
    """Return the name of the array to read: the key, or else the only name in the file."""
    found = ", ".join(sorted(names)[:20]) or "none"
    if key is None and len(names) != 1:
        raise RefusedError(f"{path}: expected one table; choose one with --key, of: {found}")
    if key is not None and key not in holder:
        raise RefusedError(f"{path}: there is no table {key!r}; the tables are: {found}")
    return names[0] if key is None else key


def _read_npy(path: Path, reading: Reading) -> Table:
    with _whatever_is_raised(path, "an array of NumPy"):
        if path.stat().st_size == 0:
            raise ValueError("the file is empty")
        X = np.load(path, mmap_mode="r", allow_pickle=False)
        return Table(X, kind="NumPy array, memory-mapped")


def _read_npz(path: Path, reading: Reading) -> Table:
    with _whatever_is_raised(path, "arrays of NumPy"):
        arrays = Arrays(path, inflation=math.inf)
        if MODEL in arrays.names:
            raise RefusedError(f"{path}: expected data; got a model")
        if reading.key is None and {*arrays.names} >= SPARSE:
            for name in arrays.names:
                arrays.claim(name)
            X = scipy.sparse.load_npz(path)
            check_places(X)
            return Table(X.tocsr(), kind=f"SciPy sparse matrix, {X.nnz} stored entries")
        name = _chosen(path, reading.key, arrays.names, arrays.names)
        return Table(arrays[name], kind=f"NumPy array {name!r}")


def _read_hdf5(path: Path, reading: Reading) -> Table:
    h5py = _library(path)
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            names.append(name)

    with _whatever_is_raised(path, "an HDF5 file"):
        file = h5py.File(path, "r")
        file.visititems(note)
        name = _chosen(path, reading.key, names, file)
        return Table(_an_array(path, name, file[name]), kind=f"HDF5 dataset {name!r}")


def _read_zarr(path: Path, reading: Reading) -> Table:
    zarr = _library(path)
    with _whatever_is_raised(path, "a Zarr array or group"):
        node = zarr.open(str(path), mode="r")
        if not hasattr(node, "arrays"):
            return Table(node, kind="Zarr array")
        names = [name for name, array in node.arrays() if array.ndim == 2]
        name = _chosen(path, reading.key, names, node)
        return Table(_an_array(path, name, node[name]), kind=f"Zarr array {name!r}")


def _an_array(path: Path, name: str, node: Any) -> Array:
    if not hasattr(node, "shape"):
        raise RefusedError(f"{path}: expected a table called {name!r}; it is a group of {[*node]}")
    return node


def _read_text(path: Path, reading: Reading) -> Table:
    X, columns, rows = read_text(
        path, reading.header, reading.row_names, reading.drop, reading.missing, reading.known
    )
    named = [
        *(["columns named by the first line"] if columns else []),
        *(["rows named by the first column"] if rows else []),
    ]
    return Table(X, columns, rows, ", ".join(["text", *named]))


def _write_npy(path: Path, new: Path, W: np.ndarray, columns: Any, rows: Any) -> None:
    with new.open("xb") as file:
        np.save(file, W, allow_pickle=False)


def _write_text(
    path: Path, new: Path, W: np.ndarray, columns: Sequence[str], rows: Sequence[str] | None
) -> None:
    number = f"%.{9 if W.dtype == np.float32 else 17}g"  # enough digits to read back the same bits
    with new.open("x", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        lines.writerow([*([] if rows is None else [""]), *columns])
        for i, w in enumerate(W):
            lines.writerow([*([] if rows is None else [rows[i]]), *(number % v for v in w)])


def _write_hdf5(path: Path, new: Path, W: np.ndarray, columns: Sequence[str], rows: Any) -> None:
    buffer = BytesIO()  # HDF5 crashes on a full disk, so it writes to memory
    with _library(path).File(buffer, "w") as file:
        file.create_dataset("W", data=W).attrs["columns"] = list(columns)
    with buffer.getbuffer() as content, new.open("xb") as whole:  # release the buffer on errors
        whole.write(content)


def _write_zarr(path: Path, new: Path, W: np.ndarray, columns: Any, rows: Any) -> None:
    _library(path).save_array(str(new), W)


READERS: dict[str, Callable[[Path, Reading], Table]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".zarr": _read_zarr,
}
WRITERS: dict[str, Callable[..., None]] = {
    ".npy": _write_npy,
    ".csv": _write_text,
    ".tsv": _write_text,
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".zarr": _write_zarr,
}
ZARR = ("zarr.json", ".zarray", ".zgroup")  # every Zarr folder contains one of these
LIBRARIES = {".h5": "h5py", ".hdf5": "h5py", ".zarr": "zarr"}
