"""Every backend that is here: agreement with NumPy, time of a fit, and of a pass on its device.

tox -e backends-benchmark   (on the CPU)        tox -e gpu   (on a GPU, after the tests)
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from data import load, parser

import snmf
from snmf._rows import measure
from snmf._solve import Alternation
from snmf.backends import ADAPTERS, Backend, adapter

K = 20
options = {"random_state": 0, "progress_bar": False}


def present() -> Iterator[Backend]:
    for name in ADAPTERS:
        try:
            yield adapter(name)
        except (ImportError, RuntimeError) as error:
            print(f"  {name}: left out ({str(error).splitlines()[0][:90]})")


def settled(ops: Backend, A: Any) -> None:
    """Wait for the device, by asking for a number."""
    float(ops.xp.sum(A))


def median(call: Callable[[], Any], repeats: int = 5) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def agreement(X: np.ndarray, found: list[Backend]) -> None:
    print("\nlargest difference to NumPy after 50 iterations, in units of the largest entry")
    for dtype in ("float32", "float64"):
        for solver in ("mu", "hals"):
            same = {"solver": solver, "max_iter": 50, "tol": 0, "accelerate": False, **options}
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

            def fit(given: Any = given, solver: str = solver) -> Any:
                return snmf.factorize(given, K, solver=solver, max_iter=50, tol=0, **options)

            seconds = median(fit, 3)
            unit.setdefault(solver, seconds)
            print(f"  {ops.place:14} {solver:5} {seconds / unit[solver]:6.2f}")


def passes(X: np.ndarray, found: list[Backend], k: int) -> None:
    print(f"\na plain pass of {X.shape[0]} x {X.shape[1]}, k = {k}, over X Hᵀ and Wᵀ X there")
    rng = np.random.default_rng(0)
    H, W = rng.standard_normal((k, X.shape[1])), rng.random((len(X), k))
    for ops in found:
        with ops.active():
            rows = ops.rows(ops.asarray(X))
            there_H, there_W = ops.asarray(H, rows.dtype), ops.asarray(W, rows.dtype)

            def bare(ops=ops, X=rows.X, H=there_H, W=there_W) -> None:
                settled(ops, ops.matmul(X, H.T))
                settled(ops, ops.matmul(W.T, X))

            unit = median(bare)
            for update in ("multiplicative", "hals"):
                plain = Alternation(rows, measure(rows).square, 0.0, update, 1)
                point = plain.start(rows.split(W), None)
                seconds = median(lambda a=plain, p=point: a.advance(p, p.H))
                print(f"  {ops.place:14} {update:14} {seconds / unit:6.2f}")
            if ops.name == "jax":
                noloox(X, W, unit)


def noloox(X: np.ndarray, W: np.ndarray, unit: float) -> None:
    """Its step, on JAX's device."""
    try:
        from noloox.decomposition import snmf as peer
    except ImportError:
        print("  noloox: left out (not installed)")
        return
    import jax.numpy as jnp

    G, X = jnp.asarray(W, "float32"), jnp.asarray(X)
    F = peer.update_F(X.T, G)
    seconds = median(lambda: peer.step(G, F, X)[2].block_until_ready())
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
    for k in (20, 50):
        passes(many, found, k)


if __name__ == "__main__":
    main()
