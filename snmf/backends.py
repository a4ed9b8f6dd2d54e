"""Backends: which library does the arithmetic.

A backend is a `Backend` over an array-API namespace ``xp``.  The base class does everything; an
adapter, one file ``backends/_name.py`` with a class ``Adapter``, overrides what its library does
faster, and is entered in `ADAPTERS`.  `snmf._updates` defines the updates, and every override is
held to it.
"""

from __future__ import annotations

import math
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snmf import _updates
from snmf._rows import Rows

__all__ = ["ADAPTERS", "Backend", "choose"]

# The adapters lie in backends/: beside this file when installed, beside snmf/ in a checkout.
__path__ = [str(parent / "backends") for parent in Path(__file__).parents[:2]]

ADAPTERS = {"numpy": "snmf.backends._numpy"}

Array = Any


class Backend:
    """The arithmetic of one array library, written over its array-API namespace.

    Parameters
    ----------
    namespace : str
        Import name of a namespace that keeps to the array-API standard.
    device : object, default=None
        Where arrays are put, in the library's own words. None is its default.

    Notes
    -----
    Blocks of X, W and what is computed from them are arrays of ``xp``, of dtype float32 or
    float64. What is k×k or k×p is done in float64 by `algebra`: NumPy on the host, or an adapter
    whose arrays have float64 and can be written to.
    """

    wide = "float64"  # the widest dtype of the device

    def __init__(self, namespace: str, device: Any = None) -> None:
        self.namespace = namespace
        self.device = device

    @property
    def name(self) -> str:
        """The word for this backend in messages."""
        return self.namespace

    @property
    def xp(self) -> ModuleType:
        """The namespace; looked up, so that a backend pickles."""
        return import_module(self.namespace)

    @property
    def algebra(self) -> Backend:
        """The backend for all that is k×k or k×p, in float64: here NumPy, on the host."""
        return adapter("numpy")

    # Data in and out

    def owns(self, X: Any) -> bool:
        """Whether X is an array of this library; imports nothing."""
        namespace = getattr(X, "__array_namespace__", None)
        return namespace is not None and namespace().__name__ == self.namespace

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        """A as an array of this library, on the device, of the dtype that is named."""
        return self.xp.asarray(A, dtype=dtype and getattr(self.xp, dtype), device=self.device)

    def to_host(self, A: Array) -> np.ndarray:
        """A as a NumPy array."""
        return np.from_dlpack(A)

    def hand_back(self, A: Array, like: Any) -> Any:
        """A as the caller of ``like`` expects it: here as it is."""
        return A

    def take(self, A: Array, indices: np.ndarray) -> Array:
        """Those rows of A."""
        return self.xp.take(A, self.asarray(indices), axis=0)

    def to_dense(self, A: Array) -> Array:
        """A, if it is sparse made dense."""
        return A

    def copy(self, A: Array) -> Array:
        """A copy of A."""
        return self.xp.asarray(A, copy=True)

    def rows(self, X: Any, **options: Any) -> Rows:
        """The rows of X in blocks."""
        return Rows(X, self, **options)

    # What the updates ask for

    def matmul(self, A: Array, B: Array) -> Array:
        """The product A B."""
        return self.xp.matmul(A, B)

    def pinv(self, A: Array, rtol: float) -> Array:
        """Pseudo-inverse of a symmetric matrix, less singular values ≤ rtol × the largest."""
        return self.xp.linalg.pinv(A, rtol=rtol)

    def positive_part(self, A: Array) -> Array:
        """A⁺ = (|A| + A) / 2."""
        return self.xp.maximum(A, 0 * A)

    def negative_part(self, A: Array) -> Array:
        """A⁻ = (|A| − A) / 2."""
        return self.xp.maximum(-A, 0 * A)

    def diagonal(self, A: Array) -> Array:
        """The diagonal of a square matrix."""
        return self.xp.linalg.diagonal(A)

    def identity_like(self, A: Array) -> Array:
        """The identity of the shape and the dtype of a square matrix."""
        return self.xp.eye(A.shape[0], dtype=A.dtype, device=self.device)

    def tiny(self, dtype: Any) -> float:
        """The square root of the smallest normal number: safe to divide by."""
        return math.sqrt(self.xp.finfo(dtype).smallest_normal)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """W-step of Ding, Li & Jordan: `snmf._updates.multiplicative`."""
        return _updates.multiplicative(self, A, B, W, l1, repeats)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """W-step by coordinate descent: `snmf._updates.hals`."""
        return _updates.hals(self, A, B, W, l1, repeats)

    # What else is done with a block of X

    def row_squares(self, X: Array) -> Array:
        """‖x‖² of every row."""
        return self.xp.sum(X * X, axis=1)

    def row_maxima(self, X: Array) -> Array:
        """The largest |entry| of every row."""
        return self.xp.max(self.xp.abs(X), axis=1)

    def scale_rows(self, X: Array, factors: Array) -> Array:
        """Every row times its factor."""
        return X * factors[:, None]

    def row_errors(self, X: Array, W: Array, H: Array) -> Array:
        """‖x − w H‖² of every row, from the residual."""
        return self.row_squares(X - self.matmul(W, H))

    def solve_passive(self, A: Array, B: Array, passive: Array) -> Array:
        """For every row a: z with B z = a on its passive set and z = 0 elsewhere."""
        xp = self.xp
        both = passive[:, :, None] & passive[:, None, :]
        system = xp.where(both, B[None, :, :], self.identity_like(B)[None, :, :])
        right = xp.where(passive, A, xp.zeros_like(A))
        return xp.linalg.solve(system, right[:, :, None])[:, :, 0]


def adapter(name: str, device: Any = None) -> Backend:
    """The backend of that name."""
    backend: Backend = import_module(ADAPTERS[name]).Adapter(device)
    return backend


def choose(backend: str | Backend, X: Any, device: Any = None) -> Backend:
    """The backend that does the arithmetic for X.

    Parameters
    ----------
    backend : str or Backend
        "auto" is the backend that owns X, and NumPy for lists, DataFrames, sparse matrices and
        whatever else is not an array. Otherwise a name in `ADAPTERS`, or a backend of your own.
    X : object
        The caller's data.
    device : object, default=None
        Where the arithmetic is done.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    if isinstance(backend, Backend):
        return backend
    if backend == "auto":
        return _owner(X, device)
    if backend not in ADAPTERS:
        names = ", ".join(repr(name) for name in ["auto", *ADAPTERS])
        raise ValueError(f"backend must be one of {names}, or a Backend; got {backend!r}")
    return adapter(backend, device)


def _owner(X: Any, device: Any) -> Backend:
    for name in ADAPTERS:
        if name in sys.modules and (candidate := adapter(name, device)).owns(X):
            return candidate
    if hasattr(X, "__array_namespace__"):
        return Backend(X.__array_namespace__().__name__, device)
    return adapter("numpy", device)
