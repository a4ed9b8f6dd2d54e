"""Backends: which library does the arithmetic.

A backend is a `Backend` over an array-API namespace ``xp``.  The base class does everything; an
adapter, one file ``backends/_name.py`` with a class ``Adapter``, overrides what its library does
faster or otherwise, and is entered in `ADAPTERS`.  `snmf.core.updates` defines the updates, and
every override is held to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import issparse

from snmf.core import updates
from snmf.storage.entries import check_not_empty
from snmf.storage.rows import Rows, cut
from snmf.storage.stored import Store, StoredRows

__all__ = ["ADAPTERS", "Backend", "SparseBackend", "choose", "owner"]

# The adapters lie in backends/: beside this file when installed, beside snmf/ in a checkout.
__path__ = [str(parent / "backends") for parent in Path(__file__).parents[:2]]

# name: the top-level modules whose types it owns
ADAPTERS = {
    "numpy": ("numpy", "scipy"),
    "cupy": ("cupy", "cupyx"),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib"),
}
EXTRAS = {
    "cupy": "pip install 'snmf[cuda12]' or 'snmf[cuda13]', as your CUDA driver is",
    "torch": "pip install 'snmf[torch]'",
    "jax": "pip install 'snmf[jax]'",
}

WIDE = 2**16  # features of a residual at a time
DENSE = 2**18  # entries of a sparse block that are made dense at a time

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
    float64. What is k×k or k×p, and the exact W, is left to `algebra` in float64: here NumPy on
    the host; in an adapter the adapter itself, if its arrays have float64 and can be written to.
    """

    def __init__(self, namespace: str, device: Any = None) -> None:
        self.namespace = namespace
        self.device = device

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.namespace))

    @property
    def name(self) -> str:
        """The name in `ADAPTERS`, or else the namespace."""
        return self.namespace

    @property
    def place(self) -> str:
        """Its name and its device, for messages."""
        return self.name if self.device is None else f"{self.name} on {self.device}"

    @property
    def xp(self) -> ModuleType:
        """The namespace; looked up, so that a backend pickles."""
        return import_module(self.namespace)

    @property
    def home(self) -> Backend:
        """The owner of what comes back beside rows, as H: this library."""
        return self

    def on(self, device: Any) -> Backend:
        """The same library on that device; None is the device that it is on."""
        if device is None:
            return self
        known = self.name in ADAPTERS
        return adapter(self.name, device) if known else Backend(self.namespace, device)

    # How it runs

    @property
    def widest(self) -> str:
        """The widest dtype of the device: float64, or float32."""
        return "float64"

    @property
    def on_host(self) -> bool:
        """Whether it computes in the caches of the host, or on a device with memory of its own."""
        return True

    @property
    def threaded(self) -> bool:
        """Whether blocks may go on threads: not where settings, or streams, are one thread's."""
        return True

    def threads_of_products(self) -> int:
        """The threads that a product takes, if blocks may have them in its place; else 1."""
        return 1

    @property
    def algebra(self) -> Backend:
        """The backend for what is done in float64."""
        return adapter("numpy")

    def active(self) -> AbstractContextManager[Any]:
        """What must be set around every computation."""
        return np.errstate(over="ignore")  # squares of huge data are looked at afterwards

    # Data in and out

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        """A, of the host or of this library, on the device, in the dtype of that name.

        What is float64 becomes `widest`.
        """
        A = portable(self._dense(A))
        if (dtype or str(getattr(A, "dtype", "")).split(".")[-1]) == "float64":
            dtype = self.widest
        return self.xp.asarray(A, dtype=dtype and getattr(self.xp, dtype), device=self.device)

    def is_dense(self, A: Any) -> bool:
        """Whether A is none of SciPy's sparse matrices, nor of this library's."""
        return not issparse(A)

    def _dense(self, A: Any) -> Any:
        """A, if it is dense."""
        if not self.is_dense(A):
            raise ValueError(
                f"X must be dense for the backend {self.name!r}; got "
                f"{getattr(A, 'layout', type(A).__name__)}. Make it dense, or give a SciPy sparse "
                "matrix to backend='numpy' or 'cupy'."
            )
        return A

    def to_host(self, A: Array) -> np.ndarray:
        """A as a NumPy array."""
        return np.from_dlpack(A) if A.ndim else np.asarray(float(A))

    def to_algebra(self, A: Array) -> Array:
        """A, of this library or of `algebra`, in float64 for `algebra`."""
        ours = self.algebra is not self and not isinstance(A, (np.ndarray, np.generic))
        return self.algebra.asarray(self.to_host(A) if ours else A, "float64")

    def bring(self, A: Array, source: Backend) -> Array:
        """A, an array of the backend source, as one of this library on this device."""
        if source == self or isinstance(A, Store):  # of which only blocks are brought
            return A
        direct = source.name == self.name and not hasattr(A, "nnz")  # sparse ones do not move
        return self.asarray(A if direct else source.to_host(A))

    def check(self, X: Array) -> Array:
        """X, if it is a matrix of real numbers; whether they are finite is seen to later."""
        if self._dense(X).ndim != 2:
            raise ValueError(f"Expected 2D array, got an array of {X.ndim} dimensions instead")
        if "complex" in str(X.dtype):
            raise ValueError("Complex data not supported")
        check_not_empty(X.shape)
        return X

    def outline(self, X: Any) -> Any:
        """What shows the number of the features of X, and their names, to scikit-learn."""
        return X

    def sized(self, X: Array) -> Array:
        """X, of a shape that is known."""
        return X

    def rows(self, X: Array, backend: Backend | None = None) -> Rows:
        """The rows of X, of this library, in blocks for the backend that does the arithmetic."""
        backend = backend or self
        X = backend.bring(X, self)
        return StoredRows(X, backend) if isinstance(X, Store) else Rows(X, backend)

    def threads_of_call(self, n_jobs: int | None) -> int | None:
        """The n_jobs of one call of a function by `map_rows`."""
        return n_jobs

    def map_rows(self, function: Callable[..., Array], X: Array, width: int) -> Array:
        """``function(X, source)`` of rows, each for itself, to rows of that width."""
        return function(X, source=self)

    def slice(self, A: Array, rows: slice) -> Array:
        """Rows side by side, without a copy where the library has views."""
        return A[rows, :]

    def take(self, A: Array, indices: np.ndarray) -> Array:
        """Those rows of A."""
        return self.xp.take(A, self.asarray(indices), axis=0)

    def to_dense(self, A: Array) -> Array:
        """A, if it is sparse made dense."""
        return A

    def pieces(self, X: Array) -> list[Any]:
        """X in so many rows that all of them may be made dense."""
        return [slice(0, X.shape[0])]

    # What the updates ask for

    def matmul(self, A: Array, B: Array) -> Array:
        """The product A B."""
        return self.xp.matmul(A, B)

    def pinv(self, A: Array, rtol: float) -> Array:
        """Pseudo-inverse of a symmetric matrix, less singular values ≤ rtol × the largest."""
        return self.xp.linalg.pinv(A, rtol=rtol)

    def positive_part(self, A: Array) -> Array:
        """``A⁺ = (|A| + A) / 2``."""
        return self.xp.maximum(A, self.xp.zeros_like(A))

    def negative_part(self, A: Array) -> Array:
        """``A⁻ = (|A| − A) / 2``."""
        return self.xp.maximum(-A, self.xp.zeros_like(A))

    def tiny(self, dtype: Any) -> float:
        """The square root of the smallest normal number: safe to divide by."""
        return math.sqrt(self.xp.finfo(dtype).smallest_normal)

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
        """One iteration's work on a block: `snmf.core.updates.pass_over_block`."""
        with np.errstate(invalid="ignore"):  # of weights that overflow: the sums tell
            return updates.pass_over_block(self, update, X, W, H, B, l1, repeats, weights)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """W-step of Ding, Li & Jordan: `snmf.core.updates.multiplicative`."""
        return updates.multiplicative(self, A, B, W, l1, repeats)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """W-step by coordinate descent: `snmf.core.updates.hals`."""
        return updates.hals(self, A, B, W, l1, repeats)

    def kept(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """No W-step: `snmf.core.updates.kept`."""
        return updates.kept(self, A, B, W, l1, repeats)

    # What else is done with a block of X

    def row_squares(self, X: Array) -> Array:
        """‖x‖² of every row."""
        return self.xp.sum(X * X, axis=1)

    def row_maxima(self, X: Array) -> Array:
        """The largest magnitude in every row."""
        return self.xp.max(self.xp.abs(X), axis=1)

    def scale_rows(self, X: Array, factors: Array) -> Array:
        """Every row times its factor."""
        return X * factors[:, None]

    def filled(self, X: Array, W: Array, H: Array) -> Array:
        """X with w h in place of its NaN."""
        return self.xp.where(self.xp.isnan(X), self.matmul(W, H), X)

    def row_errors(self, X: Array, W: Array, H: Array) -> Array:
        """‖x − w H‖² of every row, from the residual: of so many features at a time."""
        p = X.shape[1]
        squares = (self.row_squares(X[:, j] - self.matmul(W, H[:, j])) for j in cut(0, p, WIDE))
        return sum(squares)

    def solve_passive(self, A: Array, system: Any, passive: Array) -> Array:
        """For every row a: about the z with z M = a on its passive set and z = 0 elsewhere.

        M is the matrix of a `snmf.core.quadratic.System`. It may be less exact than `eliminate`.
        """
        return self.eliminate(A, system.matrix, passive)

    def eliminate(self, A: Array, M: Array, passive: Array) -> Array:
        """The same by elimination. M (k, k) is for all rows, or (b, k, k) one for each."""
        xp = self.xp
        both = passive[:, :, None] & passive[:, None, :]
        system = xp.where(both, M, self.asarray(np.eye(M.shape[-1])))
        right = xp.where(passive, A, xp.zeros_like(A))
        return xp.linalg.solve(system, right[:, :, None])[:, :, 0]


class SparseBackend(Backend):
    """A backend whose blocks of X may be CSR: in SciPy's words, which are CuPy's too."""

    def issparse(self, A: Any) -> bool:
        """Whether A is a sparse matrix of this library."""
        raise NotImplementedError

    def to_dense(self, A: Array) -> Array:
        return A.toarray() if self.issparse(A) else A

    def pieces(self, X: Array) -> list[Any]:
        most = max(1, DENSE // X.shape[1]) if self.issparse(X) else X.shape[0]
        return cut(0, X.shape[0], most)

    def matmul(self, A: Array, B: Array) -> Array:
        return (B.T @ A.T).T if self.issparse(B) else A @ B

    def row_squares(self, X: Array) -> Array:
        if not self.issparse(X):
            return super().row_squares(X)
        return self.xp.asarray(X.multiply(X).sum(axis=1)).ravel()

    def row_maxima(self, X: Array) -> Array:
        if not self.issparse(X):
            return super().row_maxima(X)
        return abs(X).max(axis=1).toarray().ravel()

    def scale_rows(self, X: Array, factors: Array) -> Array:
        if not self.issparse(X):
            return super().scale_rows(X, factors)
        return X.multiply(factors[:, None]).tocsr()

    def filled(self, X: Array, W: Array, H: Array) -> Array:
        if not self.issparse(X):
            return super().filled(X, W, H)
        X = X.tocoo(copy=True)
        (missing,) = self.xp.nonzero(self.xp.isnan(X.data))
        rows, columns = X.row[missing], X.col[missing]
        X.data[missing] = self.xp.sum(W[rows] * H.T[columns], axis=1)
        return X.tocsr()

    def row_errors(self, X: Array, W: Array, H: Array) -> Array:
        if not self.issparse(X):
            return super().row_errors(X, W, H)
        return self.xp.concat([
            super(SparseBackend, self).row_errors(X[some].toarray(), W[some], H)
            for some in self.pieces(X)
        ])  # fmt: skip


def portable(A: Any) -> Any:
    """A; if an array of the host in a dtype that other libraries do not know, in float64.

    Such are longdouble, other byte orders, and what extends NumPy, as bfloat16.
    """
    if not isinstance(A, np.ndarray):
        return A
    unknown = not A.dtype.isnative or A.dtype.char == "g" or A.dtype.kind == "V"
    return A.astype("float64") if unknown else A


def adapter(name: str, device: Any = None) -> Backend:
    """The backend of that name.

    Raises
    ------
    ImportError
        If its library is not installed; the message says which extra brings it.
    RuntimeError
        If it has no device.
    ValueError
        If it has not that device.
    """
    try:
        module = import_module(f"snmf.backends._{name}")
    except ImportError as error:
        raise ImportError(f"backend={name!r} needs its library: {EXTRAS[name]}") from error
    backend: Backend = module.Adapter(device)
    return backend


def owner(X: Any) -> Backend:
    """The backend that X is an array of, on the device of X; NumPy for all that is no array."""
    if "dask" in _modules(X):
        chunked: Backend = import_module("snmf.backends._dask").Adapter(
            owner(getattr(X, "_meta", None))
        )
        return chunked
    name = _owner_name(X)
    if name == "numpy":
        return adapter(name)
    if name is not None:
        holder = X.data if hasattr(X, "nnz") else X  # CuPy's sparse matrices know no device
        return adapter(name, getattr(holder, "device", None))
    if hasattr(X, "__array_namespace__"):
        return Backend(X.__array_namespace__().__name__, X.device)
    return adapter("numpy")


def _modules(X: Any) -> set[str]:
    """The modules that its type, and those above it, are of: nothing is imported for that."""
    return {cls.__module__.split(".")[0] for cls in type(X).__mro__}


def _owner_name(X: Any) -> str | None:
    modules = _modules(X)
    return next((name for name, owned in ADAPTERS.items() if modules & {*owned}), None)


def choose(backend: str | Backend, source: Backend, device: Any = None) -> Backend:
    """The backend that does the arithmetic.

    Parameters
    ----------
    backend : str or Backend
        "auto" is the owner of the data. Otherwise a name in `ADAPTERS`, or a backend of your own.
    source : Backend
        The owner of the data.
    device : object, default=None
        Where the arithmetic is done. None is where the data lies, if that is the same library.

    Raises
    ------
    ValueError
        If there is no backend of that name, or not that device.
    """
    if isinstance(backend, Backend):
        return backend
    if backend not in ("auto", *ADAPTERS):
        names = ", ".join(repr(name) for name in ("auto", *ADAPTERS))
        raise ValueError(f"backend must be one of {names}, or a Backend; got {backend!r}")
    return source.on(device) if backend in ("auto", source.name) else adapter(backend, device)
