"""Components of components."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from snmf import SNMF, HierarchicalSNMF
from snmf.backends import adapter
from snmf.core import hierarchy, updates
from snmf.core.limits import NO_LIMITS, Limits, h_step

QUIET = SNMF(progress_bar=False)
fitted = partial(HierarchicalSNMF, random_state=0)
may_not_converge = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def planted(n=600, p=40, seed=0):
    """Data of 9 components, which are mixtures of three and noise: 0 to 2, 3 to 5, 6 to 8."""
    rng = np.random.default_rng(seed)
    coarse = np.linalg.qr(rng.standard_normal((p, 3)))[0].T
    fine = np.repeat(coarse, 3, axis=0) + 0.12 * rng.standard_normal((9, p))
    W = rng.gamma(2, 0.5, (n, 9)) * (rng.random((n, 9)) < 0.3)
    return W @ fine + 0.05 * rng.standard_normal((n, p)), fine


@parametrize_with_checks([HierarchicalSNMF((2, 1), QUIET), HierarchicalSNMF(2, QUIET)])
@may_not_converge
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(nonnegative=True)])
def test_no_step_of_the_polish_raises_the_error(limits):
    rng, ops = np.random.default_rng(0), adapter("numpy")
    for _ in range(20):
        X, W = rng.standard_normal((50, 9)), rng.random((50, 5)) * (rng.random(5) < 0.9)
        V, H = rng.random((5, 3)) * (rng.random((5, 3)) < 0.7), rng.standard_normal((3, 9))
        H = limits.of_entries(H)
        step = partial(h_step, ops, limits, partial(updates.least_squares, ops, rtol=1e-12))
        S, T = W.T @ X, W.T @ W
        errors = [np.linalg.norm(X - W @ V @ H)]
        for _ in range(5):
            V, H = hierarchy.polished(S, T, V, H, 1, step)
            assert V.min() >= 0
            errors.append(np.linalg.norm(X - W @ V @ H))
        assert np.all(np.diff(errors) <= 1e-10)
        assert errors[-1] < errors[0]


def test_the_polish_ends_where_least_squares_does():
    rng = np.random.default_rng(1)
    X, W, H = rng.standard_normal((60, 8)), rng.random((60, 4)), rng.standard_normal((2, 8))
    V, _ = hierarchy.polished(
        W.T @ X, W.T @ W, np.ones((4, 2)), H, 3000, lambda S, T, H: H
    )  # with H kept: a nonnegative least-squares problem in V
    slope = W.T @ (W @ V @ H - X) @ H.T
    assert np.all(slope >= -1e-6)
    np.testing.assert_allclose(slope * V, 0, atol=1e-6)


def test_children_come_under_the_parent_that_they_were_made_of():
    X, fine = planted()
    model = fitted((9, 3), SNMF(progress_bar=False, solver="hals")).fit(X)
    unit = fine / np.linalg.norm(fine, axis=1)[:, None]
    cosines = model.components_ @ unit.T
    assert np.all(cosines.max(axis=1) > 0.9)  # each is one that was planted
    family = cosines.argmax(axis=1) // 3
    parents = model.parents(0)
    assert all(len(set(family[parents == parent])) == 1 for parent in range(3))
    means = unit.reshape(3, 3, -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1)[:, None]
    assert np.all((model.levels_[1].components_ @ means.T).max(axis=1) > 0.95)


@may_not_converge
def test_errors_are_those_of_the_products_and_polish_lowers_them():
    X = planted()[0]
    several = ({}, {"fit_intercept": True, "scale": True}, {"sparsity": 0, "n_nonzero_features": 9})
    for options in several:
        models = [
            fitted((8, 4, 2), SNMF(progress_bar=False, **options), polish=steps).fit(X)
            for steps in (0, 30)
        ]
        for model in models:
            W = product = model.transform(X)
            first = model.levels_[0]
            m = 0 if first.intercept_ is None else first.intercept_
            scale = 1 if first.scale_ is None else first.scale_
            for level, error in enumerate(model.errors_):
                if level:
                    product = product @ model.mixtures_[level - 1]
                H = model.levels_[level].components_
                assert error == pytest.approx(np.linalg.norm(X / scale - m - product @ H), rel=1e-6)
                np.testing.assert_allclose(np.linalg.norm(H, axis=1), 1)
            assert W.shape == (600, 8)
        plain, polished = (model.errors_ for model in models)
        assert polished[0] == plain[0]
        assert polished[1] < plain[1]


@may_not_converge
def test_weights_of_a_level_are_exact_and_give_back_the_data():
    X = planted()[0]
    model = fitted((8, 3), QUIET).fit(X)
    for level in (0, 1, -1):
        W = model.transform(X, level=level)
        H, penalty = model.levels_[level].components_, model.levels_[0].penalty_
        slope = (W @ H - X) @ H.T + penalty
        assert slope.min() > -1e-8
        np.testing.assert_allclose(slope * W, 0, atol=1e-8)
        np.testing.assert_allclose(model.inverse_transform(W, level=level), W @ H)
    np.testing.assert_array_equal(model.fit_transform(X), model.transform(X))
    counts = np.arange(600) % 3
    for level in (0, 1):
        one = model.levels_[level]
        assert model.score(X, sample_weight=counts, level=level) == one.score(X, None, counts)
        assert str(model.diagnostics(X, counts, level=level)) == str(one.diagnostics(X, counts))
    assert model.score(X) > model.score(X, level=1)


@may_not_converge
def test_rows_of_weight_zero_are_absent():
    X = planted(n=200)[0]
    counts = np.random.default_rng(3).integers(0, 2, 200)
    estimator = SNMF(progress_bar=False, init="svd", solver="hals", max_iter=30)
    one = fitted((5, 2), estimator).fit(X, sample_weight=counts)
    other = fitted((5, 2), estimator).fit(X[counts > 0])
    np.testing.assert_allclose(one.levels_[1].components_, other.levels_[1].components_, atol=1e-6)
    np.testing.assert_allclose(one.errors_, other.errors_, rtol=1e-6)


@may_not_converge
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_any_scale_and_sparse_rows(scale):
    X = planted(n=200)[0]
    X[np.abs(X) < 0.2] = 0
    estimator = SNMF(progress_bar=False, init="random", max_iter=20)
    model = fitted((5, 2), estimator).fit(X)
    np.testing.assert_allclose(
        fitted((5, 2), estimator).fit(sp.csr_array(X)).errors_, model.errors_, rtol=1e-6
    )
    other = fitted((5, 2), estimator).fit(X * scale)
    np.testing.assert_allclose(other.errors_ / scale, model.errors_, rtol=1e-3)


def test_zeros_are_a_hierarchy_of_nothing():
    model = fitted((3, 1), QUIET).fit(np.zeros((10, 4)))
    np.testing.assert_array_equal(model.errors_, 0)
    assert not model.levels_[1].components_.any()
    np.testing.assert_array_equal(model.parents(0), -1)


def test_the_tree_names_components_and_features():
    X = planted(p=12)[0]
    frame = pd.DataFrame(X, columns=[f"feature {i}" for i in range(12)])
    model = fitted((6, 2), QUIET).fit(frame)
    lines = model.tree(n_features=2).splitlines()
    tops = [line for line in lines if not line.startswith(" ")]
    assert [line.split(":")[0] for line in tops] == ["0", "1"]
    assert len(lines) == 2 + np.count_nonzero(model.parents(0) >= 0)
    assert all(line.count("feature") == 2 for line in lines)
    h = model.levels_[1].components_[0]
    largest = int(np.abs(h).argmax())
    assert f"{'−' if h[largest] < 0 else '+'}feature {largest}" in tops[0]
    assert list(model.get_feature_names_out()) == [f"hierarchicalsnmf{j}" for j in range(6)]
    unnamed = fitted((6, 2), QUIET).fit(X)
    assert "feature" not in unnamed.tree()
    assert not hasattr(clone(model), "levels_")


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"n_components": (2, 4)}, "fall from level to level"),
        ({"n_components": ()}, "fall from level to level"),
        ({"n_components": (4, 0)}, "fall from level to level"),
        ({"n_components": "auto"}, "fall from level to level"),
        ({"n_components": None}, "fall from level to level"),
        ({"polish": -1}, "polish"),
        ({"estimator": SNMF(missing_values=np.nan)}, "no missing_values"),
        ({"estimator": SNMF(locality=0.1)}, "no locality"),
        ({"estimator": SNMF(checkpoint="f")}, "no checkpoint"),
    ],
)
def test_what_is_invalid_is_refused(parameters, word):
    with pytest.raises(ValueError, match=word):
        HierarchicalSNMF(**parameters).fit(planted()[0])


def test_what_is_no_estimator_or_level_is_refused():
    X = planted(n=100)[0]
    with pytest.raises(TypeError, match="SNMF or None; got dict"):
        HierarchicalSNMF(estimator={}).fit(X)
    with pytest.raises(NotFittedError):
        HierarchicalSNMF().tree()
    model = fitted((4, 2), QUIET).fit(X)
    for level in (2, -2, "0", True):
        with pytest.raises(ValueError, match="level must be from 0 to 1"):
            model.transform(X, level=level)
    for level in (1, -1):
        with pytest.raises(ValueError, match="level must be from 0 to 0"):
            model.parents(level)
