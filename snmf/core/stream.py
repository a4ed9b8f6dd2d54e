"""Mini-batches: the state of a stream (`Stream`), and one step from a batch of rows (`Batch`).

A step makes the W-step of the batch from a cold start. It multiplies the sums S = Wᵀ X and
T = Wᵀ W by a factor ρ ≤ 1, so that earlier rows fade, and adds those of the batch.  The H-step is
that of `snmf.core.updates`.  W is then forgotten.

The method is that of Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization and
sparse coding", JMLR 11, 2010, who use unconstrained codes. The fading of a young stream is theirs
too.

With an intercept H, S and T are as in `snmf.core.intercept`: H has the intercept as its last row,
and S and T are the sums of [W, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from snmf.core import intercept as _intercept
from snmf.core import start as _init
from snmf.core import updates
from snmf.core.limits import Limits, h_step
from snmf.storage.rows import RowWise, Scale, measure

Array = Any

FADE = 3.0  # row t of a young stream weighs t ** FADE, since its W belongs to a poor early H
STEPS = {"multiplicative": 5, "hals": 3}  # W-steps in a batch, after the cold start
SWEEPS = 2  # of coordinate descent, before multiplicative steps
LIFT = 0.05  # times the mean of a row: multiplicative steps cannot change a zero, so this is added
INVERTIBLE = 1e-4  # the cold start ignores eigenvalues of H Hᵀ below this share of the largest


@dataclass(frozen=True)
class Batch:
    """The rows of a batch, and their sample weights.

    Parameters
    ----------
    rows : Rows of shape (b, p)
        The rows.
    weights : ndarray of shape (b, 1), default=None
        The sample weights, above zero. 2 counts the row twice; None is 1 for each.
    """

    rows: Any
    weights: np.ndarray | None = None

    @property
    def count(self) -> float:
        """The number of rows, or the sum of their sample weights."""
        return len(self.rows) if self.weights is None else float(self.weights.sum())

    @cached_property
    def exponent(self) -> int:
        """The exponent that scales the sample weights: times 2 ** -exponent they are about 1."""
        return 0 if self.weights is None else math.frexp(self.weights.max())[1]

    @cached_property
    def scaled_weights(self) -> np.ndarray | None:
        return None if self.weights is None else np.ldexp(self.weights, -self.exponent)

    @property
    def weights_of_blocks(self) -> RowWise | None:
        """The scaled sample weights, block by block."""
        return None if self.weights is None else self.rows.split(self.scaled_weights)

    @cached_property
    def scale(self) -> Scale:
        """The scale of the rows, as `snmf.storage.rows.measure` returns it."""
        found = measure(self.rows, self.weights_of_blocks)
        return found._replace(square=found.square * 2.0**self.exponent)

    @property
    def moments(self) -> tuple[np.ndarray, float]:
        """The mean row, of shape (p,), and ‖X‖² of the rows less it."""
        total = math.ldexp(self.count, -self.exponent)
        mean, square = _intercept.moments(self.rows, self.weights_of_blocks, total)
        return mean, square * 2.0**self.exponent

    def at(self, exponent: int) -> Batch:
        """Return the same batch, with rows multiplied by 2 ** -exponent."""
        return replace(self, rows=self.rows.scaled(exponent))

    def part(self, place: slice) -> Batch:
        """Return the batch of some adjacent rows."""
        return self._of(self.rows.part(place), place)

    def some(self, indices: np.ndarray) -> Batch:
        """Return the batch of the rows with these indices."""
        return self._of(self.rows.some(indices), indices)

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[Batch]:
        """Yield batches of `size` rows in random order, until every row was in one."""
        return (self._of(rows, place) for rows, place in self.rows.shuffled(size, rng))

    def _of(self, rows: Any, place: Any) -> Batch:
        return Batch(rows, None if self.weights is None else self.weights[place])


@dataclass(frozen=True)
class Stream:
    """The state of a stream: the components, and the sums over the rows so far.

    Attributes
    ----------
    H : array of shape (k, p), or (k + 1, p) with an intercept
        The components, in float64. Without a penalty the rows have unit norm; with a penalty
        their norm is at most 1. The intercept has any norm.
    S : array of shape (k, p)
        ``Wᵀ X`` over the rows so far, in units of 4 ** exponent, as are T and square.
    T : array of shape (k, k)
        ``Wᵀ W`` over the rows so far.
    square, objective : float
        ‖X‖², and twice the objective, summed over the batches. Each batch was evaluated before H
        learned from it. Both fade as S and T do. With an intercept ‖X‖² is that of X less `mean`.
    exponent : int
        The scale of the stream: rows are multiplied by 2 ** -exponent first.
    n_rows : float
        The number of rows seen, counted with their sample weights.
    n_taken : float
        The number of rows that went into the sums, counted with their sample weights. A row
        counts again in every epoch.
    n_steps : int
        The number of batches.
    rows_square, longest : float
        ‖X‖² and the largest ‖x‖ of all rows seen, without fading. With an intercept ‖X‖² is that
        of X less its mean.
    mean : array of shape (p,) or None
        The mean of all rows seen, without fading. None without an intercept.
    """

    H: Array
    S: Array
    T: Array
    square: float = 0.0
    objective: float = 0.0
    exponent: int | None = None
    n_rows: float = 0
    n_taken: float = 0
    n_steps: int = 0
    rows_square: float = 0.0
    longest: float = 0.0
    mean: Array | None = None

    @classmethod
    def empty(cls, n_components: int, n_features: int, intercept: bool = False) -> Stream:
        """Return a stream without rows, whose components are zero."""
        m = n_components + intercept
        mean = np.zeros(n_features) if intercept else None
        nothing = np.zeros((m, n_features))
        return cls(nothing, nothing, np.zeros((m, m)), mean=mean)

    @property
    def components(self) -> Array:
        """H without the intercept."""
        return self.H if self.mean is None else self.H[:-1]

    @property
    def squares(self) -> np.ndarray:
        """‖w_j‖² of every component j."""
        squares: np.ndarray = np.diagonal(self.T)[: len(self.components)]
        return squares

    @property
    def rms(self) -> float:
        """The root-mean-square norm of the rows seen."""
        return math.sqrt(self.rows_square / (self.n_rows or 1))

    def saw(self, batch: Batch) -> Stream:
        """Return the stream with the norms of a batch added, at the larger of the two scales."""
        scale, n_rows = batch.scale, self.n_rows + batch.count
        if not scale.square and (self.mean is None or self.exponent is None):
            return replace(self, n_rows=n_rows)
        ours = scale.exponent if self.exponent is None else self.exponent
        exponent = max(ours, scale.exponent) if scale.square else ours
        two, theirs = 2.0 ** (ours - exponent), 2.0 ** (scale.exponent - exponent)
        H, mean, units = self.H, self.mean, np.full((len(self.H), 1), two)
        square, between = scale.square, 0.0
        if mean is not None:
            units[-1] = 1.0  # of the column of ones beside W
            of_batch, square = batch.at(scale.exponent).moments
            apart = of_batch * theirs - mean * two
            mean = mean * two + apart * (batch.count / n_rows)
            between = float(apart @ apart) * self.n_rows * (batch.count / n_rows)
            intercept = two * H[-1] if self.n_taken else mean
            H = np.vstack([self.components, intercept])
        return replace(
            self,
            H=H,
            S=self.S * units * two,
            T=self.T * units * units.T,
            square=self.square * two * two,
            objective=self.objective * two * two,
            exponent=exponent,
            n_rows=n_rows,
            rows_square=self.rows_square * two * two + square * theirs * theirs + between,
            longest=max(self.longest * two, scale.longest * theirs),
            mean=mean,
        )

    def at(self, batch: Batch) -> Batch:
        """Return the batch at the scale of the stream."""
        return batch.at(self.exponent or 0)

    def restarted(self, H: np.ndarray) -> Stream:
        """Return the stream without sums, and with these components."""
        new = Stream.empty(len(H), H.shape[1])
        return replace(self, H=H, S=new.S, T=new.T, square=0.0, objective=0.0, n_taken=0, n_steps=0)

    def ordered(self, order: Array) -> Stream:
        """Return the stream with its components in this order."""
        order = np.append(order, np.arange(len(self.components), len(self.H)))
        return replace(self, H=self.H[order], S=self.S[order], T=self.T[order][:, order])

    def shares(self) -> np.ndarray:
        """Return ‖w_j‖ / ‖X‖_F for every component (1 if X = 0); T must be on the host."""
        weights = np.sqrt(self.squares)
        return weights / self.square**0.5 if self.square else np.ones_like(weights)

    @property
    def loss(self) -> float:
        """The objective divided by ½‖X‖², averaged over the batches with fading; 0 for X = 0."""
        return self.objective / self.square if self.square else 0.0


def start(
    batch: Batch,
    k: int,
    init: str,
    rng: np.random.RandomState,
    limits: Limits,
    intercept: bool = False,
) -> np.ndarray:
    """Return the first components, of unit norm: those of the start of a fit of these rows.

    With an intercept, that is the last row.
    """
    rows, ops, algebra = batch.rows, batch.rows.backend, batch.rows.backend.algebra
    W, H = _init.made_by(init)(rows, k, rng, batch.scaled_weights)
    if intercept:
        mean, square = batch.moments
        given = (rows, square, 0.0, "kept", 1, batch.weights_of_blocks)
        total = math.ldexp(batch.count, -batch.exponent)
        shifted = _intercept.Shifted(*given, limits=limits, mean=mean, total=total)
        H = shifted.start(W, H).H
        return np.vstack([_init.unit_rows(H[:-1])[0], H[-1:]])
    if H is not None:
        return _init.unit_rows(limits.of_entries(H))[0]
    sums = partial(updates.sums_of_block, ops)
    _, (S, T, _) = rows.map_sum(lambda *block: (None, sums(*block)), W, batch.weights_of_blocks)
    H = updates.least_squares(algebra, S, T, 0 * S, _rounding(rows.dtype, k))
    return _init.unit_rows(limits.of_entries(H))[0]


def step(
    stream: Stream, batch: Batch, l1: float, update: str, keep: float, limits: Limits
) -> tuple[Stream, float]:
    """Learn from one batch: compute its W, update the sums, and compute the next H.

    Parameters
    ----------
    stream : Stream
        The state.
    batch : Batch
        The rows, at the scale of the stream.
    l1 : float
        The penalty λ, at the scale of the stream.
    update : {"multiplicative", "hals"}
        Selects the W-step, by its name in `snmf.core.updates`.
    keep : float
        Sets the factor of the earlier sums. A young stream uses a smaller one.
    limits : Limits
        What the rows of H may be. With λ > 0 their norm must be limited.

    Returns
    -------
    stream : Stream
        The state after the batch.
    loss : float
        The objective of the batch divided by ½‖X‖², before H learned from it; 0 for X = 0.
    """
    rows, n = batch.rows, batch.count
    ops, algebra = rows.backend, rows.backend.algebra
    k, mean = len(stream.components), stream.mean
    B = algebra.matmul(stream.H, stream.H.T)
    inverse = algebra.pinv(B[:k, :k], INVERTIBLE)
    H, B, inverse = (ops.asarray(A, rows.dtype) for A in (stream.H, B, inverse))
    M = None if mean is None else ops.asarray(mean[None, :], rows.dtype)
    block = partial(_of_block, ops, update, H, B, inverse, l1, M)
    _, sums = rows.map_sum(block, batch.weights_of_blocks)
    S, T, total, square, *of_x = (2.0**batch.exponent * term for term in sums)
    square = float(square)
    if mean is None:
        error = updates.squared_error(algebra, square, S, T, stream.H)
    else:
        S, T = _intercept.beside_ones(S, T, total, of_x[0], n)
        about_mean = S - np.outer(T[:, -1], mean), T, np.vstack([stream.H[:k], stream.H[-1] - mean])
        error = updates.squared_error(algebra, square, *about_mean)
    objective = error + 2 * l1 * float(algebra.xp.sum(total))
    keep = min(keep, (stream.n_taken / (stream.n_taken + n)) ** FADE)
    S, T = keep * stream.S + S, keep * stream.T + T
    rtol = _rounding(rows.dtype, len(T))
    next_h = partial(h_step, algebra, limits, partial(updates.least_squares, algebra, rtol=rtol))
    if mean is None or limits.none:
        H = next_h(S, T, stream.H)
    else:
        H = next_h(*_intercept.centred(S, T), stream.components)
    if not limits.ball:
        H, S, T = _with_unit_rows(algebra, S, T, H, k)
    if mean is not None:
        H = _intercept.with_intercept(H[:k], S, T)
    learned = replace(
        stream,
        H=H,
        S=S,
        T=T,
        square=keep * stream.square + square,
        objective=keep * stream.objective + objective,
        n_taken=stream.n_taken + n,
        n_steps=stream.n_steps + 1,
    )
    return learned, objective / square if square else 0.0


def _of_block(
    ops: Any,
    update: str,
    H: Array,
    B: Array,
    inverse: Array,
    l1: float,
    mean: Array | None,
    X: Array,
    D: Array | None = None,
) -> tuple[None, tuple[Array, ...]]:
    A = ops.matmul(X, H.T)
    if mean is not None:
        A, B = _intercept.less_intercept(A, B)
    W = ops.positive_part(ops.matmul(A, inverse))  # least squares, clipped at zero
    if update == "multiplicative":  # cannot leave a zero, and approaches one slowly
        W = ops.hals(A, B, W, l1, SWEEPS)
        W = W + LIFT * ops.xp.mean(W, axis=1)[:, None]
    of_x: tuple[Array, ...] = ()
    if mean is None:
        _, sums = ops.pass_over_block(update, X, W, H, B, l1, STEPS[update], D)
        squares = ops.row_squares(X)
    else:
        W = getattr(ops, update)(A, B, W, l1, STEPS[update])
        sums = updates.sums_of_block(ops, X, W, D)
        one = 1 + 0 * W[:, :1]
        squares, of_x = ops.row_errors(X, one, mean), (ops.matmul((one if D is None else D).T, X),)
    square = ops.xp.sum(squares if D is None else squares * D[:, 0])
    return None, (*sums, square, *of_x)


def _with_unit_rows(ops: Any, S: Array, T: Array, H: Array, k: int) -> tuple[Array, Array, Array]:
    """Scale the first k rows of H to unit norm; return H, S and T.

    S and T are scaled as W is, by the norms of the rows of H: with any other scale of W the next
    H-step would undo the scaling.
    """
    norms = ops.xp.ones(T.shape[0])
    norms[:k] = ops.xp.sqrt(ops.row_squares(H[:k]))
    H = H / ops.xp.where(norms > 0, norms, 1.0)[: H.shape[0], None]
    return H, norms[:, None] * S, norms[:, None] * T * norms[None, :]


def _rounding(dtype: str, k: int) -> float:
    return k * float(np.finfo(dtype).eps)
