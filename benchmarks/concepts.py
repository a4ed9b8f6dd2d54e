"""Dictionaries of activations: many components, by snmf and by what interpretability uses.

tox -e benchmark -- concepts [--methods NAME …] [--components 50 200]
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import in_fresh_process, parser, peak_memory, relative_error, table, timed
from others import Factors
from peers import fewest
from recovery import METHODS, ours, share

NAMES = ("snmf", "hals, .01", "multiplicative", "overcomplete", "dictionary learning", "FastICA")
OURS = {"mu": {}, "hals": {"solver": "hals"}}


class Seen(NamedTuple):
    """What one method gives, and how long snmf takes until it has the same error."""

    found: float | None
    error: float
    filled: float  # the share of weights that are not zero
    seconds: float
    memory: int
    until: dict[str, float | None]


def planted(n: int, p: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations of k concepts, of which a tenth is active in a row, at noise ÷ signal 0.5."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((k, p))
    signal = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < 0.1) @ H
    noise = rng.standard_normal((n, p))
    noise *= 0.5 * np.linalg.norm(signal) / np.linalg.norm(noise)
    return (signal + noise).astype("float32"), H


def trained(width: int) -> np.ndarray:
    """What the hidden layer of a network, trained on digits, gets before its rectifier."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    X, y = load_digits(return_X_y=True)
    network = MLPClassifier((width,), max_iter=20, random_state=0).fit(X / 16, y)
    activations: np.ndarray = X / 16 @ network.coefs_[0] + network.intercepts_[0]
    return activations.astype("float32")


def seen(name: str, folder: Path, k: int) -> Seen:
    warnings.simplefilter("ignore")
    X, planted = np.load(folder / "X.npy"), np.load(folder / "H.npy")
    METHODS[name](X[: 4 * k + 20], 2, 0)  # imports and compilers are not timed
    before = peak_memory()
    (W, H), seconds = timed(partial(METHODS[name], X, k, 0))
    memory = peak_memory() - before
    error, until = relative_error(X, W, H), {}
    for solver, parameters in {} if name in NAMES[:2] else OURS.items():

        def fit(count: int, parameters: dict[str, Any] = parameters) -> Factors:
            return ours(X, k, 0, sparsity=0, tol=0, max_iter=count, **parameters)

        def reached(count: int, fit: Any = fit) -> bool:
            return relative_error(X, *fit(count)) <= error

        count = fewest(reached)
        until[solver] = None if count is None else timed(partial(fit, count))[1]
    found = share(np.asarray(H), planted) if len(planted) else None
    return Seen(found, error, float(np.mean(np.asarray(W) != 0)), seconds, memory, until)


def lines(
    names: list[str], X: np.ndarray, H: np.ndarray | None, k: int
) -> Iterator[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "X.npy", X)
        np.save(folder / "H.npy", np.empty((0, 0)) if H is None else H)
        for method in names:
            try:
                of = in_fresh_process(seen, method, folder, k)
            except ImportError as error:
                yield method, f"  missing: {error}"
                continue
            until = [of.until.get(solver) for solver in OURS]
            yield (
                method, of.found, f"{of.error:.5f}", of.filled, of.seconds, of.memory // 2**20,
                *(seconds and seconds / of.seconds for seconds in until),
            )  # fmt: skip


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(NAMES), metavar="NAME",
        help="some of those of the benchmark recovery",
    )  # fmt: skip
    words.add_argument("--components", nargs="+", type=int, default=[50, 200, 400])
    words.add_argument("--rows", type=int, default=10_000)
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    print("until: the time that snmf, at sparsity 0, takes to the error of the method, ÷ its time")
    heads = ["found", "error", "filled", "s", "MiB", "mu until", "hals until"]
    n, p = (300, 30) if arguments.tiny else (arguments.rows, 1024)
    for k in [4] if arguments.tiny else arguments.components:
        X, H = planted(n, p, k)
        table(f"planted, {n} × {p}, k = {k}", heads, lines(arguments.methods, X, H, k))
    X = trained(16 if arguments.tiny else 512)
    for k in (4,) if arguments.tiny else (20, 100):
        title = f"activations of a network, {X.shape[0]} × {X.shape[1]}, k = {k}"
        table(title, heads, lines(arguments.methods, X, None, k))


if __name__ == "__main__":
    main()
