"""Arrays of an ``.npz`` that anyone may have made: nothing is allocated before it is checked."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

DAMAGE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError,
          RuntimeError, zipfile.BadZipFile, zlib.error)  # fmt: skip
INFLATION = 100  # times its size a file may be in memory: a deflated zero takes a thousandth,
SLACK = 2**24  # and small files may hold what is all zero


class RefusedError(ValueError):
    """A file is refused, and the message says why: it is not to be called damaged as well."""


class Claim(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]


class Arrays:
    """The arrays of an .npz by name; each has its checksum looked at when it is read.

    Parameters
    ----------
    path : path-like
    inflation : float, default=INFLATION
        How many times as large as the file all arrays together may be.

    Attributes
    ----------
    names : list of str

    Raises
    ------
    ValueError, zipfile.BadZipFile and others of DAMAGE
        If it is no .npz, or one whose parts contradict each other: here, or when one is asked for.
    OSError
        If it cannot be read.
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
        """The shape and the dtype that an array says it has, and has the bytes for."""
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
        """An array's bytes, behind its header, and what they are."""
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                entry = archive.getinfo(f"{name}.npy")
                stream = stack.enter_context(archive.open(entry))
            except OSError as error:
                raise _beyond(error) from error
            yield stream, _claim(name, stream, entry.file_size)

    def check_sums(self) -> None:
        """Read all of it.

        Raises
        ------
        ValueError
            If an array is not what was written.
        """
        with zipfile.ZipFile(self.path) as archive:
            if broken := archive.testzip():
                raise ValueError(f"its {broken} is not what was written")


def _beyond(error: OSError) -> ValueError:
    """What a seek to where nothing is means."""
    return ValueError(f"it is cut short: {error}")


def is_npz_with(path: str | os.PathLike[str], name: str) -> bool:
    """Whether that is the name of an .npz which holds an array of that name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{name}.npy" in archive.namelist()
    except (*DAMAGE, OSError):
        return False


def _check_sizes(entries: Sequence[zipfile.ZipInfo], size: int, inflation: float) -> None:
    if sum(entry.compress_size for entry in entries) > size:
        raise ValueError("its parts lie over one another")
    whole = sum(entry.file_size for entry in entries)
    if whole > inflation * size + SLACK:
        raise ValueError(f"its arrays are compressed from {whole} bytes to {size}, beyond belief")


def _claim(name: str, stream: IO[bytes], size: int) -> Claim:
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}  # fmt: skip
        shape, by_columns, dtype = read[version](stream)
    except Exception as error:  # a parser of Python's is asked
        raise ValueError(f"the header of {name} cannot be read: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which allow_pickle=False refuses")
    claimed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != there or any(length < 0 for length in shape):
        raise ValueError(
            f"{name} says that it is of shape {shape} and dtype {dtype}, of {claimed} bytes; "
            f"it has {there}"
        )
    return Claim(shape, by_columns, dtype)
