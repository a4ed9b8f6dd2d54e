"""How often each rule finds the number of planted components; what it says of real data.

tox -e benchmark -- selection [--rules NAME …] [--seeds N] [--noise LEVEL …]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from classes import SETS
from common import choice, parser, table, timed
from recovery import LEVELS, Case, mean, planted
from sklearn.preprocessing import scale

import snmf

QUIET = {"random_state": 0, "progress_bar": False}
HALS = {"solver": "hals", **QUIET}
Rule = Callable[[np.ndarray, list[int]], int]  # X and numbers to compare give one, or 0 for none


def auto(X: np.ndarray, ks: list[int]) -> int:
    """Of its own numbers."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        k = snmf.SNMF("auto", **HALS).fit(X).n_components_
    none = any("No number of components is supported" in str(w.message) for w in said)
    return 0 if none else k


def selected(X: np.ndarray, ks: list[int]) -> int:
    return snmf.select_n_components(X, ks, random_state=0).best or 0


def entries(X: np.ndarray, ks: list[int], draws: int = 1, **parameters: Any) -> int:
    """The lowest error in a tenth of all entries, which are missing in the fit (Wold, 1978)."""
    errors = [1.0]  # without components
    for k in ks:
        total = 0.0
        for seed in range(draws):
            drawn = np.random.default_rng(seed).random(X.shape) < 0.1
            some = np.where(drawn, np.nan, X)
            fit = snmf.factorize(some, k, missing_values=np.nan, **{**HALS, **parameters})
            left = np.linalg.norm((X - fit.W @ fit.H)[drawn])
            total += float(left / np.linalg.norm(X[drawn])) / draws
        errors.append(total)
    return [0, *ks][int(np.argmin(errors))]


def bic(X: np.ndarray, ks: list[int], **parameters: Any) -> int:
    return min(ks, key=lambda k: snmf.SNMF(k, **{**HALS, **parameters}).fit(X).bic(X))


def schwarz(X: np.ndarray, ks: list[int]) -> int:
    """The criterion with ln N."""

    def criterion(k: int) -> float:
        fit = snmf.factorize(X, k, **HALS)
        square = np.mean((X - fit.W @ fit.H) ** 2)
        return float(X.size * np.log(square) + k * (sum(X.shape) - 1) * np.log(X.size))

    return min(ks, key=criterion)


def parallel(X: np.ndarray, ks: list[int], draws: int = 5) -> int:
    """Singular values above those of X with every column permuted (Horn, 1965)."""
    rng, X = np.random.default_rng(0), X - X.mean(axis=0)
    permuted = [rng.permuted(X, axis=0) for _ in range(draws)]
    highest = np.max([np.linalg.svd(P, compute_uv=False) for P in permuted], axis=0)
    return leading(np.linalg.svd(X, compute_uv=False) > highest)


def threshold(X: np.ndarray, ks: list[int]) -> int:
    """Singular values above the best threshold (Gavish & Donoho, 2014), by their polynomial."""
    ratio = min(X.shape) / max(X.shape)
    factor = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    values = np.linalg.svd(X, compute_uv=False)
    return leading(values > factor * np.median(values))


def leading(above: np.ndarray) -> int:
    """How many are true before the first that is false."""
    return len(above) if above.all() else int(np.argmin(above))


RULES: dict[str, Rule] = {
    '"auto"': auto,
    "select_n_components": selected,
    "bic": bic,
    "bic, sparsity 0": partial(bic, sparsity=0),
    "bic with ln N": schwarz,
    "entries": entries,
    "entries, sparsity 0": partial(entries, sparsity=0),
    "parallel analysis": parallel,
    "threshold": threshold,
}
SIDE = {
    "600 × 60": Case(k=5, n=600, p=60, noise=0.3),
    "2000 × 200": Case(filled=0.2, shared=True, noise=1),
    "centred": Case(k=10, n=1000, p=100, noise=0.3, centred=True),
    "Dir. .1": Case(k=10, n=1000, p=100, noise=0.3, dirichlet=0.1),
    "corr.": Case(k=10, n=1000, p=100, noise=0.3, filled=0.2, correlated=0.5),
    "coloured": Case(k=10, n=1000, p=100, noise=0.3, coloured=True),
    "30 of 20": Case(k=30, n=1000, p=20, noise=0.1, filled=0.1),
}


