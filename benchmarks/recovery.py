"""The share of planted components that are found, by snmf and by its peers; NMI and stability.

tox -e benchmark -- recovery [--data FILE] [--methods NAME …] [--seeds N] [--noise LEVEL …]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from classes import SETS
from common import agreement, choice, components, largest, load, parser, table, timed
from others import PEERS, Factors, Method
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaincinv, ndtr
from sklearn import decomposition
from sklearn.preprocessing import scale

import snmf

SNMF: dict[str, dict[str, Any]] = {
    "snmf": {},
    "the paper's": {"accelerate": False, "sparsity": 0, "init": "kmeans"},
    "varimax": {"init": "varimax"},
    "intercept": {"fit_intercept": True},
    "intercept, varimax": {"fit_intercept": True, "init": "varimax"},
    "intercept, mu, .03": {"fit_intercept": True, "sparsity": 0.03},
    "intercept, mu, .1": {"fit_intercept": True, "sparsity": 0.1},
    "intercept, hals, .01": {"fit_intercept": True, "sparsity": 0.01, "solver": "hals"},
    "intercept, hals, .03": {"fit_intercept": True, "sparsity": 0.03, "solver": "hals"},
    "intercept, hals, .1": {"fit_intercept": True, "sparsity": 0.1, "solver": "hals"},
    "k-means, mu, 0": {"sparsity": 0, "init": "kmeans"},
    "k-means, mu, .01": {"sparsity": 0.01, "init": "kmeans"},
    "k-means, hals, .01": {"solver": "hals", "sparsity": 0.01, "init": "kmeans"},
    "k-means, hals, .03": {"solver": "hals", "sparsity": 0.03, "init": "kmeans"},
    "mu, 0": {"sparsity": 0},
    "mu, .01": {"sparsity": 0.01},
    "mu, .03": {"sparsity": 0.03},
    "hals, 0": {"solver": "hals", "sparsity": 0},
    "hals, .01": {"solver": "hals", "sparsity": 0.01},
    "hals, .03": {"solver": "hals", "sparsity": 0.03},
    "hals, .03, tol 1e-7": {"solver": "hals", "sparsity": 0.03, "tol": 1e-7},
    "hals, .1": {"solver": "hals", "sparsity": 0.1},
    "hals, 0, svd start": {"solver": "hals", "sparsity": 0, "init": "svd"},
}
FOUND = 0.9  # the |cosine| from which a planted component is found


def ours(X: np.ndarray, k: int, seed: int, **parameters: Any) -> Factors:
    result = snmf.factorize(X, k, random_state=seed, progress_bar=False, **parameters)
    return result.W, result.H


def rotation(Z: np.ndarray, passes: int = 100) -> np.ndarray:
    """The rotation of these scores that is largest in the varimax criterion (Kaiser, 1958)."""
    R, before = np.eye(Z.shape[1]), 0.0
    for _ in range(passes):
        rotated = Z @ R
        U, s, V = np.linalg.svd(Z.T @ (rotated**3 - rotated * np.mean(rotated**2, axis=0)))
        R = U @ V
        if s.sum() <= before * (1 + 1e-8):
            break
        before = s.sum()
    return R


def varimax(X: np.ndarray, k: int, seed: int) -> Factors:
    """The leading principal components, their scores rotated and of positive third moment."""
    centred = X - X.mean(axis=0)
    V = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :k]
    scores = centred @ V
    spread = scores.std(axis=0)
    R = rotation(scores / spread)
    W = scores / spread @ R
    signs = np.where((W**3).sum(axis=0) < 0, -1, 1)
    return W * signs, signs[:, None] * ((R.T * spread) @ V.T)


def ica(X: np.ndarray, k: int, seed: int) -> Factors:
    model = decomposition.FastICA(
        min(k, *X.shape), max_iter=500, whiten="unit-variance", random_state=seed
    )
    W = model.fit_transform(X)
    signs = np.where((W**3).sum(axis=0) < 0, -1, 1)
    return W * signs, signs[:, None] * model.mixing_.T


def nmf(X: np.ndarray, k: int, seed: int) -> Factors:
    """Of data that are shifted until no entry is negative."""
    model = decomposition.NMF(k, random_state=seed)
    return model.fit_transform(X - X.min()), model.components_


def peer(X: np.ndarray, k: int, seed: int, *, name: str) -> Factors:
    """By another program; its import is part of the first call only."""
    return PEERS[name]()(X, k, seed)


METHODS: dict[str, Method] = {
    **{name: partial(ours, **parameters) for name, parameters in SNMF.items()},
    "PCA + varimax": varimax,
    "FastICA": ica,
    "NMF, shifted": nmf,
    **{name: partial(peer, name=name) for name in PEERS},
}


class Case(NamedTuple):
    """Planted data: their size, and how weights, components and noise are drawn."""

    k: int = 20
    filled: float = 1.0
    shared: bool = False
    noise: float = 0.1
    centred: bool = False
    n: int = 2000
    p: int = 200
    correlated: float = 0.0
    dirichlet: float | None = None
    coloured: bool = False


LEVELS = (0.1, 0.3, 1.0)
SIDE: dict[str, dict[str, Case]] = {
    "noise ÷ signal .1, k = 20, and one thing different in each": {
        "20 %": Case(filled=0.2),
        "centred": Case(filled=0.2, centred=True),
        "shared": Case(filled=0.2, shared=True),
        "noise 1": Case(filled=0.2, noise=1),
        "50 %": Case(filled=0.5),
        "100 %": Case(),
        "k 50, p 100": Case(k=50, n=4000, p=100, filled=0.2),
        "k 30, p 20": Case(k=30, n=4000, p=20, filled=0.1),
    },
    "Dirichlet weights; correlated weights; noise that is not white: noise ÷ signal .3": {
        "Dir. .1": Case(k=10, dirichlet=0.1, noise=0.3),
        "Dir. .5": Case(k=10, dirichlet=0.5, noise=0.3),
        "Dir. .5, centred": Case(k=10, dirichlet=0.5, noise=0.3, centred=True),
        "corr.": Case(correlated=0.5, noise=0.3),
        "corr., 20 %": Case(filled=0.2, correlated=0.5, noise=0.3),
        "coloured": Case(coloured=True, noise=0.3),
        "col., 20 %": Case(filled=0.2, coloured=True, noise=0.3),
        "col., centred": Case(coloured=True, noise=0.3, centred=True),
    },
}


def cells(levels: Iterable[float]) -> Iterator[Case]:
    """The cases of the main table."""
    for noise, k, filled, shared, centred in product(
        levels, (10, 20), (0.2, 1.0), (False, True), (False, True)
    ):
        yield Case(k, filled, shared, noise, centred)


def tiny(case: Case) -> Case:
    return case._replace(n=120, p=3 if case.p < case.k else 12, k=4)


def planted(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy data, and the components in them."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((case.k, case.p))
    if case.shared:  # the cosine of two is then .5
        H += rng.standard_normal(case.p)
    signal = weights(case, rng) @ H
    noise = rng.standard_normal((case.n, case.p))
    if case.coloured:  # variances that fall as 1, 1/2, 1/3, … along directions of no meaning
        turn = np.linalg.qr(rng.standard_normal((case.p, case.p)))[0]
        noise = noise * np.arange(1, case.p + 1) ** -0.5 @ turn
    X = signal + case.noise * noise * np.sqrt(np.mean(signal**2) / np.mean(noise**2))
    return X - X.mean(axis=0) * case.centred, H


def weights(case: Case, rng: np.random.Generator) -> np.ndarray:
    """From a Dirichlet distribution, or gamma(2, 0.5) in the share that is filled, or 0."""
    if case.dirichlet is not None:
        return rng.dirichlet(np.full(case.k, case.dirichlet), size=case.n)
    own, common = rng.standard_normal((case.n, case.k)), rng.standard_normal((case.n, 1))
    rank = ndtr(np.sqrt(1 - case.correlated) * own + np.sqrt(case.correlated) * common)
    return 0.5 * gammaincinv(2, np.maximum(0, 1 - (1 - rank) / case.filled))


def matched(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The |cosines| of the rows of A and those of B that they are matched with."""
    A, B = (M / np.maximum(np.linalg.norm(M, axis=1, keepdims=True), 1e-300) for M in (A, B))
    cosines = np.asarray(A, dtype="float64") @ np.asarray(B, dtype="float64").T
    cosines = np.abs(np.nan_to_num(cosines))  # of a method that gives NaN
    return cosines[linear_sum_assignment(cosines, maximize=True)]


