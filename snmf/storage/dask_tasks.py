"""The tasks of a Dask worker: they map a function over the blocks of a chunk of X.

A pass is one task per chunk.  The task gets the chunk, its part of W, and the function of the pass,
which contains H.  The new part of W stays on the worker, and the sums over the rows return to the
caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from snmf.storage.rows import Rows, RowWise

Array = Any


class Held:
    """The result of a pass over a chunk, which stays on the worker.

    Parameters
    ----------
    name : str
        The key under which later tasks find it in the process that made it.
    parts : sequence of arrays or None
        The parts, block by block. None if their inputs are lost.
    sums : list of ndarrays or None
        The sums, which return to the caller. None if the inputs are lost.
    """

    def __init__(self, name: str, parts: RowWise | None, sums: list[Any] | None) -> None:
        self.parts, self.sums = parts, sums
        if parts is not None:
            _found[name] = self

    def __sizeof__(self) -> int:  # Dask uses this to balance memory
        return 1000 + sum(getattr(part, "nbytes", 0) for part in self.parts or [])


_found: WeakValueDictionary[str, Held] = WeakValueDictionary()  # the results in this process
LOST = Held("", None, None)


class Factored(NamedTuple):
    """A chunk, and the factors of its rows."""

    chunk: Array
    factors: np.ndarray


@dataclass(frozen=True)
class Site:
    """How a worker makes `snmf.storage.rows.Rows` of a chunk, and the tasks on these rows.

    Parameters
    ----------
    source : Backend
        The backend that the chunk is an array of.
    backend : Backend
        Does the arithmetic.
    exponent : int, default=0
        Multiplies the rows by 2 ** -exponent.
    divisors : ndarray of shape (n_features,), default=None
        Divides every column by its divisor.
    fill : ndarray of shape (n_features,), default=None
        Replaces NaN in every column by this value.
    n_jobs : int, default=1
        The number of threads in a task.
    """

    source: Any
    backend: Any
    exponent: int = 0
    divisors: np.ndarray | None = None
    fill: np.ndarray | None = None
    n_jobs: int = 1

    @contextmanager
    def rows(self, chunk: Array) -> Iterator[Rows]:
        """Yield the rows of a chunk, in blocks."""
        chunk, factors = chunk if isinstance(chunk, Factored) else (chunk, None)
        if isinstance(chunk, np.memmap):
            chunk = np.asarray(chunk)  # small enough that its part of W can stay in memory
        with self.backend.active():
            rows = self.source.rows(self.source.check(chunk), self.backend)
            rows = rows.scaled(self.exponent).divided(self.divisors)
            rows = rows.filled(self.fill).times(factors)
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
    """A pass: it maps `function` over the blocks of a chunk, as `Rows.map_sum` does."""

    site: Site
    function: Callable[..., tuple[Any, Any]]

    def __call__(self, name: str, chunk: Array, *row_wise: Held) -> Held:
        given = [held.parts for held in row_wise if held.parts is not None]
        if len(given) < len(row_wise):
            return LOST
        with self.site.rows(chunk) as rows:
            parts, sums = rows.map_sum(self.function, *given)
        return Held(name, parts, sums)


def passed(step: Pass, name: str, chunk: Array, *row_wise: Held) -> Held:
    """Make a pass over a chunk, as a task."""
    return step(name, chunk, *row_wise)


def passed_in_place(step: Pass, name: str, chunk: Array, before: str, *beside: Held) -> Held:
    """Make a pass over a chunk; find the result `before` in this process, not through Dask."""
    return step(name, chunk, _found.get(before, LOST), *beside)


def replayed(steps: list[Pass], name: str, chunk: Array, held: Held, *beside: list[Held]) -> Held:
    """Make several passes over a chunk in one task."""
    for step, others in zip(steps, beside, strict=True):
        held = step(name, chunk, held, *others)
    return held


def sums_of(held: Held) -> list[Any] | None:
    """Return the sums of a result, as a task."""
    return held.sums


def threads_of_task(n_jobs: int | None) -> int:
    """Return the number of threads in a task: None is 1, since Dask runs a task per thread."""
    return 1 if n_jobs is None else n_jobs
