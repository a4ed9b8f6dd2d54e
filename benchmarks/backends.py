"""Every backend that is here: agreement with NumPy, and times of fits and of passes on its device.

tox -e backends-benchmark   (on the CPU)        tox -e gpu   (on a GPU, after the tests)
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import QUIET, Call, a_pass, interleaved, load, parser, timed
from concepts import planted
from others import RIDGE, STEPS, step_in_use
from peers import fewest

import snmf
from snmf.backends import ADAPTERS, Backend, adapter

K = 20
HOST = 100_000  # the most rows of passes on the host


def present() -> Iterator[Backend]:
    for name in ADAPTERS:
        try:
            yield adapter(name, "cuda" if name == "torch" and torch_has_cuda() else None)
        except (ImportError, RuntimeError) as error:
            print(f"  {name}: left out ({str(error).splitlines()[0][:90]})")


def torch_has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def settled(ops: Backend, A: Any) -> None:
    """Wait for the device, by asking for a number."""
    float(A[0, 0])


def agreement(X: np.ndarray, found: list[Backend]) -> None:
    print("\nlargest difference to NumPy after 50 iterations, in units of the largest entry")
    for dtype in ("float32", "float64"):
        for solver in ("mu", "hals"):
            same = {"solver": solver, "max_iter": 50, "tol": 0, "accelerate": False, **QUIET}
            theirs = snmf.factorize(X[:3000].astype(dtype), K, **same)
            for ops in found[1:]:
                ours = snmf.factorize(X[:3000].astype(dtype), K, backend=ops, **same)
                apart = [
                    np.abs(a - b).max() / np.abs(b).max()
                    for a, b in (
                        (ours.W, theirs.W),
                        (ours.H, theirs.H),
                        (ours.loss_curve, theirs.loss_curve),
                    )
                ]
                print(
                    f"  {dtype} {solver:5} {ops.place:14} W {apart[0]:.0e}  H {apart[1]:.0e}  "
                    f"loss {apart[2]:.0e}"
                )


def fits(X: np.ndarray, found: list[Backend]) -> None:
    print(f"\n50 iterations of {X.shape[0]} x {X.shape[1]}, k = {K}, in units of NumPy's")
    unit = {}
    for ops in found:
        given = ops.asarray(X)
        for solver in ("mu", "hals"):
            fit = partial(snmf.factorize, given, K, solver=solver, max_iter=50, tol=0, **QUIET)
            (seconds,) = interleaved(fit, repeats=3)
            unit.setdefault(solver, seconds)
            print(f"  {ops.place:14} {solver:5} {seconds / unit[solver]:6.2f}")


def passes(X: np.ndarray, found: list[Backend], k: int) -> None:
    print(
        f"\na plain pass of {X.shape[0]} x {X.shape[1]}, k = {k}, over X Hᵀ and Wᵀ X; over Σ X; "
        "the exact W over 50 passes"
    )
    rng = np.random.default_rng(0)
    H, W = rng.standard_normal((k, X.shape[1])), rng.random((len(X), k))
    for ops in found:
        if ops.on_host and len(X) > HOST:
            continue
        with ops.active():
            there_X, there_H, there_W = (ops.asarray(A, str(X.dtype)) for A in (X, H, W))

            def bare(ops=ops, X=there_X, H=there_H, W=there_W) -> None:
                settled(ops, ops.matmul(X, H.T))
                settled(ops, ops.matmul(W.T, X))

            def read(ops=ops, X=there_X) -> None:
                float(ops.xp.sum(X))

            for solver in ("mu", "hals"):
                n_jobs = 1 if ops.name == "numpy" else None  # others see to their threads
                with a_pass(X, k, solver, backend=ops, n_jobs=n_jobs) as one:
                    seconds, products, sums = interleaved(one, bare, read)
                exact = exact_seconds(there_X, k, solver, ops) / (50 * seconds)
                print(
                    f"  {ops.place:14} {solver:14} {seconds / products:6.2f} {seconds / sums:6.1f}"
                    f" {exact:6.2f}"
                )
            if ops.name == "jax":
                noloox(X, W, bare)


def exact_seconds(X: Any, k: int, solver: str, ops: Backend) -> float:
    """The time of the exact weights; NaN if the host computes them for a device."""
    if ops.precise.on_host != ops.on_host:
        return float("nan")
    few = {"n_jobs": 1 if ops.name == "numpy" else None, "max_iter": 20, "tol": 0, **QUIET}
    model = snmf.SNMF(k, solver=solver, **few).fit(X[: 100 * k, :])
    (seconds,) = interleaved(lambda: settled(ops, model.transform(X)), repeats=3)
    return seconds


def steps_in_use(ops: Backend, X: Any, k: int) -> tuple[Any, Any]:
    """`others.multiplicative` on a device: steps from random weights, H by least squares."""
    dtype = str(X.dtype).split(".")[-1]
    W = ops.asarray(np.random.default_rng(0).random((X.shape[0], k)), dtype)
    ridge = ops.asarray(RIDGE * np.eye(k), dtype)
    for _ in range(STEPS):
        W, H, *_ = step_in_use(ops.xp, ops.matmul, X, W, ridge, lambda H: H)
    settled(ops, W)
    return W, H


def beside_the_steps_in_use(found: list[Backend], n: int, p: int, k: int) -> None:
    print(
        f"\nseconds of {STEPS} multiplicative steps, planted concepts {n} x {p}, k = {k}; snmf "
        "until it has their error, and a default fit with hals, over that"
    )
    host, _ = planted(n, p, k)
    for ops in found:
        if ops.on_host and n > HOST // 10:
            continue
        with ops.active():
            X = ops.asarray(host)
            steps_in_use(ops, X[: 10 * k, :], k)  # what a device does once is not timed
            (W, H), seconds = timed(partial(steps_in_use, ops, X, k))
            error = float(ops.xp.sum(ops.row_errors(X, W, H)))

        def fit(count: int, X: Any = X, **parameters: Any) -> snmf.Factorization:
            options = {"solver": "hals", "sparsity": 0, "tol": 0, "max_iter": count, **QUIET}
            return snmf.factorize(X, k, **{**options, **parameters})

        fit(1)
        count = fewest(lambda count, fit=fit, most=error**0.5: fit(count).error <= most)
        until = float("nan") if count is None else timed(partial(fit, count))[1]
        whole = timed(partial(fit, 200, tol=1e-5, sparsity=0.01))[1]
        print(f"  {ops.place:14} {seconds:6.2f} {until / seconds:6.3f} {whole / seconds:6.3f}")


def streamed(X: np.ndarray, found: list[Backend]) -> None:
    print(f"\n10 iterations of {X.shape[0]} x {X.shape[1]}, k = {K}, from a file over in memory")
    with tempfile.TemporaryDirectory() as folder:
        np.save(path := Path(folder, "X.npy"), X)
        mapped = np.load(path, mmap_mode="r")
        for ops in found:
            if ops.on_host and len(X) > HOST:
                continue
            options = {"solver": "hals", "max_iter": 10, "tol": 0, "backend": ops, **QUIET}
            fits = (partial(snmf.factorize, A, K, **options) for A in (mapped, ops.asarray(X)))
            seconds, unit = interleaved(*fits, repeats=3)
            print(f"  {ops.place:14} {seconds / unit:6.2f}")


def noloox(X: np.ndarray, W: np.ndarray, bare: Call) -> None:
    """Its step, on JAX's device."""
    try:
        from noloox.decomposition import snmf as peer
    except ImportError:
        print("  noloox: left out (not installed)")
        return
    import jax.numpy as jnp

    G, X = jnp.asarray(W, "float32"), jnp.asarray(X)
    F = peer.update_F(X.T, G)
    seconds, unit = interleaved(lambda: peer.step(G, F, X)[2].block_until_ready(), bare)
    print(f"  noloox's step on jax          {seconds / unit:6.2f}")


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--rows", type=int, default=20_000, help="rows of the passes")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    X, _ = load(arguments)
    found = list(present())
    agreement(X, found)
    fits(X, found)
    many = np.tile(X, (-(-arguments.rows // len(X)), 1))[: arguments.rows]
    for k in (5,) if arguments.tiny else (20, 50, 200):
        passes(many, found, k)
    streamed(many, found)
    beside_the_steps_in_use(found, *((300, 30, 4) if arguments.tiny else (100_000, 1024, 200)))


if __name__ == "__main__":
    main()
