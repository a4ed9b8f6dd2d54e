"""The updates of semi-nonnegative matrix factorization, ``X ≈ W H`` with ``W ≥ 0``.

The objective is ``F(W, H) = ½‖X − W H‖² + λ Σ W``; with λ > 0 every row of H lies in the unit
ball, since W → cW, H → H/c would otherwise take the penalty to nothing.

``W`` (n, k) is the G of Ding, Li & Jordan, "Convex and Semi-Nonnegative Matrix Factorizations",
IEEE TPAMI 32(1), 2010, and ``H`` (k, p) their Fᵀ.  M⁺ = (|M| + M)/2 and M⁻ = (|M| − M)/2.

Given H the rows of W are independent, so that a block of rows X (b, p) is enough for a W-step;
all that the next H needs are the sums over blocks of ``S = Wᵀ X`` (k, p) and ``T = Wᵀ W`` (k, k).

``ops`` does the arithmetic: a `snmf.backends.Backend`, which supplies matmul, pinv, the positive
and the negative part, and under ``xp`` the array-API namespace.
"""

import math
from typing import Any

Array = Any


def pass_over_block(
    ops: Any,
    solver: str,
    X: Array,
    W: Array,
    H: Array,
    B: Array,
    l1: float,
    repeats: int,
    weights: Array | None = None,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """One iteration's work on one block of rows: its W-step, then S, T and Σ W."""
    A = ops.matmul(X, H.T)
    W = getattr(ops, solver)(A, B, W, l1, repeats)
    return W, sums_of_block(ops, X, W, weights)


def sums_of_block(
    ops: Any, X: Array, W: Array, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """``S = Wᵀ D X``, ``T = Wᵀ D W`` and ``Σ D W`` of one block of rows.

    The diagonal D holds the weights of the rows, (b, 1), with which all of F is summed; None is
    the identity. The W-step, row by row, knows nothing of them.
    """
    DW = W if weights is None else W * weights
    return ops.matmul(DW.T, X), ops.matmul(DW.T, W), ops.xp.sum(DW)


def multiplicative(ops: Any, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """W-step of Ding, Li & Jordan, with A = X Hᵀ and B = H Hᵀ.

    W ← W ∘ √( (A⁺ + W B⁻) / (A⁻ + W B⁺ + λ) )
    """
    A_plus, A_minus = ops.positive_part(A), ops.negative_part(A)
    B_plus, B_minus = ops.positive_part(B), ops.negative_part(B)
    for _ in range(repeats):
        attract = A_plus + ops.matmul(W, B_minus)
        repel = A_minus + ops.matmul(W, B_plus) + (l1 + ops.tiny(W.dtype))  # 0 (x/0) is 0
        W = W * ops.xp.sqrt(attract / repel)
    return W


def hals(ops: Any, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """W-step by coordinate descent (HALS): each column at its minimum, given the others.

    for j = 1…k:  w_j ← max(0, w_j + (a_j − W b_j − λ) / B_jj)
    """
    xp, diagonal = ops.xp, ops.xp.linalg.diagonal(B)
    W = xp.where(diagonal > 0, W, xp.zeros_like(W))  # an empty component has no weight
    diagonal = xp.where(diagonal > 0, diagonal, xp.full_like(diagonal, math.inf))
    for j in list(range(B.shape[0])) * repeats:
        descent = A[:, j] - ops.matmul(W, B[:, j]) - l1
        W[:, j] = ops.positive_part(W[:, j] + descent / diagonal[j])
    return W


def kept(ops: Any, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """W-step of a fit whose W is given: none."""
    return W


def least_squares(ops: Any, S: Array, T: Array, H: Array, rtol: float) -> Array:
    """H-step without penalty: H ← H + T⁺ (S − T H), where T⁺ cuts off singular values below rtol.

    That is done at unit diagonal of T: no component is lost for being small.  What W does not tell
    of H stays as it was, so that this is of all minimisers the nearest, in Σ_j ‖w_j‖² ‖δh_j‖².
    """
    norm = ops.xp.sqrt(ops.xp.linalg.diagonal(T))
    unit = ops.xp.where(norm > 0, 1 / ops.xp.where(norm > 0, norm, 1.0), 0.0)
    inverse = ops.pinv(T * unit[:, None] * unit[None, :], rtol)
    return H + unit[:, None] * ops.matmul(inverse, unit[:, None] * (S - ops.matmul(T, H)))


def least_squares_in_ball(
    ops: Any, S: Array, T: Array, H: Array, sweeps: int, first: int = 0
) -> Array:
    """H-step with a penalty: rows in the unit ball, each at its minimum given the others.

    for j = first…k:  h_j ← ball(h_j + (S_j − T_j H) / T_jj),  ball(v) = v / max(1, ‖v‖)
    """
    xp = ops.xp
    H, diagonal = ops.xp.asarray(H, copy=True), ops.xp.linalg.diagonal(T)
    diagonal = xp.where(diagonal > 0, diagonal, math.inf)  # an unused component keeps its row
    for j in list(range(first, T.shape[0])) * sweeps:
        h = H[j, :] + (S[j, :] - ops.matmul(T[j, :], H)) / diagonal[j]
        norm = xp.sqrt(xp.sum(h * h))
        H[j, :] = h / xp.where(norm > 1, norm, 1.0)
    return H


def squared_error(ops: Any, square: float, S: Array, T: Array, H: Array) -> float:
    """‖X − W H‖² = ‖X‖² − 2⟨S, H⟩ + ⟨T, H Hᵀ⟩: no residual matrix is formed."""
    cross, model = ops.xp.sum(S * H), ops.xp.sum(T * ops.matmul(H, H.T))
    return max(0.0, square - 2 * float(cross) + float(model))
