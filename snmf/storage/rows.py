"""The rows of X in blocks: `Rows` maps functions over the blocks, and sums their results.

An array with one row per row of X, such as W, is a sequence of parts here, with one part per block
(`RowWise`).

`measure` checks X and finds its scale (`Scale`). `taking_part` selects the rows with a sample
weight above zero.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from operator import truediv
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import coo_array

from snmf.storage.csr import by_column
from snmf.storage.threads import BLAS

Array = Any
RowWise = Sequence[Any]

NARROW = ("float32", "float16", "bfloat16")
BLOCK_BYTES = 3 * 2**20  # fits in a cache between X Hᵀ and Wᵀ X; smaller ones make threads wait
DEVICE_BYTES = 2**29  # enough work for a device at a time
BLOCK_ROWS = (64, 4096)  # the fewest and most rows; the most is p if p is larger, as S costs k p
COMFORTABLE = {"float32": 2.0**20, "float64": 2.0**200}  # norms within 1/c … c need no scaling


class Views(ABC):
    """What rows in this process and rows on a cluster have in common."""

    shape: tuple[int, int]
    members: np.ndarray | None

    @abstractmethod
    def _with(self, **changes: Any) -> Self:
        """Return the same rows, prepared in another way."""

    def __len__(self) -> int:
        return self.shape[0]

    def scaled(self, exponent: int) -> Self:
        """Return the same rows multiplied by 2 ** -exponent, block by block."""
        return self._with(exponent=exponent)

    def divided(self, divisors: np.ndarray | None) -> Self:
        """Return the same rows with every column divided by its divisor, block by block."""
        return self._with(divisors=divisors)

    def filled(self, fill: np.ndarray | None) -> Self:
        """Return the same rows, with NaN replaced by one number per column, block by block."""
        return self._with(fill=fill)

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices of these rows in the array that they were selected from."""
        return indices if self.members is None else self.members[indices]

    @abstractmethod
    def made(self, of_rows: Callable[[slice], np.ndarray]) -> Any:
        """Make every part from the host array `of_rows(rows)`, in the order of the rows."""

    def split(self, A: np.ndarray) -> Any:
        """Split a host array with one row per row of X into parts."""
        return self.made(lambda rows: A[rows, :])


