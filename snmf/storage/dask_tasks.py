"""What a worker does with a chunk of X: it maps functions over its blocks, as on one machine.

A pass is one task for every chunk.  It is given the chunk, its part of W, and the function of the
pass with H in it; the new part of W stays with the worker, and what is added up over the rows comes
back.
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

    source: Any
    backend: Any
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


def passed(step: Pass, name: str, chunk: Array, *row_wise: Held) -> Held:
    """A pass over a chunk, as a task."""
    return step(name, chunk, *row_wise)


def passed_in_place(step: Pass, name: str, chunk: Array, before: str, *beside: Held) -> Held:
    """Likewise; what was left before is looked for in this process."""
    return step(name, chunk, _found.get(before, LOST), *beside)


def replayed(steps: list[Pass], name: str, chunk: Array, held: Held, *beside: list[Held]) -> Held:
    """Many passes over a chunk, in one task."""
    for step, others in zip(steps, beside, strict=True):
        held = step(name, chunk, held, *others)
    return held


def sums_of(held: Held) -> list[Any] | None:
    """What of it comes back."""
    return held.sums


def threads_of_task(n_jobs: int | None) -> int:
    """None is one: Dask runs as many tasks side by side as there are threads."""
    return 1 if n_jobs is None else n_jobs
