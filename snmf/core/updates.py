"""The updates of semi-nonnegative matrix factorization, ``X ≈ W H`` with ``W ≥ 0``.

The W-steps are `multiplicative`, `hals` and `kept`. The H-steps are `least_squares` and
`least_squares_within`.

The objective is ``F(W, H) = ½‖X − W H‖² + λ Σ W``.  With λ > 0 every row of H has norm at most 1.
Without this limit, W → cW, H → H/c would make the penalty as small as you like.

``W`` (n, k) is the G of Ding, Li & Jordan, "Convex and Semi-Nonnegative Matrix Factorizations",
IEEE TPAMI 32(1), 2010, and ``H`` (k, p) is their Fᵀ.  M⁺ = (|M| + M)/2 and M⁻ = (|M| − M)/2.

For a given H the rows of W are independent, so a W-step needs one block of rows X (b, p) at a
time.  An H-step needs only the sums over blocks of ``S = Wᵀ X`` (k, p) and ``T = Wᵀ W`` (k, k).

``ops`` does the arithmetic. It is a `snmf.backends.Backend`, with matmul, pinv, the positive and
the negative part, and the array-API namespace ``xp``.
"""

import math
from collections.abc import Callable
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
    """Make the W-step for one block of rows; return W, and its S, T and Wᵀ 1."""
    A = ops.matmul(X, H.T)
    W = getattr(ops, solver)(A, B, W, l1, repeats)
    return W, sums_of_block(ops, X, W, weights)


def sums_of_block(
    ops: Any, X: Array, W: Array, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``S = Wᵀ D X``, ``T = Wᵀ D W`` and ``Wᵀ D 1`` of one block of rows.

    The diagonal D holds the sample weights, (b, 1), of the sum F; None is the identity. A W-step
    does not use them, since they do not change the minimiser of a row.
    """
    DW = W if weights is None else W * weights
    D = ops.xp.ones_like(W[:, :1]) if weights is None else weights
    return ops.matmul(DW.T, X), ops.matmul(DW.T, W), ops.matmul(W.T, D)[:, 0]


def multiplicative(ops: Any, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """Make the W-step of Ding, Li & Jordan, with A = X Hᵀ and B = H Hᵀ; return the new W.

    W ← W ∘ √( (A⁺ + W B⁻) / (A⁻ + W B⁺ + λ) )
    """
    A_plus, A_minus = ops.positive_part(A), ops.negative_part(A)
    B_plus, B_minus = ops.positive_part(B), ops.negative_part(B)
    for _ in range(repeats):
        attract = A_plus + ops.matmul(W, B_minus)
        # without `tiny`, a zero weight could become 0 × x/0, which is NaN
        repel = A_minus + ops.matmul(W, B_plus) + (l1 + ops.tiny(W.dtype))
        W = W * ops.xp.sqrt(attract / repel)
    return W


def hals(ops: Any, A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """Make a W-step by coordinate descent (HALS): minimise each column, given the others.

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
    """Return W unchanged: the W-step of a fit with a fixed W."""
    return W


def least_squares(ops: Any, S: Array, T: Array, H: Array, rtol: float) -> Array:
    """Make the H-step without penalty: H ← H + T⁺ (S − T H); return the new H.

    T⁺ cuts off singular values below rtol. T is scaled to unit diagonal first, so that no component
    is lost because it is small.  Of all minimisers this is the nearest to H, in the distance
    Σ_j ‖w_j‖² ‖δh_j‖²: parts of H that W does not determine do not change.
    """
    norm = ops.xp.sqrt(ops.xp.linalg.diagonal(T))
    unit = ops.xp.where(norm > 0, 1 / ops.xp.where(norm > 0, norm, 1.0), 0.0)
    inverse = ops.pinv(T * unit[:, None] * unit[None, :], rtol)
    return H + unit[:, None] * ops.matmul(inverse, unit[:, None] * (S - ops.matmul(T, H)))


def least_squares_within(
    ops: Any,
    S: Array,
    T: Array,
    H: Array,
    project: Callable[[Array], Array],
    sweeps: int,
    first: int = 0,
) -> Array:
    """Make the H-step within limits: minimise each row, given the others.

    for j = first…k:  h_j ← P(h_j + (S_j − T_j H) / T_jj)

    The projection P returns the nearest row within the limits. With a penalty it is that onto the
    unit ball, P(v) = v / max(1, ‖v‖); see `snmf.core.limits`. F does not rise, since it is
    ½ T_jj ‖h_j − v‖² in the row; the limits need not be convex.
    """
    xp = ops.xp
    H, diagonal = xp.asarray(H, copy=True), xp.linalg.diagonal(T)[:, None]
    diagonal = xp.where(diagonal > 0, diagonal, math.inf)  # an unused component keeps its row
    S, T = S / diagonal, T / diagonal
    for j in list(range(first, T.shape[0])) * sweeps:
        H[j, :] = project(H[j, :] + S[j, :] - T[j, :] @ H)
    return H


def squared_error(ops: Any, square: float, S: Array, T: Array, H: Array) -> float:
    """Return ‖X − W H‖² = ‖X‖² − 2⟨S, H⟩ + ⟨T, H Hᵀ⟩, without forming the residual."""
    cross, model = ops.xp.sum(S * H), ops.xp.sum(T * ops.matmul(H, H.T))
    return max(0.0, square - 2 * float(cross) + float(model))
