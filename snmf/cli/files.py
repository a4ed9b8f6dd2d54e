"""Reading and writing of data files for the command line: `read` and `write`.

The suffix selects the format. Arrays stay on disk (memory-mapped, HDF5 or Zarr) if the format
allows it.
"""

from __future__ import annotations

import csv
import errno
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import scipy.sparse

from snmf._model_file import HEADER
from snmf.cli.arguments import STREAM
from snmf.cli.tables import (
    OPENERS,
    Reading,
    Table,
    library,
    read_columns,
    read_text,
    read_xlsx,
    text_file,
)
from snmf.storage.atomic import check_replaceable, replacing
from snmf.storage.entries import check_places
from snmf.storage.npz import DAMAGE, Arrays, RefusedError
from snmf.storage.sparse_group import is_of_10x, opened

Array = Any

SPARSE = {"format", "shape", "data"}


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
    if path == STREAM:
        return _read_stream(reading)
    reader = _of_suffix(path, READERS)
    unused = [
        f"--{name.replace('_', '-')}"
        for name, (default, kinds) in FOR.items()
        if getattr(reading, name) != default and reader not in kinds
    ]
    if unused:
        raise ValueError(f"{path}: {', '.join(unused)}: not for files of this kind. Leave it out.")
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    table: Table = reader(path, reading)
    shape, dtype = tuple(table.X.shape), np.dtype(table.X.dtype)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{path}: expected a table of rows and columns; got the shape {shape}")
    if dtype.kind not in "biuf":
        raise ValueError(f"{path}: expected real numbers; got the dtype {dtype}")
    return table


