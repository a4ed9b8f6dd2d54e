"""The exact last step of a fit ÷ 50 of its passes, by data and by the number of components.

tox -e benchmark -- laststep [--data FILE]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
from common import a_pass, generated, interleaved, load, parser, table, timed

PASSES = 50
COMPONENTS = (100, 200, 500)


def kinds(rows: int, features: int, rank: int) -> Iterator[tuple[str, np.ndarray]]:
    """Embedding-like rows, a few directions with noise, and noise alone, in float32."""
    rng = np.random.default_rng(0)
    yield "embeddings", generated(rows, features, 20)[0]
    noise = rng.standard_normal((rows, features))
    signal = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, features))
    yield f"rank {rank} + noise", (signal + noise).astype("float32")
    yield "white noise", noise.astype("float32")


def last_step(X: np.ndarray, H: np.ndarray, penalty: float) -> float:
    """Seconds of the exact W for this H and λ."""
    from snmf._data import Data
    from snmf._transform import exact_transform

    given = {"backend": "auto", "device": None, "n_jobs": 1, "missing_values": None}
    step = partial(exact_transform, locality=0.0, rms=1.0, out=False, **given)
    data = Data.of(X).sized()
    return timed(lambda: step(data, H, penalty))[1]


def line(
    name: str, X: np.ndarray, k: int, solver: str, sparsity: float
) -> tuple[str, float, float, float]:
    import snmf

    given = {"random_state": 0, "progress_bar": False, "max_iter": PASSES, "tol": 0.0, "n_jobs": 1}
    fit = snmf.factorize(X, k, solver=solver, sparsity=sparsity, **given)
    with a_pass(X, k, solver) as one:
        passes = PASSES * interleaved(one, repeats=5)[0]
    exact = float(np.median([last_step(X, fit.H, fit.penalty) for _ in range(3)]))
    return f"{name}, k = {k}, {solver}", passes, exact, exact / passes


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--rows", type=int, default=20_000)
    words.add_argument("--sparsity", type=float, default=0.01, help="of the fits; default: 0.01")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    if arguments.data is not None:
        data = [(arguments.data.stem, load(arguments)[0])]
    elif arguments.tiny:
        data = list(kinds(300, 40, 5))
    else:
        data = list(kinds(arguments.rows, 600, 100))
    table(
        f"{data[0][1].shape[0]} × {data[0][1].shape[1]}, one thread",
        [f"{PASSES} passes s", "last step s", "÷ passes"],
        (
            line(name, X, k, solver, arguments.sparsity)
            for name, X in data
            for k in ((3, 10) if arguments.tiny else COMPONENTS)
            for solver in ("mu", "hals")
        ),
        first=36,
    )


if __name__ == "__main__":
    main()