class Rows(Views):
    """The rows of one array, in blocks.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The data, of any real dtype.
    backend : snmf.backends.Backend
        Does the arithmetic.
    exponent : int, default=0
        Multiplies every block by 2 ** -exponent.
    divisors : ndarray of shape (n_features,), default=None
        Divides every column by its divisor.
    factors : ndarray of shape (n_samples,), default=None
        Multiplies every row by its factor.
    fill : ndarray of shape (n_features,), default=None
        Replaces NaN in every column by this value.
    run : callable, default=map
        Maps a function over the blocks, as `map` does.
    members : ndarray of int, default=None
        Selects rows of X, in ascending order. None is all.
    """

    def __init__(
        self,
        X: Array,
        backend: Any,
        exponent: int = 0,
        divisors: np.ndarray | None = None,
        factors: np.ndarray | None = None,
        fill: np.ndarray | None = None,
        run: Callable[..., Iterator[Any]] = map,
        members: np.ndarray | None = None,
    ) -> None:
        self.X, self.backend, self._run = X, backend, run
        self.exponent, self.divisors, self.factors = exponent, divisors, factors
        self.fill, self.members = fill, members
        self.shape: tuple[int, int] = (X.shape[0] if members is None else len(members), X.shape[1])
        self.dtype = min(working_dtype(X.dtype), backend.widest)
        stored = int(X.nnz if hasattr(X, "nnz") else X.shape[0] * X.shape[1])  # entries
        self.stored = stored * self.shape[0] // X.shape[0]
        step = block_rows(self.shape, self.stored, np.dtype(self.dtype).itemsize, backend.on_host)
        self.slices = cut(0, len(self), step)

    @contextmanager
    def threads(self, n_jobs: int | None) -> Iterator[Rows]:
        """Yield these rows, with blocks on n_jobs threads, each with one thread of BLAS.

        None takes as many threads as a matrix product would. The blocks do not depend on n_jobs.
        """
        count = min(self._threads(n_jobs), len(self.slices))
        with ExitStack() as stack:
            if self.backend.threaded:
                stack.enter_context(BLAS)
            if count < 2:
                yield self
                return
            pool = stack.enter_context(ThreadPoolExecutor(count))
            yield self._with(run=partial(ahead, pool, 2 * count))

    def _threads(self, n_jobs: int | None) -> int:
        if not self.backend.threaded:
            return 1
        if n_jobs is not None:
            return int(effective_n_jobs(n_jobs))
        return int(self.backend.threads_of_products())

    def times(self, factors: np.ndarray | None) -> Rows:
        """Return the same rows, each multiplied by its factor, block by block."""
        return self._with(factors=factors)

    def only(self, members: np.ndarray) -> Rows:
        """Return some of these rows, in their order; they are copied block by block."""
        return self._with(members=self.places(members))

    def over(self, A: np.ndarray) -> Rows:
        """Return the rows of a host array, with the precision and the threads of these rows."""
        return Rows(self.backend.asarray(A, self.dtype), self.backend, run=self._run)

    def part(self, rows: slice) -> Rows:
        """Return some adjacent rows as new `Rows`, divided, but neither scaled nor filled."""
        return self.over(self._raw(rows)).divided(self.divisors)

    def some(self, indices: np.ndarray) -> Rows:
        """Return the rows with these indices as new `Rows`, divided, but not scaled or filled."""
        return self.over(self._taken(indices)).divided(self.divisors)

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[tuple[Rows, Any]]:
        """Yield `size` rows at a time in random order, each time with their indices."""
        order = rng.permutation(len(self))
        places = (np.sort(order[at]) for at in cut(0, len(self), size))
        return ((self.some(place), place) for place in places)

    def _with(self, **changes: Any) -> Self:
        kept: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("exponent", "divisors", "factors", "fill", "members")
        }
        kept["run"] = self._run
        return type(self)(self.X, self.backend, **{**kept, **changes})

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: RowWise | None
    ) -> tuple[RowWise, list[Any]]:
        """Map a function over the blocks.

        Parameters
        ----------
        function : callable
            ``function(block, *parts) → (part, terms)``. The part has a row per row of the block;
            the terms are a tuple of arrays.
        *row_wise : sequence of arrays, or None
            Further arguments of the function, one part per block. None is left out.

        Returns
        -------
        row_wise : sequence of arrays
            The returned parts.
        sums : list of arrays
            The sums of the terms over the blocks, in the order of the blocks, in float64 on the
            host.
        """
        sums: list[Any] = []
        given = [A for A in row_wise if A is not None]

        def of_block(block: Callable[[], Array], *given: Any) -> tuple[Any, Any]:
            with self.backend.active():
                return function(block(), *given)

        def parts() -> Generator[Any, None, None]:
            with closing(self._blocks()) as blocks:
                for part, terms in self._run(of_block, blocks, *given):
                    if not (sums and self.backend.precise is self.backend):  # else a sum widens it
                        terms = [self.backend.to_precise(term) for term in terms]
                    sums[:] = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
                    yield part

        with closing(parts()) as computed:
            return self.kept(computed), self.backend.to_algebra(sums)

    def each(self, function: Callable[..., Any], *row_wise: RowWise) -> RowWise:
        """Map a function over the parts, without reading X; return the new parts."""
        return self.kept(map(function, *row_wise))

    def kept(self, parts: Iterable[Any]) -> RowWise:
        """Store parts as they arrive: in memory here, in a file for `StoredRows`."""
        return Joined.of(parts, len(self))

    def _blocks(self) -> Generator[Callable[[], Array], None, None]:
        """Yield for every block a function that returns it, so that threads make the blocks."""
        yield from (partial(self.block, rows) for rows in self.slices)

    def block(self, rows: slice) -> Array:
        """Return a block of rows, divided, scaled and filled, in working precision."""
        return self._times_factors(self._prepared(self._raw(rows)), rows)

    def _raw(self, rows: slice) -> Array:
        if self.members is None:
            return self.backend.slice(self.X, rows)
        chosen = self.members[rows]
        span = slice(int(chosen[0]), int(chosen[-1]) + 1)
        if span.stop - span.start == len(chosen):  # adjacent rows need no copy
            return self.backend.slice(self.X, span)
        return self.backend.take(self.X, chosen)

    def take(self, indices: np.ndarray) -> Any:
        """Return some rows, prepared as blocks are, on the host (NumPy, or SciPy sparse)."""
        return self.backend.to_host(self._prepared(self._taken(indices)))

    def _taken(self, indices: np.ndarray) -> Array:
        return self.backend.take(self.X, self.places(indices))

    def _prepared(self, block: Array) -> Array:
        block = self.backend.asarray(block, self.dtype)
        if self.exponent:
            block = times_power_of_two(block, -self.exponent)
        if self.divisors is not None:
            divisors = self.backend.asarray(self.divisors, self.dtype)
            block = by_column(truediv, block, divisors)
        if self.fill is not None:
            H = self.backend.asarray(self.fill[None, :], self.dtype)
            ones = self.backend.asarray(np.ones((block.shape[0], 1)), self.dtype)
            block = self.backend.filled(block, ones, H)
        return block

    def _times_factors(self, block: Array, rows: slice) -> Array:
        if self.factors is None:
            return block
        return self.backend.scale_rows(block, self.backend.asarray(self.factors[rows], self.dtype))

    def made(self, of_rows: Callable[[slice], np.ndarray]) -> RowWise:
        """Make every part from the host array `of_rows(rows)`, in the order of the rows."""
        return self.kept(self.backend.asarray(of_rows(rows), self.dtype) for rows in self.slices)

    def uniform(self, rng: np.random.RandomState, columns: int, low: float) -> RowWise:
        """Draw parts with this many columns, uniform between low and low + 1."""
        return self.made(lambda some: rng.random_sample((some.stop - some.start, columns)) + low)

    def to_host(self, parts: RowWise) -> Iterator[Any]:
        """Yield the parts one after the other, as arrays of the host."""
        for part in parts:
            ours = not isinstance(part, (np.ndarray, np.generic))
            yield self.backend.to_host(part) if ours else part

    def join(self, parts: RowWise) -> Array:
        """Join the parts into one array."""
        whole = getattr(parts, "whole", None)
        return self.backend.xp.concat(list(parts), axis=0) if whole is None else whole


