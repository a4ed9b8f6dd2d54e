"""A pass in units of its products, threads, and the share of the exact last step.

tox -e benchmark -- floor [--data FILE]
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from common import QUIET, a_pass, interleaved, load, parser, table, timed
from joblib import effective_n_jobs
from scipy.sparse import csr_array

import snmf

SOLVERS = {"mu": 2, "hals": 1}  # and how many products W B a W-step cannot avoid
CORES = effective_n_jobs(-1)


def factors(X: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    W, H = rng.random((X.shape[0], k)), rng.standard_normal((k, X.shape[1]))
    return W.astype(X.dtype), H.astype(X.dtype)


def dense(X: np.ndarray, k: int, repeats: int) -> Iterator[tuple[Any, ...]]:
    W, H = factors(X, k)
    B = H @ H.T

    def bare() -> list[np.ndarray]:
        return [X @ H.T, W.T @ X]

    def needed(times: int) -> list[np.ndarray]:
        return [*bare(), W.T @ W, *(W @ B for _ in range(times))]

    with ExitStack() as stack:
        calls = []
        for solver, times in SOLVERS.items():
            plain, fast = (
                stack.enter_context(a_pass(X, k, solver, accelerate=a)) for a in (False, True)
            )
            calls += [plain, bare, fast, partial(needed, times)]
        seconds = np.reshape(interleaved(*calls, repeats=repeats), (len(SOLVERS), 4))
    for solver, (plain, two, fast, all_of_them) in zip(SOLVERS, seconds, strict=True):
        name = f"{X.dtype}, k = {k}, {solver}"
        yield name, 1000 * plain, plain / two, plain / all_of_them, fast / two


def filled(n: int, p: int, share: float) -> csr_array:
    """A sparse matrix with that share of its entries filled, everywhere alike."""
    rng = np.random.default_rng(0)
    each = round(share * p)
    columns = rng.integers(p, size=(n, each))
    values = rng.random(n * each, dtype="float32")
    X = csr_array((values, columns.ravel(), np.arange(0, n * each + 1, each)), shape=(n, p))
    X.sum_duplicates()
    return X


def sparse(X: csr_array, k: int, repeats: int) -> Iterator[tuple[Any, ...]]:
    """Against the two products of SciPy, in as many blocks of rows as there are threads."""
    W, H = factors(X, k)
    Ht = np.ascontiguousarray(H.T)

    def of_block(part: tuple[csr_array, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return part[0] @ Ht, part[0].T @ part[1]

    def bare(pool: ThreadPoolExecutor, parts: list[tuple[csr_array, np.ndarray]]) -> np.ndarray:
        return sum(S for _, S in pool.map(of_block, parts))

    with ExitStack() as stack:
        products = []
        for threads in (1, CORES):
            cuts = np.linspace(0, X.shape[0], threads + 1, dtype=int)
            parts = [(X[a:b], W[a:b]) for a, b in pairwise(cuts)]
            products.append(partial(bare, stack.enter_context(ThreadPoolExecutor(threads)), parts))
        for solver in SOLVERS:
            for n_jobs in dict.fromkeys((None, 1, CORES)):
                with a_pass(X, k, solver, n_jobs=n_jobs) as plain:
                    seconds, one, every = interleaved(plain, *products, repeats=repeats)
                name = f"{solver}, n_jobs={n_jobs}"
                yield name, 1000 * seconds, seconds / one, seconds / every


def threads(X: np.ndarray, k: int, repeats: int) -> Iterator[tuple[Any, ...]]:
    for solver in SOLVERS:
        with a_pass(X, k, solver, n_jobs=1) as alone, a_pass(X, k, solver, n_jobs=2) as both:
            one, two = interleaved(alone, both, repeats=repeats)
        yield f"k = {k}, {solver}", 1000 * one, 1000 * two, two / one


def scaled(X: np.ndarray | csr_array, k: int, repeats: int) -> Iterator[tuple[Any, ...]]:
    kind = f"{X.nnz / np.prod(X.shape):.2g} filled" if hasattr(X, "nnz") else "dense"
    for solver in SOLVERS:
        with a_pass(X, k, solver) as plain, a_pass(X, k, solver, divided=True) as divided:
            one, other = interleaved(plain, divided, repeats=repeats)
        yield f"{kind}, {solver}", 1000 * one, 1000 * other, other / one


def last_step(X: np.ndarray, k: int, repeats: int) -> Iterator[tuple[Any, ...]]:
    """The last step is what `transform` does; both look once at X for its scale."""
    for solver in SOLVERS:
        model = snmf.SNMF(k, solver=solver, **QUIET)
        model.fit(X[: 10 * k])  # what is imported late is there
        calls = partial(model.fit, X), partial(model.transform, X)
        seconds = [[timed(call)[1] for call in calls] for _ in range(repeats)]
        fit, step = (float(value) for value in np.median(seconds, axis=0))
        yield f"k = {k}, {solver}", model.n_iter_, fit, step, 100 * step / fit


def main() -> None:
    arguments = parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    tiny = arguments.tiny
    X, _ = load(arguments)
    size = f"{X.shape[0]} × {X.shape[1]}"
    repeats, k = (2, 3) if tiny else (15, 20)
    ks = (k,) if tiny else (5, 20, 50, 100, 200)
    table(
        f"a plain pass of {size} ÷ X Hᵀ and WᵀX, and ÷ these, WᵀW and W B (mu: twice)",
        ["ms", "÷ two", "÷ all", "accelerated ÷ two"],
        (
            line
            for dtype in ("float32", "float64")
            for k in ks
            for line in dense(X.astype(dtype), k, repeats)
        ),
    )
    S = filled(400, 300, 0.02) if tiny else filled(100_000, 20_000, 0.002)
    table(
        f"a plain pass of sparse {S.shape[0]} × {S.shape[1]}, {S.nnz} filled, k = {k}, "
        "÷ the two sparse products",
        ["ms", "÷ on 1 thread", f"÷ on {CORES} threads"],
        sparse(S, k, repeats),
    )
    table(
        "a plain pass on two threads ÷ on one", ["ms on 1", "ms on 2", "÷"], threads(X, k, repeats)
    )
    S = filled(400, 300, 0.05) if tiny else filled(20_000, 2000, 0.05)
    table(
        f"a plain pass with a scale ÷ without, {size} and {S.shape[0]} × {S.shape[1]}, k = {k}",
        ["ms", "ms with", "÷"],
        (line for data in (X, S) for line in scaled(data, k, repeats)),
    )
    table(
        f"the exact last step in a fit of {size}",
        ["passes", "fit s", "step s", "% of the fit"],
        (
            line
            for k, repeats in ({k: 2} if tiny else {20: 5, 200: 1}).items()
            for line in last_step(X, k, repeats)
        ),
    )


if __name__ == "__main__":
    main()
