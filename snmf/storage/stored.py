"""Rows that are read when they are asked for: memory maps, HDF5, Zarr, and what slices likewise.

One thread reads, a block ahead of the one that is computed with; what was used is dropped.  Slices
are NumPy arrays, or SciPy sparse matrices, as those of a sparse matrix that AnnData left on disk.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack

from snmf.storage.entries import canonical, check_places, refuse_others
from snmf.storage.parts import Filed, scratch
from snmf.storage.rows import Rows, RowWise, ahead, cut

Array = Any

NEAR = 4  # rows from one to the next, up to which a read of its own takes longer
AHEAD = 1  # reads that are made before they are asked for
MOST_READ = 2**27  # bytes of a read that takes whole chunks, where these are larger than a block
SCRATCH = 2**28  # bytes from which on what is row-wise, as W, lies in a temporary file
SOME_ROWS = 32  # tell how many entries a sparse row has, where the store does not
GATHERED = 2**18  # bytes of sparse rows that are read for some of them: each read takes its time


def is_stored(X: Any) -> bool:
    """Whether X, no array of a known library, is a matrix that is better read by slices of rows.

    A memory map is; else it needs a shape, a dtype of NumPy, and slices, without being an array.
    """
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap)
    slices = hasattr(X, "shape") and hasattr(X, "__getitem__")
    known = isinstance(X, np.generic) or issparse(X)
    return slices and not known and _dtype(X) is not None


def _dtype(X: Any) -> np.dtype[Any] | None:
    """The dtype of X, if it is one of NumPy, or the name or the type of one."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, str) or (isinstance(dtype, type) and issubclass(dtype, np.generic)):
        with suppress(TypeError):  # a name that NumPy does not know
            return np.dtype(dtype)
    return dtype if isinstance(dtype, np.dtype) else None


