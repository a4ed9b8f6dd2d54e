"""How near fits come to the SVD bound, what sparsity does, and what acceleration saves.

tox -e benchmark -- quality [--data FILE]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from common import (
    QUIET,
    agreement,
    bound,
    components,
    interleaved,
    largest,
    load,
    parser,
    relative_error,
    spectrum,
    table,
    timed,
)
from sklearn.cluster import KMeans

import snmf

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "hals": {"solver": "hals"},
    "no penalty": {"sparsity": 0},
    "the paper's": {"accelerate": False, "sparsity": 0, "init": "kmeans"},
    "svd start": {"init": "svd", "sparsity": 0},
    "svd start, hals": {"init": "svd", "sparsity": 0, "solver": "hals"},
}


def errors(X: np.ndarray, labels: np.ndarray | None, k: int) -> Iterator[tuple[Any, ...]]:
    best = bound(spectrum(X), k)
    for name, parameters in VARIANTS.items():
        result, seconds = timed(partial(snmf.factorize, X, k, **QUIET, **parameters))
        error = relative_error(X, result.W, result.H)
        nmi = agreement(labels, largest(result.W, result.H))
        yield name, f"{error:.5f}", f"{100 * (error / best - 1):.4f}", result.n_iter, seconds, nmi


def sparsities(
    X: np.ndarray, labels: np.ndarray | None, k: int, seeds: int
) -> Iterator[tuple[Any, ...]]:
    def mean(scores: list[Any]) -> float | None:
        return None if labels is None else float(np.mean(scores))

    for sparsity in (0.0, 0.05, 0.1, 0.2):
        zeros, scores = [], []
        for seed in range(seeds):
            same = {**QUIET, "random_state": seed}
            W = snmf.fit_transform(X, k, solver="hals", sparsity=sparsity, **same)
            zeros.append(np.mean(W == 0))
            scores.append(agreement(labels, W.argmax(axis=1)))
        yield f"{sparsity:g}", f"{100 * np.mean(zeros):.1f}", mean(scores)
    clusters = [KMeans(k, n_init=1, random_state=seed).fit_predict(X) for seed in range(seeds)]
    yield "k-means", None, mean([agreement(labels, found) for found in clusters])


def sooner(X: np.ndarray, ks: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Passes and seconds until the objective is that of an error 0.2 % above the SVD bound."""
    squares = spectrum(X)
    for solver in ("mu", "hals"):
        for k in ks:
            fit = partial(snmf.factorize, X, k, solver=solver, sparsity=0, tol=0, **QUIET)
            curves = [fit(accelerate=a, max_iter=400).loss_curve for a in (True, False)]
            reached = [curve <= (1.002 * bound(squares, k)) ** 2 for curve in curves]
            counts = [int(np.argmax(there)) if there.any() else None for there in reached]
            if not all(counts):
                yield f"{solver}, k = {k}", *counts, None, None
                continue
            none, fast, plain = interleaved(
                partial(fit, max_iter=0),
                partial(fit, max_iter=counts[0]),
                partial(fit, max_iter=counts[1], accelerate=False),
                repeats=5,
            )
            yield f"{solver}, k = {k}", *counts, (plain - none) / (fast - none), plain / fast


def main() -> None:
    arguments = parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    X, labels = load(arguments)
    k = components(labels)
    table(
        f"{X.shape[0]} × {X.shape[1]} {X.dtype}, k = {k}",
        ["error", "% above the SVD bound", "passes", "seconds", "NMI"],
        errors(X, labels, k),
    )
    seeds = 2 if arguments.tiny else 5
    table(
        f"sparsity, hals, means of {seeds} seeds",
        ["% zeros", "NMI"],
        sparsities(X, labels, k, seeds),
    )
    table(
        "until the objective is that of 0.2 % above the SVD bound: plain ÷ accelerated",
        ["passes", "plain", "in the passes", "in the fit"],
        sooner(X, (k,) if arguments.tiny else (k, 20, 50)),
    )


if __name__ == "__main__":
    main()
