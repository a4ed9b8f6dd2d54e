"""A fit, and a pass, while another process keeps one core busy, ÷ the idle machine.

tox -e benchmark -- busy [--data FILE]
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from common import QUIET, Call, a_pass, components, load, parser, table, timed
from joblib import effective_n_jobs

PASSES = 10  # in one timing, so that it is longer than the turns of a scheduler


@contextmanager
def neighbour() -> Iterator[Any]:
    """Another process: it keeps a core busy while the event that is given is set."""
    context = get_context("spawn")
    ready, busy = context.Event(), context.Event()
    process = context.Process(target=keep_a_core_busy, args=(ready, busy), daemon=True)
    process.start()
    ready.wait()
    yield busy
    process.terminate()
    process.join()


def keep_a_core_busy(ready: Any, busy: Any) -> None:
    ready.set()
    while busy.wait():
        for _ in range(100_000):
            pass


def idle_and_busy(call: Call, busy: Any, rounds: int) -> tuple[float, float]:
    """Median seconds without and with the neighbour, in turn."""
    call()
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds):
        idle = timed(call)[1]
        busy.set()
        time.sleep(0.02)
        seconds.append((idle, timed(call)[1]))
        busy.clear()
        time.sleep(0.02)
    idle, loaded = np.median(seconds, axis=0)
    return float(idle), float(loaded)


def lines(X: np.ndarray, k: int, busy: Any, rounds: int) -> Iterator[tuple[Any, ...]]:
    import snmf

    for solver in ("mu", "hals"):
        for n_jobs in dict.fromkeys((None, 1, 2, effective_n_jobs(-1))):
            fit = partial(snmf.factorize, X, k, solver=solver, n_jobs=n_jobs, **QUIET)
            idle, loaded = idle_and_busy(fit, busy, rounds)
            with a_pass(X, k, solver, n_jobs=n_jobs) as one:

                def passes(one: Call = one) -> None:
                    for _ in range(PASSES):
                        one()

                of_passes = idle_and_busy(passes, busy, rounds)
            idle_ms, busy_ms = (1000 * seconds / PASSES for seconds in of_passes)
            yield (
                f"{solver}, n_jobs={n_jobs}", idle, loaded, loaded / idle,
                idle_ms, busy_ms, busy_ms / idle_ms,
            )  # fmt: skip


def main() -> None:
    arguments = parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    X, labels = load(arguments)
    k = components(labels)
    with neighbour() as busy:
        table(
            f"{X.shape[0]} × {X.shape[1]}, k = {k}, {effective_n_jobs(-1)} cores, one of them busy",
            ["fit s", "busy s", "÷ idle", "pass ms", "busy ms", "÷ idle"],
            lines(X, k, busy, 2 if arguments.tiny else 7),
        )


if __name__ == "__main__":
    main()