class Store:
    """A matrix that is read by slices of rows.

    Parameters
    ----------
    X : object
        For which `is_stored` holds.

    Raises
    ------
    ValueError
        If its shape is none.
    """

    def __init__(self, X: Any) -> None:
        self.X = X
        self.shape = _shape(X)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(_dtype(X))
        self.chunk = _chunk_rows(X)
        self.file = getattr(X, "filename", None)
        self._map = _map_below(X)

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def sparse(self) -> bool:
        """Whether slices are sparse.

        An empty slice that is sparse tells it, and nothing is read. One that is dense tells
        nothing, since some stores make it with `numpy.empty`: then the first row tells.
        """
        if self._map is not None or not len(self):
            return False
        with suppress(Exception):  # not every store has such slices
            if issparse(self.X[0:0]):
                return True
        return bool(issparse(self._found(slice(0, 1))))

    @cached_property
    def nnz(self) -> int:
        """How many entries are stored: as the store says, or estimated from some of its rows.

        Dense ones have no such attribute, as dense arrays have none.
        """
        if not self.sparse:
            raise AttributeError("nnz")
        if isinstance(count := getattr(self.X, "nnz", None), Integral):
            return int(count)
        some = np.unique(np.linspace(0, len(self) - 1, SOME_ROWS).astype(int)).tolist()
        return int(
            sum(self.read(slice(i, i + 1), "float64").nnz for i in some) * len(self) // len(some)
        )

    @cached_property
    def _near(self) -> int:
        """How many rows side by side are read at once for some of them."""
        if not self.sparse:
            return self.chunk
        entry = self.dtype.itemsize + np.dtype(np.int32).itemsize
        return max(self.chunk, GATHERED * len(self) // max(1, self.nnz * entry))

    def read(self, rows: slice, dtype: Any = None) -> Array:
        """Rows side by side: in memory, or where they are mapped, if they need no change there.

        Parameters
        ----------
        rows : slice
        dtype : dtype, default=None
            What they are to be in; None is as they come.

        Returns
        -------
        block : ndarray or CSR matrix of shape (b, n_features)
            A sparse one has its entries in order, and none twice.

        Raises
        ------
        OSError
            If they cannot be read, are damaged, or are not so many; the message names them.
        ValueError
            If they are no array of real numbers, or masked.
        """
        found, place = self._found(rows), _words(rows)
        if found.shape != (expected := (rows.stop - rows.start, *self.shape[1:])):
            raise OSError(f"{place} must have shape {expected}; reading gave {found.shape}")
        refuse_others(found, place)
        if issparse(found) != self.sparse:
            kinds = ("sparse", "dense") if self.sparse else ("dense", "sparse")
            words = f"{place} are {kinds[1]}, and others are {kinds[0]}"
            raise ValueError(f"rows of X must be all dense, or all sparse; {words}")
        if issparse(found):
            try:
                check_places(found)
            except ValueError as error:
                raise OSError(f"{place} are damaged: {error}") from error
        with np.errstate(over="ignore"):  # an infinity is found by who looks for it
            if issparse(found):
                native = np.dtype(dtype or found.dtype).newbyteorder("=")
                return canonical(found.astype(native, copy=False))
            block = np.asarray(found, dtype=dtype, order="C")
        if self._map is not None and np.may_share_memory(block, found):
            _touch(block)
        return block

    def _found(self, rows: slice) -> Array:
        """What the store gives for a slice, as an array or a sparse matrix."""
        place = _words(rows)
        try:
            if self._map is not None:
                _refuse_short_file(self.X, self._map)  # reading it would end the process
            found = self.X[rows.start : rows.stop]
        except Exception as error:  # of whatever library
            raise OSError(f"{place} cannot be read: {error}") from error
        if np.ma.is_masked(found):
            raise ValueError(f"X must not be masked: {place} have masked entries")
        if issparse(found):
            return found
        try:
            return np.asarray(found)
        except Exception as error:  # of whatever library
            raise ValueError(
                f"{place} must come as NumPy arrays or SciPy sparse matrices do; reading gave "
                f"{type(found).__module__}.{type(found).__qualname__}, and: {error}"
            ) from error

    def take(self, indices: np.ndarray, dtype: Any = None, near: int = 1) -> Array:
        """Some rows, in memory: read one by one, or by the chunks that they lie in.

        Rows at a distance of at most `near` are read together, with those between.
        """
        wanted, back = np.unique(indices, return_inverse=True)
        apart = (np.diff(wanted) > near) & (np.diff(wanted // self._near) > 0)
        groups = np.split(wanted, np.flatnonzero(apart) + 1)
        parts = [
            self.read(slice(int(group[0]), int(group[-1]) + 1), dtype)[group - group[0]]
            for group in groups
        ]
        return (vstack(parts, "csr") if self.sparse else np.concatenate(parts))[back]


def _words(rows: slice) -> str:
    return f"rows {rows.start} to {rows.stop - 1} of X"


def _shape(X: Any) -> tuple[int, ...]:
    try:
        shape = tuple(map(index, X.shape))
    except TypeError:
        shape = (-1,)
    if min(shape, default=0) < 0:
        kind = f"{type(X).__module__}.{type(X).__qualname__}"
        raise ValueError(f"X.shape must be whole numbers, rows first; got {X.shape!r} of a {kind}")
    return shape


def _touch(A: np.ndarray) -> None:
    """Have the system read the pages that an array lies on; a copy would take twice as long."""
    A.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()


def _chunk_rows(X: Any) -> int:
    """How many rows are stored as one."""
    first = (getattr(X, "chunks", None) or (1,))[0]
    return int(first) if isinstance(first, Integral) else 1


def _map_below(X: Any) -> mmap.mmap | None:
    """The memory map that an array lies in."""
    if not isinstance(X, np.memmap):
        return None
    while X is not None and not isinstance(X, mmap.mmap):
        X = getattr(X, "base", None)
    return X


def _refuse_short_file(X: np.memmap, below: mmap.mmap) -> None:
    start = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
    if below.size() < start + len(below):
        raise OSError(
            f"its file ends early: {start + len(below)} bytes were mapped, and {below.size()} "
            "are left"
        )


class StoredRows(Rows):
    """The rows of a `Store`: read ahead; where they are many, what is row-wise lies in a file."""

    def __init__(self, X: Store, *args: Any, **kwargs: Any) -> None:
        super().__init__(X, *args, **kwargs)
        size = max(1, self.stored * np.dtype(self.dtype).itemsize // len(self))  # of a row
        step = self.slices[0].stop
        read = whole_chunks(step, X.chunk, MOST_READ // size)
        step = math.ceil(read / math.ceil(read / step))  # the blocks of a read are alike
        self._reads = [cut(at.start, at.stop, step) for at in cut(0, len(self), read)]
        self.slices = [rows for read in self._reads for rows in read]

    def _raw(self, rows: slice) -> Array:
        if self.members is None:
            return self.X.read(rows, self.dtype)
        return self.X.take(self.members[rows], self.dtype, NEAR)

    def some(self, indices: np.ndarray) -> Rows:
        return self.over(self.X.take(self.places(indices), self.dtype))

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[tuple[Rows, Any]]:
        """Rows that lie side by side, and these in another order each time."""
        places = cut(0, len(self), whole_chunks(size, self.X.chunk, size))
        return ((self.part(places[i]), places[i]) for i in rng.permutation(len(places)))

    def take(self, indices: np.ndarray) -> Any:
        block = self.X.take(self.places(indices), self.dtype)
        return self.backend.to_host(self._prepared(block))

    def kept(self, parts: Iterable[Any]) -> RowWise:
        parts = iter(parts)
        first = next(parts)
        columns = first.shape[1] if getattr(first, "ndim", 0) == 2 else 0
        parts = chain([first], parts)
        size = len(self) * columns * np.dtype(self.dtype).itemsize
        if not columns or size < SCRATCH:
            return super().kept(parts)
        on_host = map(self.backend.to_host, parts)
        file = scratch(on_host, self.slices, (len(self), columns), self.dtype)
        return Filed(file, self.slices, self.backend)

    def _blocks(self) -> Generator[Callable[[], Array], None, None]:
        places = [slice(read[0].start, read[-1].stop) for read in self._reads]
        with ThreadPoolExecutor(1) as reader:
            done = ahead(reader, AHEAD, self._raw, places)
            for place, read, data in zip(places, self._reads, done, strict=True):
                for rows in read:
                    yield partial(self._of_read, place, data, rows)

    def _of_read(self, place: slice, data: Array, rows: slice) -> Array:
        within = slice(rows.start - place.start, rows.stop - place.start)
        block = data if rows == place else data[within]  # of sparse rows that is a copy
        return self._times_factors(self._prepared(block), rows)


def whole_chunks(step: int, chunk: int, most: int) -> int:
    """How many rows to read at once: about step, in whole chunks if that is at most `most`."""
    if chunk <= step:
        return step // chunk * chunk
    return chunk if chunk <= most else step
