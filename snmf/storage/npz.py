"""Safe reading of an ``.npz`` file: sizes are checked before memory is allocated.

`Arrays` reads the file. `DAMAGE` lists the exceptions of a damaged file, and `RefusedError` is
raised for a file that is refused for another reason.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

DAMAGE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError,
          RuntimeError, zipfile.BadZipFile, zlib.error)  # fmt: skip
INFLATION = 100  # arrays may be so many times larger than their file, since zeros compress well
SLACK = 2**24  # bytes; small files may hold arrays of zeros, which compress to a thousandth


class RefusedError(ValueError):
    """A file is refused for the reason in the message; callers do not report it as damaged."""


class Claim(NamedTuple):
    """The shape, order and dtype in the header of an array."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]


class Arrays:
    """The arrays of an .npz by name; reading an array checks its checksum.

    Parameters
    ----------
    path : path-like
        The file.
    inflation : float, default=INFLATION
        Limits the size of all arrays together, in multiples of the size of the file.

    Attributes
    ----------
    names : list of str
        The names of the arrays.

    Raises
    ------
    ValueError, zipfile.BadZipFile and others of DAMAGE
        If the file is no .npz, or is damaged. Reading an array may raise them too.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], inflation: float = INFLATION) -> None:
        self.path = Path(path)
        with self.path.open("rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    entries = archive.infolist()
            except OSError as error:
                raise _beyond(error) from error
            _check_sizes(entries, os.fstat(file.fileno()).st_size, inflation)
        self.names = [entry.filename.removesuffix(".npy") for entry in entries]
        if len({*self.names}) < len(self.names):
            raise ValueError("it has two arrays of one name")

    def claim(self, name: str) -> Claim:
        """Return the shape and dtype in the header of an array, checked against its size."""
        with self.opened(name) as (_, claim):
            return claim

    def __getitem__(self, name: str) -> np.ndarray:
        with self.opened(name) as (stream, _):
            try:
                stream.seek(0)
                return np.lib.format.read_array(stream, allow_pickle=False)
            except OSError as error:
                raise _beyond(error) from error

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[IO[bytes], Claim]]:
        """Yield the stream of an array, placed behind its header, and its `Claim`."""
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                entry = archive.getinfo(f"{name}.npy")
                stream = stack.enter_context(archive.open(entry))
            except OSError as error:
                raise _beyond(error) from error
            yield stream, _claim(name, stream, entry.file_size)

    def header(self, name: str) -> Any:
        """Return the value of an array that holds a text in JSON."""
        return json.loads(self[name].tobytes())

    def check_sums(self) -> None:
        """Read the whole file, and check every checksum.

        Raises
        ------
        ValueError
            If a checksum does not match.
        """
        with zipfile.ZipFile(self.path) as archive:
            if broken := archive.testzip():
                raise ValueError(f"the checksum of its {broken} is wrong")


def _beyond(error: OSError) -> ValueError:
    """Return the error for a failed seek or read: the file is too short."""
    return ValueError(f"it is cut short: {error}")


def check_floats(name: str, wanted: tuple[int, ...], shape: tuple[int, ...], dtype: Any) -> None:
    """Raise ValueError if an array of a file has another shape, or does not hold floats."""
    if shape != wanted or dtype.kind != "f":
        raise ValueError(f"{name} must be of shape {wanted} and of floats; got {shape} of {dtype}")


def check_finite(name: str, A: Any) -> None:
    """Raise ValueError if a dense or sparse array has NaN or infinity."""
    if not np.isfinite(A.data if issparse(A) else A).all():
        raise ValueError(f"{name} must be finite; it has NaN or infinity")


def is_npz_with(path: str | os.PathLike[str], name: str) -> bool:
    """Whether the path is an .npz that has an array of this name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except (*DAMAGE, OSError):
        return False


def _check_sizes(entries: Sequence[zipfile.ZipInfo], size: int, inflation: float) -> None:
    if sum(entry.compress_size for entry in entries) > size:
        raise ValueError("its parts overlap")
    whole = sum(entry.file_size for entry in entries)
    if whole > inflation * size + SLACK:
        raise ValueError(
            f"its arrays are compressed from {whole} bytes to {size}, more than snmf accepts"
        )


def _claim(name: str, stream: IO[bytes], size: int) -> Claim:
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}  # fmt: skip
        shape, by_columns, dtype = read[version](stream)
    except Exception as error:  # NumPy uses Python's parser, which raises many kinds
        raise ValueError(f"the header of {name} cannot be read: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which allow_pickle=False refuses")
    claimed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != there or any(length < 0 for length in shape):
        raise ValueError(
            f"{name} says that it is of shape {shape} and dtype {dtype}, of {claimed} bytes; "
            f"it has {there} bytes"
        )
    return Claim(shape, by_columns, dtype)
