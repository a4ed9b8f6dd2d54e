"""JAX: the pass over a block compiled; float32 unless ``jax_enable_x64`` is set."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import lax

from snmf import _updates
from snmf.backends import Backend

Array = Any

_pass = jax.jit(_updates.pass_over_block, static_argnums=(0, 1, 7))


class Adapter(Backend):
    """JAX arrays. What is done in float64 is left to NumPy on the host."""

    name = "jax"

    def __init__(self, device: Any = None) -> None:
        if isinstance(device, str):
            device = _device_of_name(device)
        super().__init__("jax.numpy", device)

    @property
    def widest(self) -> str:
        return "float64" if jax.config.jax_enable_x64 else "float32"

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        return super().asarray(A, min(dtype, self.widest) if dtype and dtype[0] == "f" else dtype)

    def to_host(self, A: Array) -> np.ndarray:
        return np.asarray(A)

    def matmul(self, A: Array, B: Array) -> Array:
        return self.xp.matmul(A, B, precision=lax.Precision.HIGHEST)  # no TF32, no bfloat16

    def pass_over_block(
        self,
        update: str,
        X: Array,
        W: Array,
        H: Array,
        B: Array,
        l1: float,
        repeats: int,
        weights: Array | None = None,
    ) -> tuple[Array, tuple[Array, ...]]:
        done: tuple[Array, tuple[Array, ...]]
        done = _pass(self, update, X, W, H, B, l1, repeats, weights)
        return done

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        k = B.shape[0]
        diagonal = self.diagonal(B)
        safe = self.xp.where(diagonal > 0, diagonal, self.xp.inf)

        def column(step: Array, W: Array) -> Array:
            j = step % k
            descent = (A[:, j] - self.matmul(W, B[:, j]) - l1) / safe[j]
            return W.at[:, j].set(self.positive_part(W[:, j] + descent))

        return lax.fori_loop(0, k * repeats, column, self.xp.where(diagonal > 0, W, 0.0))


def _device_of_name(name: str) -> Any:
    """The device "cpu", "gpu" or "gpu:1"."""
    platform, _, number = name.partition(":")
    try:
        return jax.devices(platform)[int(number or 0)]
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(f"device={name!r} is not there for jax: {error}") from error
