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


def positive_lines(name: str, X: np.ndarray, k: int) -> Iterator[tuple[Any, ...]]:
    from sklearn.decomposition import NMF

    import snmf

    def of(W: np.ndarray, H: np.ndarray) -> float:
        return relative_error(X, W, H)

    model = NMF(k, max_iter=2000, random_state=0)
    W, theirs = timed(lambda: model.fit_transform(X))
    error = of(W, model.components_)
    yield f"{name}, k = {k}, NMF", error, None, theirs, 1.0
    for solver, tol in (("hals", 1e-5), ("hals", 1e-6), ("mu", 1e-5)):
        options = {"solver": solver, "tol": tol, "sparsity": 0, "positive_components": True}
        result, seconds = timed(
            lambda options=options: snmf.factorize(X, k, max_iter=2000, **QUIET, **options)
        )
        mine = of(result.W, result.H)
        yield f"{solver}, tol {tol:g}", mine, 100 * (mine / error - 1), seconds, seconds / theirs


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
        "nonnegative data, beside scikit-learn's NMF",
        ["error", "above %", "s", "÷ NMF"],
        (
            line
            for name, X in data.items()
            for k in ((3,) if arguments.tiny else (5, 16, 32))
            for line in positive_lines(name, X[:200] if arguments.tiny else X, k)
        ),
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
