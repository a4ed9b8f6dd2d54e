"""The backend of Dask arrays and DataFrames, perhaps on a cluster.

This backend does no arithmetic: the backend of the chunks does it.  `snmf.storage.dask_rows` makes
the passes over the chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from snmf.backends import Backend, adapter
from snmf.storage.dask_rows import ChunkedRows
from snmf.storage.dask_tasks import Site, threads_of_task
from snmf.storage.entries import check_not_empty, numbers, refuse_others
from snmf.storage.rows import NotFiniteError, working_dtype

Array = Any


class Adapter(Backend):
    """The owner of Dask arrays and DataFrames.

    Parameters
    ----------
    chunks : Backend
        The backend of the chunks.
    """

    def __init__(self, chunks: Backend) -> None:
        super().__init__("dask.array")
        self.chunks = chunks

    @property
    def name(self) -> str:
        return self.chunks.name

    @property
    def home(self) -> Backend:
        return adapter("numpy")

    def on(self, device: Any) -> Backend:
        return self.chunks.on(device)

    def check(self, X: Any) -> Any:
        if hasattr(X, "to_dask_array"):
            X = X.to_dask_array()
        if not isinstance(X, da.Array):
            raise ValueError(f"X must be a Dask array or DataFrame; got {type(X).__name__}")
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got an array of {X.ndim} dimensions instead")
        if X.dtype.kind == "c":
            raise ValueError("Complex data not supported")
        if X.dtype.kind == "O":
            X = X.map_blocks(_numbers, dtype="float64", meta=np.empty((0, 0)))
        refuse_others(X)
        return X if len(X.chunks[1]) == 1 else X.rechunk({1: -1})

    def outline(self, X: Any) -> Any:
        return X._meta if hasattr(X, "to_dask_array") else X

    def sized(self, X: Any) -> Any:
        if np.isnan(X.shape[0]):
            X = copy(X).compute_chunk_sizes()
        check_not_empty(X.shape)
        return X

    def rows(self, X: Any, backend: Backend | None = None) -> Any:
        return ChunkedRows(X, Site(self.chunks, backend or self.chunks))

    def threads_of_call(self, n_jobs: int | None) -> int | None:
        return threads_of_task(n_jobs)

    def map_rows(self, function: Callable[..., Array], X: Any, width: int) -> Any:
        empty = self.chunks.asarray(np.empty((0, width)), working_dtype(X.dtype))
        return X.map_blocks(
            _of_chunk,
            partial(function, source=self.chunks),
            empty,
            chunks=(X.chunks[0], (width,)),
            meta=empty,
            dtype=empty.dtype,
        )

    def asarray(self, A: Any, dtype: str | None = None) -> Any:
        return A.astype(dtype or A.dtype) if isinstance(A, da.Array) else np.asarray(A, dtype)

    def bring(self, A: Any, source: Backend) -> Any:
        return A  # rows come as Dask arrays, and H from NumPy

    def to_host(self, A: Any) -> np.ndarray:
        return A if isinstance(A, np.ndarray) else self.chunks.to_host(A.compute())

    def take(self, A: Any, indices: np.ndarray) -> Any:
        return A[indices]

    def matmul(self, A: Any, B: np.ndarray) -> Any:
        return A.map_blocks(
            _product, self.chunks, B, chunks=(A.chunks[0], (B.shape[1],)), meta=A._meta
        )


def _numbers(chunk: Array, block_info: Any = None) -> np.ndarray:
    start = block_info[0]["array-location"][0][0]
    return numbers(np.asarray(chunk), 0 if np.isnan(start) else int(start))


def _of_chunk(
    chunk: Array, function: Callable[[Array], Array], empty: Array, block_info: Any = None
) -> Array:
    if not chunk.shape[0]:
        return empty
    try:
        return function(chunk)
    except NotFiniteError as error:
        start = block_info[0]["array-location"][0][0]
        if np.isnan(start):  # chunk sizes are unknown, so the message counts within the chunk
            raise
        raise NotFiniteError(int(start) + error.row, error.column, error.value) from None


def _product(chunk: Array, ops: Backend, B: np.ndarray) -> Array:
    return ops.matmul(chunk, ops.asarray(B))
