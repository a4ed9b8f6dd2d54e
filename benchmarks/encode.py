"""The exact weights of `snmf.torch` beside FISTA, and the time of their gradient.

tox -e backends-benchmark -- encode.py [--rows N] [--device cuda]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from common import QUIET, interleaved, parser, table, timed

from snmf import MiniBatchSNMF
from snmf.torch import Dictionary

TOGETHER = 4096  # rows that FISTA solves for together: each group stops on its own
EVERY = 10  # steps between two looks at the residual


def activations(n: int, p: int, k: int) -> torch.Tensor:
    """Sums of planted components that share a direction, a tenth of the weights above zero."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((k, p)) + rng.standard_normal(p)
    W = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < 0.1)
    X = W @ H
    X += 0.3 * X.std() * rng.standard_normal((n, p))
    return torch.from_numpy(X.astype("float32"))


def settled(call: Callable[..., torch.Tensor], *given: torch.Tensor) -> torch.Tensor:
    """What a call gives, when the device has computed it."""
    result = call(*given)
    float(result.sum())
    return result


def residuals(W: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """How far every row is from the conditions of Karush, Kuhn & Tucker; A is X Hᵀ − λ."""
    return torch.minimum(W, W @ B - A).abs().amax(dim=1)


def fista(
    A: torch.Tensor, B: torch.Tensor, enough: torch.Tensor, most: int
) -> tuple[torch.Tensor, int]:
    """Beck & Teboulle's method with a restart of each row (O'Donoghue & Candès), and its steps."""
    step = 1 / torch.linalg.eigvalsh(B)[-1]
    W = Y = torch.zeros_like(A)
    t = torch.ones_like(A[:, :1])
    for steps in range(1, most + 1):
        new = (Y + step * (A - Y @ B)).clamp_(min=0)
        if steps % EVERY == 0 and bool((residuals(new, A, B) <= enough).all()):
            return new, steps
        uphill = ((Y - new) * (new - W)).sum(dim=1, keepdim=True) > 0
        t = torch.where(uphill, 1.0, t)
        after = (1 + (1 + 4 * t**2).sqrt()) / 2
        Y, W, t = new + (t - 1) / after * (new - W), new, after
    return W, most


def by_fista(
    X: torch.Tensor, ours: Dictionary, residual: float, most: int
) -> tuple[torch.Tensor, int]:
    """The weights to this residual, in units of ‖x‖, and the most steps of a group of rows."""
    H = ours.dictionary.detach().to(X)
    parts = [
        fista(x @ H.T - ours.penalty, H @ H.T, residual * x.norm(dim=1), most)
        for x in X.split(TOGETHER)
    ]
    return torch.cat([W for W, _ in parts]), max(steps for _, steps in parts)


def beside_fista(X: torch.Tensor, ours: Dictionary, most: int) -> Iterator[tuple[Any, ...]]:
    wide, H = X.double(), ours.dictionary.detach().double()

    def largest(W: torch.Tensor) -> float:
        A, B = wide @ H.T - ours.penalty, H @ H.T
        return float((residuals(W.double(), A, B) / wide.norm(dim=1)).max())

    reached = {}
    for name, data in {"float32": X, "float64": wide}.items():
        ours.encode(data[:TOGETHER])  # what a device does once is not timed
        W, seconds = timed(partial(settled, ours.encode, data))
        reached[name] = largest(W)
        yield f"exact, {name}", seconds, f"{reached[name]:.0e}", None
    for name, residual, data in (
        ("FISTA, float32, 1e-3", 1e-3, X),
        ("FISTA, float32, 1e-5", 1e-5, X),
        ("FISTA, as exact float32", reached["float32"], wide),
        ("FISTA, as exact float64", reached["float64"], wide),
    ):
        (W, steps), seconds = timed(partial(by_fista, data, ours, residual, most))
        yield name, seconds, f"{largest(W):.0e}", steps


def gradients(X: torch.Tensor, ours: Dictionary, repeats: int) -> Iterator[tuple[Any, ...]]:
    """The time of backward over that of forward, with gradients for x and the dictionary."""
    penalty = ours.penalty
    for dtype in (torch.float32, torch.float64):
        for ours.penalty in (penalty, 0.0):
            x = X.detach().to(dtype, copy=True).requires_grad_()

            def forward(x: torch.Tensor = x) -> torch.Tensor:
                return ours.requires_grad_().encode(x)

            weights = forward()
            there = torch.ones_like(weights)
            share = float((weights > 0).double().mean())

            def backward(x: torch.Tensor = x, weights: Any = weights, there: Any = there) -> None:
                weights.backward(there, retain_graph=True)
                float(x.grad[0, 0])

            one, two = interleaved(partial(settled, forward), backward, repeats=repeats)
            name = f"{str(dtype).removeprefix('torch.')}, λ = {ours.penalty:.2g}"
            yield name, share, one, two, two / one


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument("--rows", type=int, default=100_000)
    words.add_argument("--features", type=int, default=1024)
    words.add_argument("--components", type=int, default=200)
    words.add_argument("--device", default="cpu", help="a device of torch, such as cuda")
    words.add_argument("--most", type=int, default=3000, help="steps of FISTA")
    arguments = words.parse_args()
    warnings.simplefilter("ignore")
    n, p, k = arguments.rows, arguments.features, arguments.components
    if arguments.tiny:
        n, p, k = 400, 30, 5
    X = activations(n, p, k).to(arguments.device)
    ours = Dictionary(MiniBatchSNMF(k, max_iter=5, **QUIET)).fit(X[: 100 * k])
    ours.to(arguments.device)
    title = f"the weights of {n} × {p}, k = {k}; the residual in units of ‖x‖"
    with torch.no_grad():
        table(title, ["seconds", "residual", "steps"], beside_fista(X, ours, arguments.most))
    some = X[: n // 5]
    table(
        f"forward and backward of {len(some)} × {p}, k = {k}",
        ["% > 0", "forward s", "backward s", "÷"],
        (
            (name, 100 * share, *seconds)
            for name, share, *seconds in gradients(some, ours, 1 if arguments.tiny else 3)
        ),
    )


if __name__ == "__main__":
    main()
