"""One epoch of mini-batches against a full fit, on a million rows.

tox -e benchmark -- minibatch [--rows N] [--features P]
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from data import generated, parser

from snmf import SNMF, MiniBatchSNMF

COMPONENTS = 20
EPOCH = {"max_iter": 1, "tol": 0, "max_no_improvement": None}


def timed(fit: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    fitted = fit()
    return fitted, time.perf_counter() - began


def loss(X: np.ndarray, model: Any, penalty: float) -> float:
    """The objective over ½‖X‖², at the exact W for the components."""
    objective, square = 0.0, 0.0
    for rows in np.array_split(X, 1 + len(X) // 50_000):
        W = model.transform(rows).astype("float64")
        wide = rows.astype("float64")
        objective += np.sum((wide - W @ model.components_) ** 2) + 2 * penalty * W.sum()
        square += np.sum(wide**2)
    return float(objective / square)


def beside_a_full_fit(X: np.ndarray, solver: str, sparsity: float) -> None:
    shared = {
        "n_components": COMPONENTS,
        "solver": solver,
        "sparsity": sparsity,
        "random_state": 0,
        "progress_bar": False,
    }
    full, full_seconds = timed(lambda: SNMF(**shared).fit(X))
    first, best = full.loss_curve_[0], loss(X, full, full.penalty_)
    print(
        f"\n{solver}, sparsity {sparsity}: SNMF {first:.5f} -> {best:.5f} "
        f"in {full.n_iter_} passes, {full_seconds:.1f} s"
    )
    print(f"  {'':34} {'loss':>8} {'gap':>8} {'time':>7}")
    batches = [X[i : i + 1024] for i in range(0, len(X), 1024)]
    for name, fit in {
        "MiniBatchSNMF, one epoch": lambda: MiniBatchSNMF(**shared, **EPOCH).fit(X),
        "MiniBatchSNMF, an iterator": lambda: MiniBatchSNMF(**shared).fit(iter(batches)),
        "MiniBatchSNMF, until it stops": lambda: MiniBatchSNMF(**shared).fit(X),
    }.items():
        model, seconds = timed(fit)
        ours = loss(X, model, full.penalty_)
        gap = (ours - best) / (first - best)
        print(f"  {name:34} {ours:8.5f} {gap:8.2%} {seconds / full_seconds:7.4f}")


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--rows", type=int, default=1_000_000)
    words.add_argument("--features", type=int, default=64)
    arguments = words.parse_args()
    if arguments.data is not None:
        words.error("--data is not for this benchmark, which generates its rows")
    n, p = (3000, 24) if arguments.tiny else (arguments.rows, arguments.features)
    X, _ = generated(n, p, COMPONENTS)
    warnings.simplefilter("ignore")
    print(
        f"{n} x {p} {X.dtype}, k = {COMPONENTS}; gap: how far the loss is above that of SNMF, as a"
    )
    print("share of what SNMF gains from its start; time: in times of SNMF; batches of 1024 rows")
    for solver in ("mu", "hals"):
        for sparsity in (0.0, 0.1):
            beside_a_full_fit(X, solver, sparsity)


if __name__ == "__main__":
    main()
