"""Where the rows of X lie: here in one array, taken in blocks, and the sum over them.

What has a row for every row of X ("row-wise", as W) is a sequence of one part for every block.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import coo_array

from snmf.storage.threads import BLAS

Array = Any
RowWise = Sequence[Any]

NARROW = ("float32", "float16", "bfloat16")
BLOCK_BYTES = 3 * 2**20  # stays in a cache between X Hᵀ and Wᵀ X; threads wait less for Python
DEVICE_BYTES = 2**28  # enough work for a device between two looks at it
BLOCK_ROWS = (64, 4096)  # or p, where that is more: S has p columns for every block
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
    factors : ndarray of shape (n_samples,), default=None
        And every row by its factor.
    fill : ndarray of shape (n_features,), default=None
        What stands in blocks for NaN, column by column.
    run : callable, default=map
        How a function is mapped over the blocks.
    members : ndarray of int, default=None
        Which rows of X these are, in ascending order. None is all.
    """

    def __init__(
        self,
        X: Array,
        backend: Any,
        exponent: int = 0,
        factors: np.ndarray | None = None,
        fill: np.ndarray | None = None,
        run: Callable[..., Iterator[Any]] = map,
        members: np.ndarray | None = None,
    ) -> None:
        self.X, self.backend, self._run = X, backend, run
        self.exponent, self.factors, self.fill, self.members = exponent, factors, fill, members
        self.shape: tuple[int, int] = (X.shape[0] if members is None else len(members), X.shape[1])
        self.dtype = min(working_dtype(X.dtype), backend.widest)
        stored = int(X.nnz if hasattr(X, "nnz") else X.shape[0] * X.shape[1])  # entries
        self.stored = stored * self.shape[0] // X.shape[0]
        step = block_rows(self.shape, self.stored, np.dtype(self.dtype).itemsize, backend.on_host)
        self.slices = cut(0, len(self), step)

    def __len__(self) -> int:
        return self.shape[0]

    @contextmanager
    def threads(self, n_jobs: int | None) -> Iterator[Rows]:
        """These rows, with blocks on n_jobs threads, and BLAS held to one thread in each.

        None is as many as a product would take. How X is cut into blocks does not depend on it.
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

    def scaled(self, exponent: int) -> Rows:
        """The same rows multiplied by 2 ** -exponent, block by block."""
        return self._with(exponent=exponent)

    def times(self, factors: np.ndarray | None) -> Rows:
        """The same rows, each times its factor, block by block."""
        return self._with(factors=factors)

    def filled(self, fill: np.ndarray | None) -> Rows:
        """The same rows, with one number a column in place of NaN, block by block."""
        return self._with(fill=fill)

    def only(self, members: np.ndarray) -> Rows:
        """Some of these rows, in their order, taken block by block."""
        return self._with(members=self.places(members))

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Where in X these rows are."""
        return indices if self.members is None else self.members[indices]

    def over(self, A: np.ndarray) -> Rows:
        """The rows of an array of the host, in the precision and on the threads of these."""
        return Rows(self.backend.asarray(A, self.dtype), self.backend, run=self._run)

    def part(self, rows: slice) -> Rows:
        """Rows side by side, as rows of their own; neither scaled nor filled."""
        return self.over(self._raw(rows))

    def some(self, indices: np.ndarray) -> Rows:
        """Likewise any others."""
        return self.over(self.backend.take(self.X, self.places(indices)))

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[tuple[Rows, Any]]:
        """All of them, so many at a time, each time others, and which they are."""
        order = rng.permutation(len(self))
        places = (np.sort(order[at]) for at in cut(0, len(self), size))
        return ((self.some(place), place) for place in places)

    def _with(self, **changes: Any) -> Rows:
        kept: dict[str, Any] = {
            name: getattr(self, name) for name in ("exponent", "factors", "fill", "members")
        }
        kept["run"] = self._run
        return type(self)(self.X, self.backend, **{**kept, **changes})

    def map_sum(
        self, function: Callable[..., tuple[Any, Any]], *row_wise: RowWise
    ) -> tuple[RowWise, list[Any]]:
        """Map a function over the blocks.

        Parameters
        ----------
        function : callable
            ``function(block, *parts) → (part, terms)``: a row-wise part, and a tuple of arrays.
        *row_wise : sequence of arrays
            Handed to the function part by part.

        Returns
        -------
        row_wise : sequence of arrays
            The parts.
        sums : list of arrays
            The terms added up over the blocks, in their order, in float64.
        """
        sums: list[Any] = []

        def of_block(block: Callable[[], Array], *given: Any) -> tuple[Any, Any]:
            with self.backend.active():
                return function(block(), *given)

        def parts() -> Generator[Any, None, None]:
            with closing(self._blocks()) as blocks:
                for part, terms in self._run(of_block, blocks, *row_wise):
                    wide = [self.backend.to_algebra(term) for term in terms]
                    sums[:] = [a + b for a, b in zip(sums, wide, strict=True)] if sums else wide
                    yield part

        with closing(parts()) as computed:
            return self.kept(computed), sums

    def each(self, function: Callable[..., Any], *row_wise: RowWise) -> RowWise:
        """Map a function over row-wise parts alone: X is not looked at."""
        return self.kept(map(function, *row_wise))

    def kept(self, parts: Iterable[Any]) -> RowWise:
        """Parts, as they come, put where what is row-wise lies."""
        return Joined.of(parts, len(self))

    def _blocks(self) -> Generator[Callable[[], Array], None, None]:
        """The blocks in their order, each as a function that is called where it is used."""
        yield from (partial(self.block, rows) for rows in self.slices)

    def block(self, rows: slice) -> Array:
        """Those rows: scaled, in working precision."""
        return self._times_factors(self._prepared(self._raw(rows)), rows)

    def _raw(self, rows: slice) -> Array:
        if self.members is None:
            return self.backend.slice(self.X, rows)
        chosen = self.members[rows]
        span = slice(int(chosen[0]), int(chosen[-1]) + 1)
        if span.stop - span.start == len(chosen):  # they lie side by side: no copy
            return self.backend.slice(self.X, span)
        return self.backend.take(self.X, chosen)

    def take(self, indices: np.ndarray) -> Any:
        """Some rows, prepared likewise, on the host (NumPy, or SciPy sparse)."""
        block = self.backend.take(self.X, self.places(indices))
        return self.backend.to_host(self._prepared(block))

    def _prepared(self, block: Array) -> Array:
        block = self.backend.asarray(block, self.dtype)
        if self.exponent:
            block = times_power_of_two(block, -self.exponent)
        if self.fill is not None:
            H = self.backend.asarray(self.fill[None, :], self.dtype)
            ones = self.backend.asarray(np.ones((block.shape[0], 1)), self.dtype)
            block = self.backend.filled(block, ones, H)
        return block

    def _times_factors(self, block: Array, rows: slice) -> Array:
        if self.factors is None:
            return block
        return self.backend.scale_rows(block, self.backend.asarray(self.factors[rows], self.dtype))

    def split(self, A: np.ndarray) -> RowWise:
        """A host array with a row for every row of X, as row-wise parts."""
        return self.made(lambda rows: A[rows, :])

    def made(self, of_rows: Callable[[slice], np.ndarray]) -> RowWise:
        """Host arrays, made part by part in the order of the rows, as row-wise parts."""
        return self.kept(self.backend.asarray(of_rows(rows), self.dtype) for rows in self.slices)

    def uniform(self, rng: np.random.RandomState, columns: int, low: float) -> RowWise:
        """Columns drawn from the uniform distribution between low and low + 1, row-wise."""
        return self.made(lambda some: rng.random_sample((some.stop - some.start, columns)) + low)

    def to_host(self, parts: RowWise) -> Iterator[Any]:
        """What a function returned for the blocks, one after the other, as arrays of the host."""
        for part in parts:
            ours = not isinstance(part, (np.ndarray, np.generic))
            yield self.backend.to_host(part) if ours else part

    def join(self, parts: RowWise) -> Array:
        """Row-wise parts as one array."""
        whole = getattr(parts, "whole", None)
        return self.backend.xp.concat(list(parts), axis=0) if whole is None else whole


