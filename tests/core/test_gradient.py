"""The gradient of the exact weights: finite differences of what `nnls` computes."""

import numpy as np
import pytest

from snmf.backends import adapter
from snmf.core import gradient, intercept, nnls
from snmf.storage import rows as _rows

OPS = adapter("numpy")


def weights(X, H, l1, m):
    components = nnls.Components(OPS, H)
    if m is None:
        return nnls.best_weights(OPS, X, components, l1)[0]
    return intercept.solver(m)(OPS, X, components, l1)[0]


def differences(function, at, step=1e-6):
    """The central differences of a function with a number as its value."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        there = [at.copy(), at.copy()]
        there[0][place] += step
        there[1][place] -= step
        found[place] = (function(there[0]) - function(there[1])) / (2 * step)
    return found


def problem(kind, seed=0):
    rng = np.random.default_rng(seed)
    X, H = rng.standard_normal((5, 6)), rng.standard_normal((4, 6))
    H *= np.array([0.5, 1, 2, 3])[:, None]
    if kind == "an empty component":
        H[2] = 0
    if kind == "nearly dependent":
        H[3] = H[0] + 1e-4 * H[3]
    X += (2 if kind == "few zeros" else 0.5) * rng.random((5, 4)) @ H
    return X, H, rng.standard_normal((5, 4)), 0.3 * rng.standard_normal(6)


def of_sum(X, H, G, l1, m):
    """The gradient of Σ G W."""
    W = weights(X, H, l1, m)
    found = gradient.of_exact_weights(OPS.rows(X), H, W, G, m)
    return np.concatenate(found[0]), *found[1:]


@pytest.mark.parametrize("kind", ["free", "an empty component", "few zeros", "nearly dependent"])
@pytest.mark.parametrize(("l1", "shifted"), [(0.0, False), (0.3, False), (0.2, True)])
def test_it_is_that_of_finite_differences(kind, l1, shifted, monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 2))  # several blocks
    X, H, G, m = problem(kind)
    m = m if shifted else None
    W = weights(X, H, l1, m)
    assert 0.3 < np.mean(W > 0) < 1
    slack = {"atol": 1e-5 if kind == "nearly dependent" else 1e-7, "rtol": 1e-5}
    of_X, of_H, of_m = of_sum(X, H, G, l1, m)
    loss = lambda X, H, m: np.sum(G * weights(X, H, l1, m))  # noqa: E731
    np.testing.assert_allclose(of_X, differences(lambda X: loss(X, H, m), X), **slack)
    if kind != "an empty component":  # W is not continuous in a row of H that is zero
        np.testing.assert_allclose(of_H, differences(lambda H: loss(X, H, m), H), **slack)
    if shifted:
        np.testing.assert_allclose(of_m, differences(lambda m: loss(X, H, m), m), **slack)


def test_an_empty_component_has_no_gradient():
    X, H, G, _ = problem("an empty component")
    assert not of_sum(X, H, G, 0.0, None)[1][2].any()


def test_dependent_components_have_the_gradient_of_what_is_unique():
    """W is not unique, and W H is: a loss of W H has one gradient with respect to X."""
    X, H, _, m = problem("free")
    H = np.vstack([H, H[:1]])

    def loss(X):
        return 0.5 * np.sum((weights(X, H, 0.0, None) @ H - m) ** 2)

    G = (weights(X, H, 0.0, None) @ H - m) @ H.T
    of_X, of_H, _ = of_sum(X, H, G, 0.0, None)
    assert np.isfinite(of_H).all()
    np.testing.assert_allclose(of_X, differences(loss, X), atol=1e-5, rtol=1e-4)


def test_no_gradient_comes_in_and_none_goes_out():
    X, H, G, m = problem("free")
    assert not any(found.any() for found in of_sum(X, H, 0 * G, 0.1, m))
