"""Rows on a Dask cluster: the chunks of X where they lie, W beside them, and the sums that travel.

The other axis: not which library does the arithmetic, but where the rows are.  A pass is one task
for every chunk of X.  It is given the chunk, its part of W, and the function of the pass with H in
it; it maps that over the blocks of the chunk as `snmf.storage.rows.Rows` does; the new part of W
stays with the worker, and what is added up over the rows comes back.

When a worker dies, Dask makes anew what was lost, from the tasks that made it, and W is made by as
many as there were passes.  So that they can be forgotten, every `CUT` passes a task looks for its
part of W in the memory of its process in place of asking Dask for it.  What is lost after that is
replayed, in one task, from the start through the functions of all passes since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

import dask
import dask.array as da
import numpy as np
from dask import delayed
from dask.base import get_scheduler
from scipy.sparse import issparse, vstack

from snmf.backends import Backend, adapter
from snmf.storage.entries import numbers, refuse_others
from snmf.storage.rows import NotFiniteError, Rows, RowWise, working_dtype
from snmf.storage.threads import BLAS

Array = Any
Delayed = Any

CUT = 16  # passes after which the tasks that made W are forgotten
TOGETHER = 32  # chunks whose row-wise parts come to this process at a time
PATIENCE = 300  # seconds without a result, after which the cluster is asked for its workers


class Adapter(Backend):
    """The owner of Dask arrays and DataFrames, the chunks of which are arrays of a library.

    Parameters
    ----------
    chunks : Backend
        The owner of the chunks.
    """

    def __init__(self, chunks: Backend) -> None:
        super().__init__("dask.array")
        self.chunks = chunks

    @property
    def name(self) -> str:
        return self.chunks.name

    @property
    def home(self) -> Backend:
        return adapter("numpy")

    def on(self, device: Any) -> Backend:
        return self.chunks.on(device)

    def check(self, X: Any) -> Any:
        if hasattr(X, "to_dask_array"):
            X = X.to_dask_array()
        if not isinstance(X, da.Array):
            raise ValueError(f"X must be a Dask array or DataFrame; got {type(X).__name__}")
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got an array of {X.ndim} dimensions instead")
        if X.dtype.kind == "c":
            raise ValueError("Complex data not supported")
        if X.dtype.kind == "O":
            X = X.map_blocks(_numbers, dtype="float64", meta=np.empty((0, 0)))
        refuse_others(X)
        return X if len(X.chunks[1]) == 1 else X.rechunk({1: -1})

    def outline(self, X: Any) -> Any:
        return X._meta if hasattr(X, "to_dask_array") else X

    def sized(self, X: Any) -> Any:
        if np.isnan(X.shape[0]):
            X = copy(X).compute_chunk_sizes()
        for count, name in zip(X.shape, ("sample", "feature"), strict=True):
            if not count:
                raise ValueError(
                    f"Found array with 0 {name}(s) (shape={X.shape}) while a minimum of 1 is "
                    "required"
                )
        return X

    def rows(self, X: Any, backend: Backend | None = None) -> Any:
        return ChunkedRows(X, Site(self.chunks, backend or self.chunks))

    def threads_of_call(self, n_jobs: int | None) -> int | None:
        return _threads_of_task(n_jobs)

    def map_rows(self, function: Callable[..., Array], X: Any, width: int) -> Any:
        empty = self.chunks.asarray(np.empty((0, width)), working_dtype(X.dtype))
        return X.map_blocks(
            _of_chunk,
            partial(function, source=self.chunks),
            empty,
            chunks=(X.chunks[0], (width,)),
            meta=empty,
            dtype=empty.dtype,
        )

    def asarray(self, A: Any, dtype: str | None = None) -> Any:
        return A.astype(dtype or A.dtype) if isinstance(A, da.Array) else np.asarray(A, dtype)

    def bring(self, A: Any, source: Backend) -> Any:
        return A  # rows come as Dask arrays, and H from NumPy

    def to_host(self, A: Any) -> np.ndarray:
        return A if isinstance(A, np.ndarray) else self.chunks.to_host(A.compute())

    def take(self, A: Any, indices: np.ndarray) -> Any:
        return A[indices]

    def matmul(self, A: Any, B: np.ndarray) -> Any:
        return A.map_blocks(
            _product, self.chunks, B, chunks=(A.chunks[0], (B.shape[1],)), meta=A._meta
        )


def _threads_of_task(n_jobs: int | None) -> int:
    """None is one: Dask runs as many tasks side by side as there are threads."""
    return 1 if n_jobs is None else n_jobs


def _numbers(chunk: Array, block_info: Any = None) -> np.ndarray:
    start = block_info[0]["array-location"][0][0]
    return numbers(np.asarray(chunk), 0 if np.isnan(start) else int(start))


def _of_chunk(
    chunk: Array, function: Callable[[Array], Array], empty: Array, block_info: Any = None
) -> Array:
    if not chunk.shape[0]:
        return empty
    try:
        return function(chunk)
    except NotFiniteError as error:
        start = block_info[0]["array-location"][0][0]
        if np.isnan(start):  # then the row is that of the chunk
            raise
        raise NotFiniteError(int(start) + error.row, error.column, error.value) from None


def _chosen(source: Backend, chunk: Array, chosen: np.ndarray) -> Array:
    return source.take(source.check(chunk), np.flatnonzero(chosen))


def _product(chunk: Array, ops: Backend, B: np.ndarray) -> Array:
    return ops.matmul(chunk, ops.asarray(B))


# What workers do


class Held:
    """What a pass leaves with a worker.

    Parameters
    ----------
    name : str
        By which it is found in the process that made it.
    parts : sequence of arrays or None
        Block by block; None if what they were to be made of is lost.
    sums : list of ndarrays or None
        What comes back.
    """

    def __init__(self, name: str, parts: RowWise | None, sums: list[Any] | None) -> None:
        self.parts, self.sums = parts, sums
        if parts is not None:
            _found[name] = self

    def __sizeof__(self) -> int:  # Dask asks, where it weighs what lies where
        return 1000 + sum(getattr(part, "nbytes", 0) for part in self.parts or [])


_found: WeakValueDictionary[str, Held] = WeakValueDictionary()  # what Dask holds in this process
LOST = Held("", None, None)


class Factored(NamedTuple):
    """A chunk, and the factors of its rows."""

    chunk: Array
    factors: np.ndarray


@dataclass(frozen=True)
class Site:
    """What is done with a chunk on a worker, by `snmf.storage.rows.Rows`.

    Parameters
    ----------
    source : Backend
        The owner of the chunk.
    backend : Backend
        Does the arithmetic.
    exponent : int, default=0
        Rows come multiplied by 2 ** -exponent.
    fill : ndarray of shape (n_features,), default=None
        What stands for NaN, column by column.
    n_jobs : int, default=1
        Threads in the task.
    """

    source: Backend
    backend: Backend
    exponent: int = 0
    fill: np.ndarray | None = None
    n_jobs: int = 1

    @contextmanager
    def rows(self, chunk: Array) -> Iterator[Rows]:
        """The rows of a chunk, in blocks."""
        chunk, factors = chunk if isinstance(chunk, Factored) else (chunk, None)
        if isinstance(chunk, np.memmap):
            chunk = np.asarray(chunk)  # one chunk of the file: what is made of it stays in memory
        with self.backend.active():
            rows = self.source.rows(self.source.check(chunk), self.backend)
            rows = rows.scaled(self.exponent).filled(self.fill).times(factors)
            with rows.threads(self.n_jobs) as threaded:
                yield threaded

    def split(self, name: str, chunk: Array, A: np.ndarray) -> Held:
        with self.rows(chunk) as rows:
            return Held(name, rows.split(A), [])

    def uniform(self, name: str, chunk: Array, rng: Any, columns: int, low: float) -> Held:
        with self.rows(chunk) as rows:
            return Held(name, rows.uniform(deepcopy(rng), columns, low), [])

    def take(self, chunk: Array, indices: np.ndarray) -> Any:
        with self.rows(chunk) as rows:
            return rows.take(indices)

    def to_host(self, chunk: Array, held: Held) -> list[Any]:
        with self.rows(chunk) as rows:
            return list(rows.to_host(held.parts or []))

    def join(self, chunk: Array, held: Held) -> Array:
        with self.rows(chunk) as rows:
            return self.source.bring(rows.join(held.parts or []), self.backend)


@dataclass(frozen=True)
class Pass:
    """What is done with every chunk: `function`, mapped over its blocks as by `Rows.map_sum`."""

    site: Site
    function: Callable[..., tuple[Any, Any]]

    def __call__(self, name: str, chunk: Array, *row_wise: Held) -> Held:
        given = [held.parts for held in row_wise if held.parts is not None]
        if len(given) < len(row_wise):
            return LOST
        with self.site.rows(chunk) as rows:
            parts, sums = rows.map_sum(self.function, *given)
        to_host = self.site.backend.algebra.to_host
        return Held(name, parts, [to_host(term) for term in sums])


def _passed(step: Pass, name: str, chunk: Array, *row_wise: Held) -> Held:
    return step(name, chunk, *row_wise)


def _passed_in_place(step: Pass, name: str, chunk: Array, before: str, *beside: Held) -> Held:
    return step(name, chunk, _found.get(before, LOST), *beside)


def _replayed(steps: list[Pass], name: str, chunk: Array, held: Held, *beside: list[Held]) -> Held:
    for step, others in zip(steps, beside, strict=True):
        held = step(name, chunk, held, *others)
    return held


def _sums(held: Held) -> list[Any] | None:
    return held.sums


# What they are told


class Link(NamedTuple):
    """A pass, and what it was given beside the row-wise parts that it continues."""

    step: Pass
    beside: tuple[Parts, ...]


@dataclass(frozen=True)
class Parts:
    """What is row-wise, a `Held` for every chunk, and what it came from.

    Attributes
    ----------
    held : list of Delayed
        On the workers.
    names : list of str
        Theirs.
    start : list of Delayed
        The beginning of the chain, held as long as it is.
    links : list of Link
        The chain since, pass by pass.
    uncut : int
        How many of its passes Dask has not forgotten.
    """

    held: list[Delayed]
    names: list[str]
    start: list[Delayed]
    links: list[Link]
    uncut: int = 0

    def __reduce__(self) -> Any:
        return type(None), ()  # a function that is sent may know of them, and has no use for them


class Outline(NamedTuple):
    """What of `ChunkedRows` goes with a function that is sent."""

    backend: Backend
    shape: tuple[int, int]
    dtype: str


class ChunkedRows:
    """The rows of a Dask array: what `storage.rows.Rows` is for an array, with the same methods.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
        Of known chunk sizes, and one chunk wide.
    site : Site
        What is done with a chunk.
    chunks : list of Delayed, default=None
        Those of X that have rows, as they are given to tasks.
    members : ndarray of int, default=None
        Which rows of another array these were.
    """

    def __init__(
        self,
        X: Any,
        site: Site,
        chunks: list[Delayed] | None = None,
        members: np.ndarray | None = None,
    ) -> None:
        self.X, self.site, self.backend, self.members = X, site, site.backend, members
        self.shape: tuple[int, int] = X.shape
        self.dtype = min(working_dtype(X.dtype), self.backend.widest)
        self.stored = X.shape[0] * X.shape[1]
        ends = np.cumsum(X.chunks[0]).tolist()
        places = [slice(end - size, end) for end, size in zip(ends, X.chunks[0], strict=True)]
        self.slices = [place for place in places if place.start < place.stop]
        if chunks is None:
            every = zip(X.to_delayed()[:, 0], X.chunks[0], strict=True)
            chunks = [chunk for chunk, size in every if size]
        self._chunks = chunks

    def __reduce__(self) -> Any:
        return Outline, (self.backend, self.shape, self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @contextmanager
    def threads(self, n_jobs: int | None) -> Iterator[ChunkedRows]:
        """These rows, with n_jobs threads in every task, and BLAS in this process held to one."""
        with BLAS:
            yield self._at(n_jobs=_threads_of_task(n_jobs))

    def scaled(self, exponent: int) -> ChunkedRows:
        """The same rows multiplied by 2 ** -exponent."""
        return self._at(exponent=exponent)

    def filled(self, fill: np.ndarray | None) -> ChunkedRows:
        """The same rows, with one number a column in place of NaN."""
        return self._at(fill=fill)

    def times(self, factors: np.ndarray | None) -> ChunkedRows:
        """The same rows, each times its factor."""
        if factors is None:
            return self
        chunks = [
            delayed(Factored)(chunk, factors[place])
            for chunk, place in zip(self._chunks, self.slices, strict=True)
        ]
        return ChunkedRows(self.X, self.site, chunks, self.members)

    def only(self, members: np.ndarray) -> ChunkedRows:
        """Some of these rows, in their order, taken from every chunk where it lies."""
        chosen = np.zeros((len(self), 1), dtype=bool)
        chosen[members] = True
        sizes = self.X.chunks[0]
        each = np.split(chosen, np.cumsum(sizes)[:-1])
        X = da.map_blocks(
            partial(_chosen, self.site.source),
            self.X,
            da.from_array(chosen, chunks=(sizes, 1)),
            chunks=(tuple(int(part.sum()) for part in each), self.X.chunks[1]),
            dtype=self.X.dtype,
            meta=self.X._meta,
        )
        return ChunkedRows(X, self.site, members=self.places(members))

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Where these rows are in the array that they were chosen from."""
        return indices if self.members is None else self.members[indices]

    def _at(self, **changes: Any) -> ChunkedRows:
        return ChunkedRows(self.X, replace(self.site, **changes), self._chunks, self.members)

    def over(self, A: np.ndarray) -> Rows:
        """The rows of an array of the host, in this process."""
        return Rows(self.backend.asarray(A, self.dtype), self.backend)

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: Parts
    ) -> tuple[Parts, list[Any]]:
        """Map a function over the blocks: see `snmf.storage.rows.Rows.map_sum`."""
        step, names = Pass(self.site, function), self._names()
        held, sums, cut = self._made(step, names, row_wise)
        if row_wise and _client():
            before, *beside = row_wise
            links = [*before.links, Link(step, tuple(beside))]
            parts = Parts(held, names, before.start, links, 1 if cut else before.uncut + 1)
        else:
            parts = Parts(held, names, held, [])
        totals = [sum(terms[1:], start=terms[0]) for terms in zip(*sums, strict=True)]
        return parts, [self.backend.algebra.asarray(total, "float64") for total in totals]

    def _made(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...]
    ) -> tuple[list[Delayed], list[Any], bool]:
        """What a pass leaves on the workers, its sums, and whether its past can be forgotten.

        What is lost is asked for in another way: parts that were not found in place from Dask,
        and parts that Dask does not find either by a replay.
        """
        held: list[Delayed] = [None] * len(names)
        sums: list[Any] = [None] * len(names)

        def make(way: Callable[..., list[Delayed]]) -> bool:
            lost = [i for i, terms in enumerate(sums) if terms is None]
            tasks = way(step, names, row_wise, lost) if lost else []
            started = dask.persist(*tasks, *map(delayed(_sums), tasks))
            found = _results(started[len(tasks) :])
            for i, task, terms in zip(lost, started, found, strict=False):
                held[i], sums[i] = task, terms
            return None not in found

        cut = bool(row_wise) and row_wise[0].uncut >= CUT and make(self._in_place)
        if not make(self._given):
            make(self._replay)
        return held, sums, cut

    def _in_place(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...], some: list[int]
    ) -> list[Delayed]:
        (work,) = dask.persist(_literal(step))  # not to be bound to one of the workers
        (before, *others), tasks = row_wise, []
        for i, (worker, moves) in zip(some, _shared_out(before.held), strict=True):
            beside = [parts.held[i] for parts in others]
            with dask.annotate(workers=[worker], allow_other_workers=True):
                function, found = (
                    (_passed, before.held[i]) if moves else (_passed_in_place, before.names[i])
                )
                task = delayed(function)(work, names[i], self._chunks[i], found, *beside)
            tasks.append(task)
        return tasks

    def _given(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...], some: list[int]
    ) -> list[Delayed]:
        work = _literal(step)
        return [
            delayed(_passed)(
                work, names[i], self._chunks[i], *(parts.held[i] for parts in row_wise)
            )
            for i in some
        ]

    def _replay(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...], some: list[int]
    ) -> list[Delayed]:
        before, *others = row_wise
        links = [*before.links, Link(step, tuple(others))]
        work = _literal([link.step for link in links])
        return [
            delayed(_replayed)(
                work,
                names[i],
                self._chunks[i],
                before.start[i],
                *([parts.held[i] for parts in link.beside] for link in links),
            )
            for i in some
        ]

    def _names(self) -> list[str]:
        run = uuid4().hex
        return [f"{run}-{i}" for i in range(len(self._chunks))]

    def _started(self, function: Callable[..., Held], given: list[tuple[Any, ...]]) -> Parts:
        names = self._names()
        tasks = [
            delayed(function)(name, chunk, *values)
            for name, chunk, values in zip(names, self._chunks, given, strict=True)
        ]
        held = list(dask.persist(*tasks))
        return Parts(held, names, held, [])

    def each(self, function: Callable[..., Any], *row_wise: Parts) -> Parts:
        """Map a function over row-wise parts alone."""
        return self.map_sum(lambda X, *parts: (function(*parts), ()), *row_wise)[0]

    def split(self, A: np.ndarray) -> Parts:
        """A host array with a row for every row of X, as row-wise parts."""
        return self.made(lambda rows: A[rows, :])

    def made(self, of_rows: Callable[[slice], np.ndarray]) -> Parts:
        """Host arrays, made chunk by chunk in the order of the rows, as row-wise parts."""
        return self._started(self.site.split, [(of_rows(place),) for place in self.slices])

    def uniform(self, rng: np.random.RandomState, columns: int, low: float) -> Parts:
        """Columns drawn from the uniform distribution between low and low + 1, row-wise.

        Every chunk draws its own, as `rng` would have done.
        """
        given = []
        for place in self.slices:
            given.append((deepcopy(rng), columns, low))
            rng.random_sample((place.stop - place.start, columns))
        return self._started(self.site.uniform, given)

    def to_host(self, parts: Parts) -> Iterator[Any]:
        """What a function returned for the blocks, one after the other, as arrays of the host."""
        tasks = list(map(delayed(self.site.to_host), self._chunks, parts.held))
        for start in range(0, len(tasks), TOGETHER):
            for of_chunk in _results(tasks[start : start + TOGETHER]):
                yield from of_chunk

    def join(self, parts: Parts) -> Any:
        """Row-wise parts as one Dask array, in the library and with the chunks of X."""
        name, left = f"snmf-{uuid4().hex}", iter(zip(self._chunks, parts.held, strict=True))
        arrays = dask.persist(*(
            delayed(self.site.join)(*next(left), dask_key_name=(name, i, 0))
            for i, size in enumerate(self.X.chunks[0]) if size
        ))  # fmt: skip
        width = _results([delayed(np.shape)(arrays[0])])[0][1]
        empty = self.site.source.asarray(np.empty((0, width)), self.dtype)
        graph = {(name, i, 0): empty for i, size in enumerate(self.X.chunks[0]) if not size}
        for array in arrays:
            graph.update(array.dask)
        return da.Array(graph, name, (self.X.chunks[0], (width,)), meta=empty)

    def block(self, place: slice) -> Array:
        """Those rows: scaled, in working precision, in this process."""
        return self.backend.asarray(self.take(np.arange(place.start, place.stop)), self.dtype)

    def take(self, indices: np.ndarray) -> Any:
        """Some rows, in their order, prepared likewise, on the host."""
        starts = [place.start for place in self.slices]
        each = np.split(indices, np.searchsorted(indices, starts[1:]))
        chosen = [
            delayed(self.site.take)(chunk, of_chunk - start)
            for chunk, of_chunk, start in zip(self._chunks, each, starts, strict=True)
            if len(of_chunk)
        ]
        found = _results(chosen)
        return vstack(found, "csr") if issparse(found[0]) else np.concatenate(found)


