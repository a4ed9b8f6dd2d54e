"""Consensus of many runs beside single fits: planted components found, and agreement over seeds.

tox -e benchmark -- consensus [--cells FILE] [--runs N]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from common import parser, table, timed
from recovery import Case, planted, share, tiny

import snmf

FIT: dict[str, Any] = {"solver": "hals", "progress_bar": False}
SEEDS = range(2)
CASES: dict[str, tuple[Case, dict[str, Any]]] = {
    "20 % filled": (Case(filled=0.2, noise=0.3), {}),
    "the same, centred": (Case(filled=0.2, noise=0.3, centred=True), {"fit_intercept": True}),
    "20 %, shared, noise 1": (Case(filled=0.2, shared=True, noise=1), {}),
    "50 % filled": (Case(filled=0.5), {}),
    "all filled, noise 1": (Case(noise=1), {}),
    "all, shared, k = 10, noise .3": (Case(k=10, shared=True, noise=0.3), {}),
    "all, shared, k = 10, noise 1": (Case(k=10, shared=True, noise=1), {}),
    "all, shared, noise .3": (Case(shared=True, noise=0.3), {}),
    "k 50, p 100": (Case(k=50, n=4000, p=100, filled=0.2), {}),
    "k 30, p 20": (Case(k=30, n=4000, p=20, filled=0.1), {}),
    "Dirichlet .5": (Case(k=10, dirichlet=0.5, noise=0.3), {}),
    "correlated": (Case(correlated=0.5, noise=0.3), {}),
    "coloured noise": (Case(coloured=True, noise=0.3), {}),
}
OF_CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "sparsity .1": {"sparsity": 0.1},
    "intercept, .03": {"fit_intercept": True, "sparsity": 0.03},
}


def fits(X: Any, k: int, count: int, seed: int, settings: dict[str, Any]) -> list[Any]:
    """So many fits of all rows."""
    seeds = range(1000 * seed, 1000 * seed + count)
    return [snmf.factorize(X, k, random_state=s, out=False, **FIT, **settings) for s in seeds]


def alike(sets: list[Any]) -> float:
    """The mean matched cosine over pairs."""
    return float(np.mean([snmf.align(A, B).mean for A, B in combinations(sets, 2)]))


def compared(
    X: Any, k: int, count: int, settings: dict[str, Any], worth: Callable[[Any], float] | None
) -> Iterator[float | None]:
    """Recovery: mean of the single fits, the best of them, the consensus; agreement; time."""
    found, singles, lowest = [], [], []
    for seed in SEEDS:
        result, seconds = timed(
            lambda seed=seed: snmf.consensus(
                X, k, n_runs=count, random_state=seed, **FIT, **settings
            )
        )
        found.append(result)
        single, of_single = timed(lambda seed=seed: fits(X, k, count, seed, settings))
        singles += [fit.H for fit in single]
        lowest.append(min(single, key=lambda fit: fit.loss_curve[-1]).H)
    if worth is not None:
        shares = [worth(H) for H in singles]
        yield from (float(np.mean(shares)), max(shares), float(np.mean([*map(worth, lowest)])))
        yield float(np.mean([worth(one.components) for one in found]))
    yield alike([one.components for one in found])
    yield alike(lowest)
    yield float(np.mean([one.stability.per_component.mean() for one in found]))
    yield float(np.mean([one.dropped for one in found]))
    yield seconds / of_single


def cells(arguments: argparse.Namespace) -> np.ndarray | None:
    """The 700 cells of scanpy's pbmc68k_reduced, clipped at 10; None if there is no file."""
    import h5py

    path, spec = arguments.cells, find_spec("scanpy")
    if path is None and spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if path is None:
        return None
    with h5py.File(path) as file:
        X: np.ndarray = np.clip(file["X"][:], None, 10)
        return X


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument("--cells", type=Path, help="10x_pbmc68k_reduced.h5ad of scanpy")
    words.add_argument("--runs", type=int, default=20, help="runs, and single fits, of each case")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    count = 3 if arguments.tiny else arguments.runs
    ends = ["agree", "lowest", "runs", "dropped", "time ÷"]

    def of_planted() -> Iterator[tuple[Any, ...]]:
        cases = list(CASES.items())[:2] if arguments.tiny else CASES.items()
        for name, (case, settings) in cases:
            case = tiny(case) if arguments.tiny else case
            X, H = planted(case, 0)
            yield name, *compared(X, case.k, count, settings, partial(share, planted=H))

    table(
        f"share of planted components found by {count} fits of all rows (mean, most, that of the "
        "lowest objective) and by consensus; agreement of two consensuses, of two such fits, of "
        "runs with their consensus; share dropped; time ÷ that of the fits",
        ["mean", "most", "lowest", "consensus", *ends],
        of_planted(),
        32,
    )
    X = cells(arguments)
    if X is None:
        print("\npbmc68k_reduced  missing: install scanpy without what it needs, or give --cells")
        return
    X = X[:100] if arguments.tiny else X
    table(
        "pbmc68k_reduced: agreement, share dropped and time as above",
        ends,
        (
            (f"{name}, k = {k}", *compared(X, k, count, settings, None))
            for name, settings in OF_CELLS.items()
            for k in ((4,) if arguments.tiny else (6, 8, 12))
        ),
        32,
    )


if __name__ == "__main__":
    main()
