"""What a pass, the exact last step, acceleration and memory cost, as ratios of one run.

tox -e benchmark -- cost [--data FILE]
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from data import bound, load, parser, spectrum

import snmf
from snmf import _nnls
from snmf._rows import measure
from snmf._solve import Alternation, steps_per_pass
from snmf.backends import adapter

REPEATS = 7


def interleaved(*calls: Callable[[], Any]) -> list[float]:
    """Median seconds of every call, all of them in turn, so that a noisy spell hits each."""
    seconds = np.empty((REPEATS, len(calls)))
    for times in seconds:
        for i, call in enumerate(calls):
            began = time.perf_counter()
            call()
            times[i] = time.perf_counter() - began
    return list(np.median(seconds, axis=0))


def cost_of_a_pass(X: np.ndarray, k: int) -> None:
    rng = np.random.default_rng(0)
    rows = adapter("numpy").rows(X)
    square = measure(rows).square
    W0, H = rng.random((len(X), k)).astype(X.dtype), rng.standard_normal((k, X.shape[1]))
    plain_H = H.astype(X.dtype)

    def bare() -> None:
        _ = X @ plain_H.T
        _ = W0.T @ X

    calls, names = [bare], ["the two bare products"]
    for update in ("multiplicative", "hals"):
        for many in (1, steps_per_pass(update, X.shape[1], k)):
            alternation = Alternation(rows, square, 0.0, update, many)
            point = alternation.start(rows.split(W0), None)
            calls.append(lambda a=alternation, p=point: a.advance(p, p.H))
            names.append(f"a pass of {update}, {many} W-steps")
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    calls.append(lambda: _nnls.exact_weights(rows, unit, 0.0))
    names.append("the exact W")
    seconds = interleaved(*calls)
    print(f"\n{X.shape[0]} x {X.shape[1]} {X.dtype}, k = {k}, in units of the two bare products")
    for name, value in zip(names, seconds, strict=True):
        print(f"  {name:36} {value / seconds[0]:6.2f}")
    print(f"  {'the exact W, in plain mu passes':36} {seconds[-1] / seconds[1]:6.2f}")


def sooner(X: np.ndarray, k: int, solver: str) -> None:
    """Seconds until the objective is that of an error 0.2 % above the SVD bound."""
    target = (1.002 * bound(spectrum(X), k)) ** 2
    parameters = {"solver": solver, "random_state": 0, "progress_bar": False, "tol": 0}

    def passes(accelerate: bool) -> int:
        curve = snmf.factorize(X, k, accelerate=accelerate, max_iter=400, **parameters).loss_curve
        return int(np.argmax(curve <= target)) if curve[-1] <= target else -1

    counts = [passes(True), passes(False)]
    if min(counts) < 1:
        print(f"  {solver:5} k = {k}: not reached in 400 passes, or at the start")
        return

    def fit(accelerate: bool, count: int) -> Callable[[], Any]:
        return lambda: snmf.factorize(X, k, accelerate=accelerate, max_iter=count, **parameters)

    start = fit(True, 0)
    none, fast, plain = interleaved(start, fit(True, counts[0]), fit(False, counts[1]))
    print(
        f"  {solver:5} k = {k}: {counts[0]} passes against {counts[1]}; "
        f"{(plain - none) / (fast - none):.2f} times sooner in iterations, "
        f"{plain / fast:.2f} times with start and last step"
    )


def memory(X: np.ndarray, k: int, **parameters: Any) -> None:
    tracemalloc.start()
    W = snmf.fit_transform(X, k, random_state=0, progress_bar=False, **parameters)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    allowed = 3 * W.nbytes + 64 * 2**20
    print(
        f"  {X.shape[0]} x {X.shape[1]}, k = {k}, {parameters or 'default'}: "
        f"{peak / 2**20:.0f} MiB above X, W is {W.nbytes / 2**20:.0f} MiB; "
        f"{peak / allowed:.2f} of 3 W + 64 MiB"
    )


def main() -> None:
    arguments = parser(__doc__).parse_args()
    X, _ = load(arguments)
    warnings.simplefilter("ignore")
    for k in (20,) if arguments.tiny else (20, 50, 200):
        cost_of_a_pass(X, k)
    print("\nuntil the error is 0.2 % above the SVD bound, accelerated against plain")
    for solver in ("mu", "hals"):
        for k in (13,) if arguments.tiny else (13, 20, 50):
            sooner(X, k, solver)
    print("\npeak memory of a fit")
    memory(X, 20)
    memory(X, 200, max_iter=5)
    memory(np.tile(X, (10, 1)), 50, max_iter=5)
    memory(X, 50, init="svd", max_iter=5)


if __name__ == "__main__":
    main()
