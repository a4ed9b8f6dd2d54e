"""Mini-batches: H from sums over the rows of a stream, in which earlier rows fade.

A batch has its W-step from a cold start, and joins the sums S = Wᵀ X and T = Wᵀ W, after these were
multiplied by a factor ρ ≤ 1; the H-step is that of `snmf._updates`.  W does not outlive its batch.
(Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization and sparse coding",
JMLR 11, 2010, for unconstrained codes; the fading of a young stream is theirs too.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from snmf import _init, _updates
from snmf._rows import Scale
from snmf._solve import BALL_SWEEPS

Array = Any

FADE = 3.0  # row t of a young stream weighs t ** FADE: its W was found for an H that was poor
STEPS = {"multiplicative": 5, "hals": 3}  # of W in a batch, after the cold start
SWEEPS = 2  # of coordinate descent, before multiplicative steps
LIFT = 0.05  # in means of a row: what these add to weights, which they cannot lift from zero
INVERTIBLE = 1e-4  # share of the largest eigenvalue of H Hᵀ below which the cold start ignores one


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
    n_rows, n_taken, n_steps : int
        Rows looked at; rows that went into the sums, in every epoch anew; batches.
    rows_square, longest : float
        ‖X‖² and the largest ‖x‖ of all the rows looked at, not faded.
    """

    H: Array
    S: Array
    T: Array
    square: float = 0.0
    objective: float = 0.0
    exponent: int | None = None
    n_rows: int = 0
    n_taken: int = 0
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
        return math.sqrt(self.rows_square / max(1, self.n_rows))

    def saw(self, n_rows: int, scale: Scale) -> Stream:
        """With the norms of more rows, at the larger of the two scales."""
        if not scale.square:
            return replace(self, n_rows=self.n_rows + n_rows)
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
            n_rows=self.n_rows + n_rows,
            rows_square=self.rows_square * two * two + scale.square * theirs * theirs,
            longest=max(self.longest * two, scale.longest * theirs),
        )

    def moved(self, move: Any) -> Stream:
        """With H, S and T as the function `move` gives them: on the host, or from there."""
        return replace(self, H=move(self.H), S=move(self.S), T=move(self.T))

    def at(self, rows: Any) -> Any:
        """Those rows, at the scale of the stream."""
        return rows.scaled(self.exponent or 0)

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


def start(rows: Any, k: int, init: str, rng: np.random.RandomState) -> np.ndarray:
    """Components of unit rows to begin with, from the start of a fit of these rows."""
    ops, algebra = rows.backend, rows.backend.algebra
    W, H = _init.STARTS[init](rows, k, rng)
    if H is not None:
        return H
    sums = partial(_updates.sums_of_block, ops)
    _, (S, T, _) = rows.map_sum(lambda X, part: (None, sums(X, part)), W)
    H = _updates.least_squares(algebra, S, T, 0 * S, _rounding(rows.dtype, k))
    return _init.unit_rows(algebra.to_host(H))[0]


def step(stream: Stream, rows: Any, l1: float, update: str, keep: float) -> tuple[Stream, float]:
    """One batch: its W, the sums, and the next H.

    Parameters
    ----------
    stream : Stream
        Its arrays those of ``rows.backend.algebra``.
    rows : Rows of shape (b, p)
        The batch, at the scale of the stream.
    l1 : float
        The penalty λ, at that scale.
    update : {"multiplicative", "hals"}
        The W-step, by its name in `snmf._updates`.
    keep : float
        How much of the sums so far is kept, at most; a young stream keeps less.

    Returns
    -------
    stream : Stream
        With the batch.
    loss : float
        The objective of the batch over ½‖X‖², before H learned from it; 0 for X = 0.
    """
    ops, algebra, n = rows.backend, rows.backend.algebra, len(rows)
    B = algebra.matmul(stream.H, stream.H.T)
    inverse = algebra.pinv(B, INVERTIBLE)
    H, B, inverse = (ops.asarray(A, rows.dtype) for A in (stream.H, B, inverse))
    block = partial(_of_block, ops, update, H, B, inverse, l1)
    _, (S, T, total, square) = rows.map_sum(block)
    square = float(square)
    error = _updates.squared_error(algebra, square, S, T, stream.H)
    objective = error + 2 * l1 * float(total)
    keep = min(keep, (stream.n_taken / (stream.n_taken + n)) ** FADE)
    S, T = keep * stream.S + S, keep * stream.T + T
    if l1:
        H = _updates.least_squares_in_ball(algebra, S, T, stream.H, BALL_SWEEPS)
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
    ops: Any, update: str, H: Array, B: Array, inverse: Array, l1: float, X: Array
) -> tuple[None, tuple[Array, ...]]:
    A = ops.matmul(X, H.T)
    W = ops.positive_part(ops.matmul(A, inverse))  # least squares, less what is negative
    if update == "multiplicative":  # which cannot leave a zero, and is slow to come to one
        W = ops.hals(A, B, W, l1, SWEEPS)
        W = W + LIFT * ops.xp.mean(W, axis=1)[:, None]
    _, sums = ops.pass_over_block(update, X, W, H, B, l1, STEPS[update])
    return None, (*sums, ops.xp.sum(ops.row_squares(X)))


def _least_squares(
    ops: Any, S: Array, T: Array, H: Array, rtol: float
) -> tuple[Array, Array, Array]:
    """The H-step without penalty; then at unit norm.

    The norms go to W, so to S and T: least squares would undo any other scale of W.
    """
    H = _updates.least_squares(ops, S, T, H, rtol)
    norms = ops.xp.sqrt(ops.row_squares(H))
    H = H / ops.xp.where(norms > 0, norms, 1.0)[:, None]
    return H, norms[:, None] * S, norms[:, None] * T * norms[None, :]


def _rounding(dtype: str, k: int) -> float:
    return k * float(np.finfo(dtype).eps)
