"""Sample weights of mini-batches."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from streams import SOLVERS, X, after, assert_same, model, planted, quiet, state

from snmf import SNMF, MiniBatchSNMF

COUNTS = np.random.default_rng(5).integers(0, 4, 200)
AGAIN = np.repeat(np.arange(200), COUNTS)
START = np.random.default_rng(6).standard_normal((4, 12))
MAKES = [np.asarray, sp.csr_array, lambda A: A.astype("float32")]


def close(ours, theirs, atol):
    names = state(ours).keys() - {"n_steps_", "intercept_", "scale_"}
    assert names == state(theirs).keys() - {"n_steps_", "intercept_", "scale_"}
    for name in names:
        np.testing.assert_allclose(
            state(ours)[name], state(theirs)[name], rtol=atol, atol=atol, err_msg=name
        )


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_weight_of_two_is_the_row_twice(solver, sparsity, make, method):
    """In batches that hold the same rows, from the same start."""
    options = dict(
        solver=solver, sparsity=sparsity, init="custom", batch_size=1000, max_iter=2, tol=0
    )
    ours, theirs = model(**options), model(**options)
    for number in range(2):  # the second stands beside what the first left behind
        given = {"H": START} if method == "fit" or not number else {}
        getattr(ours, method)(make(X[:200]), sample_weight=COUNTS, **given)
        getattr(theirs, method)(make(X[:200][AGAIN]), **given)
    close(ours, theirs, 1e-4 if make is MAKES[2] else 1e-9)
    assert ours._stream["n_rows"] == theirs._stream["n_rows"]
    assert ours._stream["n_taken"] == theirs._stream["n_taken"]


@quiet
@pytest.mark.parametrize("init", ["auto", "varimax", "kmeans", "svd", "random", "custom"])
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("stray", [1.0, 1e30])
def test_a_weight_of_zero_is_absence(init, make, stray):
    rng, given = np.random.default_rng(0), {"H": START} if init == "custom" else {}
    some = np.sort(rng.permutation(300)[:200])
    data = stray * rng.standard_normal((300, 12))
    data[some] = X[:200]
    weights = np.zeros(300)
    weights[some] = 1.0
    options = dict(init=init, sparsity=0.1, max_iter=3, tol=0)
    atol = 1e-3 if make is MAKES[2] else 1e-9
    for factor in (1.0, 5.0):
        ours = model(**options).fit(make(data), sample_weight=factor * weights, **given)
        close(ours, model(**options).fit(make(X[:200]), **given), atol)
    ours, theirs = model(**options), model(**options)
    for at in (slice(0, 40), slice(40, 300)):
        of_some = make(data[at][weights[at] > 0])
        ours.partial_fit(make(data[at]), sample_weight=weights[at], **given)
        theirs.partial_fit(of_some, **given)
        assert (ours._first_rows is None) == (theirs._first_rows is None)
        given = {}
    close(ours, theirs, atol)


@quiet
def test_weights_of_rows_on_disk(tmp_path):
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    options = dict(batch_size=1000, max_iter=3, tol=0)
    ours = model(**options).fit(stored, sample_weight=weights)
    close(ours, model(**options).fit(X, sample_weight=weights), 1e-9)
    many = dict(max_iter=3, tol=0)
    ours = model(**many).fit(stored, sample_weight=weights)
    theirs = model(**many).fit(X, sample_weight=weights)
    assert ours.score(X, sample_weight=weights) == pytest.approx(
        theirs.score(X, sample_weight=weights), abs=0.02
    )


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_weighted_stream_comes_near_to_a_weighted_fit(solver):
    data, rng = np.concatenate([planted(3000), planted(3000, seed=1)]), np.random.default_rng(0)
    weights = np.repeat([1.0, 0.01], 3000) * rng.exponential(size=6000)
    full = SNMF(4, solver=solver, random_state=0, progress_bar=False).fit(
        data, sample_weight=weights
    )
    ours, plain = model(solver=solver, batch_size=256), model(solver=solver, batch_size=256)
    ours.fit(data, sample_weight=weights)
    best = full.score(data, sample_weight=weights)
    assert ours.score(data, sample_weight=weights) > best - 0.01
    assert plain.fit(data).score(data, sample_weight=weights) < best - 0.05
    assert ours.rms_ == pytest.approx(full.rms_)
    streamed = model(solver=solver)
    for part in (slice(i, i + 100) for i in range(0, 6000, 100)):
        streamed.partial_fit(data[part], sample_weight=weights[part])
    assert streamed.rms_ == pytest.approx(full.rms_)


@quiet
@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_the_scale_of_weights_is_that_of_the_sums_alone(scale):
    weights = np.random.default_rng(0).exponential(size=len(X))
    ours, theirs = (
        model(sparsity=0.1).fit(X.astype("float32"), sample_weight=factor * weights)
        for factor in (scale, 1.0)
    )
    close(ours, theirs, 1e-3)
    light, plain = (after([X], sparsity=0) for _ in range(2))  # with a penalty H goes on its way
    light.partial_fit(X[:100], sample_weight=np.full(100, 1e-100))
    np.testing.assert_allclose(light.components_, plain.components_, atol=1e-6)
    both = model().partial_fit(X[:100]).partial_fit(X[100:], sample_weight=np.full(500, scale))
    assert np.isfinite(both.components_).all()
    assert both.rms_ == pytest.approx(
        np.sqrt(12 * np.mean((X[100:] if scale > 1 else X[:100]) ** 2))
    )


@quiet
def test_a_stream_starts_from_rows_that_count():
    weights = np.r_[np.full(30, 1e-3), np.zeros(30), np.full(10, 1e-3)]
    begun = model().partial_fit(X[:60], sample_weight=weights[:60])
    assert begun._first_rows is not None
    revived = pickle.loads(pickle.dumps(begun))
    assert begun.partial_fit(X[60:70], sample_weight=weights[60:])._first_rows is None
    assert_same(begun, revived.partial_fit(X[60:70], sample_weight=weights[60:]))
    whole = model().partial_fit(X[:70], sample_weight=weights)
    np.testing.assert_allclose(begun.components_, whole.components_, atol=1e-9)
    mixed = model().partial_fit(X[:20]).partial_fit(sp.csr_array(X[20:50]), sample_weight=[2] * 30)
    assert np.isfinite(mixed.components_).all()


@quiet
def test_bad_weights_leave_the_estimator_as_it_was():
    fitted, bad = model().fit(X), X.copy()
    before, bad[3, 2], one = dict(vars(fitted)), np.nan, np.ones(len(X))
    for method in ("fit", "partial_fit", "fit_transform"):
        for weights, words in (
            (np.ones(3), r"shape \(600,\); got \(3,\)"),
            (-one, "nonnegative; its smallest entry is -1"),
            (0 * one, "zero for every row"),
            (1e200 * one, "the largest sample_weight must be from .* to .*; got 1e[+]200"),
            (1e-200 * one, "the largest sample_weight must be from .* to .*; got 1e-200"),
        ):
            if method == "partial_fit" and not weights.any():
                continue
            with pytest.raises(ValueError, match=words):
                getattr(fitted, method)(X, sample_weight=weights)
        with pytest.raises(ValueError, match="got NaN in row 3, column 2"):
            getattr(fitted, method)(bad, sample_weight=np.arange(600) != 3)
        assert vars(fitted) == before
    with pytest.raises(ValueError, match=r"iterator of batches\. Call partial_fit for every batch"):
        fitted.fit(iter([X]), sample_weight=np.ones(len(X)))
    assert vars(fitted) == before


@quiet
@pytest.mark.parametrize("n", [600, 7])
def test_a_batch_of_which_all_weights_are_zero_is_no_batch(n):
    begun, none = model().partial_fit(X[:n]), np.zeros(len(X))
    before = pickle.dumps(vars(begun))
    wild = np.where(np.arange(12) == 3, np.nan, X)
    begun.partial_fit(wild, sample_weight=none)
    assert pickle.dumps(vars(begun)) == before
    with pytest.raises(ValueError, match="X has 5 features"):
        begun.partial_fit(X[:, :5], sample_weight=none)
    with pytest.raises(ValueError, match="must not be zero for every row"):
        model().partial_fit(X, sample_weight=none)


@quiet
def test_weights_are_routed_through_a_pipeline():
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    with config_context(enable_metadata_routing=True):
        for cls in (SNMF, MiniBatchSNMF):
            step = cls(4, random_state=0, progress_bar=False, max_iter=3)
            routed = step.set_fit_request(sample_weight=True)
            fitted = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), routed)
            H = fitted.fit(X, sample_weight=weights)[-1].components_
            theirs = clone(step).fit(StandardScaler().fit_transform(X), sample_weight=weights)
            np.testing.assert_array_equal(H, theirs.components_)
        stream = model().set_partial_fit_request(sample_weight=True)
        assert stream.get_metadata_routing().partial_fit.requests["sample_weight"] is True
