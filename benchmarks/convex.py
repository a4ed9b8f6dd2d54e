"""Convex NMF beside semi-NMF and k-means: error, stability over seeds, and time.

tox -e benchmark -- convex [--data FILE]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from common import components, generated, interleaved, load, parser, table
from sklearn import datasets
from sklearn.cluster import KMeans

import snmf

# Ding, Li & Jordan, section 5: seven samples, as columns
EXAMPLE = np.array([
    [1.3, 1.8, 4.8, 7.1, 5.0, 5.2, 8.0],
    [1.5, 6.9, 3.9, -5.5, -8.5, -3.9, -5.5],
    [6.5, 1.6, 8.2, -7.2, -8.7, -7.9, -5.2],
    [3.8, 8.3, 4.7, 6.4, 7.5, 3.2, 7.4],
    [-7.3, -1.8, -2.1, 2.7, 6.8, 4.8, 6.2],
]).T  # fmt: skip

SETTINGS: dict[str, Callable[..., Any]] = {
    "semi 0": partial(snmf.SNMF, sparsity=0, solver="hals"),
    "semi 0.1": partial(snmf.SNMF, sparsity=0.1, solver="hals"),
    "convex 0": partial(snmf.ConvexNMF, sparsity=0),
    "convex 0.01": snmf.ConvexNMF,
    "convex 0.1": partial(snmf.ConvexNMF, sparsity=0.1),
}


def sets(arguments: Any) -> Iterator[tuple[str, np.ndarray, int]]:
    """The data, and the number of components."""
    yield "the paper's example", EXAMPLE, 2
    wine, digits = datasets.load_wine().data, datasets.load_digits().data
    wine = wine / wine.std(axis=0)
    yield "wine", wine, 3
    yield "wine − mean", wine - wine.mean(axis=0), 3
    if arguments.tiny:
        return
    yield "digits", digits, 10
    yield "digits − mean", digits - digits.mean(axis=0), 10
    X, labels = load(arguments)
    name = "generated" if arguments.data is None else "embeddings"
    yield name, X, components(labels)


def errors(arguments: Any) -> Iterator[tuple[Any, ...]]:
    """Relative errors without a penalty; semi-NMF goes on from the SVD, or from convex NMF."""
    for name, X, k in sets(arguments):
        norm, small = np.linalg.norm(X), {"sparsity": 0, "progress_bar": False, "random_state": 0}
        convex = snmf.ConvexNMF(k, tol=1e-7, max_iter=400, **small).fit(X)
        semi = partial(snmf.factorize, X, k, solver="hals", tol=1e-9, max_iter=1000, **small)
        starts = {"init": "svd"}, {"init": "custom", "H": convex.components_}
        clusters = KMeans(k, n_init=5, random_state=0).fit(X)
        best = min(semi(**start).error for start in starts)
        found = best, convex.reconstruction_err_, clusters.inertia_**0.5
        made_of = np.mean(np.count_nonzero(convex.combination_, axis=1))
        yield name, *(f"{value / norm:.5f}" for value in found), float(made_of)


def stabilities(arguments: Any, init: str, seeds: int) -> Iterator[tuple[Any, ...]]:
    """The mean cosine of matched components over all pairs of seeds."""
    for name, X, k in list(sets(arguments))[1:]:
        found = []
        for setting in SETTINGS.values():
            make = partial(setting, k, init=init, progress_bar=False)
            fits = [make(random_state=seed).fit(X) for seed in range(seeds)]
            cosines = [snmf.align(a, b).mean for a, b in combinations(fits, 2)]
            found.append(f"{np.mean(cosines):.3f}")
        yield name, *found


def times(n: int, p: int, k: int, m: int) -> Iterator[tuple[Any, ...]]:
    """Seconds of a fit, and what they are in units of the default fit of semi-NMF."""
    X, _ = generated(n, p, k)
    small = {"random_state": 0, "progress_bar": False}
    models = {
        "semi": snmf.SNMF(k, **small),
        f"convex, {m} candidates": snmf.ConvexNMF(k, candidates=m, **small),
        f"convex, mu, {m} candidates": snmf.ConvexNMF(k, candidates=m, solver="mu", **small),
    }
    seconds = interleaved(*(partial(model.fit, X) for model in models.values()), repeats=3)
    for (name, model), taken in zip(models.items(), seconds, strict=True):
        yield name, taken, taken / seconds[0], model.n_iter_, model.score(X)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    heads = ["semi", "convex", "k-means", "rows in a component"]
    table("relative error, no penalty", heads, errors(arguments))
    seeds = 2 if arguments.tiny else 4
    for init in ("kmeans", "skewness"):
        lines = stabilities(arguments, init, seeds)
        table(f"stability over {seeds} seeds, start {init}, by sparsity", SETTINGS, lines)
    shape = (300, 20, 3, 50) if arguments.tiny else (100_000, 384, 20, 1000)
    title = f"{shape[0]} × {shape[1]}, k = {shape[2]}"
    table(title, ["seconds", "÷ semi", "passes", "score"], times(*shape))


if __name__ == "__main__":
    main()
