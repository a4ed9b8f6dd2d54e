"""Sample weights: the objective is summed over rows with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import snmf
from snmf import SNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_a_weight_of_two_is_the_row_twice_and_of_zero_its_absence(solver, sparsity):
    rng = np.random.default_rng(0)
    X = rng.random((40, 3)) @ rng.standard_normal((3, 9)) + 0.3 * rng.standard_normal((40, 9))
    W = rng.random((40, 3)) + 0.1
    counts = rng.integers(0, 4, size=40)
    parameters = {"solver": solver, "sparsity": sparsity, "init": "custom", "max_iter": 8, "tol": 0}
    weighted = snmf.factorize(X, 3, W=W, sample_weight=3e200 * counts, **parameters)
    again = np.repeat(np.arange(40), counts)
    repeated = snmf.factorize(X[again], 3, W=W[again], **parameters)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=1e-12)
    np.testing.assert_allclose(weighted.W[again], repeated.W, atol=1e-11)
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=1e-12)
    np.testing.assert_allclose(weighted.error, (3e200) ** 0.5 * repeated.error, rtol=1e-12)
    np.testing.assert_allclose(weighted.penalty, repeated.penalty, rtol=1e-12)


@pytest.mark.parametrize("init", ["kmeans", "svd", "random"])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_weighted_objective_never_rises(init, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20, 6))
    D = rng.exponential(size=20) * rng.integers(0, 2, size=20) + 1e-3
    for solver in ("mu", "hals"):
        for sparsity in (0.0, 0.1):
            result = snmf.factorize(
                X, 3, solver=solver, sparsity=sparsity, init=init, random_state=0, max_iter=15,
                tol=0, sample_weight=D,
            )  # fmt: skip
            assert np.all(np.diff(result.loss_curve) <= 1e-12)
            residual = np.sum((X - result.W @ result.H) ** 2, axis=1)
            np.testing.assert_allclose(result.error**2, np.sum(D * residual), rtol=1e-9)
            end = result.error**2 + 2 * result.penalty * np.sum(D[:, None] * result.W)
            assert end <= result.loss_curve[-1] * np.sum(D * np.sum(X**2, axis=1)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(3), r"shape \(4,\); got \(3,\)"),
        (np.ones((4, 1)), "shape"),
        ([1, -1, 1, 1], "nonnegative; its smallest entry is -1"),
        (np.zeros(4), "zero for every row"),
        ([1, np.nan, 1, 1], "sample_weight contains NaN"),
    ],
)
def test_bad_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        snmf.factorize(np.eye(4) - 0.3, 2, sample_weight=weights)


def test_the_estimator_and_the_function_take_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 5)).astype("float32")
    D = rng.random(30)
    model = SNMF(3, random_state=0)
    W = model.fit_transform(X, sample_weight=D)
    np.testing.assert_array_equal(W, snmf.fit_transform(X, 3, sample_weight=D, random_state=0))
    np.testing.assert_array_equal(W, model.transform(X))
    assert W.dtype == "float32"
    squares, errors = X**2, (X - W @ model.components_) ** 2
    share = 1 - np.sum(D[:, None] * errors) / np.sum(D[:, None] * squares)
    assert model.score(X, sample_weight=D) == pytest.approx(share, rel=1e-5)
    assert model.reconstruction_err_ == pytest.approx(
        np.sqrt(np.sum(D[:, None] * errors)), rel=1e-5
    )
    again = SNMF(3, random_state=0).fit(X, sample_weight=4 * D)
    np.testing.assert_array_equal(model.components_, again.components_)


def test_equal_weights_are_none():
    X = np.random.default_rng(0).standard_normal((30, 5))
    one, none = (
        snmf.factorize(X, 3, random_state=0, sample_weight=D) for D in (np.full(30, 7.0), None)
    )
    np.testing.assert_allclose(one.W, none.W, atol=1e-9)
