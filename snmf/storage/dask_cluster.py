"""Dask's scheduler: what it computes, and which worker holds what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dask
from dask import delayed
from dask.base import get_scheduler

Delayed = Any

PATIENCE = 300  # seconds without a result, after which the cluster is asked for its workers


def literal(value: Any) -> Delayed:
    """The value as a task of its own: it is sent once, and again by Dask where it is lost."""
    return delayed(value, pure=False, traverse=False)


def client_in_use() -> Any:
    """The client of dask.distributed that tasks go to, or None."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "who_has") else None


def results(tasks: Iterable[Delayed]) -> list[Any]:
    """What the tasks return, here.

    Raises
    ------
    RuntimeError
        If there has been no worker for `PATIENCE` seconds.
    """
    client = client_in_use()
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


def shared_out(held: list[Delayed]) -> list[tuple[str, bool]]:
    """For each of them a worker, and whether it comes from another one.

    It is the one that holds it, but for workers that hold less than their share, as those that
    have joined: they get it from those that hold most.
    """
    from distributed import futures_of

    client, futures = client_in_use(), [future for one in held for future in futures_of(one)]
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