def _literal(value: Any) -> Delayed:
    """The value as a task of its own: it is sent once, and again by Dask where it is lost."""
    return delayed(value, pure=False, traverse=False)


def _client() -> Any:
    """The client of dask.distributed that tasks go to, or None."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "who_has") else None


def _results(tasks: Iterable[Delayed]) -> list[Any]:
    """What the tasks return, here.

    Raises
    ------
    RuntimeError
        If there has been no worker for `PATIENCE` seconds.
    """
    client = _client()
    if not client:
        return list(dask.compute(*tasks))
    futures = client.compute(list(tasks))
    while not _done(futures):
        if not client.ncores():
            raise RuntimeError(
                f"The cluster {client.scheduler.address} has had no worker for {PATIENCE} seconds"
            )
    return list(client.gather(futures))


def _done(futures: list[Any]) -> bool:
    from distributed import wait

    try:
        wait(futures, PATIENCE)
    except TimeoutError:
        return False
    return True


def _shared_out(held: list[Delayed]) -> list[tuple[str, bool]]:
    """For each of them a worker, and whether it comes from another one.

    It is the one that holds it, but for workers that hold less than their share, as those that
    have joined: they get it from those that hold most.
    """
    from distributed import futures_of

    client, futures = _client(), [future for one in held for future in futures_of(one)]
    where, workers = client.who_has(futures), list(client.ncores())
    places = [next(iter(where[future.key]), workers[0]) for future in futures]
    holds: dict[str, list[int]] = {worker: [] for worker in {*workers, *places}}
    for i, place in enumerate(places):
        holds[place].append(i)
    for worker in workers:
        while len(holds[worker]) < len(held) // len(workers):
            i = max(holds.values(), key=len).pop()
            holds[worker].append(i)
    found = {i: worker for worker, some in holds.items() for i in some}
    return [(found[i], found[i] != place) for i, place in enumerate(places)]
