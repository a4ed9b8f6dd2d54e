"""The canonical form of the result: the exact W for H, at the scale of X, in a fixed order.

`of_unit_rows` makes it, and `of_prototypes` with locality. `given_weights` stands in for the exact
W if W is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from snmf.core.nnls import digests, totals
from snmf.storage.rows import Rows, RowWise, Scale, check_range, times_power_of_two

Array = Any


class Canonical(NamedTuple):
    """Factors in their canonical form.

    Attributes
    ----------
    W : sequence of arrays
        The weights block by block, at the scale of X.
    H : ndarray of shape (k, p)
        The components, with rows of unit norm; with locality at the scale of X.
    error : float
        ‖X − W H‖_F.
    shares : ndarray of shape (k,)
        ‖w_j‖ / ‖X‖_F for every component j; 1 for X = 0, so that no warning is given.
    total : float
        Σ W, at the scale of X; with sample weights, the sum that has them.
    intercept : ndarray of shape (p,) or None
        The intercept at the scale of X, if the fit has one.
    order : ndarray of int, of shape (k,), or None
        The places of the components in the given H; None if not known.
    """

    W: RowWise
    H: np.ndarray
    error: float
    shares: np.ndarray
    total: float
    intercept: np.ndarray | None = None
    order: np.ndarray | None = None


def of_unit_rows(
    rows: Rows,
    H: np.ndarray,
    scale: Scale,
    penalty: float,
    exact: Callable[..., Any],
    *,
    keep_order: bool,
    fixed: int,
) -> Canonical:
    """Compute the exact W of H, and order the components by decreasing weight.

    A component without weight becomes a zero row of H.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X.
    H : ndarray of shape (k, p)
        The components, with rows of unit norm.
    scale : Scale
        The scale of X.
    penalty : float
        The λ, at the scale of X.
    exact : callable
        Computes W for H, the penalty and an exponent, as `snmf.core.nnls.exact_weights` does.
    keep_order : bool
        Keeps the order of the components.
    fixed : int
        Keeps this many first rows of H, even if they have no weight.

    Returns
    -------
    Canonical

    Raises
    ------
    ValueError
        If weights exceed the largest number of the dtype.
    """
    exponent = scale.exponent + math.frexp(scale.longest)[1]
    may_die = np.arange(len(H)) >= fixed
    order, H, (W, square, squares, total) = _solved(
        rows, H.astype(rows.dtype), lambda H: exact(H, penalty, exponent), may_die, keep_order
    )
    check_range(rows.dtype, float(np.sqrt(squares.max())), exponent)
    whole = np.ldexp(scale.square, 2 * (scale.exponent - exponent))
    shares = np.sqrt(squares / whole) if whole else np.ones_like(squares)
    error, total = (float(np.ldexp(number, exponent)) for number in (square**0.5, total))
    return Canonical(W, H, error, shares, total, order=order)


def _solved(
    rows: Rows, H: np.ndarray, exact: Callable[..., Any], may_die: np.ndarray, keep_order: bool
) -> tuple[np.ndarray, np.ndarray, tuple[RowWise, float, np.ndarray, float]]:
    """Return the order of the components, H in this order, and what `exact` returns for it.

    A row of H that may die and has no weight becomes zero.
    """
    W, square, squares, total = exact(H)
    while np.any(died := may_die & (squares == 0) & np.any(H != 0, axis=1)):
        H = np.where(died[:, None], 0, H)
        del W  # free it before the next one is made
        W, square, squares, total = exact(H)
    order = np.arange(len(H))
    if keep_order:
        return order, H, (W, square, squares, total)
    order = np.argsort(-squares, kind="stable")
    H, squares, may_die = H[order], squares[order], may_die[order]
    living = digests(H[~may_die | (squares > 0)])
    if len({*living}) < len(living):  # the W of rows equal up to a power of two depends on order
        del W
        return order, H, exact(H)
    columns = rows.backend.asarray(order)
    W = rows.each(lambda part: rows.backend.xp.take(part, columns, axis=1), W)
    return order, H, (W, square, squares, total)


def of_prototypes(
    rows: Rows, H: np.ndarray, scale: Scale, exact: Callable[..., Any], *, keep_order: bool
) -> Canonical:
    """Make the canonical form with locality: H at the scale of X, and its exact W.

    The components are ordered by decreasing weight, unless `keep_order` is true. `exact` computes
    W for an H at the scale of the fit, as `snmf.core.nnls.exact_weights` does.

    Raises
    ------
    ValueError
        If H at the scale of X exceeds the largest number of the dtype.
    """
    with np.errstate(over="ignore"):
        at_scale_of_X = np.ldexp(
            H.astype(rows.dtype), scale.exponent
        )  # digits get lost if X is tiny
    if not np.all(np.isfinite(at_scale_of_X)):
        raise ValueError(
            f"H is too large a start for X: it exceeds the largest {rows.dtype}. Start from an H "
            "at the scale of X."
        )
    H = np.ldexp(at_scale_of_X, -scale.exponent)
    none_dies = np.zeros(len(H), dtype=bool)  # a row of zeros has weights too
    order, _, (W, square, squares, total) = _solved(rows, H, exact, none_dies, keep_order)
    error = float(np.ldexp(square**0.5, scale.exponent))
    shares = np.sqrt(squares / len(rows)) if scale.square else np.ones(len(H))
    return Canonical(W, at_scale_of_X[order], error, shares, total)


def given_weights(
    rows: Rows,
    W: RowWise,
    factors: np.ndarray,
    scale: Scale,
    weights: RowWise | None,
    H: np.ndarray,
    penalty: float,
    exponent: int,
) -> tuple[RowWise, float, np.ndarray, float]:
    """Return what `snmf.core.nnls.exact_weights` returns, for a fixed W.

    The columns of W are multiplied by `factors`, which are at the scale of the fit.
    """
    ops = rows.backend
    scaled = ops.asarray(np.ldexp(factors, scale.exponent - exponent), rows.dtype)
    components = ops.asarray(H, rows.dtype)

    def of_block(X: Array, W: Array, D: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
        W = W * scaled
        errors = ops.row_errors(ops.filled(X, W, components), W, components)
        return W, totals(ops, errors, W, D)

    W, (square, squares, total) = rows.scaled(exponent).map_sum(of_block, W, weights)
    W = rows.each(lambda part: times_power_of_two(part, exponent), W)
    return W, float(square), squares, float(total)