def share(H: np.ndarray, planted: np.ndarray) -> float:
    """The share of planted components that are found."""
    return int(np.sum(matched(H, planted) > FOUND)) / len(planted)


class Shares(NamedTuple):
    """By method: the shares found in every case, for every seed, and the seconds."""

    shares: dict[str, np.ndarray]
    seconds: dict[str, np.ndarray]


def measured(cases: list[Case], methods: dict[str, Method], seeds: range) -> Shares:
    size = (len(cases), len(seeds))
    shares = {name: np.zeros(size) for name in methods}
    seconds = {name: np.full(size, np.nan) for name in methods}
    for (i, case), (j, seed) in product(enumerate(cases), enumerate(seeds)):
        X, H = planted(case, seed)
        for name, method in methods.items():
            with suppress(ValueError):  # a method that refuses the data finds nothing
                (_, found), seconds[name][i, j] = timed(partial(method, X, case.k, seed))
                shares[name][i, j] = share(found, H)
    return Shares(shares, seconds)


def mean(values: np.ndarray, cases: list[Case], **fixed: Any) -> float | None:
    """The mean over the cases with these values."""
    kept = [all(getattr(case, name) == fixed[name] for name in fixed) for case in cases]
    return float(values[kept].mean()) if any(kept) else None


def summary(cases: list[Case], found: Shares) -> Iterator[tuple[Any, ...]]:
    first = next(iter(found.seconds.values()))
    for name, values in found.shares.items():
        of = partial(mean, values, cases)
        ks = sorted({case.k for case in cases})
        time = float(np.nanmedian(found.seconds[name] / first))
        yield name, of(), of(centred=False), of(centred=True), *(of(k=k) for k in ks), time


