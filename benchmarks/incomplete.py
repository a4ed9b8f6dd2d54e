"""Missing values and sample weights: what they cost, and how well holes are filled.

tox -e benchmark -- incomplete
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack

import numpy as np
from common import QUIET, a_pass, generated, interleaved, parser, table

import snmf

NOISE, MISSING = 0.1, 0.3


def planted(n: int, p: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy data of rank k, and the noise."""
    rng = np.random.default_rng(seed)
    clean = np.maximum(0, rng.standard_normal((n, k))) @ rng.standard_normal((k, p))
    noise = NOISE * clean.std() * rng.standard_normal((n, p))
    return clean + noise, noise


def held_out(n: int, p: int, k: int, solver: str, seed: int) -> tuple[float, int]:
    """The error in the entries that are missing over the noise there, and the iterations."""
    X, noise = planted(n, p, k, seed)
    missing = np.random.default_rng(seed + 100).random(X.shape) < MISSING
    holes = np.where(missing, np.nan, X)
    result = snmf.factorize(holes, k, solver=solver, missing_values=np.nan, **QUIET)
    left = (X - result.W @ result.H)[missing]
    return float(np.linalg.norm(left) / np.linalg.norm(noise[missing])), result.n_iter


def main() -> None:
    arguments = parser(__doc__, data=False).parse_args()
    warnings.simplefilter("ignore")
    n, p, k = (200, 30, 3) if arguments.tiny else (2000, 100, 8)
    free, seen = k * (n + p - k), (1 - MISSING) * n * p
    limit = (1 + free / seen) ** 0.5
    rows = []
    for solver in ("mu", "hals"):
        found = np.array([held_out(n, p, k, solver, seed) for seed in range(3)])
        rows.append([solver, found[:, 0].mean(), found[:, 1].mean()])
    rows.append(["least squares, about", limit, None])
    title = f"{n} x {p}, k = {k}, noise {NOISE:.0%}, {MISSING:.0%} of the entries missing"
    table(title, ["error there over noise", "iterations"], rows)

    X = generated(300, 64, 3)[0] if arguments.tiny else generated(20_000, 384, 13)[0]
    holes = np.where(np.random.default_rng(0).random(X.shape) < MISSING, np.float32("nan"), X)
    rows = []
    for solver in ("mu", "hals"):
        for components in (3,) if arguments.tiny else (20, 50):
            with ExitStack() as stack:
                calls = [
                    stack.enter_context(a_pass(data, components, solver, **given))
                    for data, given in ((X, {}), (X, {"weighted": True}), (holes, {"holes": True}))
                ]
                plain, weighted, missing = interleaved(*calls)
            name = f"{solver}, k = {components}"
            rows.append([name, weighted / plain, missing / plain])
    title = f"{X.shape[0]} x {X.shape[1]} {X.dtype}: a plain pass over that of complete data"
    table(title, ["with weights", "with holes"], rows)


if __name__ == "__main__":
    main()
