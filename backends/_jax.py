"""The backend JAX: a compiled pass over a block; float32 unless ``jax_enable_x64`` is set."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import lax

from snmf.backends import Backend
from snmf.core import updates

Array = Any

_pass = jax.jit(updates.pass_over_block, static_argnums=(0, 1, 7))


class Adapter(Backend):
    """JAX arrays on one device. NumPy on the host does the computations in float64."""

    name = "jax"
    threaded = False  # settings such as ``jax.enable_x64()`` are per thread

    def __init__(self, device: Any = None) -> None:
        if device is None:
            device = jax.numpy.empty(0).device
        elif isinstance(device, str):
            device = _device_of_name(device)
        if not isinstance(device, jax.Device):
            raise ValueError(
                "device must be None, a jax.Device or its name, such as 'gpu:1', and X be on one "
                f"device; got {device!r}. jax.device_put(X, jax.devices()[0]) gathers X."
            )
        super().__init__("jax.numpy", f"{device.platform}:{device.id}")

    @property
    def device(self) -> Any:
        """The device, looked up by its name on each use, so that a backend can be pickled."""
        return _device_of_name(self.device_name)

    @device.setter
    def device(self, name: str) -> None:
        self.device_name = name

    @property
    def on_host(self) -> bool:
        return self.device_name.startswith("cpu")

    @property
    def widest(self) -> str:
        return "float64" if jax.config.jax_enable_x64 else "float32"

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        A = jax.device_put(A, self.device) if isinstance(A, jax.Array) else A
        return super().asarray(A, dtype)

    def to_host(self, A: Array) -> np.ndarray:
        return np.asarray(A)

    def is_dense(self, A: Any) -> bool:
        return not hasattr(A, "todense")  # sparse arrays of SciPy and JAX have this method

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
        diagonal = self.xp.linalg.diagonal(B)
        safe = self.xp.where(diagonal > 0, diagonal, self.xp.inf)

        def column(step: Array, W: Array) -> Array:
            j = step % k
            descent = (A[:, j] - self.matmul(W, B[:, j]) - l1) / safe[j]
            return W.at[:, j].set(self.positive_part(W[:, j] + descent))

        return lax.fori_loop(0, k * repeats, column, self.xp.where(diagonal > 0, W, 0.0))


def _device_of_name(name: str) -> Any:
    """Return the device named "cpu", "gpu" or "gpu:1": its platform, and its id there."""
    platform, _, number = name.partition(":")
    try:
        there = jax.local_devices(backend=platform)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is not there for jax: {error}") from error
    for device in there:
        if number in ("", str(device.id)):
            return device
    raise ValueError(f"device={name!r} is not there for jax; it sees {there}")