class Joined(list[Any]):
    """Row-wise parts: matrices of the host as views of one, where many would leave holes in memory.

    Attributes
    ----------
    whole : ndarray of shape (n, k) or None
        What they are views of.
    """

    whole: np.ndarray | None = None

    @classmethod
    def of(cls, parts: Iterable[Any], n: int) -> Joined:
        """The parts of n rows."""
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
    """A times 2 ** power, in two steps, since 2 ** 1074 is not a float."""
    half = power // 2
    return A * 2.0**half * 2.0 ** (power - half)


def cut(start: int, stop: int, step: int) -> list[slice]:
    """That range in slices of step, of which the last may be shorter."""
    return [slice(at, min(at + step, stop)) for at in range(start, stop, step)]


def ahead(
    pool: Executor, depth: int, function: Callable[..., Any], *iterables: Iterable[Any]
) -> Iterator[Any]:
    """Like map, on a pool, where at most `depth` calls are made before they are asked for."""
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
    """float32 for float32 and what is narrower, float64 for everything else."""
    name = getattr(dtype, "name", str(dtype))  # of the host's byte order, where that is a choice
    return "float32" if name.split(".")[-1] in NARROW else "float64"


def block_rows(shape: tuple[int, int], stored: int, itemsize: int, on_host: bool = True) -> int:
    """How many rows of an array of that shape, with that many stored entries, make a block."""
    fewest, most = BLOCK_ROWS
    size = BLOCK_BYTES if on_host else DEVICE_BYTES
    fitting = size * shape[0] // max(1, stored * itemsize)
    return max(fewest, min(max(most, shape[1]), fitting) if on_host else fitting)


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


