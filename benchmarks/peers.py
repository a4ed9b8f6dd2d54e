"""snmf beside its peers: seconds, error, agreement with the classes, memory.

tox -e benchmark -- peers [--data FILE] [--systems NAME …]

Every system runs in a process of its own, with its default parameters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    QUIET,
    agreement,
    bound,
    choice,
    components,
    in_fresh_process,
    interleaved,
    largest,
    load,
    parser,
    peak_memory,
    relative_error,
    spectrum,
    table,
)
from others import PEERS, SPARSITY

MOST_PASSES = 1024
Fit = Callable[[np.ndarray], tuple[Any, Any]]


def ours(k: int, solver: str, **parameters: Any) -> Fit:
    import snmf

    settings = {"sparsity": 0, **parameters}  # the objective of the others has no penalty

    def fit(X: np.ndarray) -> tuple[Any, Any]:
        result = snmf.factorize(X, k, solver=solver, **QUIET, **settings)
        return result.W, result.H

    return fit


def peer(k: int, name: str) -> Fit:
    method = PEERS[name]()
    return partial(method, k=k, seed=0)


OURS = {"mu": partial(ours, solver="mu"), "hals": partial(ours, solver="hals")}
SYSTEMS: dict[str, Callable[[int], Fit]] = {
    **{f"snmf {solver}": system for solver, system in OURS.items()},
    **{f"snmf {solver}, sparse": partial(s, sparsity=SPARSITY) for solver, s in OURS.items()},
    **{name: partial(peer, name=name) for name in PEERS},
}


class Start(NamedTuple):
    """Seconds from before the import to the result, those of the fit, and bytes above the data."""

    cold: float
    first: float
    memory: int


class Against(NamedTuple):
    """The fewest passes of snmf that reach a peer's error, and what they and a fit take."""

    passes: int | None
    reaching: float | None
    fit: float


class Measured(NamedTuple):
    """Seconds of a later call; the ‖X − W H‖ / ‖X‖; the groups; and for a peer snmf against it."""

    start: Start
    warm: float
    error: float
    groups: np.ndarray
    against: dict[str, Against]


def started(name: str, X: np.ndarray, k: int) -> tuple[Start, Fit, Any, Any]:
    before, began = peak_memory(), time.perf_counter()
    fit = SYSTEMS[name](k)
    imported = time.perf_counter()
    W, H = fit(X)
    ended = time.perf_counter()
    return Start(ended - began, ended - imported, peak_memory() - before), fit, W, H


def only_started(name: str, file: Path, k: int) -> float:
    warnings.simplefilter("ignore")
    return started(name, np.load(file), k)[0].cold


def measured(name: str, file: Path, k: int, repeats: int) -> Measured:
    warnings.simplefilter("ignore")
    X = np.load(file)
    start, fit, W, H = started(name, X, k)
    error = relative_error(X, W, H)
    calls, passes = [partial(fit, X)], []
    solvers = OURS if name in PEERS else {}
    for system in solvers.values():

        def reached(count: int, system: Callable[..., Fit] = system) -> bool:
            return relative_error(X, *system(k, tol=0, max_iter=count)(X)) <= error

        passes.append(fewest(reached))
        reaching = system(k, tol=0, max_iter=passes[-1] or 0)
        calls += [partial(reaching, X), partial(system(k), X)]
    warm, *rest = interleaved(*calls, repeats=repeats)
    against = {
        solver: Against(count, None if count is None else seconds, whole)
        for solver, count, seconds, whole in zip(
            solvers, passes, rest[::2], rest[1::2], strict=True
        )
    }
    return Measured(start, warm, error, largest(W, H), against)


def fewest(reached: Callable[[int], bool]) -> int | None:
    """The fewest passes that reach it, by doubling and bisection; None if MOST_PASSES do not."""
    low, high = -1, 0
    while not reached(high):
        low, high = high, max(1, 2 * high)
        if high > MOST_PASSES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def datasets(
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    from sklearn.datasets import load_digits

    if arguments.data:
        yield arguments.data.stem, *load(arguments)
    yield "generated", *load(argparse.Namespace(tiny=arguments.tiny, data=None))
    if not arguments.tiny:
        digits = load_digits()
        yield "digits, centred", digits.data - digits.data.mean(axis=0), digits.target


def lines(
    arguments: argparse.Namespace,
    X: np.ndarray,
    labels: np.ndarray | None,
    k: int,
    found: dict[str, Measured],
) -> Iterator[tuple[Any, ...]]:
    """A line for every system, which also goes into `found`."""
    best = bound(spectrum(X), k)
    repeats, starts = (2, 0) if arguments.tiny else (5, 2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npy"
        np.save(file, X)
        for name in arguments.systems:
            try:
                cold = [in_fresh_process(only_started, name, file, k) for _ in range(starts)]
                result = in_fresh_process(measured, name, file, k, repeats)
            except ImportError as error:
                yield name, f"  missing: {error}"
                continue
            start = result.start._replace(cold=float(np.median([*cold, result.start.cold])))
            found[name] = result._replace(start=start)
            yield (
                name, start.cold, start.first, result.warm, f"{result.error:.5f}",
                f"{100 * (result.error / best - 1):.4f}", agreement(labels, result.groups),
                start.memory // 2**20,
            )  # fmt: skip


def comparisons(found: dict[str, Measured]) -> Iterator[tuple[Any, ...]]:
    for name, peer in found.items():
        for solver, snmf in peer.against.items():
            own = found.get(f"snmf {solver}")
            yield (
                f"{name}: {solver}", snmf.passes, snmf.reaching,
                snmf.reaching and snmf.reaching / peer.warm,
                snmf.fit, snmf.fit / peer.warm, snmf.fit / peer.start.cold,
                own and own.start.cold / peer.start.cold,
            )  # fmt: skip


def main() -> None:
    words = parser(__doc__)
    choice(words, "--systems", SYSTEMS)
    arguments = words.parse_args()
    for name, X, labels in datasets(arguments):
        k, found = components(labels), {}
        table(
            f"{name}, {X.shape[0]} × {X.shape[1]} {X.dtype}, k = {k} (sparse: {SPARSITY})",
            ["cold s", "first s", "warm s", "error", "% above bound", "NMI", "MiB"],
            lines(arguments, X, labels, k, found),
        )
        table(
            "snmf until it has the peer's error, and its whole default fit, ÷ the peer's time",
            ["passes", "reached s", "÷ warm", "fit s", "fit ÷ warm", "fit ÷ cold", "cold ÷ cold"],
            comparisons(found),
        )


if __name__ == "__main__":
    main()
