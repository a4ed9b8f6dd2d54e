"""Rows on a Dask cluster: two workers against one, what travels, and the loss in memory.

Every worker is a process with one thread. With two cores that nothing else uses:
python benchmarks/cluster.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
from common import QUIET, parser
from distributed import Client, LocalCluster
from distributed.comm import tcp

import snmf

FEATURES, COMPONENTS = 128, 20
OPTIONS = {"n_components": COMPONENTS, "init": "random", "tol": 0, **QUIET}


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made,
        Client(made),
    ):  # fmt: skip
        yield


def block(n: int, dtype: str, block_id: Any = None) -> np.ndarray:
    H = np.random.default_rng(0).standard_normal((COMPONENTS, FEATURES), dtype)
    rng = np.random.default_rng([1, block_id[0]])
    return rng.random((n, COMPONENTS), dtype) @ H + rng.standard_normal((n, FEATURES), dtype)


def data(n: int, blocks: int, dtype: str) -> da.Array:
    """Made on the workers, where it stays."""
    X = da.map_blocks(
        block, n // blocks, dtype, dtype=dtype, meta=np.empty((0, 0), dtype),
        chunks=((n // blocks,) * blocks, (FEATURES,)),
    )  # fmt: skip
    return X.persist()


def between(passes: int, X: Any, measure: Callable[[], float], solver: str) -> np.ndarray:
    """What is measured grows by so much from one pass to the next."""
    seen = []

    def look(_: Any) -> bool:
        seen.append(measure())
        return False

    snmf.factorize(X, solver=solver, max_iter=passes, callback=look, out=False, **OPTIONS)
    return np.diff(seen)


@contextmanager
def counted() -> Iterator[Callable[[], float]]:
    """The bytes that client and scheduler, both in this process, send to each other and on."""
    sent, write = [], tcp.TCP.write

    async def counting(self: Any, *given: Any, **named: Any) -> int:
        sent.append(await write(self, *given, **named))
        return sent[-1]

    tcp.TCP.write = counting
    try:
        yield lambda: float(sum(sent))
    finally:
        tcp.TCP.write = write


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument("--rows", type=int, default=2_000_000)
    words.add_argument("--blocks", type=int, default=8)
    words.add_argument("--passes", type=int, default=12)
    words.add_argument("--repeats", type=int, default=2)
    given = words.parse_args()
    n, repeats = (4000, 1) if given.tiny else (given.rows, given.repeats)
    seconds: dict[tuple[str, int], list[float]] = {}
    sent = 0.0
    for _ in range(repeats):
        for workers in (1, 2):
            with cluster(workers):
                X = data(n, given.blocks, "float32")
                between(2, X, time.perf_counter, "mu")  # workers import what they need
                for solver in ("mu", "hals"):
                    times = between(given.passes, X, time.perf_counter, solver)
                    seconds.setdefault((solver, workers), []).extend(times)
                if workers == 2:
                    with counted() as total:
                        sent = float(np.median(between(given.passes, X, total, "mu")))
    print(f"{n} x {FEATURES} in float32, k = {COMPONENTS}, {given.blocks} blocks, a pass")
    for solver in ("mu", "hals"):
        one, two = (np.median(seconds[solver, workers]) for workers in (1, 2))
        print(
            f"  {solver}  {one / two:.2f} times as fast with two workers: {one:.3f} s, {two:.3f} s"
        )
    allowed = 2 * given.blocks * (COMPONENTS * FEATURES + COMPONENTS**2) * 8
    print(f"  bytes  {sent:.0f} are sent, of {allowed} allowed: {sent / allowed:.2f}")
    with cluster(2):
        X = data(4000, given.blocks, "float64")
        ours = snmf.factorize(X, max_iter=20, **OPTIONS).loss_curve
        theirs = snmf.factorize(X.compute(), max_iter=20, **OPTIONS).loss_curve
    print(f"  loss  {np.max(np.abs(ours / theirs - 1)):.1e} off that in memory, in float64")


if __name__ == "__main__":
    main()
