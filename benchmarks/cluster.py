"""Rows on a Dask cluster: two workers against one, what travels, and the loss in memory.

Workers have one thread each. With 2 cores that nothing else uses: python benchmarks/cluster.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.array as da
import numpy as np
from common import QUIET, parser
from distributed import Client, LocalCluster
from distributed.comm import tcp

import snmf

REPEATS = 3


@contextmanager
def cluster(workers: int) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made,
        Client(made) as client,
    ):  # fmt: skip
        yield client


def block(n: int, p: int, k: int, dtype: str, block_id: Any = None) -> np.ndarray:
    rng = np.random.default_rng(block_id[0])
    H = np.random.default_rng(-1 % 2**32).standard_normal((k, p), dtype)
    return rng.random((n, k), dtype) @ H + rng.standard_normal((n, p), dtype)


def data(n: int, p: int, k: int, blocks: int, dtype: str) -> da.Array:
    """Made on the workers, where it stays."""
    X = da.map_blocks(
        block, n // blocks, p, k, dtype,
        chunks=((n // blocks,) * blocks, (p,)), dtype=dtype, meta=np.empty((0, 0), dtype),
    )  # fmt: skip
    return X.persist()


def passes(X: Any, k: int, count: int, solver: str) -> float:
    """Seconds of a pass: of a fit with so many, less one with none."""
    times = []
    for max_iter in (0, count):
        began = time.perf_counter()
        snmf.factorize(X, k, solver=solver, init="random", tol=0, max_iter=max_iter, **QUIET)
        times.append(time.perf_counter() - began)
    return (times[1] - times[0]) / count


@contextmanager
def counted() -> Iterator[list[int]]:
    """Bytes that the client and the scheduler, both in this process, send to each other and on."""
    sent, write = [], tcp.TCP.write

    async def counting(self: Any, *given: Any, **named: Any) -> int:
        sent.append(await write(self, *given, **named))
        return sent[-1]

    tcp.TCP.write = counting
    try:
        yield sent
    finally:
        tcp.TCP.write = write


def travelled(X: Any, k: int, count: int) -> float:
    """Bytes of a pass."""
    totals = []
    for max_iter in (0, count):
        with counted() as sent:
            snmf.factorize(X, k, init="random", tol=0, max_iter=max_iter, **QUIET)
        totals.append(sum(sent))
    return (totals[1] - totals[0]) / count


def arguments() -> argparse.Namespace:
    words = parser(__doc__, data=False)
    words.add_argument("--rows", type=int, default=2_000_000)
    words.add_argument("--blocks", type=int, default=8)
    words.add_argument("--passes", type=int, default=10)
    return words.parse_args()


def main() -> None:
    given = arguments()
    n, blocks, count = (4000, 4, 3) if given.tiny else (given.rows, given.blocks, given.passes)
    p, k = 128, 20
    print(f"{n} x {p} in float32, k = {k}, {blocks} blocks, a pass of mu and of hals")
    seconds = np.empty((2, 2, REPEATS))
    for repeat in range(1 if given.tiny else REPEATS):
        for workers in (1, 2):
            with cluster(workers) as client:
                X = data(n, p, k, blocks, "float32")
                client.persist(X)
                for i, solver in enumerate(("mu", "hals")):
                    seconds[i, workers - 1, repeat] = passes(X, k, count, solver)
                if workers == 2:
                    sent = travelled(X, k, count)
    done = seconds[:, :, : repeat + 1]
    for solver, of_solver in zip(("mu", "hals"), done, strict=True):
        one, two = of_solver.min(axis=1)
        print(
            f"  {solver}  {one:.3f} s with one worker, {two:.3f} s with two: {one / two:.2f} times"
        )
    allowed = 2 * blocks * (k * p + k * k) * 8
    print(f"  bytes sent in a pass  {sent:.0f}, of {allowed} allowed: {sent / allowed:.2f}")
    with cluster(2):
        X = data(4000, p, k, blocks, "float64")
        options = {"init": "random", "tol": 0, "max_iter": 20, **QUIET}
        ours = snmf.factorize(X, k, **options).loss_curve
        theirs = snmf.factorize(X.compute(), k, **options).loss_curve
    print(f"  loss in float64, against memory  {np.max(np.abs(ours / theirs - 1)):.1e}")


if __name__ == "__main__":
    main()
