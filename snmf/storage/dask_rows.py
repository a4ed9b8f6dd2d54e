"""Rows on a Dask cluster: `ChunkedRows` has the methods of `snmf.storage.rows.Rows`.

The chunks of X and the parts of W stay on the workers, and only sums travel.

When a worker dies, Dask repeats the tasks that made the lost results. The tasks of W are as many as
the passes so far, and Dask must keep them all.  To let Dask forget them, every `CUT` passes a task
finds its part of W in the memory of its process, and not through Dask.  A part that is lost after
this is computed again in one task, which repeats all passes since the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask import delayed
from scipy.sparse import issparse, vstack

from snmf.storage.dask_cluster import client_in_use, literal, results, shared_out
from snmf.storage.dask_tasks import (
    Factored,
    Held,
    Pass,
    Site,
    passed,
    passed_in_place,
    replayed,
    sums_of,
    threads_of_task,
)  # fmt: skip
from snmf.storage.rows import Rows, Views, working_dtype
from snmf.storage.threads import BLAS

Array = Any
Delayed = Any

CUT = 16  # passes after which Dask forgets the tasks that made W
TOGETHER = 32  # chunks whose parts come to this process at a time


class Link(NamedTuple):
    """A pass, and its arguments after the first: the parts other than W."""

    step: Pass
    beside: tuple[Parts, ...]


@dataclass(frozen=True)
class Parts:
    """The parts of W (or another array with one row per row of X), and how they were made.

    Attributes
    ----------
    held : list of Delayed
        The results of the last pass, a `Held` per chunk.
    names : list of str
        The names of these results.
    start : list of Delayed
        The results before the first pass, kept to repeat the passes.
    links : list of Link
        The passes since the start.
    uncut : int
        The number of these passes whose tasks Dask still keeps.
    """

    held: list[Delayed]
    names: list[str]
    start: list[Delayed]
    links: list[Link]
    uncut: int = 0

    def __reduce__(self) -> Any:
        return type(None), ()  # functions that are sent to workers may refer to parts, unused


class Outline(NamedTuple):
    """A small stand-in for `ChunkedRows` in functions that are sent to workers."""

    backend: Any
    shape: tuple[int, int]
    dtype: str


class ChunkedRows(Views):
    """The rows of a Dask array, with the methods of `snmf.storage.rows.Rows`.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
        The data, with known chunk sizes, and one chunk wide.
    site : Site
        How a worker makes rows of a chunk.
    chunks : list of Delayed, default=None
        The chunks that have rows, as arguments for tasks. None takes them from X.
    members : ndarray of int, default=None
        The indices of these rows in another array, from which they were selected.
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

    @contextmanager
    def threads(self, n_jobs: int | None) -> Iterator[ChunkedRows]:
        """Yield these rows, with n_jobs threads per task, and BLAS here held to one thread."""
        with BLAS:
            yield self._with(n_jobs=threads_of_task(n_jobs))

    @property
    def divisors(self) -> np.ndarray | None:
        """What every column is divided by."""
        return self.site.divisors

    def times(self, factors: np.ndarray | None) -> ChunkedRows:
        """Return the same rows, each multiplied by its factor."""
        if factors is None:
            return self
        chunks = [
            delayed(Factored)(chunk, factors[place])
            for chunk, place in zip(self._chunks, self.slices, strict=True)
        ]
        return ChunkedRows(self.X, self.site, chunks, self.members)

    def only(self, members: np.ndarray) -> ChunkedRows:
        """Return some of these rows, in their order; each worker selects from its chunks."""
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

    def _with(self, **changes: Any) -> Self:
        return type(self)(self.X, replace(self.site, **changes), self._chunks, self.members)

    def over(self, A: np.ndarray) -> Rows:
        """Return the rows of a host array, in this process."""
        return Rows(self.backend.asarray(A, self.dtype), self.backend)

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: Parts | None
    ) -> tuple[Parts, list[Any]]:
        """Map a function over the blocks: see `snmf.storage.rows.Rows.map_sum`."""
        step, names = Pass(self.site, function), self._names()
        given = tuple(parts for parts in row_wise if parts is not None)
        held, sums, cut = self._made(step, names, given)
        if given and client_in_use():
            before, *beside = given
            links = [*before.links, Link(step, tuple(beside))]
            parts = Parts(held, names, before.start, links, 1 if cut else before.uncut + 1)
        else:
            parts = Parts(held, names, held, [])
        totals = [sum(terms[1:], start=terms[0]) for terms in zip(*sums, strict=True)]
        return parts, [self.backend.algebra.asarray(total, "float64") for total in totals]

    def _made(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...]
    ) -> tuple[list[Delayed], list[Any], bool]:
        """Make a pass; return its results, its sums, and whether Dask can forget the past.

        If inputs are lost, the next way is tried: first in the memory of the worker, then through
        Dask, then by repeating all passes.
        """
        held: list[Delayed] = [None] * len(names)
        sums: list[Any] = [None] * len(names)

        def make(way: Callable[..., list[Delayed]]) -> bool:
            lost = [i for i, terms in enumerate(sums) if terms is None]
            tasks = way(step, names, row_wise, lost) if lost else []
            started = dask.persist(*tasks, *map(delayed(sums_of), tasks))
            found = results(started[len(tasks) :])
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
        (work,) = dask.persist(literal(step))  # else Dask would tie it to one worker
        (before, *others), tasks = row_wise, []
        for i, (worker, moves) in zip(some, shared_out(before.held), strict=True):
            beside = [parts.held[i] for parts in others]
            with dask.annotate(workers=[worker], allow_other_workers=True):
                function, found = (
                    (passed, before.held[i]) if moves else (passed_in_place, before.names[i])
                )
                task = delayed(function)(work, names[i], self._chunks[i], found, *beside)
            tasks.append(task)
        return tasks

    def _given(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...], some: list[int]
    ) -> list[Delayed]:
        work = literal(step)
        return [
            delayed(passed)(work, names[i], self._chunks[i], *(parts.held[i] for parts in row_wise))
            for i in some
        ]

    def _replay(
        self, step: Pass, names: list[str], row_wise: tuple[Parts, ...], some: list[int]
    ) -> list[Delayed]:
        before, *others = row_wise
        links = [*before.links, Link(step, tuple(others))]
        work = literal([link.step for link in links])
        return [
            delayed(replayed)(
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
        """Map a function over the parts, without the rows of X; return the new parts."""
        return self.map_sum(lambda X, *parts: (function(*parts), ()), *row_wise)[0]

    def made(self, of_rows: Callable[[slice], np.ndarray]) -> Parts:
        """Make every part from the host array `of_rows(rows)`, in the order of the rows."""
        return self._started(self.site.split, [(of_rows(place),) for place in self.slices])

    def uniform(self, rng: np.random.RandomState, columns: int, low: float) -> Parts:
        """Draw parts with this many columns, uniform between low and low + 1.

        The workers draw the same numbers as `rng` would in this process.
        """
        given = []
        for place in self.slices:
            given.append((deepcopy(rng), columns, low))
            rng.random_sample((place.stop - place.start, columns))
        return self._started(self.site.uniform, given)

    def to_host(self, parts: Parts) -> Iterator[Any]:
        """Yield the parts of the blocks one after the other, as arrays of the host."""
        tasks = list(map(delayed(self.site.to_host), self._chunks, parts.held))
        for start in range(0, len(tasks), TOGETHER):
            for of_chunk in results(tasks[start : start + TOGETHER]):
                yield from of_chunk

    def join(self, parts: Parts) -> Any:
        """Join the parts into one Dask array, in the library and with the chunks of X."""
        name, left = f"snmf-{uuid4().hex}", iter(zip(self._chunks, parts.held, strict=True))
        arrays = dask.persist(*(
            delayed(self.site.join)(*next(left), dask_key_name=(name, i, 0))
            for i, size in enumerate(self.X.chunks[0]) if size
        ))  # fmt: skip
        width = results([delayed(np.shape)(arrays[0])])[0][1]
        empty = self.site.source.asarray(np.empty((0, width)), self.dtype)
        graph = {(name, i, 0): empty for i, size in enumerate(self.X.chunks[0]) if not size}
        for array in arrays:
            graph.update(array.dask)
        return da.Array(graph, name, (self.X.chunks[0], (width,)), meta=empty)

    def block(self, place: slice) -> Array:
        """Return a block of rows in this process, as `Rows.block` does."""
        return self.backend.asarray(self.take(np.arange(place.start, place.stop)), self.dtype)

    def take(self, indices: np.ndarray) -> Any:
        """Return some rows in their order, prepared as blocks are, on the host."""
        starts = [place.start for place in self.slices]
        each = np.split(indices, np.searchsorted(indices, starts[1:]))
        chosen = [
            delayed(self.site.take)(chunk, of_chunk - start)
            for chunk, of_chunk, start in zip(self._chunks, each, starts, strict=True)
            if len(of_chunk)
        ]
        found = results(chosen)
        return vstack(found, "csr") if issparse(found[0]) else np.concatenate(found)


def _chosen(source: Any, chunk: Array, chosen: np.ndarray) -> Array:
    return source.take(source.check(chunk), np.flatnonzero(chosen))
