"""Mini-batches: H from sums over the rows of a stream, in which earlier rows fade.

A batch has its W-step from a cold start, and joins the sums S = Wᵀ X and T = Wᵀ W, after these were
multiplied by a factor ρ ≤ 1; the H-step is that of `snmf.core.updates`.  W does not outlive its
batch. (Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization and sparse coding",
JMLR 11, 2010, for unconstrained codes; the fading of a young stream is theirs too.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from snmf.core import start as _init
from snmf.core import updates
from snmf.core.solve import BALL_SWEEPS
from snmf.storage.rows import RowWise, Scale, measure

Array = Any

FADE = 3.0  # row t of a young stream weighs t ** FADE: its W was found for an H that was poor
STEPS = {"multiplicative": 5, "hals": 3}  # of W in a batch, after the cold start
SWEEPS = 2  # of coordinate descent, before multiplicative steps
LIFT = 0.05  # in means of a row: what these add to weights, which they cannot lift from zero
INVERTIBLE = 1e-4  # share of the largest eigenvalue of H Hᵀ below which the cold start ignores one


@dataclass(frozen=True)
class Batch:
    """Rows that are learned from together, and how much each counts.

    Parameters
    ----------
    rows : Rows of shape (b, p)
    weights : ndarray of shape (b, 1), default=None
        Above zero. 2 is the row twice; None is 1 for each.
    """

    rows: Any
    weights: np.ndarray | None = None

    @property
    def count(self) -> float:
        """How many rows there are, each as often as it counts."""
        return len(self.rows) if self.weights is None else float(self.weights.sum())

    @cached_property
    def exponent(self) -> int:
        """Row-wise weights are multiplied by 2 ** -exponent, to be about 1."""
        return 0 if self.weights is None else math.frexp(self.weights.max())[1]

    @cached_property
    def scaled_weights(self) -> np.ndarray | None:
        return None if self.weights is None else np.ldexp(self.weights, -self.exponent)

    @property
    def row_wise(self) -> tuple[RowWise, ...]:
        """The weights so scaled, to go with the blocks of the rows; none where there are none."""
        return () if self.weights is None else (self.rows.split(self.scaled_weights),)

    @cached_property
    def scale(self) -> Scale:
        """What a first look at the rows tells, summed with their weights."""
        found = measure(self.rows, *(self.row_wise or (None,)))
        return found._replace(square=found.square * 2.0**self.exponent)

    def at(self, exponent: int) -> Batch:
        """The same, with rows multiplied by 2 ** -exponent."""
        return replace(self, rows=self.rows.scaled(exponent))

    def part(self, place: slice) -> Batch:
        """Rows side by side."""
        return self._of(self.rows.part(place), place)

    def some(self, indices: np.ndarray) -> Batch:
        """Any others."""
        return self._of(self.rows.some(indices), indices)

    def shuffled(self, size: int, rng: np.random.RandomState) -> Iterator[Batch]:
        """All of them, so many at a time, each time others."""
        return (self._of(rows, place) for rows, place in self.rows.shuffled(size, rng))

    def _of(self, rows: Any, place: Any) -> Batch:
        return Batch(rows, None if self.weights is None else self.weights[place])


@dataclass(frozen=True)
class Stream:
    """What is known of the rows so far.

    Attributes
    ----------
    H : array of shape (k, p)
        The components, in float64; without penalty of unit norm, with one in the unit ball.
    S : array of shape (k, p)
        ``Wᵀ X`` over the rows so far, in units of 4 ** exponent, as T and square.
    T : array of shape (k, k)
        ``Wᵀ W``.
    square, objective : float
        ‖X‖², and twice the objective, of every batch before H learned from it; both faded as S
        and T are.
    exponent : int
        Rows are multiplied by 2 ** -exponent before anything is done with them.
    n_rows, n_taken : float
        Rows looked at; rows that went into the sums, in every epoch anew; each as often as it
        counts.
    n_steps : int
        Batches.
    rows_square, longest : float
        ‖X‖² and the largest ‖x‖ of all the rows looked at, not faded.
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

    @classmethod
    def empty(cls, n_components: int, n_features: int) -> Stream:
        """A stream of no rows, and components of nothing."""
        nothing = np.zeros((n_components, n_features))
        return cls(nothing, nothing, np.zeros((n_components, n_components)))

    @property
    def rms(self) -> float:
        """The root-mean-square norm of the rows looked at."""
        return math.sqrt(self.rows_square / (self.n_rows or 1))

    def saw(self, batch: Batch) -> Stream:
        """With the norms of more rows, at the larger of the two scales."""
        scale, n_rows = batch.scale, self.n_rows + batch.count
        if not scale.square:
            return replace(self, n_rows=n_rows)
        ours = scale.exponent if self.exponent is None else self.exponent
        exponent = max(ours, scale.exponent)
        two, theirs = 2.0 ** (ours - exponent), 2.0 ** (scale.exponent - exponent)
        return replace(
            self,
            S=self.S * two * two,
            T=self.T * two * two,
            square=self.square * two * two,
            objective=self.objective * two * two,
            exponent=exponent,
            n_rows=n_rows,
            rows_square=self.rows_square * two * two + scale.square * theirs * theirs,
            longest=max(self.longest * two, scale.longest * theirs),
        )

    def moved(self, move: Any) -> Stream:
        """With H, S and T as the function `move` gives them: on the host, or from there."""
        return replace(self, H=move(self.H), S=move(self.S), T=move(self.T))

    def at(self, batch: Batch) -> Batch:
        """Those rows, at the scale of the stream."""
        return batch.at(self.exponent or 0)

    def restarted(self, algebra: Any, H: np.ndarray) -> Stream:
        """Without sums, and with these components."""
        new = Stream.empty(*H.shape).moved(algebra.asarray)
        H = algebra.asarray(H)
        return replace(self, H=H, S=new.S, T=new.T, square=0.0, objective=0.0, n_taken=0, n_steps=0)

    def ordered(self, order: Array) -> Stream:
        """With the components in that order."""
        return replace(self, H=self.H[order], S=self.S[order], T=self.T[order][:, order])

    def shares(self) -> np.ndarray:
        """‖w_j‖ / ‖X‖_F for every component, of what is on the host; 1 where X = 0."""
        weights = np.sqrt(np.diagonal(self.T))
        return weights / self.square**0.5 if self.square else np.ones_like(weights)

    @property
    def loss(self) -> float:
        """The objective over ½‖X‖², smooth from batch to batch; 0 for X = 0."""
        return self.objective / self.square if self.square else 0.0


