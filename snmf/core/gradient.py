"""The gradient of a loss through the exact weights, with respect to X and to H.

Near a row x, the set P of components with a weight above zero stays as it is, except at points
that have measure zero.  There ``w_P = (x H_Pᵀ − λ) (H_P H_Pᵀ)⁻¹``.  Let g be the gradient of the
loss with respect to w, ``u_P = g_P (H_P H_Pᵀ)⁻¹``, and u = 0 elsewhere.  Then the gradient is
``u H`` with respect to x, and ``uᵀ (x − w H) − wᵀ (u H)`` with respect to H.

With an intercept m, x − m takes the place of x, so the gradient with respect to m is −Σ u H.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snmf.core import nnls, quadratic

Array = Any
RowWise = Any


def of_exact_weights(
    rows: Any, H: np.ndarray, W: Array, G: Array, intercept: np.ndarray | None = None
) -> tuple[RowWise, np.ndarray, np.ndarray]:
    """Return the gradients of a loss with respect to X, H and the intercept.

    If rows of H are linearly dependent, there are several exact W. The gradient is then that of
    the W with about the least norm on its passive sets.

    Parameters
    ----------
    rows : Rows of shape (n, p)
        The rows of X, dense.
    H : ndarray of shape (k, p)
        The components.
    W : array of shape (n, k)
        The exact weights of X.
    G : array of shape (n, k)
        The gradient of the loss with respect to W.
    intercept : ndarray of shape (p,), default=None
        The intercept m.

    Returns
    -------
    of_X : sequence of arrays
        The gradient with respect to X, block by block.
    of_H : ndarray of shape (k, p)
        The gradient with respect to H, in float64.
    of_intercept : ndarray of shape (p,)
        The gradient with respect to m, in float64.
    """
    backend = rows.backend
    curvature = nnls.Components(backend.precise, H).curvature()
    there = backend.asarray(H, rows.dtype)
    m = 0.0 if intercept is None else backend.asarray(intercept[None, :], rows.dtype)

    def of_rows(X: Array, W: Array, G: Array) -> tuple[Array, tuple[Array, ...]]:
        passive = backend.to_precise(W) > 0
        U = quadratic.on_passive_sets(curvature, backend.to_precise(G), passive)
        U = backend.asarray(backend.bring(U, backend.precise), rows.dtype)
        sums = backend.matmul(U.T, X - m), backend.matmul(U.T, W), backend.xp.sum(U, axis=0)
        return backend.matmul(U, there), sums

    step = nnls.in_pieces(backend, of_rows, len(H))
    of_X, (S, T, total) = rows.map_sum(step, rows.split(W), rows.split(G))
    return of_X, S - (T + T.T) @ H, -total @ H
