"""Components with limits: sparse ones found, nonnegative ones beside NMF, and what a pass costs.

tox -e benchmark -- limits [--noise 0.5]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from common import QUIET, a_pass, generated, interleaved, parser, relative_error, table, timed
from others import multiplicative
from recovery import share

NOISE = (0.23, 0.5, 0.83)  # its share of ‖X‖
Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # W, H, the objective after every iteration


def planted(
    n: int, p: int, k: int, entries: int, noise: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Data in float32, and the components that they are made of."""
    rng = np.random.default_rng(seed)
    H = np.zeros((k, p))
    for h in H:
        h[rng.choice(p, entries, replace=False)] = rng.standard_normal(entries)
    H /= np.linalg.norm(H, axis=1)[:, None]
    signal = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < 0.2) @ H
    E = rng.standard_normal(signal.shape)
    E *= np.linalg.norm(signal) / np.linalg.norm(E) * noise / (1 - noise**2) ** 0.5
    return (signal + E).astype("float32"), H


def ours(X: np.ndarray, k: int, **options: Any) -> Found:
    import snmf

    result = snmf.factorize(X, k, n_jobs=1, **QUIET, **options)
    return result.W, result.H, result.loss_curve


def thresholded(X: np.ndarray, k: int, entries: int) -> Found:
    W, H, curve = ours(X, k)
    least = np.sort(np.abs(H), axis=1)[:, [-entries]]
    return W, np.where(np.abs(H) < least, 0, H), curve


def sparse_lines(
    X: np.ndarray, H: np.ndarray, entries: int
) -> Iterator[tuple[str, float, int, float]]:
    k = len(H)
    methods = {
        "mu": partial(ours, X, k, n_nonzero_features=entries),
        "hals": partial(ours, X, k, n_nonzero_features=entries, solver="hals"),
        "default, thresholded": partial(thresholded, X, k, entries),
        "winners take all": partial(multiplicative, X, k, entries),
    }
    for name, method in methods.items():
        (_, found, curve), seconds = timed(method)
        yield name, share(found, H), int(np.sum(np.diff(curve) > 1e-6)), seconds


def nmf(X: np.ndarray, k: int, solver: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import NMF

    model = NMF(k, solver=solver, max_iter=2000, random_state=0)
    return model.fit_transform(X), model.components_


def positive_lines(name: str, X: np.ndarray, k: int, samples: int) -> Iterator[tuple[Any, ...]]:
    """Errors above those of NMF, and time, over samples of nine tenths of the rows.

    Every method ends at a local optimum, so that one fit of each tells little.
    """
    options = {"sparsity": 0, "positive_components": True, "max_iter": 2000}
    methods = {
        "NMF": partial(nmf, solver="cd"),
        "snmf": partial(ours, **options),
        "snmf, tol 1e-6": partial(ours, tol=1e-6, **options),
        "snmf, mu": partial(ours, solver="mu", **options),
        "NMF, mu": partial(nmf, solver="mu"),
    }
    found: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for seed in range(samples):
        rows = np.random.default_rng(seed).permutation(len(X))[: 9 * len(X) // 10]
        for method, fit in methods.items():
            (W, H, *_), seconds = timed(partial(fit, X[rows], k))
            found[method].append((relative_error(X[rows], W, H), seconds))
    base = np.array(found["NMF"])
    for method, of_method in found.items():
        errors, seconds = np.array(of_method).T
        above = 100 * (errors / base[:, 0] - 1)
        ratio = float(np.median(seconds / base[:, 1]))
        yield f"{name}, k = {k}, {method}", above.mean(), above.min(), above.max(), ratio


def pass_lines(X: np.ndarray, k: int) -> Iterator[tuple[str, float, float]]:
    from snmf.core.limits import Limits

    kinds = {
        "in the ball": Limits(ball=True),
        "1 % of the features": Limits(ball=True, nonzeros=max(1, X.shape[1] // 100)),
        "nonnegative": Limits(ball=True, nonnegative=True),
    }
    with a_pass(X, k, "mu") as plain:
        for name, limits in kinds.items():
            with a_pass(X, k, "mu", limits=limits) as limited:
                free, within = interleaved(plain, limited)
            yield f"{name}, k = {k}", 1e3 * within, within / free


def main() -> None:
    from sklearn.datasets import load_digits

    words = parser(__doc__, data=False)
    words.add_argument("--noise", type=float, nargs="*", default=NOISE, help="shares of ‖X‖")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    n, p, k, entries = (200, 40, 3, 4) if arguments.tiny else (4000, 1000, 50, 10)
    for noise in arguments.noise:
        table(
            f"{n} × {p}, {k} components of {entries} entries, noise {noise:.0%} of ‖X‖",
            ["found", "rises", "s"],
            sparse_lines(*planted(n, p, k, entries, noise), entries),
        )
    digits, rng = load_digits().data, np.random.default_rng(0)
    W, H = (rng.gamma(1, 1, size) * (rng.random(size) < 0.3) for size in ((3000, 20), (20, 300)))
    data = {"digits": digits, "planted": W @ H + 0.3 * rng.random((3000, 300))}
    table(
        "nonnegative data: error above that of scikit-learn's NMF, and time",
        ["above %", "least", "most", "÷ NMF"],
        (
            line
            for name, X in data.items()
            for k in ((3,) if arguments.tiny else (5, 16, 32))
            for line in positive_lines(name, *((X[:200], k, 2) if arguments.tiny else (X, k, 10)))
        ),
        first=36,
    )
    X = generated(*((300, 64, 3) if arguments.tiny else (20_000, 384, 13)))[0]
    table(
        f"a pass, {X.shape[0]} × {X.shape[1]}, mu, one thread",
        ["ms", "÷ free"],
        (line for k in ((3,) if arguments.tiny else (20, 50, 200)) for line in pass_lines(X, k)),
        first=36,
    )


if __name__ == "__main__":
    main()