def start(batch: Batch, k: int, init: str, rng: np.random.RandomState) -> np.ndarray:
    """Components of unit rows to begin with, from the start of a fit of these rows."""
    rows, ops, algebra = batch.rows, batch.rows.backend, batch.rows.backend.algebra
    W, H = _init.STARTS[init](rows, k, rng, batch.scaled_weights)
    if H is not None:
        return H
    sums = partial(updates.sums_of_block, ops)
    _, (S, T, _) = rows.map_sum(lambda *block: (None, sums(*block)), W, *batch.row_wise)
    H = updates.least_squares(algebra, S, T, 0 * S, _rounding(rows.dtype, k))
    return _init.unit_rows(algebra.to_host(H))[0]


def step(stream: Stream, batch: Batch, l1: float, update: str, keep: float) -> tuple[Stream, float]:
    """One batch: its W, the sums, and the next H.

    Parameters
    ----------
    stream : Stream
        Its arrays those of ``rows.backend.algebra``.
    batch : Batch
        Of b rows, at the scale of the stream.
    l1 : float
        The penalty λ, at that scale.
    update : {"multiplicative", "hals"}
        The W-step, by its name in `snmf.core.updates`.
    keep : float
        How much of the sums so far is kept, at most; a young stream keeps less.

    Returns
    -------
    stream : Stream
        With the batch.
    loss : float
        The objective of the batch over ½‖X‖², before H learned from it; 0 for X = 0.
    """
    rows, n = batch.rows, batch.count
    ops, algebra = rows.backend, rows.backend.algebra
    B = algebra.matmul(stream.H, stream.H.T)
    inverse = algebra.pinv(B, INVERTIBLE)
    H, B, inverse = (ops.asarray(A, rows.dtype) for A in (stream.H, B, inverse))
    block = partial(_of_block, ops, update, H, B, inverse, l1)
    _, sums = rows.map_sum(block, *batch.row_wise)
    S, T, total, square = (2.0**batch.exponent * term for term in sums)
    square = float(square)
    error = updates.squared_error(algebra, square, S, T, stream.H)
    objective = error + 2 * l1 * float(total)
    keep = min(keep, (stream.n_taken / (stream.n_taken + n)) ** FADE)
    S, T = keep * stream.S + S, keep * stream.T + T
    if l1:
        H = updates.least_squares_in_ball(algebra, S, T, stream.H, BALL_SWEEPS)
    else:
        H, S, T = _least_squares(algebra, S, T, stream.H, _rounding(rows.dtype, len(T)))
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
    X: Array,
    D: Array | None = None,
) -> tuple[None, tuple[Array, ...]]:
    A = ops.matmul(X, H.T)
    W = ops.positive_part(ops.matmul(A, inverse))  # least squares, less what is negative
    if update == "multiplicative":  # which cannot leave a zero, and is slow to come to one
        W = ops.hals(A, B, W, l1, SWEEPS)
        W = W + LIFT * ops.xp.mean(W, axis=1)[:, None]
    _, sums = ops.pass_over_block(update, X, W, H, B, l1, STEPS[update], D)
    squares = ops.row_squares(X)
    return None, (*sums, ops.xp.sum(squares if D is None else squares * D[:, 0]))


def _least_squares(
    ops: Any, S: Array, T: Array, H: Array, rtol: float
) -> tuple[Array, Array, Array]:
    """The H-step without penalty; then at unit norm.

    The norms go to W, so to S and T: least squares would undo any other scale of W.
    """
    H = updates.least_squares(ops, S, T, H, rtol)
    norms = ops.xp.sqrt(ops.row_squares(H))
    H = H / ops.xp.where(norms > 0, norms, 1.0)[:, None]
    return H, norms[:, None] * S, norms[:, None] * T * norms[None, :]


def _rounding(dtype: str, k: int) -> float:
    return k * float(np.finfo(dtype).eps)
