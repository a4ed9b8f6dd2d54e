"""Other programs, with their default parameters: each is imported when it is called.

A call of an entry of `PEERS` imports the program, and gives a method: X, k and a seed give W and H.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np  # and no more: who measures a cold start imports this before

Factors = tuple[Any, Any]
Method = Callable[[np.ndarray, int, int], Factors]

SPARSITY = 0.1  # of dictionary learning, in the unit of snmf
STEPS = 200  # of the rule in use
RIDGE = 1e-6  # that it adds to Wᵀ W


def noloox() -> Method:
    from noloox.decomposition import SNMF

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        model = SNMF(k, random_state=seed, progress_bar=False)
        return model.fit_transform(X), model.components_

    return fit


def turftopic(sparsity: float = 0) -> Method:
    """The class inside SensTopic, whose own default is 0; SensTopic's is 1."""
    from turftopic.models._snmf import SNMF

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        model = SNMF(k, sparsity=sparsity, random_state=seed, progress_bar=False)
        return model.fit_transform(X), model.components_

    return fit


def tensorly() -> Method:
    from tensorly.decomposition import non_negative_parafac_hals

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        weights, (W, columns) = non_negative_parafac_hals(X, k, nn_modes={0}, random_state=seed)
        return W * weights, columns.T

    return fit


def overcomplete() -> Method:
    import torch
    from overcomplete.optimization import SemiNMF

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        torch.manual_seed(seed)
        W, H = SemiNMF(k).fit(torch.as_tensor(X, dtype=torch.float32))  # it takes no other
        return W.numpy(), H.numpy()

    return fit


def in_use() -> Method:
    """200 multiplicative steps, the rule that is passed from repository to repository."""

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        return multiplicative(X, k, seed=seed)[:2]

    return fit


def dictionary() -> Method:
    """The objective of snmf at this sparsity, by other means."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        model = MiniBatchDictionaryLearning(
            k,
            alpha=SPARSITY * float(np.linalg.norm(X)) / len(X) ** 0.5,
            fit_algorithm="cd",
            transform_algorithm="lasso_cd",
            positive_code=True,
            random_state=seed,
        )
        return model.fit_transform(X), model.components_

    return fit


def kmeans() -> Method:
    from sklearn.cluster import KMeans

    def fit(X: np.ndarray, k: int, seed: int) -> Factors:
        model = KMeans(k, random_state=seed).fit(X)
        return np.eye(k)[model.labels_], model.cluster_centers_

    return fit


def step_in_use(
    xp: Any, matmul: Callable[..., Any], X: Any, W: Any, ridge: Any, cut: Callable[..., Any]
) -> tuple[Any, Any, Any, Any]:
    """One step of the rule in use, with any array library: the new W, and H, X Hᵀ and H Hᵀ."""
    H = cut(xp.linalg.solve(matmul(W.T, W) + ridge, matmul(W.T, X)))
    A, B = matmul(X, H.T), matmul(H, H.T)
    up = xp.clip(A, 0, None) + matmul(W, xp.clip(-B, 0, None))
    down = xp.clip(-A, 0, None) + matmul(W, xp.clip(B, 0, None))
    return W * xp.sqrt(up / (down + 1e-9)), H, A, B


def multiplicative(
    X: np.ndarray, k: int, entries: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multiplicative steps from random weights, with H by least squares, and perhaps cut.

    With `entries` only the largest so many of a component stay after every least-squares step, as
    in Shafran, Geiger & Geva, "Decomposing MLP activations into interpretable features via
    semi-nonnegative matrix factorization", 2025 ("winners take all"). The cut is not a minimiser,
    so the objective may rise. Returns W, H and ‖X − W H‖² / ‖X‖² after every step.
    """

    def cut(H: np.ndarray) -> np.ndarray:
        if entries is not None:
            small = np.argpartition(np.abs(H), -entries, axis=1)[:, :-entries]
            np.put_along_axis(H, small, 0, axis=1)
        return H

    W = np.random.default_rng(seed).random((len(X), k)).astype(X.dtype)
    ridge = RIDGE * np.eye(k, dtype=X.dtype)
    square, curve = float(np.vdot(X, X)), []
    for _ in range(STEPS):
        W, H, A, B = step_in_use(np, np.matmul, X, W, ridge, cut)
        error = square - 2 * float(np.vdot(W, A)) + float(np.vdot(W.T @ W, B))
        curve.append(error / square)
    return W, H, np.array(curve)


PEERS: dict[str, Callable[[], Method]] = {
    "noloox": noloox,
    "turftopic": turftopic,
    "turftopic, 1": partial(turftopic, sparsity=1),
    "tensorly": tensorly,
    "overcomplete": overcomplete,
    "multiplicative": in_use,
    "dictionary learning": dictionary,
    "k-means": kmeans,
}
