"""Rows that are read from disk on demand: memory maps, HDF5, Zarr, and other sliceable objects.

`Store` wraps such an object. `StoredRows` passes over its rows: one thread reads a block ahead of
the computation, and used blocks are dropped.  A slice must be a NumPy array or a SciPy sparse
matrix, such as a slice of a sparse matrix that AnnData keeps on disk.
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

NEAR = 4  # rows at most this far apart are read together, which is faster than two reads
AHEAD = 1  # reads ahead of the computation
MOST_READ = 2**27  # the most bytes in a read of whole chunks that are larger than a block
SCRATCH = 2**28  # from this many bytes on, W and the like lie in a temporary file
SOME_ROWS = 32  # rows to estimate the number of entries from, if the store does not know it
GATHERED = 2**18  # bytes of sparse rows to read together to get some of them: a read is slow


def is_stored(X: Any) -> bool:
    """Whether X should be read by slices of rows, through a `Store`.

    This is true for a memory map. It is also true for an object that has a shape, a NumPy dtype
    and slices, and is neither an array nor a SciPy sparse matrix.
    """
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap)
    slices = hasattr(X, "shape") and hasattr(X, "__getitem__")
    known = isinstance(X, np.generic) or issparse(X)
    return slices and not known and _dtype(X) is not None


def _dtype(X: Any) -> np.dtype[Any] | None:
    """Return the NumPy dtype of X (its attribute may be a name or a type); None if it has none."""
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
        An object for which `is_stored` is true.

    Raises
    ------
    ValueError
        If X.shape is no tuple of whole numbers.
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

        An empty slice shows this without a read, if it is sparse. A dense empty slice shows
        nothing, since some stores make it with `numpy.empty`; then the first row is read.
        """
        if self._map is not None or not len(self):
            return False
        with suppress(Exception):  # not every store allows empty slices
            if issparse(self.X[0:0]):
                return True
        return bool(issparse(self._found(slice(0, 1))))

    @cached_property
    def nnz(self) -> int:
        """The number of stored entries, from the store or estimated from some rows.

        A dense store raises AttributeError, as dense arrays do.
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
        """The number of adjacent rows to read at once, to get some of them."""
        if not self.sparse:
            return self.chunk
        entry = self.dtype.itemsize + np.dtype(np.int32).itemsize
        return max(self.chunk, GATHERED * len(self) // max(1, self.nnz * entry))

    def read(self, rows: slice, dtype: Any = None) -> Array:
        """Read adjacent rows into memory; mapped rows that need no conversion are not copied.

        Parameters
        ----------
        rows : slice
            The rows.
        dtype : dtype, default=None
            The dtype of the result. None keeps that of the store.

        Returns
        -------
        block : ndarray or CSR matrix of shape (b, n_features)
            The rows. A CSR matrix has sorted indices and no duplicates.

        Raises
        ------
        OSError
            If the rows cannot be read, are damaged, or have another shape. The message names them.
        ValueError
            If the rows are no array of real numbers, or are masked.
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
        with np.errstate(over="ignore"):  # `measure` finds an infinity
            if issparse(found):
                native = np.dtype(dtype or found.dtype).newbyteorder("=")
                return canonical(found.astype(native, copy=False))
            block = np.asarray(found, dtype=dtype, order="C")
        if self._map is not None and np.may_share_memory(block, found):
            _touch(block)
        return block

    def _found(self, rows: slice) -> Array:
        """Slice the store, and return an array or a sparse matrix; raise as `read` does."""
        place = _words(rows)
        try:
            if self._map is not None:
                _refuse_short_file(self.X, self._map)  # reading past its end crashes the process
            found = self.X[rows.start : rows.stop]
        except Exception as error:  # libraries raise many kinds
            raise OSError(f"{place} cannot be read: {error}") from error
        if np.ma.is_masked(found):
            raise ValueError(
                f"X must not be masked: {place} have masked entries. Fill or drop them."
            )
        if issparse(found):
            return found
        try:
            return np.asarray(found)
        except Exception as error:  # libraries raise many kinds
            raise ValueError(
                f"{place} must come as NumPy arrays or SciPy sparse matrices do; reading gave "
                f"{type(found).__module__}.{type(found).__qualname__}, with the error: {error}"
            ) from error

    def take(self, indices: np.ndarray, dtype: Any = None, near: int = 1) -> Array:
        """Read the rows with these indices into memory, one by one or by chunks of the store.

        Rows at a distance of at most `near` are read together, with the rows between them.
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
    """Make the system read the pages of a mapped array; a copy would take twice as long."""
    A.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()


def _chunk_rows(X: Any) -> int:
    """Return the number of rows in a chunk of the store; 1 if it has no chunks."""
    first = (getattr(X, "chunks", None) or (1,))[0]
    return int(first) if isinstance(first, Integral) else 1


def _map_below(X: Any) -> mmap.mmap | None:
    """Return the memory map below an array, or None."""
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
            "are left. Open the file again."
        )


class StoredRows(Rows):
    """The rows of a `Store`, read ahead; a large W lies in a temporary file."""

    def __init__(self, X: Store, *args: Any, **kwargs: Any) -> None:
        super().__init__(X, *args, **kwargs)
        size = max(1, self.stored * np.dtype(self.dtype).itemsize // len(self))  # of a row
        step = self.slices[0].stop
        read = whole_chunks(step, X.chunk, MOST_READ // size)
        step = math.ceil(read / math.ceil(read / step))  # blocks of about equal size in a read
        self._reads = [cut(at.start, at.stop, step) for at in cut(0, len(self), read)]
        self.slices = [rows for read in self._reads for rows in read]

    def _raw(self, rows: slice) -> Array:
        if self.members is None:
            return self.X.read(rows, self.dtype)
        return self.X.take(self.members[rows], self.dtype, NEAR)

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[tuple[Rows, Any]]:
        """Yield batches of adjacent rows, with their slices, in random order."""
        places = cut(0, len(self), whole_chunks(size, self.X.chunk, size))
        return ((self.part(places[i]), places[i]) for i in rng.permutation(len(places)))

    def _taken(self, indices: np.ndarray) -> Array:
        return self.X.take(self.places(indices), self.dtype)

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
        block = data if rows == place else data[within]  # a slice of sparse rows is a copy
        return self._times_factors(self._prepared(block), rows)


def whole_chunks(step: int, chunk: int, most: int) -> int:
    """Return the number of rows for one read: about `step`, in whole chunks of at most `most`."""
    if chunk <= step:
        return step // chunk * chunk
    return chunk if chunk <= most else step
