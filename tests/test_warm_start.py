"""Fits that start from the components of the last fit."""

import warnings

import numpy as np
import pytest
from checkpoints import planted, stopped
from sklearn.base import clone

import snmf
from snmf import SNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_a_warm_start_goes_on_from_the_last_components():
    X = planted()
    model = SNMF(4, random_state=0, warm_start=True, max_iter=3, tol=0, solver="hals")
    first = model.fit(X).reconstruction_err_
    H = model.components_
    assert model.fit(X).reconstruction_err_ < first
    same = SNMF(4, init="custom", max_iter=3, tol=0, solver="hals").fit(X, H=H)
    np.testing.assert_array_equal(model.components_, same.components_)
    cold = SNMF(4, random_state=0, max_iter=3, tol=0, solver="hals").fit(X)
    np.testing.assert_array_equal(cold.fit(X).components_, H)
    other = planted(seed=1, n=50)
    assert model.fit_transform(other).shape == (50, 4)
    given = np.random.default_rng(0).random((207, 4))
    model.set_params(init="custom").fit(X, W=given)
    same = SNMF(4, init="custom", max_iter=3, tol=0, solver="hals").fit(X, W=given)
    np.testing.assert_array_equal(model.components_, same.components_)


def test_a_warm_start_of_another_shape_is_refused():
    X = planted()
    model = SNMF(4, random_state=0, warm_start=True, max_iter=3).fit(X)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="from 4 components of 12 features; X has 5 features"):
        model.fit(X[:, :5])
    assert vars(model) == before
    with pytest.raises(ValueError, match=r"n_components=5\. Set warm_start=False to begin anew"):
        model.set_params(n_components=5).fit(X)
    assert model.set_params(n_components=None).fit(X).n_components_ == 4
    assert model.set_params(n_components="auto").fit(X).n_components_ == 4
    assert clone(model).set_params(n_components=5).fit(X).n_components_ == 5
    with pytest.raises(ValueError, match="warm_start is for SNMF; give an H"):
        snmf.factorize(X, 4, warm_start=True)


@pytest.mark.parametrize("name", ["W", "H"])
def test_a_warm_start_keeps_the_number_of_components_of_a_given_start(name):
    rng, X = np.random.default_rng(0), planted()
    given = {"W": rng.random((207, 4)), "H": rng.standard_normal((4, 12))}[name]
    options = {"max_iter": 3, "tol": 0, "init": "custom"}
    model = SNMF(warm_start=True, **options).fit(X, **{name: given})
    H = model.components_
    np.testing.assert_array_equal(
        model.fit(X).components_, SNMF(4, **options).fit(X, H=H).components_
    )
    assert model.fit(planted(n=3)).n_components_ == 4


def test_a_warm_start_and_a_checkpoint_go_together(tmp_path):
    X, path = planted(), tmp_path / "fit.npz"
    model = SNMF(4, random_state=0, warm_start=True, max_iter=6, tol=0).fit(X)
    whole = SNMF(4, init="custom", max_iter=6, tol=0).fit(X, H=model.components_)

    def fit(**given):
        model.set_params(**given).fit(X)

    assert stopped(fit, path, 2)
    fit()
    np.testing.assert_array_equal(model.components_, whole.components_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not path.exists()
