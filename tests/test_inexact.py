"""The weights as the last iteration left them: the paper's own answer."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from snmf import factorize
from snmf.backends import adapter
from snmf.core import start

PAPER = {"solver": "mu", "accelerate": False, "sparsity": 0, "init": "kmeans", "tol": 0,
         "progress_bar": False, "random_state": 0}  # fmt: skip


def literal(X, G, iterations):
    """Ding, Li & Jordan (2010), equations 9 and 10, for X of features × samples."""

    def positive(A):
        return (np.abs(A) + A) / 2

    def negative(A):
        return (np.abs(A) - A) / 2

    for _ in range(iterations):
        F = X @ G @ np.linalg.pinv(G.T @ G)
        A, B = X.T @ F, F.T @ F
        G = G * np.sqrt((positive(A) + G @ negative(B)) / (negative(A) + G @ positive(B)))
    return X @ G @ np.linalg.pinv(G.T @ G), G


@pytest.mark.parametrize("shape", [(1797, 64), (30, 64)])  # the second one is wide
def test_it_is_the_literal_transcription(shape):
    X = load_digits().data[: shape[0]]
    rows = adapter("numpy").rows(X)
    (G,) = start.kmeans(rows, 10, np.random.RandomState(0))[0]
    F, G = literal(X.T, G.astype("float64"), 50)
    result = factorize(X, 10, exact=False, max_iter=50, **PAPER)
    norms = np.linalg.norm(F, axis=0)
    np.testing.assert_allclose(result.W, G * norms, rtol=1e-6, atol=1e-6 * result.W.max())
    np.testing.assert_allclose(result.H, (F / norms).T, atol=1e-6)
    assert result.error == pytest.approx(np.linalg.norm(X - result.W @ result.H))
    assert result.loss_curve[-1] == pytest.approx((result.error / np.linalg.norm(X)) ** 2)
    exact = factorize(X, 10, max_iter=50, **PAPER)
    assert exact.error < result.error


def test_rows_with_weights_and_missing_values():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12))
    X[rng.random(X.shape) < 0.1] = np.nan
    D = rng.random(60) + 0.5
    options = {**PAPER, "missing_values": np.nan, "max_iter": 20, "sample_weight": D}
    result = factorize(X, 3, exact=False, **options)
    residual = np.nan_to_num(X - result.W @ result.H)
    assert result.error == pytest.approx(np.sqrt(np.sum(D[:, None] * residual**2)))


@pytest.mark.parametrize(
    ("more", "name"),
    [({"fit_intercept": True}, "fit_intercept"), ({"locality": 0.1}, "locality"),
     ({"checkpoint": "c.npz"}, "checkpoint"), ({"W": np.ones((20, 2)), "fixed": "W"}, "fixed")],
)  # fmt: skip
def test_what_needs_the_exact_weights_is_refused(more, name):
    X = np.random.default_rng(0).standard_normal((20, 5))
    with pytest.raises(ValueError, match=f"exact=False does not go with {name}"):
        factorize(X, 2, exact=False, **PAPER, **more)
    with pytest.raises(ValueError, match="exact=False goes with no rows of weight 0"):
        factorize(X, 2, exact=False, sample_weight=np.arange(20), **PAPER)
