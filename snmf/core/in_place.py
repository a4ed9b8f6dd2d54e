"""The W-steps of `snmf.core.updates` for NumPy arrays, with few copies.

They give what the definitions give, and the tests hold them to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def multiplicative(A: Array, B: Array, W: Array, l1: float, repeats: int, tiny: float) -> Array:
    """The update of Ding, Li & Jordan, in three arrays of the size of W."""
    B_plus, B_minus = np.maximum(B, 0), np.maximum(-B, 0)
    A_plus = np.maximum(A, 0)
    A_minus = A_plus - A
    A_minus += l1 + tiny
    W = W.copy()
    attract, repel = np.empty_like(W), np.empty_like(W)
    for _ in range(repeats):
        np.matmul(W, B_minus, out=attract)
        attract += A_plus
        np.matmul(W, B_plus, out=repel)
        repel += A_minus
        attract /= repel
        np.sqrt(attract, out=attract)
        W *= attract
    return W


def hals(A: Array, B: Array, W: Array, l1: float, repeats: int) -> Array:
    """Coordinate descent, component by component."""
    scale = np.diag(B).copy()[:, None]
    scale[scale == 0] = np.inf
    others = B / scale
    np.fill_diagonal(others, 0)
    target = A.T.copy()  # components as rows: what is added up lies side by side
    target -= l1
    target /= scale
    W = W.T.copy()
    for j in list(range(len(B))) * repeats:
        np.subtract(target[j], others[j] @ W, out=W[j])
        np.maximum(W[j], 0, out=W[j])
    return W.T
