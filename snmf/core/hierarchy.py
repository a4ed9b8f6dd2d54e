"""Components of components: ``H ≈ V H'`` with V ≥ 0, so that ``X ≈ W H ≈ (W V) H'``.

Given W, the error of (W V) H' depends on X by S = Wᵀ X and T = Wᵀ W alone. `polished` lowers it by
steps for V and H' in turn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def sums_at_parents(S: np.ndarray, T: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return S and T for the weights W V in place of W."""
    return V.T @ S, V.T @ T @ V


def polished(
    S: np.ndarray,
    T: np.ndarray,
    V: np.ndarray,
    H: np.ndarray,
    steps: int,
    h_step: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Lower ‖X − W V H‖² over V ≥ 0 and H; no step raises it.

    Parameters
    ----------
    S : ndarray of shape (k, p)
        Wᵀ X.
    T : ndarray of shape (k, k)
        Wᵀ W.
    V : ndarray of shape (k, m)
        The weights of the components, ≥ 0.
    H : ndarray of shape (m, p)
        The components of the components.
    steps : int
        The number of steps for each.
    h_step : callable
        ``h_step(S, T, H)`` makes an H-step, as those of `snmf.core.updates`.

    Returns
    -------
    V, H : ndarrays
        The last ones.
    """
    for _ in range(steps):
        V = _v_step(S @ H.T, H @ H.T, T, V)
        H = h_step(*sums_at_parents(S, T, V), H)
    return V, H


def _v_step(A: np.ndarray, B: np.ndarray, T: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Make a projected step for each column of V, given the others.

    The error is ½⟨T, V B Vᵀ⟩ − ⟨A, V⟩ and a constant. T has no entry below zero, so that T is at
    most the diagonal matrix of its row sums: a step with this diagonal does not raise the error.
    """
    V, curvature = V.copy(), T.sum(axis=1)
    curvature = np.where(curvature > 0, curvature, np.inf)
    for c in np.flatnonzero(np.diagonal(B) > 0):
        slope = A[:, c] - T @ (V @ B[:, c])
        V[:, c] = np.maximum(0.0, V[:, c] + slope / (B[c, c] * curvature))
    return V