class Joined(list[Any]):
    """A list of parts; matrices of the host are views of one array, not to fragment memory.

    Attributes
    ----------
    whole : ndarray of shape (n, k) or None
        The array that the parts are views of.
    """

    whole: np.ndarray | None = None

    @classmethod
    def of(cls, parts: Iterable[Any], n: int) -> Joined:
        """Return the parts, of n rows in all, as `Joined`."""
        joined, start = cls(), 0
        for part in parts:
            if isinstance(part, np.ndarray) and part.ndim == 2:
                if joined.whole is None:
                    joined.whole = np.empty_like(part, shape=(n, part.shape[1]))
                rows = slice(start, start + len(part))
                joined.whole[rows] = part
                start, part = rows.stop, joined.whole[rows]
            joined.append(part)
        return joined


def times_power_of_two(A: Array, power: int) -> Array:
    """Return A times 2 ** power, in two steps, since 2 ** 1074 is not a float."""
    half = power // 2
    return A * 2.0**half * 2.0 ** (power - half)


def cut(start: int, stop: int, step: int) -> list[slice]:
    """Cut a range into slices of length `step`; the last may be shorter."""
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]


def ahead(
    pool: Executor, depth: int, function: Callable[..., Any], *iterables: Iterable[Any]
) -> Iterator[Any]:
    """Map a function on a pool; at most `depth` calls run ahead of the results."""
    waiting: deque[Future[Any]] = deque()
    try:
        for items in zip(*iterables, strict=True):
            waiting.append(pool.submit(function, *items))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def working_dtype(dtype: Any) -> str:
    """Return "float32" for float32 and narrower floats, and "float64" for all else."""
    name = getattr(dtype, "name", str(dtype))  # the name does not contain the byte order
    return "float32" if name.split(".")[-1] in NARROW else "float64"


