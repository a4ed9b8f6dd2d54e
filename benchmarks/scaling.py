"""Time of a pass, and memory of a fit, over rows, features, components, threads and starts.

tox -e benchmark -- scaling [--picture FILE]

From one middle point along every axis. Every point is measured in a process of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import QUIET, a_pass, in_fresh_process, interleaved, parser, peak_memory, table
from joblib import effective_n_jobs

CORES = effective_n_jobs(-1)
Axes = dict[str, tuple[Any, ...]]
MIDDLE = {"n": 30_000, "p": 256, "k": 20, "n_jobs": None, "init": "kmeans"}
AXES: Axes = {
    "n": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "p": (16, 64, 256, 1024, 4096),
    "k": (2, 5, 10, 20, 50, 100, 200),
    "n_jobs": tuple(sorted({*(2**i for i in range(CORES.bit_length())), CORES})),
    "init": ("random", "svd"),
}
TINY_MIDDLE = {**MIDDLE, "n": 600, "p": 16, "k": 3}
TINY_AXES: Axes = {"n": (300, 1200)}
SLOPES = (("n", 0), ("n", 100_000), ("p", 0), ("k", 0))  # axis, and from where on


class Point(NamedTuple):
    """Seconds of a plain pass of mu and of hals, and peak bytes of a fit above the data."""

    mu: float
    hals: float
    memory: int


def rows(n: int, p: int, classes: int = 13, together: int = 4096) -> np.ndarray:
    """Rows around class centres, as embeddings are, made in place: memory is looked at."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p), dtype="float32")
    X *= np.arange(1, p + 1, dtype="float32") ** -0.4
    centres = rng.standard_normal((classes, p), dtype="float32") / p**0.25
    for start in range(0, n, together):
        X[start : start + together] += centres[rng.integers(classes, size=min(together, n - start))]
    return X


def measured(n: int, p: int, k: int, n_jobs: int | None, init: str, repeats: int) -> Point:
    import snmf

    warnings.simplefilter("ignore")
    X = rows(n, p)
    snmf.factorize(X[: 2 * k], k, n_jobs=n_jobs, init=init, max_iter=2, **QUIET)  # imports
    before = peak_memory()
    snmf.factorize(X, k, n_jobs=n_jobs, init=init, max_iter=2, **QUIET)
    memory = peak_memory() - before
    seconds = []
    for solver in ("mu", "hals"):
        with a_pass(X, k, solver, n_jobs=n_jobs) as one:
            seconds += interleaved(one, repeats=repeats)
    return Point(*seconds, memory)


def lines(
    middle: dict[str, Any], axes: Axes, repeats: int, found: dict[tuple[str, Any], Point]
) -> Iterator[tuple[Any, ...]]:
    """A line for every point, which also goes into `found`."""
    once: dict[tuple[Any, ...], Point] = {}
    for axis, values in axes.items():
        for value in values:
            at = {**middle, axis: value}
            key = tuple(at.values())
            if key not in once:
                once[key] = in_fresh_process(measured, *key, repeats)
            point = found[axis, value] = once[key]
            W = 4 * at["n"] * at["k"]
            yield (
                f"{axis} = {value}", 1000 * point.mu, 1000 * point.hals,
                point.memory / 2**20, W / 2**20, point.memory / (2 * W + 2**26),
            )  # fmt: skip


def slopes(found: dict[tuple[str, Any], Point]) -> Iterator[tuple[Any, ...]]:
    """The exponents of the best power laws."""
    for axis, start in SLOPES:
        values = [v for a, v in found if a == axis and v >= start]
        if len(values) > 1:
            y = np.log([found[axis, v] for v in values])
            name = f"{axis} from {values[0]} to {values[-1]}"
            yield name, *(float(slope) for slope in np.polyfit(np.log(values), y, 1)[0])


def picture(found: dict[tuple[str, Any], Point], file: Path) -> None:
    import matplotlib.pyplot as plt

    axes = [a for a in ("n", "p", "k", "n_jobs") if sum(axis == a for axis, _ in found) > 1]
    figure, panels = plt.subplots(
        2, len(axes), figsize=(3 * len(axes), 5), sharex="col", sharey="row", squeeze=False
    )
    for (time, memory), axis in zip(panels.T, axes, strict=True):
        values = [v for a, v in found if a == axis]
        points = [found[axis, v] for v in values]
        for solver in ("mu", "hals"):
            time.loglog(values, [getattr(p, solver) for p in points], "o-", label=solver)
        memory.loglog(values, [p.memory / 2**20 for p in points], "o-", color="black")
        memory.set_xlabel({"n": "rows", "p": "features", "k": "components"}.get(axis, "threads"))
    panels[0, 0].set_ylabel("seconds of a pass")
    panels[0, 0].legend()
    panels[1, 0].set_ylabel("peak MiB above the data")
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument("--picture", type=Path, help="draw the points into this file")
    arguments = words.parse_args()
    middle, axes, repeats = (TINY_MIDDLE, TINY_AXES, 2) if arguments.tiny else (MIDDLE, AXES, 5)
    found: dict[tuple[str, Any], Point] = {}
    table(
        "float32, from " + ", ".join(f"{axis} = {value}" for axis, value in middle.items()),
        ["mu ms", "hals ms", "MiB", "MiB of W", "÷ 2 W + 64 MiB"],
        lines(middle, axes, repeats, found),
    )
    table("exponents", ["mu", "hals", "memory"], slopes(found))
    if arguments.picture:
        picture(found, arguments.picture)


if __name__ == "__main__":
    main()
