"""How well the largest weight of a row tells classes apart: NMI, at settings for all data alike.

tox -e benchmark -- classes [--data FILE]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import agreement, components, load, parser, table
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.preprocessing import scale

import snmf

SETTINGS: dict[str, dict[str, Any]] = {
    "sparsity 0": {"sparsity": 0},
    "sparsity 0.1": {"sparsity": 0.1},
    "sparsity 0.2": {"sparsity": 0.2},
    "locality 0.1": {"locality": 0.1},
    "locality 0.3": {"locality": 0.3},
    "locality 1": {"locality": 1.0},
    "locality 2": {"locality": 2.0},
    "locality 4": {"locality": 4.0},
    "locality 2, mu": {"locality": 2.0, "solver": "mu"},
}
SETS = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
    "iris": datasets.load_iris,
}


def sets(arguments: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Embeddings as they are, the others standardised, and their classes."""
    X, labels = load(arguments)
    if labels is not None:
        yield ("generated" if arguments.data is None else "embeddings"), X, labels
    for name, data in list(SETS.items())[-1:] if arguments.tiny else SETS.items():
        bunch = data()
        yield name, scale(bunch.data), bunch.target


def scores(X: np.ndarray, labels: np.ndarray, seeds: range) -> Iterator[list[float | None]]:
    """The NMI of k-means, and of every setting, for every seed."""
    k = components(labels)
    yield [
        agreement(labels, KMeans(k, n_init=1, random_state=seed).fit(X).labels_) for seed in seeds
    ]
    for setting in SETTINGS.values():
        parameters = {"solver": "hals", "progress_bar": False, **setting}
        yield [
            agreement(labels, snmf.fit_transform(X, k, random_state=seed, **parameters).argmax(1))
            for seed in seeds
        ]


def main() -> None:
    arguments = parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    seeds = range(2 if arguments.tiny else 5)
    names, columns = [], []
    for name, X, labels in sets(arguments):
        names.append(name)
        found = [np.array(of_seeds, dtype=float) for of_seeds in scores(X, labels, seeds)]
        columns.append([f"{values.mean():.3f} ± {values.std():.3f}" for values in found])
    title = f"NMI of argmax W, mean and standard deviation over {len(seeds)} seeds"
    heads = [f"{name:>13}" for name in names]
    table(title, heads, zip(["k-means", *SETTINGS], *columns, strict=True))


if __name__ == "__main__":
    main()