def by_cell(cases: list[Case], found: Shares, noise: float) -> Iterator[tuple[Any, ...]]:
    kinds = list(product((False, True), (0.2, 1.0), (False, True)))
    for name, values in found.shares.items():
        yield (
            name,
            *(
                mean(values, cases, noise=noise, centred=centred, filled=filled, shared=shared)
                for centred, filled, shared in kinds
            ),
        )


def real(arguments: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Embeddings and digits as they are and centred, the others standardised; their classes."""
    X, labels = load(arguments)
    if labels is not None:
        kept = np.random.default_rng(0).permutation(len(X))[: 100 if arguments.tiny else 3000]
        yield "embeddings", X[kept], labels[kept]
        yield "emb. − mean", X[kept] - X[kept].mean(axis=0), labels[kept]
    for name, data in list(SETS.items())[-1:] if arguments.tiny else SETS.items():
        bunch = data()
        if name == "digits":
            yield name, bunch.data, bunch.target
            yield "digits − mean", bunch.data - bunch.data.mean(axis=0), bunch.target
        else:
            yield name, scale(bunch.data), bunch.target


def on_real(X: np.ndarray, labels: np.ndarray, method: Method, seeds: range) -> tuple[float, float]:
    """The mean NMI over seeds, and the mean matched cosine over pairs of seeds."""
    factors = [method(X, components(labels), seed) for seed in seeds]
    scores = [agreement(labels, largest(W, H)) for W, H in factors]
    pairs = [matched(A, B).mean() for (_, A), (_, B) in combinations(factors, 2)]
    return float(np.mean(scores)), float(np.mean(pairs))


def installed(names: list[str]) -> dict[str, Method]:
    """The methods of these names, tried on few rows; those that cannot be imported are named."""
    X = np.random.default_rng(0).standard_normal((20, 5))
    kept = {}
    for name in names:
        try:
            METHODS[name](X, 2, 0)
            kept[name] = METHODS[name]
        except ImportError as error:
            print(f"{name}  missing: {error}")
    return kept


def main() -> None:
    words = parser(__doc__)
    choice(words, "--methods", METHODS)
    words.add_argument("--seeds", type=int, default=3, help="seeds of every planted case")
    words.add_argument("--noise", type=float, nargs="+", default=LEVELS, help="noise ÷ signal")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    methods, seeds = installed(arguments.methods), range(arguments.seeds)
    size = tiny if arguments.tiny else Case._replace
    cases = [size(case) for case in cells(arguments.noise)]
    found = measured(cases, methods, seeds)
    ks = [f"k = {k}" for k in sorted({case.k for case in cases})]
    table(
        f"share of planted components with |cosine| > {FOUND}: {len(cases)} cases, "
        f"{len(seeds)} seeds; median time ÷ that of {next(iter(methods))!r}",
        ["all", "uncentred", "centred", *ks, "time"],
        summary(cases, found),
    )
    for noise in arguments.noise:
        table(
            f"noise ÷ signal {noise:g}: weights 20 % filled or dense, components Gaussian or "
            "sharing a direction (sh.); then the same, centred",
            2 * ["20 %", "20 %, sh.", "dense", "dense, sh."],
            by_cell(cases, found, noise),
        )
    for title, side in SIDE.items():
        found = measured([size(case) for case in side.values()], methods, seeds)
        table(title, side, ((name, *v.mean(axis=1).tolist()) for name, v in found.shares.items()))
    data = list(real(arguments))
    seeds = range(2 if arguments.tiny else 3)
    results = [[on_real(X, y, method, seeds) for _, X, y in data] for method in methods.values()]
    for title, i in (("NMI of argmax W", 0), ("mean matched cosine of H over pairs of seeds", 1)):
        table(
            f"{title}, k the number of classes",
            [name for name, *_ in data],
            ((name, *(r[i] for r in line)) for name, line in zip(methods, results, strict=True)),
        )


if __name__ == "__main__":
    main()
