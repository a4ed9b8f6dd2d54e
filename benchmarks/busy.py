"""A default fit while two other processes compute, ÷ the idle machine, from few rows to many.

tox -e benchmark -- busy [--data FILE] [--before FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import QUIET, Call, components, load, parser, table, timed
from joblib import effective_n_jobs

ROWS = (100, 2_000, 8_000, 20_000)
NEIGHBOURS = 2
LONG = 0.1  # seconds of one timing, so that it is longer than the turns of a scheduler


@contextmanager
def neighbours() -> Iterator[Any]:
    """Other processes: each keeps a core busy while the event that is given is set."""
    context = get_context("spawn")
    ready, busy, over = context.Barrier(NEIGHBOURS + 1), context.Event(), context.Event()
    processes = [
        context.Process(target=keep_a_core_busy, args=(ready, busy, over), daemon=True)
        for _ in range(NEIGHBOURS)
    ]
    for process in processes:
        process.start()
    ready.wait()
    yield busy
    over.set()
    busy.set()
    for process in processes:
        process.join()


def keep_a_core_busy(ready: Any, busy: Any, over: Any) -> None:
    ready.wait()
    while busy.wait() and not over.is_set():
        for _ in range(100_000):
            pass


@contextmanager
def fits(arguments: argparse.Namespace, source: Path | None) -> Iterator[Any]:
    """A call that gives the seconds of a fit in a process with that source of snmf, or this."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, arguments, source), daemon=True)
    process.start()
    theirs.close()

    def fit(*given: Any) -> float:
        ours.send(given)
        return float(ours.recv())

    yield fit
    ours.send(None)
    process.join()


def serve(connection: Any, arguments: argparse.Namespace, source: Path | None) -> None:
    """In that process: fit what is asked for, and answer with its seconds."""
    if source is not None:
        sys.path.insert(0, str(source))
    import snmf

    warnings.simplefilter("ignore")
    data, labels = load(arguments)
    k = components(labels)
    long = 0.0 if arguments.tiny else LONG
    while asked := connection.recv():
        rows, solver, n_jobs = asked
        X = data[:rows]
        fit = partial(snmf.factorize, X, k, solver=solver, n_jobs=n_jobs, **QUIET)
        connection.send(seconds(fit, long))


def seconds(call: Call, long: float) -> float:
    """Those of one call, of as many as take so long together."""
    times = [timed(call)[1]]
    while sum(times) < long:
        times.append(timed(call)[1])
    return sum(times) / len(times)


def lines(
    sizes: list[int], busy: Any, rounds: int, now: Any, before: Any
) -> Iterator[tuple[Any, ...]]:
    for solver in ("mu", "hals"):
        for rows in sizes:
            for n_jobs in dict.fromkeys((None, 1, 2)):
                asked = rows, solver, n_jobs
                times = []
                for round_ in range(rounds + 1):
                    idle, earlier = now(*asked), before(*asked) if before else np.nan
                    busy.set()
                    time.sleep(0.02)
                    loaded = now(*asked)
                    busy.clear()
                    time.sleep(0.02)
                    if round_:  # the first is free
                        times.append((idle, loaded, earlier))
                idle, loaded, earlier = map(float, np.median(times, axis=0))
                yield (
                    f"{solver}, {rows} rows, n_jobs={n_jobs}", idle, loaded, loaded / idle,
                    *((earlier, idle / earlier) if before else (None, None)),
                )  # fmt: skip


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--before", type=Path, help="the source of another version of snmf")
    arguments = words.parse_args()
    X, labels = load(arguments)
    sizes = [rows for rows in ROWS if rows < len(X)] + [min(len(X), ROWS[-1])]
    with ExitStack() as stack:
        busy = stack.enter_context(neighbours())
        now = stack.enter_context(fits(arguments, None))
        before = arguments.before and stack.enter_context(fits(arguments, arguments.before))
        table(
            f"{X.shape[1]} features, k = {components(labels)}, {effective_n_jobs(-1)} cores, "
            f"{NEIGHBOURS} other processes",
            ["fit s", "busy s", "÷ idle", "before s", "÷ before"],
            lines(sizes, busy, 1 if arguments.tiny else 7, now, before),
            first=32,
        )


if __name__ == "__main__":
    main()
