"""What each component contributes to W H: error, usage and mass, from sums over the rows.

With the residual R = X − W H, leaving out component j raises the squared error by
``‖R + w_j h_j‖² − ‖R‖² = Σ_i w_ij (2 g_ij + w_ij ‖h_j‖²)``, where g = R Hᵀ = X Hᵀ − W H Hᵀ.  So a
block needs X Hᵀ, and no residual.  A missing entry is filled with the model, where its residual is
0, and the norm of h_j is over the observed entries of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from snmf.storage.rows import times_power_of_two

Array = Any
RowWise = Sequence[Any]


class Contributions(NamedTuple):
    """The contribution of every component j to W H.

    Attributes
    ----------
    share : ndarray of shape (k,)
        The rise of ‖X − W H‖² without w_j h_j, divided by ‖X‖². 0 for X = 0.
    usage : ndarray of shape (k,)
        The share of the rows with a weight above zero.
    mass : ndarray of shape (k,)
        Σ_i w_ij ‖h_j‖ / Σ_i ‖x_i‖. 0 for X = 0.
    """

    share: np.ndarray
    usage: np.ndarray
    mass: np.ndarray


def contributions(
    rows: Any,
    W: RowWise,
    H: np.ndarray,
    weights: RowWise | None = None,
    exponent: int = 0,
    missing: bool = False,
    intercept: np.ndarray | None = None,
) -> Contributions:
    """Compute the contribution of every component, in one pass over the rows.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    W : sequence of arrays
        The weights, block by block.
    H : ndarray of shape (k, p)
        The components.
    weights : sequence of arrays of shape (b, 1), default=None
        The sample weights, block by block. None is 1 for each.
    exponent : int, default=0
        Multiplies W by 2 ** -exponent, so that it has the scale of `rows`.
    missing : bool, default=False
        Whether NaN is a missing value.
    intercept : ndarray of shape (p,), default=None
        The intercept m of X ≈ 1 mᵀ + W H, at the scale of `rows`. The mass is then relative to the
        rows less m.

    Returns
    -------
    Contributions
    """
    components = rows.backend.precise.asarray(H, "float64")
    step = partial(_of_block, rows.backend, components, exponent, missing, intercept)
    _, sums = rows.map_sum(step, W, weights)
    rises, square, used, count, totals, length = sums
    return Contributions(_ratio(rises, square), used / count, _mass(totals, H, length))


def _of_block(
    backend: Any,
    H: Array,
    exponent: int,
    missing: bool,
    intercept: np.ndarray | None,
    X: Array,
    W: Array,
    weights: Array | None = None,
) -> tuple[None, tuple[Array, ...]]:
    ops, xp = backend.precise, backend.precise.xp
    X, W = backend.to_precise(X), times_power_of_two(backend.to_precise(W), -exponent)
    B = ops.matmul(H, H.T)
    squares, complete, known = xp.linalg.diagonal(B)[None, :], X, X
    one, ones = 1 + 0 * W[:, :1], 1 + 0 * H[:1, :]
    m = 0 * ones if intercept is None else ops.asarray(intercept[None, :], "float64")
    if missing:
        model = xp.concat([W, one], axis=1), xp.concat([H, m], axis=0)
        complete, known = ops.filled(X, *model), ops.filled(X, 0 * one, ones)
        squares = squares - ops.matmul(ops.filled(0 * X, one, ones), (H * H).T)
    slopes = ops.matmul(complete, H.T) - ops.matmul(W, B)
    used = xp.astype(W > 0, W.dtype)
    x_squares = lengths = ops.row_squares(known)
    if intercept is not None:
        slopes = slopes - ops.matmul(m, H.T)
        lengths = ops.row_errors(ops.filled(X, one, m) if missing else X, one, m)
    rises = W * (2 * slopes + W * squares)
    D = one if weights is None else backend.to_precise(weights)
    return None, (
        xp.sum(rises * D, axis=0), xp.sum(x_squares * D[:, 0]),
        xp.sum(used * D, axis=0), xp.sum(D),
        xp.sum(W * D, axis=0), xp.sum(xp.sqrt(lengths) * D[:, 0]),
    )  # fmt: skip


def _mass(totals: np.ndarray, H: np.ndarray, length: np.ndarray) -> np.ndarray:
    return _ratio(totals * np.linalg.norm(H.astype("float64"), axis=1), length)


def _ratio(sums: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return sums / whole if whole else 0 * sums