def cells(levels: Iterable[float]) -> Iterator[Case]:
    for noise, k, filled, shared in product(levels, (5, 10, 20), (0.2, 1.0), (False, True)):
        yield Case(k, filled, shared, noise, n=1000, p=100)


def tiny(case: Case) -> Case:
    return case._replace(k=3, n=120, p=12)


def numbers(k: int) -> list[int]:
    """Those around k, and a few more."""
    return sorted({1, 2, max(1, k // 2), *range(max(1, k - 3), k + 4), 3 * k // 2, 2 * k})


def real(small: bool) -> Iterator[tuple[str, np.ndarray, list[int]]]:
    """White noise, and the data sets of scikit-learn, which are standardised but for digits."""
    rng = np.random.default_rng(0)
    yield "noise", rng.standard_normal((100, 12) if small else (600, 60)), list(range(1, 7))
    yield "7 columns", rng.standard_normal((100, 7)), [1, 2, 3, 5, 7, 10, 14]
    for name, data in list(SETS.items())[-1:] if small else SETS.items():
        X = data().data
        if name == "digits":
            yield name, X, [1, 2, 4, 6, 8, *range(10, 22, 2), 24, 28, 32, 40]
        else:
            yield name, scale(X), list(range(1, min(X.shape[1] + 2, 16)))


def measured(
    cases: list[Case], rules: dict[str, Rule], seeds: range
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By rule: how far it is from the number of planted components, and seconds."""
    size = (len(cases), len(seeds))
    found = {name: (np.zeros(size), np.zeros(size)) for name in rules}
    for (i, case), (j, seed) in product(enumerate(cases), enumerate(seeds)):
        X, ks = planted(case, seed)[0], numbers(case.k)
        for name, rule in rules.items():
            k, found[name][1][i, j] = timed(partial(rule, X, ks))
            found[name][0][i, j] = k - case.k
    return found


def main() -> None:
    words = parser(__doc__, data=False)
    choice(words, "--rules", RULES)
    words.add_argument("--seeds", type=int, default=2, help="seeds of every planted case")
    words.add_argument("--noise", type=float, nargs="+", default=LEVELS, help="noise ÷ signal")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    rules, seeds = {name: RULES[name] for name in arguments.rules}, range(arguments.seeds)
    size = tiny if arguments.tiny else Case._replace
    cases = [size(case) for case in cells(arguments.noise)]
    side = dict(list(SIDE.items())[:2]) if arguments.tiny else SIDE
    if arguments.tiny:
        cases = cases[:2]
    found = measured(cases, rules, seeds)
    groups: dict[str, dict[str, Any]] = {
        "all": {},
        **{f"k = {k}": {"k": k} for k in sorted({case.k for case in cases})},
        **{f"noise {noise:g}": {"noise": noise} for noise in arguments.noise},
        "dense": {"filled": 1.0},
        "shared": {"shared": True},
    }
    for most, title in ((0, "is found"), (1, "is found but for one")):
        table(
            f"how often k {title}: {len(cases)} cases, {len(seeds)} seeds; mean seconds",
            [*groups, "time"],
            (
                (name, *(mean(abs(off) <= most, cases, **of) for of in groups.values()), t.mean())
                for name, (off, t) in found.items()
            ),
        )
    found = measured([size(case) for case in side.values()], rules, range(1))
    table(
        "the number that is taken, less that of the planted components",
        side,
        ((name, *(int(v) for v in off[:, 0])) for name, (off, _) in found.items()),
    )
    data = list(real(arguments.tiny))
    table(
        "the number that is taken; 0 is none",
        [name for name, *_ in data],
        ((name, *(rule(X, ks) for _, X, ks in data)) for name, rule in rules.items()),
    )


if __name__ == "__main__":
    main()