def _read_stream(reading: Reading) -> Table:
    """Read standard input: of the format that its first bytes tell, or else text."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "standard input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with path.open("rb") as file:
            start = file.read(8)
        suffix = next(
            (name for first, name in FIRST_BYTES.items() if start.startswith(first)), ".csv"
        )
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                suffix = ".xlsx" if "xl/workbook.xml" in archive.namelist() else ".npz"
        named = path.rename(path.with_name(path.name + suffix))
        try:
            return read(named, reading)
        except (ValueError, ImportError) as error:
            raise type(error)(str(error).replace(str(named), "standard input")) from error


def write(
    path: Path,
    X: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str] | None = None,
    name: str = "W",
) -> None:
    """Write a table, completely or not at all; include the names if the format has room for them.

    Parameters
    ----------
    path : Path
        The file; its suffix selects the format. STREAM is standard output, in CSV.
    X : ndarray of shape (n_rows, n_columns)
        Numbers; with dtype object also words, which .npy, HDF5 and Zarr have no room for.
    columns, rows : sequence of str
        The names.
    name : str, default="W"
        The name of the dataset in an HDF5 file.

    Raises
    ------
    ValueError
        If the suffix is not known, or has no room for words.
    ImportError
        If the library for this format is not installed.
    OSError
        If the file cannot be written.
    """
    if path == STREAM:
        _write_lines(sys.stdout, X, columns, rows, ",", "\n")
        return
    check_writable(path, words=X.dtype == object)
    with replacing(path) as new:
        WRITERS[_suffix(path)](path, new, X, columns, rows, name)


def check_writable(path: Path, words: bool = False) -> None:
    """Check before any work that `write` can write to this path; raise as `write` does."""
    if path == STREAM:
        return
    writer = _of_suffix(path, WRITERS)
    if words and writer not in (_write_text, _write_frame):
        able = ", ".join(s for s, of in WRITERS.items() if of in (_write_text, _write_frame))
        raise ValueError(f"{path}: words have no room in this format; name it {able}")
    for name in LIBRARIES.get(_suffix(path), ()):
        library(path, name)
    if path.suffix.lower() == ".zst":
        library(path, "pyarrow")
    final, zarr = check_replaceable(path), path.suffix.lower() == ".zarr"
    if final.is_dir() and not (zarr and any((path / name).exists() for name in ZARR)):
        raise IsADirectoryError(errno.EISDIR, "is a folder, and not one of Zarr", str(path))
    if final.is_file() and zarr:
        raise NotADirectoryError(errno.ENOTDIR, "is a file; Zarr writes a folder", str(path))


def _suffix(path: Path) -> str:
    """Return the suffix that names the format: ".csv" of table.csv.gz."""
    whole, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    return inner if whole in OPENERS and inner in COMPRESSED else whole


def _of_suffix(path: Path, table: dict[str, Any]) -> Any:
    if _suffix(path) not in table:
        text = ", ".join(suffix for suffix in COMPRESSED if suffix in table)
        raise ValueError(
            f"{path}: the name must end in one of {', '.join(table)}; after {text} may follow one "
            f"of {', '.join(OPENERS)}"
        )
    return table[_suffix(path)]


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
        if HEADER in arrays.names:
            raise RefusedError(f"{path}: expected data; got a model")
        if reading.key is None and {*arrays.names} >= SPARSE:
            for name in arrays.names:
                arrays.claim(name)
            X = scipy.sparse.load_npz(path)
            check_places(X)
            return Table(X.tocsr(), kind=f"SciPy sparse matrix, {X.nnz} stored entries")
        name = _chosen(path, reading.key, arrays.names, arrays.names)
        return Table(arrays[name], kind=f"NumPy array {name!r}")


def _read_mtx(path: Path, reading: Reading) -> Table:
    from scipy.io import mmread

    with _whatever_is_raised(path, "a Matrix Market file"):
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
            X = mmread(file, spmatrix=False)
        if not scipy.sparse.issparse(X):
            return Table(X, kind="Matrix Market array")
        kind = f"Matrix Market, {X.nnz} stored entries"
        genes = _beside_matrix(path, "features") or _beside_matrix(path, "genes")
        cells = _beside_matrix(path, "barcodes")
        if genes and cells and X.shape == (len(genes), len(cells)):
            return Table(X.T.tocsr(), genes, cells, f"{kind}, genes × cells, transposed")
        return Table(X.tocsr(), kind=kind)


def _beside_matrix(path: Path, word: str) -> list[str]:
    """Return the names in a file that Cell Ranger writes beside its matrix; none if it is absent.

    Genes have an identifier in the first column and a name in the second.
    """
    file = path.with_name(path.name.replace("matrix.mtx", f"{word}.tsv"))
    if file == path or not file.exists():
        return []
    with text_file(file, "rb", "utf-8", file.suffix.lower()) as lines:
        return [line[:2][-1] for line in csv.reader(lines, delimiter="\t")]


def _read_hdf5(path: Path, reading: Reading) -> Table:
    h5py = library(path, "h5py")
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if getattr(item, "ndim", 0) == 2 or (isinstance(item, h5py.Group) and "indptr" in item):
            names.append(name)

    with _whatever_is_raised(path, "an HDF5 file"):
        file = h5py.File(path, "r")
        file.visititems(note)
        return _of_group(path, file, reading.key, names, "HDF5 dataset")


def _read_zarr(path: Path, reading: Reading) -> Table:
    zarr = library(path, "zarr")
    with _whatever_is_raised(path, "a Zarr array or group"):
        node = zarr.open(str(path), mode="r")
        if not hasattr(node, "arrays"):
            return Table(node, kind="Zarr array")
        names = [name for name, array in node.arrays() if array.ndim == 2]
        return _of_group(path, node, reading.key, names, "Zarr array")


def _of_group(path: Path, file: Any, key: str | None, names: list[str], kind: str) -> Table:
    """Return a table of a group of HDF5 or Zarr, with the names that lie beside it."""
    is_anndata = all(name in file for name in ("X", "obs", "var"))
    name = _chosen(path, key or ("X" if is_anndata else None), names, file)
    X, node = _an_array(path, name, file[name]), file[name]
    places = file.get("columns"), file.get("rows")  # as `write` names them
    if hasattr(node, "keys") and is_of_10x(node):
        kind = f"{kind} of 10x Genomics"
        of_genes = "features/name" if "features" in node else "gene_names"  # before Cell Ranger 3
        places = node.get(of_genes), node["barcodes"]
    elif is_anndata:
        places = _index_of(file["var"]), _index_of(file["obs"])
    columns, rows = (_words(of, n) for of, n in zip(places, X.shape[::-1], strict=False))
    return Table(X, columns, rows, f"{kind} {name!r}")


def _index_of(frame: Any) -> Any:
    """Return the index of a frame of AnnData; before anndata 0.7 it is an array of records."""
    if hasattr(frame, "keys"):
        return frame.get(frame.attrs.get("_index", "_index"))
    return frame["index"]


def _words(names: Any, n: int) -> list[str] | None:
    """Return the words in an array, if there are n; None for anything else."""
    if getattr(names, "shape", None) != (n,) or names.dtype.kind in "biuf":
        return None
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names[:]]


def _an_array(path: Path, name: str, node: Any) -> Array:
    if not hasattr(node, "shape"):
        if "indptr" not in node:
            words = f"expected a table called {name!r}; it is a group of {[*node]}"
            raise RefusedError(f"{path}: {words}")
        try:
            return opened(node)
        except ValueError as error:
            raise RefusedError(f"{path}: {error}") from error
    return node


def _write_npy(path: Path, new: Path, X: np.ndarray, *_: Any) -> None:
    with new.open("xb") as file:
        np.save(file, X, allow_pickle=False)


def _write_text(
    path: Path, new: Path, X: np.ndarray, columns: Sequence[str], rows: Any, name: str
) -> None:
    delimiter = "," if _suffix(path) == ".csv" else "\t"
    with text_file(new, "wb", "utf-8", path.suffix.lower()) as file:
        _write_lines(file, X, columns, rows, delimiter, "\r\n")


def _write_lines(
    file: TextIO,
    X: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str] | None,
    delimiter: str,
    end: str,
) -> None:
    number = f"%.{9 if X.dtype == np.float32 else 17}g"  # enough digits to read back the same bits
    lines = csv.writer(file, delimiter=delimiter, lineterminator=end)
    lines.writerow([*([] if rows is None else [""]), *columns])
    for i, x in enumerate(X):
        cells = (v if isinstance(v, str) else number % v for v in x)
        lines.writerow([*([] if rows is None else [rows[i]]), *cells])


def _write_frame(
    path: Path, new: Path, X: np.ndarray, columns: Sequence[str], rows: Any, name: str
) -> None:
    frame = library(path, "pandas").DataFrame(X, columns=list(columns)).infer_objects()
    if rows is not None:
        frame.insert(0, "", list(rows))
    with new.open("xb") as file:
        if path.suffix.lower() == ".xlsx":
            frame.to_excel(file, engine="openpyxl", index=False)
        elif path.suffix.lower() == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            frame.to_feather(file)


def _write_hdf5(
    path: Path, new: Path, X: np.ndarray, columns: Sequence[str], rows: Any, name: str
) -> None:
    buffer = BytesIO()  # HDF5 crashes on a full disk, so it writes to memory
    with library(path, "h5py").File(buffer, "w") as file:
        file.create_dataset(name, data=X)
        for of, names in (("columns", columns), ("rows", rows)):
            if names is not None:
                file.create_dataset(
                    of, data=list(names), dtype=library(path, "h5py").string_dtype()
                )
    with buffer.getbuffer() as content, new.open("xb") as whole:  # release the buffer on errors
        whole.write(content)


def _write_zarr(path: Path, new: Path, X: np.ndarray, *_: Any) -> None:
    library(path, "zarr").save_array(str(new), X)


Reader = Callable[[Path, Reading], Table]
READERS: dict[str, Reader] = {
    ".npy": _read_npy, ".npz": _read_npz, ".csv": read_text, ".tsv": read_text, ".txt": read_text,
    ".parquet": read_columns, ".feather": read_columns, ".xlsx": read_xlsx, ".mtx": _read_mtx,
    ".h5": _read_hdf5, ".hdf5": _read_hdf5, ".h5ad": _read_hdf5, ".zarr": _read_zarr,
}  # fmt: skip
WRITERS: dict[str, Callable[..., None]] = {
    ".npy": _write_npy, ".csv": _write_text, ".tsv": _write_text, ".txt": _write_text,
    ".parquet": _write_frame, ".feather": _write_frame, ".xlsx": _write_frame,
    ".h5": _write_hdf5, ".hdf5": _write_hdf5, ".zarr": _write_zarr,
}  # fmt: skip
COMPRESSED = (".csv", ".tsv", ".txt", ".mtx")  # such a file may be compressed
ZARR = ("zarr.json", ".zarray", ".zgroup")  # every Zarr folder contains one of these
LIBRARIES = {
    ".h5": ("h5py",), ".hdf5": ("h5py",), ".zarr": ("zarr",), ".parquet": ("pandas", "pyarrow"),
    ".feather": ("pandas", "pyarrow"), ".xlsx": ("pandas", "openpyxl"),
}  # fmt: skip
FIRST_BYTES = {
    b"\x93NUMPY": ".npy", b"PAR1": ".parquet", b"ARROW1": ".feather", b"\x89HDF": ".h5",
    b"%%Matrix": ".mtx", b"\x1f\x8b": ".csv.gz", b"BZh": ".csv.bz2", b"\xfd7zXZ": ".csv.xz",
    b"(\xb5/\xfd": ".csv.zst",
}  # fmt: skip
FOR: dict[str, tuple[Any, tuple[Reader, ...]]] = {  # the default of an option, and its readers
    "key": (None, (_read_npz, _read_hdf5, _read_zarr, read_xlsx)),
    "header": (None, (read_text, read_xlsx)),
    "decimal": (None, (read_text, read_xlsx)),
    "encoding": (None, (read_text,)),
    "row_names": (None, (read_text, read_xlsx, read_columns)),
    "numeric": (False, (read_text, read_xlsx, read_columns)),
    "drop": ((), (read_text, read_xlsx, read_columns)),
}
