"""Calls to Dask's scheduler: compute tasks, and assign chunks to workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dask
from dask import delayed
from dask.base import get_scheduler

Delayed = Any

PATIENCE = 300  # seconds without a result, after which `results` checks that there is a worker


def literal(value: Any) -> Delayed:
    """Return the value as a task, so that Dask sends it once, and again only if it is lost."""
    return delayed(value, pure=False, traverse=False)


def client_in_use() -> Any:
    """Return the client of dask.distributed in use, or None."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "who_has") else None


def results(tasks: Iterable[Delayed]) -> list[Any]:
    """Compute the tasks, and return their results in this process.

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
                f"The cluster {client.scheduler.address} has had no worker for {PATIENCE} seconds. "
                "Start a worker, and call again."
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
    """Assign every task to a worker; return (worker, whether the result moves there) for each.

    A result stays with the worker that holds it. A worker that holds less than its share, such as
    a new one, gets results from those that hold most.
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
