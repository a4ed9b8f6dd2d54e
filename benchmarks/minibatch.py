"""One epoch of mini-batches, an iterator, and a fit until it stops, beside SNMF on a million rows.

tox -e benchmark -- minibatch [--rows N] [--features P]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import QUIET, generated, parser, table, timed

from snmf import SNMF, MiniBatchSNMF

K = 20
BATCH = 1024
EPOCH = {"max_iter": 1, "tol": 0, "max_no_improvement": None}


def loss(X: np.ndarray, model: Any, penalty: float) -> float:
    """The objective over ½‖X‖², at the exact W for the components."""
    objective, square = 0.0, 0.0
    for rows in np.array_split(X, 1 + len(X) // 50_000):
        W, wide = model.transform(rows).astype("float64"), rows.astype("float64")
        objective += np.sum((wide - W @ model.components_) ** 2) + 2 * penalty * W.sum()
        square += np.sum(wide**2)
    return float(objective / square)


def beside_a_full_fit(X: np.ndarray, solver: str, sparsity: float) -> Iterator[tuple[Any, ...]]:
    """Of every way of fitting: its loss, how far that is above SNMF's, and its time over SNMF's."""
    shared = {"n_components": K, "solver": solver, "sparsity": sparsity, **QUIET}
    full, whole = timed(lambda: SNMF(**shared).fit(X))
    first, best = full.loss_curve_[0], loss(X, full, full.penalty_)
    yield f"{solver}, sparsity {sparsity}, SNMF", first, best, 0.0, whole, 1.0
    batches = [X[i : i + BATCH] for i in range(0, len(X), BATCH)]
    for name, fit in {
        "one epoch": lambda: MiniBatchSNMF(**shared, **EPOCH).fit(X),
        "an iterator": lambda: MiniBatchSNMF(**shared).fit(iter(batches)),
        "until it stops": lambda: MiniBatchSNMF(**shared).fit(X),
    }.items():
        model, seconds = timed(fit)
        ours = loss(X, model, full.penalty_)
        gap = 100 * (ours - best) / (first - best)
        yield f"{solver}, sparsity {sparsity}, {name}", first, ours, gap, seconds, seconds / whole


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--features", type=int, default=64)
    arguments = words.parse_args()
    n, p = (3000, 24) if arguments.tiny else (arguments.rows, arguments.features)
    X, _ = generated(n, p, K)
    warnings.simplefilter("ignore")
    title = f"{n} x {p} {X.dtype}, k = {K}, batches of {BATCH}; above SNMF: of what SNMF gains"
    heads = ["SNMF's first loss", "loss", "% above SNMF", "seconds", "÷ SNMF's"]
    for solver in ("mu", "hals"):
        for sparsity in (0.0, 0.1):
            table(title, heads, beside_a_full_fit(X, solver, sparsity), 36)


if __name__ == "__main__":
    main()