def block_rows(shape: tuple[int, int], stored: int, itemsize: int, on_host: bool = True) -> int:
    """Return the number of rows in a block, for an array with so many stored entries."""
    fewest, most = BLOCK_ROWS
    size = BLOCK_BYTES if on_host else DEVICE_BYTES
    fitting = size * shape[0] // max(1, stored * itemsize)
    return max(fewest, min(max(most, shape[1]), fitting) if on_host else fitting)


class Scale(NamedTuple):
    """The scale of X, as `measure` finds it.

    Attributes
    ----------
    exponent : int
        The fit multiplies X by 2 ** -exponent. 0 unless the squares of X would overflow or vanish.
    square : float
        ‖X‖² after this scaling.
    longest : float
        The largest ‖x‖ of a row, after this scaling.
    sum : float
        ‖Σ x‖ over the rows, after this scaling.
    """

    exponent: int
    square: float
    longest: float
    sum: float


class NotFiniteError(ValueError):
    """An entry of X is NaN or infinite.

    Parameters
    ----------
    row, column : int
        The place of the entry, from 0.
    value : float
        The entry.

    Attributes
    ----------
    name : str or None
        The name of the column, if X has names.
    """

    name: str | None = None

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.row, self.column, self.value = row, column, value

    def __str__(self) -> str:
        kind = "NaN" if math.isnan(self.value) else "infinity"
        name = "" if self.name is None else f" ({self.name!r})"
        message = (
            f"X must be finite; got {kind} in row {self.row}, column {self.column}{name}. "
            "Drop or impute such entries, e.g. by sklearn.impute.SimpleImputer"
        )
        if kind == "infinity":
            return f"{message}."
        return f"{message}, or leave them out of the fit: SNMF(missing_values=np.nan)."


def taking_part(
    rows: Rows, weights: np.ndarray | None, missing: bool
) -> tuple[Rows, np.ndarray | None, np.ndarray | None]:
    """Select the rows with a sample weight above zero, which a fit or a score sums over.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        All rows.
    weights : ndarray of shape (n, 1) or None
        The sample weights. None is 1 for each.
    missing : bool
        Whether NaN is a missing value.

    Returns
    -------
    rows : Rows of shape (m, p)
        The selected rows.
    weights : ndarray of shape (m, 1) or None
        Their sample weights.
    members : ndarray of shape (m,) or None
        Their indices. None is all.

    Raises
    ------
    ValueError
        If a row that is not selected has NaN or infinity, since it gets a row of W too.
    """
    if weights is None or np.all(weights):
        return rows, weights, None
    members = np.flatnonzero(weights)
    others = rows.only(np.flatnonzero(weights == 0))
    others = others.filled(np.zeros(rows.shape[1]) if missing else None)
    largest, (square,) = others.map_sum(partial(_largest_and_square, rows.backend))
    if math.isnan(float(square)) or not np.all(np.isfinite(list(rows.to_host(largest)))):
        raise _not_finite(others)
    return rows.only(members), weights[members], members