class NotFiniteError(ValueError):
    """An entry of X is NaN or infinite.

    Parameters
    ----------
    row, column : int
        Where it is.
    value : float
        What it is.
    """

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.row, self.column, self.value = row, column, value

    def __str__(self) -> str:
        kind = "NaN" if math.isnan(self.value) else "infinity"
        return (
            f"X must be finite; got {kind} in row {self.row}, column {self.column}. "
            "Drop or impute such entries, e.g. by sklearn.impute.SimpleImputer."
        )


def taking_part(
    rows: Rows, weights: np.ndarray | None, missing: bool
) -> tuple[Rows, np.ndarray | None, np.ndarray | None]:
    """The rows that a fit, or a score, sums over: those of a weight above zero.

    Parameters
    ----------
    rows : Rows of shape (n, p)
    weights : ndarray of shape (n, 1) or None
        None is 1 for each.
    missing : bool
        Whether NaN is an entry that is not observed.

    Returns
    -------
    rows : Rows of shape (m, p)
        Whatever looks at them knows nothing of the others.
    weights : ndarray of shape (m, 1) or None
    members : ndarray of shape (m,) or None
        Which rows they are. None is all.

    Raises
    ------
    ValueError
        If an entry of another row is NaN or infinite: such a row has weights W all the same.
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
    """Look at every entry once, and again where the squares leave the range of the dtype.

    Parameters
    ----------
    rows : Rows
    weights : sequence of arrays of shape (b, 1), default=None
        Row-wise, the weights, all above zero, with which the squares are summed. None is 1 for
        each.
    missing : bool, default=False
        Whether NaN is an entry that is not observed, and counts as zero.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite, which is named, or if ‖X‖_F is beyond the dtype.
    """
    if missing:
        rows = rows.filled(np.zeros(rows.shape[1]))
    comfortable = COMFORTABLE[rows.dtype]
    scale = Scale(0, *_squares(rows, weights))
    if 1 / comfortable < scale.longest < comfortable and math.isfinite(scale.square):
        return scale  # a NaN is in the sum, but not in every maximum
    largest = list(rows.to_host(rows.map_sum(partial(_largest, rows.backend))[0]))
    if not np.all(np.isfinite(largest)):
        raise _not_finite(rows)
    exponent = math.frexp(np.max(largest))[1]
    scale = Scale(exponent, *_squares(rows.scaled(exponent), weights))
    check_range(rows.dtype, scale.square**0.5, exponent)
    return scale


def check_range(dtype: str, norm: float, exponent: int) -> None:
    """Refuse X if norm × 2 ** exponent, of itself or of its weights, is beyond the dtype."""
    largest = float(np.finfo(dtype).max)
    if norm and not math.log2(norm) + exponent < math.log2(largest):
        raise too_large(dtype)


def too_large(dtype: str) -> ValueError:
    """What to say of an X whose norm, or weights, that dtype does not hold."""
    return ValueError(
        f"X is too large: its norm, or that of its weights, exceeds the largest {dtype}, "
        f"{np.finfo(dtype).max:g}. Divide X by its largest entry."
    )


def _squares(rows: Rows, weights: RowWise | None) -> tuple[float, float]:
    row_wise = () if weights is None else (weights,)
    longest, (square,) = rows.map_sum(partial(_squares_of_block, rows.backend), *row_wise)
    return float(square), max(map(float, rows.to_host(longest))) ** 0.5


def _squares_of_block(
    ops: Any, X: Array, weights: Array | None = None
) -> tuple[Array, tuple[Array]]:
    squares = ops.row_squares(X)
    return ops.xp.max(squares), (
        ops.xp.sum(squares if weights is None else squares * weights[:, 0]),
    )


def _largest(ops: Any, X: Array) -> tuple[Array, tuple[()]]:
    return ops.xp.max(ops.row_maxima(X)), ()


def _largest_and_square(ops: Any, X: Array) -> tuple[Array, tuple[Array]]:
    return ops.xp.max(ops.row_maxima(X)), (ops.xp.sum(ops.row_squares(X)),)


def _not_finite(rows: Rows) -> NotFiniteError:
    """What to say of the first NaN or infinity."""
    parts, _ = rows.map_sum(partial(_first_not_finite, rows.backend))
    start = 0
    for count, row, column, value in rows.to_host(parts):
        if not math.isfinite(value):
            place = rows.places(np.asarray([start + int(row)]))
            return NotFiniteError(int(place[0]), int(column), float(value))
        start += int(count)
    raise AssertionError("X changed while it was read")


def _first_not_finite(ops: Any, X: Array) -> tuple[np.ndarray, tuple[()]]:
    """The number of rows, and the row, the column and the value of the first such entry."""
    entries = coo_array(ops.to_host(X))
    found = [
        (int(i), int(j), float(v))
        for i, j, v in zip(*entries.coords, entries.data, strict=True)
        if not math.isfinite(v)
    ]
    return np.array([X.shape[0], *min(found, default=(0, 0, 0.0))]), ()
