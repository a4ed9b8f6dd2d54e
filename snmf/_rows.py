"""Where the rows of X lie: here in one array, taken in blocks, and the sum over them.

What has a row for every row of X ("row-wise", as W) is a list with one part for every block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import coo_array
from threadpoolctl import threadpool_limits

Array = Any
RowWise = list[Any]

NARROW = ("float32", "float16", "bfloat16")
BLOCK_BYTES = 2**23  # stays in a shared cache between X Hᵀ and Wᵀ X
BLOCK_ROWS = (64, 4096)
COMFORTABLE = {"float32": 2.0**20, "float64": 2.0**200}  # norms within 1/c … c need no scaling


class Rows:
    """The rows of one array, in blocks.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The data, of any real dtype.
    backend : snmf.backends.Backend
        Does the arithmetic.
    exponent : int, default=0
        Blocks come multiplied by 2 ** -exponent.
    run : callable, default=map
        How a function is mapped over the blocks.
    """

    def __init__(
        self,
        X: Array,
        backend: Any,
        exponent: int = 0,
        run: Callable[..., Iterator[Any]] = map,
    ) -> None:
        self.X, self.backend, self.exponent, self._run = X, backend, exponent, run
        self.shape: tuple[int, int] = X.shape
        self.dtype = min(working_dtype(X.dtype), backend.widest)
        self.stored = int(X.nnz if hasattr(X, "nnz") else X.shape[0] * X.shape[1])  # entries
        step = block_rows(self.stored / len(self), np.dtype(self.dtype).itemsize)
        self.slices = [
            slice(start, min(start + step, len(self))) for start in range(0, len(self), step)
        ]

    def __len__(self) -> int:
        return self.shape[0]

    @contextmanager
    def threads(self, n_jobs: int | None) -> Iterator[Rows]:
        """These rows, with blocks on n_jobs threads and BLAS held to one thread in each."""
        if n_jobs is None or not self.backend.threaded:
            yield self
            return
        with ThreadPoolExecutor(effective_n_jobs(n_jobs)) as pool, threadpool_limits(1):
            yield self._with(run=pool.map)

    def scaled(self, exponent: int) -> Rows:
        """The same rows multiplied by 2 ** -exponent, block by block."""
        return self._with(exponent=exponent)

    def over(self, A: np.ndarray) -> Rows:
        """The rows of an array of the host, in the precision and on the threads of these."""
        array = self.backend.asarray(A, self.dtype)
        return type(self)(array, self.backend, run=self._run)

    def _with(self, **changes: Any) -> Rows:
        return type(self)(
            self.X, self.backend, **{"exponent": self.exponent, "run": self._run, **changes}
        )

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: RowWise
    ) -> tuple[RowWise, list[Any]]:
        """Map a function over the blocks.

        Parameters
        ----------
        function : callable
            ``function(block, *parts) → (part, terms)``: a row-wise part, and a tuple of arrays.
        *row_wise : list of arrays
            Handed to the function part by part.

        Returns
        -------
        row_wise : list of arrays
            The parts.
        sums : list of arrays
            The terms added up over the blocks, in their order, in float64.
        """
        parts, sums = [], None

        def of_block(rows: slice, *given: Any) -> tuple[Any, Any]:
            with self.backend.active():
                return function(self.block(rows), *given)

        for part, terms in self._run(of_block, self.slices, *row_wise):
            parts.append(part)
            wide = [self.backend.to_algebra(term) for term in terms]
            sums = wide if sums is None else [a + b for a, b in zip(sums, wide, strict=True)]
        return parts, sums or []

    def block(self, rows: slice) -> Array:
        """Those rows: scaled, in working precision."""
        return self._prepared(self.X[rows, :])

    def take(self, indices: np.ndarray) -> Any:
        """Some rows, prepared likewise, on the host (NumPy, or SciPy sparse)."""
        return self.backend.to_host(self._prepared(self.backend.take(self.X, indices)))

    def _prepared(self, block: Array) -> Array:
        block = self.backend.asarray(block, self.dtype)
        if self.exponent:
            half = self.exponent // 2  # 2 ** 1074 is not a float
            block = block * 2.0**-half * 2.0 ** (half - self.exponent)
        return block

    def split(self, A: np.ndarray) -> RowWise:
        """A host array with a row for every row of X, as row-wise parts."""
        return [self.backend.asarray(A[rows, :], self.dtype) for rows in self.slices]

    def join(self, parts: RowWise) -> Array:
        """Row-wise parts as one array."""
        return self.backend.xp.concat(parts, axis=0)


def working_dtype(dtype: Any) -> str:
    """float32 for float32 and what is narrower, float64 for everything else."""
    return "float32" if str(dtype).split(".")[-1] in NARROW else "float64"


def block_rows(stored: float, itemsize: int) -> int:
    """How many rows of that many stored entries make a block."""
    fewest, most = BLOCK_ROWS
    return max(fewest, min(most, math.floor(BLOCK_BYTES / max(1, stored * itemsize))))


class Scale(NamedTuple):
    """What a first look at X tells.

    Attributes
    ----------
    exponent : int
        Blocks are best multiplied by 2 ** -exponent; 0 unless the squares of X would overflow
        or vanish.
    square : float
        ‖X‖² of the rows so scaled.
    longest : float
        The largest ‖x‖ of the rows so scaled.
    """

    exponent: int
    square: float
    longest: float


def measure(rows: Rows) -> Scale:
    """Look at every entry once, and again where the squares leave the range of the dtype.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite, which is named, or if ‖X‖_F is beyond the dtype.
    """
    comfortable = COMFORTABLE[rows.dtype]
    scale = Scale(0, *_squares(rows))
    if 1 / comfortable < scale.longest < comfortable:
        return scale
    largest = [float(part) for part in rows.map_sum(partial(_largest, rows.backend))[0]]
    for place, value in zip(rows.slices, largest, strict=True):
        if not math.isfinite(value):
            raise ValueError(_not_finite(rows, place))
    exponent = math.frexp(max(largest))[1]
    scale = Scale(exponent, *_squares(rows.scaled(exponent)))
    check_range(rows.dtype, scale.square**0.5, exponent)
    return scale


def check_range(dtype: str, norm: float, exponent: int) -> None:
    """Refuse X if norm × 2 ** exponent, of itself or of its weights, is beyond the dtype."""
    largest = float(np.finfo(dtype).max)
    if norm and not math.log2(norm) + exponent < math.log2(largest):
        raise ValueError(
            f"X is too large: its norm, or that of its weights, exceeds the largest {dtype}, "
            f"{largest:g}. Divide X by its largest entry."
        )


def _squares(rows: Rows) -> tuple[float, float]:
    longest, (square,) = rows.map_sum(partial(_squares_of_block, rows.backend))
    return float(square), max(float(part) for part in longest) ** 0.5


def _squares_of_block(ops: Any, X: Array) -> tuple[Array, tuple[Array]]:
    squares = ops.row_squares(X)
    return ops.xp.max(squares), (ops.xp.sum(squares),)


def _largest(ops: Any, X: Array) -> tuple[Array, tuple[()]]:
    return ops.xp.max(ops.row_maxima(X)), ()


def _not_finite(rows: Rows, place: slice) -> str:
    """What to say of the first NaN or infinity in these rows."""
    entries = coo_array(rows.backend.to_host(rows.block(place)))
    row, column, value = min(
        (int(place.start + i), int(j), float(v))
        for i, j, v in zip(*entries.coords, entries.data, strict=True)
        if not math.isfinite(v)
    )
    kind = "NaN" if math.isnan(value) else "infinity"
    return (
        f"X must be finite; got {kind} in row {row}, column {column}. "
        "Drop or impute such entries, e.g. by sklearn.impute.SimpleImputer."
    )