def measure(rows: Rows, weights: RowWise | None = None, missing: bool = False) -> Scale:
    """Check that X is finite, and find its scale.

    This reads X once, and again if the squares overflow or vanish.

    Parameters
    ----------
    rows : Rows
        The rows of X.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights for the sum of squares, block by block, all above zero. None is 1 for
        each.
    missing : bool, default=False
        Whether NaN is a missing value, which counts as zero.

    Returns
    -------
    Scale

    Raises
    ------
    ValueError
        If an entry is NaN or infinite (the message names it), or if ‖X‖_F exceeds the largest
        number of the dtype.
    """
    if missing:
        rows = rows.filled(np.zeros(rows.shape[1]))
    comfortable = COMFORTABLE[rows.dtype]
    scale = Scale(0, *_squares(rows, weights))
    if 1 / comfortable < scale.longest < comfortable and math.isfinite(scale.square):
        return scale  # a NaN would be in the sum; some maxima ignore it
    largest = list(rows.to_host(rows.map_sum(partial(_largest, rows.backend))[0]))
    if not np.all(np.isfinite(largest)):
        raise _not_finite(rows)
    exponent = math.frexp(np.max(largest))[1]
    scale = Scale(exponent, *_squares(rows.scaled(exponent), weights))
    check_range(rows.dtype, scale.square**0.5, exponent)
    return scale


def check_range(dtype: str, norm: float, exponent: int) -> None:
    """Raise ValueError if norm × 2 ** exponent exceeds the largest number of the dtype."""
    largest = float(np.finfo(dtype).max)
    if norm and not math.log2(norm) + exponent < math.log2(largest):
        raise too_large(dtype)


def too_large(dtype: str) -> ValueError:
    """Return the error for an X whose norm or weights exceed the largest number of the dtype."""
    return ValueError(
        f"X is too large: its norm, or that of its weights, exceeds the largest {dtype}, "
        f"{np.finfo(dtype).max:g}. Divide X by its largest entry."
    )


def _squares(rows: Rows, weights: RowWise | None) -> tuple[float, float, float]:
    longest, (square, total) = rows.map_sum(partial(_squares_of_block, rows.backend), weights)
    return float(square), max(map(float, rows.to_host(longest))) ** 0.5, _norm(total)


def _norm(A: np.ndarray) -> float:
    largest = float(np.max(np.abs(A)))
    within = 0 < largest < math.inf
    return largest * float(np.linalg.norm(A / largest)) if within else largest


def _squares_of_block(
    ops: Any, X: Array, weights: Array | None = None
) -> tuple[Array, tuple[Array, Array]]:
    squares = ops.row_squares(X)
    D = ops.xp.ones_like(squares)[:, None] if weights is None else weights
    with np.errstate(invalid="ignore"):  # NaN and infinity show in the maximum
        return ops.xp.max(squares), (ops.xp.sum(squares * D[:, 0]), ops.matmul(D.T, X))


def _largest(ops: Any, X: Array) -> tuple[Array, tuple[()]]:
    return ops.xp.max(ops.row_maxima(X)), ()


def _largest_and_square(ops: Any, X: Array) -> tuple[Array, tuple[Array]]:
    return ops.xp.max(ops.row_maxima(X)), (ops.xp.sum(ops.row_squares(X)),)


def _not_finite(rows: Rows) -> NotFiniteError:
    """Return the error that names the first NaN or infinity."""
    parts, _ = rows.map_sum(partial(_first_not_finite, rows.backend))
    start = 0
    for count, row, column, value in rows.to_host(parts):
        if not math.isfinite(value):
            place = rows.places(np.asarray([start + int(row)]))
            return NotFiniteError(int(place[0]), int(column), float(value))
        start += int(count)
    raise AssertionError("X changed while it was read")


def _first_not_finite(ops: Any, X: Array) -> tuple[np.ndarray, tuple[()]]:
    """Return the number of rows, and row, column and value of the first NaN or infinity."""
    entries = coo_array(ops.to_host(X))
    found = [
        (int(i), int(j), float(v))
        for i, j, v in zip(*entries.coords, entries.data, strict=True)
        if not math.isfinite(v)
    ]
    return np.array([X.shape[0], *min(found, default=(0, 0, 0.0))]), ()
