"""Backends: the array libraries that do the arithmetic.

A `Backend` works on an array-API namespace ``xp``.  The base class implements everything.  An
adapter overrides the methods that its library does faster or differently: it is a class ``Adapter``
in one file ``backends/_name.py``, listed in `ADAPTERS`.  `snmf.core.updates` defines the updates,
and the tests compare every override with it.

`owner` returns the backend of an array, and `choose` the backend for the parameters of a fit.
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

from snmf.core import passive as _passive
from snmf.core import updates
from snmf.storage.entries import check_not_empty
from snmf.storage.rows import Rows, cut
from snmf.storage.stored import Store, StoredRows

__all__ = ["ADAPTERS", "Backend", "SparseBackend", "choose", "owner"]

# The adapters are in backends/: next to this file when installed, next to snmf/ in a checkout.
__path__ = [str(parent / "backends") for parent in Path(__file__).parents[:2]]

# name: the top-level modules of its array types
ADAPTERS = {
    "numpy": ("numpy", "scipy"),
    "cupy": ("cupy", "cupyx"),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib"),
}
EXTRAS = {
    "cupy": "pip install 'snmf[cuda12]' or 'snmf[cuda13]', for the version of your CUDA driver",
    "torch": "pip install 'snmf[torch]'",
    "jax": "pip install 'snmf[jax]'",
}

WIDE = 2**16  # features of a residual to compute at a time
DENSE = 2**18  # entries of a sparse block to make dense at a time

Array = Any


class Backend:
    """The arithmetic of one array library, written over its array-API namespace.

    Parameters
    ----------
    namespace : str
        The import name of a namespace that follows the array-API standard.
    device : object, default=None
        The device of arrays, as the library names it. None is the default of the library.

    Notes
    -----
    Blocks of X and W are arrays of ``xp``, of dtype float32 or float64. `precise` computes the
    exact W in float64: NumPy here, and in an adapter the adapter itself if its arrays have float64
    and are writable. `algebra` computes k×k and k×p arrays in float64. It is always NumPy, since
    on a device each of many small steps would have to wait.
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
        """The name in `ADAPTERS`, or the namespace if it has none."""
        return self.namespace

    @property
    def place(self) -> str:
        """The name and the device, for messages."""
        return self.name if self.device is None else f"{self.name} on {self.device}"

    @property
    def xp(self) -> ModuleType:
        """The namespace, imported on each use, so that a backend can be pickled."""
        return import_module(self.namespace)

    @property
    def home(self) -> Backend:
        """The backend of results without rows, such as H: this one."""
        return self

    def on(self, device: Any) -> Backend:
        """Return the same library on a device; None keeps the device."""
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
        """Whether it computes on the host, and not on a device with its own memory."""
        return True

    @property
    def threaded(self) -> bool:
        """Whether threads may compute blocks: not if settings or streams belong to one thread."""
        return True

    def threads_of_products(self) -> int:
        """Return the number of threads of a product, if blocks may use these threads; else 1."""
        return 1

    @property
    def algebra(self) -> Backend:
        """The backend for k×k and k×p arrays: NumPy, in float64."""
        return adapter("numpy")

    @property
    def precise(self) -> Backend:
        """The backend for rows in float64."""
        return self.algebra

    def active(self) -> AbstractContextManager[Any]:
        """Return a context manager that must be active in every computation."""
        return np.errstate(over="ignore")  # squares of huge data are checked afterwards

    # Data in and out

    def asarray(self, A: Any, dtype: str | None = None) -> Array:
        """Return A, of the host or of this library, as an array on the device.

        `dtype` is a name; None keeps the dtype. float64 becomes `widest`.
        """
        A = portable(self._dense(A))
        if (dtype or str(getattr(A, "dtype", "")).split(".")[-1]) == "float64":
            dtype = self.widest
        return self.xp.asarray(A, dtype=dtype and getattr(self.xp, dtype), device=self.device)

    def is_dense(self, A: Any) -> bool:
        """Whether A is not sparse, neither in SciPy nor in this library."""
        return not issparse(A)

    def _dense(self, A: Any) -> Any:
        """Return A; raise ValueError if it is sparse."""
        if not self.is_dense(A):
            raise ValueError(
                f"X must be dense for the backend {self.name!r}; got "
                f"{getattr(A, 'layout', type(A).__name__)}. Make it dense, or give a SciPy sparse "
                "matrix to backend='numpy' or 'cupy'."
            )
        return A

    def to_host(self, A: Array) -> np.ndarray:
        """Return A as a NumPy array."""
        return np.from_dlpack(A) if A.ndim else np.asarray(float(A))

    def to_precise(self, A: Array) -> Array:
        """Return A, of this library or of `precise`, as a float64 array of `precise`."""
        ours = self.precise is not self and not isinstance(A, (np.ndarray, np.generic))
        return self.precise.asarray(self.to_host(A) if ours else A, "float64")

    def to_algebra(self, sums: list[Array]) -> list[np.ndarray]:
        """Return arrays of `precise` as arrays of `algebra`; a device is waited for once."""
        if self.precise.on_host or not sums:
            return [np.asarray(A) for A in sums]
        flat = self.to_host(self.xp.concat([self.xp.reshape(A, (-1,)) for A in sums]))
        parts = np.split(flat, np.cumsum([math.prod(A.shape) for A in sums])[:-1])
        return [part.reshape(A.shape) for part, A in zip(parts, sums, strict=True)]

    def bring(self, A: Array, source: Backend) -> Array:
        """Return A, an array of the backend `source`, as an array of this library and device."""
        if source == self or isinstance(A, Store):  # a Store stays; its blocks are converted later
            return A
        direct = source.name == self.name and not hasattr(A, "nnz")  # sparse: through the host
        return self.asarray(A if direct else source.to_host(A))

    def check(self, X: Array) -> Array:
        """Return X; raise if it is no matrix of real numbers. They may be infinite."""
        if not hasattr(X, "ndim"):
            kind = f"{type(X).__module__}.{type(X).__qualname__}"
            raise TypeError(f"X must be an array; got {kind}. MiniBatchSNMF.fit takes batches.")
        if self._dense(X).ndim != 2:
            raise ValueError(f"Expected 2D array, got an array of {X.ndim} dimensions instead")
        if "complex" in str(X.dtype):
            raise ValueError("Complex data not supported")
        check_not_empty(X.shape)
        return X

    def opened(self, X: Any) -> Any:
        """Return what reads X by rows, if X is a group of HDF5 or Zarr; else X."""
        return X

    def outline(self, X: Any) -> Any:
        """Return an object that shows scikit-learn the number and the names of the features."""
        return X

    def sized(self, X: Array) -> Array:
        """Return X with a known shape; lazy arrays may have to count their rows."""
        return X

    def rows(self, X: Array, backend: Backend | None = None) -> Rows:
        """Return the rows of X in blocks, for the backend that does the arithmetic."""
        backend = backend or self
        X = backend.bring(X, self)
        return StoredRows(X, backend) if isinstance(X, Store) else Rows(X, backend)

    def threads_of_call(self, n_jobs: int | None) -> int | None:
        """Return the n_jobs of one call of the function in `map_rows`."""
        return n_jobs

    def map_rows(self, function: Callable[..., Array], X: Array, width: int) -> Array:
        """Return ``function(X, source)``, a row of `width` entries per row of X; lazy for Dask."""
        return function(X, source=self)

    def slice(self, A: Array, rows: slice) -> Array:
        """Return adjacent rows, without a copy if the library has views."""
        return A[rows, :]

    def take(self, A: Array, indices: Array) -> Array:
        """Return the rows of A with these indices, an array of the host or of this library."""
        return self.xp.take(A, self.asarray(indices), axis=0)

    def to_dense(self, A: Array) -> Array:
        """Return A as a dense array."""
        return A

    def pieces(self, X: Array, entries: int = DENSE) -> list[Any]:
        """Return slices of the rows of X, with so many entries each if X is sparse; else one."""
        return [slice(0, X.shape[0])]

    # For the updates

    def matmul(self, A: Array, B: Array) -> Array:
        """Return the product A B."""
        return self.xp.matmul(A, B)

    def pinv(self, A: Array, rtol: float) -> Array:
        """Return the pseudo-inverse of a symmetric matrix.

        Singular values up to rtol × the largest count as zero.
        """
        return self.xp.linalg.pinv(A, rtol=rtol)

    def positive_part(self, A: Array) -> Array:
        """Return ``A⁺ = (|A| + A) / 2``."""
        return self.xp.maximum(A, self.xp.zeros_like(A))

    def negative_part(self, A: Array) -> Array:
        """Return ``A⁻ = (|A| − A) / 2``."""
        return self.xp.maximum(-A, self.xp.zeros_like(A))

    def tiny(self, dtype: Any) -> float:
        """Return the square root of the smallest normal number, which is safe to divide by."""
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
        """Make a W-step and the sums of one block: `snmf.core.updates.pass_over_block`."""
        with np.errstate(invalid="ignore"):  # weights that overflow show in the sums
            return updates.pass_over_block(self, update, X, W, H, B, l1, repeats, weights)

    def multiplicative(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """Make the W-step of Ding, Li & Jordan: `snmf.core.updates.multiplicative`."""
        return updates.multiplicative(self, A, B, W, l1, repeats)

    def hals(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """Make a W-step by coordinate descent: `snmf.core.updates.hals`."""
        return updates.hals(self, A, B, W, l1, repeats)

    def kept(self, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
        """Return W unchanged: `snmf.core.updates.kept`."""
        return updates.kept(self, A, B, W, l1, repeats)

    # Other functions of a block of X

    def row_squares(self, X: Array) -> Array:
        """Return ‖x‖² of every row."""
        return self.xp.sum(X * X, axis=1)

    def row_maxima(self, X: Array) -> Array:
        """Return the largest magnitude in every row."""
        return self.xp.max(self.xp.abs(X), axis=1)

    def scale_rows(self, X: Array, factors: Array) -> Array:
        """Return X with every row multiplied by its factor."""
        return X * factors[:, None]

    def filled(self, X: Array, W: Array, H: Array) -> Array:
        """Return X with NaN replaced by the entries of W H."""
        return self.xp.where(self.xp.isnan(X), self.matmul(W, H), X)

    def row_errors(self, X: Array, W: Array, H: Array) -> Array:
        """Return ‖x − w H‖² of every row, from the residual, `WIDE` features at a time."""
        p = X.shape[1]
        squares = (self.row_squares(X[:, j] - self.matmul(W, H[:, j])) for j in cut(0, p, WIDE))
        return sum(squares)

    def solve_passive(self, A: Array, system: Any, passive: Array) -> Array:
        """For every row a, find z with z M = a on its passive set, and z = 0 elsewhere.

        M is the matrix of a `snmf.core.quadratic.System`. The result may be less accurate than
        that of `eliminate`.
        """
        if system.matrix.ndim == 3:
            return self.eliminate(A, system.matrix, passive)
        return _passive.solve(self, A, system, passive)

    def eliminate(self, A: Array, M: Array, passive: Array) -> Array:
        """Solve as `solve_passive` does, by elimination.

        M has shape (k, k), for all rows, or (b, k, k), with one matrix for each row.
        """
        eliminated = _passive.by_size if M.ndim == 2 else _passive.whole
        return eliminated(self, A, M, passive)

    def solve(self, M: Array, B: Array) -> Array:
        """Return the solutions of systems of one size: M (b, s, s), B (b, s, 1)."""
        return self.xp.linalg.solve(M, B)


class SparseBackend(Backend):
    """A backend whose blocks of X may be CSR matrices, with the methods of SciPy or CuPy."""

    def issparse(self, A: Any) -> bool:
        """Whether A is a sparse matrix of this library."""
        raise NotImplementedError

    def to_dense(self, A: Array) -> Array:
        return A.toarray() if self.issparse(A) else A

    def pieces(self, X: Array, entries: int = DENSE) -> list[Any]:
        most = max(1, entries // X.shape[1]) if self.issparse(X) else X.shape[0]
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
    """Return A; a NumPy array with a dtype that other libraries lack is converted to float64.

    Such dtypes are longdouble, other byte orders, and extensions of NumPy such as bfloat16.
    """
    if not isinstance(A, np.ndarray):
        return A
    unknown = not A.dtype.isnative or A.dtype.char == "g" or A.dtype.kind == "V"
    return A.astype("float64") if unknown else A


def adapter(name: str, device: Any = None) -> Backend:
    """Return the backend of this name.

    Raises
    ------
    ImportError
        If its library is not installed. The message says what to install.
    RuntimeError
        If the machine has no device for this library.
    ValueError
        If the library does not have this device.
    """
    try:
        module = import_module(f"snmf.backends._{name}")
    except ImportError as error:
        raise ImportError(f"backend={name!r} needs its library: {EXTRAS[name]}") from error
    backend: Backend = module.Adapter(device)
    return backend


def owner(X: Any) -> Backend:
    """Return the backend of the array X, on the device of X; NumPy if X is no array."""
    if "dask" in _modules(X):
        chunked: Backend = import_module("snmf.backends._dask").Adapter(
            owner(getattr(X, "_meta", None))
        )
        return chunked
    name = _owner_name(X)
    if name == "numpy":
        return adapter(name)
    if name is not None:
        holder = X.data if hasattr(X, "nnz") else X  # CuPy's sparse matrices have no `device`
        return adapter(name, getattr(holder, "device", None))
    if hasattr(X, "__array_namespace__"):
        return Backend(X.__array_namespace__().__name__, X.device)
    return adapter("numpy")


def _modules(X: Any) -> set[str]:
    """Return the top-level modules of the type of X and its base types, without any import."""
    return {cls.__module__.split(".")[0] for cls in type(X).__mro__}


def _owner_name(X: Any) -> str | None:
    modules = _modules(X)
    return next((name for name, owned in ADAPTERS.items() if modules & {*owned}), None)


def choose(backend: str | Backend, source: Backend, device: Any = None) -> Backend:
    """Return the backend that does the arithmetic.

    Parameters
    ----------
    backend : str or Backend
        Selects the backend: "auto" for that of the data, a name in `ADAPTERS`, or your own
        `Backend`.
    source : Backend
        The backend of the data.
    device : object, default=None
        Selects the device. None is that of the data, if the library is the same.

    Raises
    ------
    ValueError
        If there is no backend of this name, or it does not have this device.
    ImportError
        If the library is not installed.
    RuntimeError
        If the machine has no device for this library.
    """
    if isinstance(backend, Backend):
        return backend
    if backend not in ("auto", *ADAPTERS):
        names = ", ".join(repr(name) for name in ("auto", *ADAPTERS))
        raise ValueError(f"backend must be one of {names}, or a Backend; got {backend!r}")
    return source.on(device) if backend in ("auto", source.name) else adapter(backend, device)
