"""Streams of batches: cut in different ways, of any scale, interrupted, without a good row."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from streams import SOLVERS, X, after, assert_same, in_parts, model, planted, quiet

from snmf import _minibatch
from snmf.core import stream as _stream

# One stream, cut in different ways


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_an_iterator_is_a_sequence_of_partial_fits(solver, sparsity):
    for size in (1, 10, 64, 600):
        ours = model(solver=solver, sparsity=sparsity).fit(iter(in_parts(X[:200], size)))
        theirs = after(in_parts(X[:200], size), solver=solver, sparsity=sparsity)
        order = np.argsort(-np.diagonal(theirs._stream["T"]))
        np.testing.assert_array_equal(ours.components_, theirs.components_[order])
        assert (ours.n_iter_, ours.n_steps_) == (1, theirs.n_steps_)
        assert ours.penalty_ == theirs.penalty_
        assert not hasattr(theirs, "n_iter_")
    generator = (X[i : i + 50] for i in range(0, 600, 50))
    assert model().fit(generator).n_steps_ == 12


class Loader:
    """Batches that can be read again and again, as a DataLoader of PyTorch gives them."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


@quiet
def test_an_iterable_is_read_once_as_an_iterator_is():
    ours = model().fit(Loader(*in_parts(X, 100)))
    theirs = model().fit(iter(in_parts(X, 100)))
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    assert (ours.n_iter_, ours.n_steps_) == (1, theirs.n_steps_)
    with pytest.raises(ValueError, match="fit_transform, which reads it twice"):
        model().fit_transform(Loader(X))
    with pytest.raises(
        TypeError, match=r"got a list of 2 arrays\. .* fit\(batch\[0\] for"
    ) as caught:
        model().fit(Loader(X, [X, np.arange(len(X))]))
    assert caught.value.__notes__ == ["in batch 1 of the iterator"]
    rows = model().fit(iter([list(X[:50]), X.tolist()]))  # a list of rows is a matrix
    np.testing.assert_array_equal(rows.components_, model().fit(iter([X[:50], X])).components_)


@quiet
def test_few_rows_are_collected_until_there_are_enough_to_start_from():
    theirs = after([X[:40]])
    for size in (1, 7, 39):
        assert_same(after(in_parts(X[:40], size)), theirs)
    begun = after([X[:39]])
    assert begun._first_rows is not None
    assert begun.partial_fit(np.zeros((50, 12)))._first_rows is not None
    assert begun.partial_fit(X[39:40])._first_rows is None
    assert_same(
        after([np.zeros((3, 12)), X[:40]], sparsity=0.1).partial_fit(X),
        after([np.zeros((2, 12)), np.zeros((1, 12)), X[:40]], sparsity=0.1).partial_fit(X),
    )


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_more_than_batch_size_rows_are_taken_in_parts(solver):
    free = {"solver": solver, "sparsity": 0}  # λ goes by the rows so far: here all 400 of a call
    whole = after([X[:100], X[100:500]], **free)
    np.testing.assert_allclose(
        whole.components_,
        after([X[:100], *in_parts(X[100:500], 64)], **free).components_,
        rtol=1e-12,
    )
    assert whole.n_steps_ == 2 + 7


@quiet
def test_single_rows_learn_as_batches_do():
    data = planted(1500, noise=0.1)
    single, whole = after(in_parts(data, 1)), after(in_parts(data, 64))
    assert single.score(data) > whole.score(data) - 0.02


@quiet
def test_forgetting_follows_a_drift():
    rises = []
    for seed in range(6):
        old, new = planted(3000, seed=2 * seed), planted(3000, seed=2 * seed + 1)
        forgetting, keeping = (
            after([*in_parts(old, 64), *in_parts(new, 64)], forget_factor=factor).score(new)
            for factor in (0.5, 1.0)
        )
        rises.append(forgetting - keeping)
    assert min(rises) > 0
    assert np.mean(rises) > 0.03


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_can_be_gone_on_with_and_a_new_fit_forgets(solver):
    fitted = model(solver=solver).fit(X)
    before = fitted.components_.copy()
    rows = fitted._stream["n_rows"]
    fitted.partial_fit(X[:64])
    assert fitted._stream["n_rows"] == rows + 64
    assert 0.99 < np.sum(fitted.components_ * before, axis=1).min() < 1
    np.testing.assert_array_equal(fitted.fit(X).components_, before)
    assert fitted.fit(X[:, :5]).n_features_in_ == 5
    np.testing.assert_array_equal(clone(fitted).fit(X).components_, before)


# What a stream must bear


@quiet
@given(
    X=arrays("float64", st.tuples(st.integers(1, 30), st.integers(1, 6)),
             elements=st.floats(-1e150, 1e150, allow_subnormal=False)
             | st.sampled_from([0.0, 1.0, -1.0, 1e-200])),
    size=st.integers(1, 8),
    k=st.integers(1, 7),
    solver=st.sampled_from(SOLVERS),
    sparsity=st.sampled_from([0.0, 0.1, 2.0]),
    init=st.sampled_from(["varimax", "kmeans", "svd", "random"]),
    intercept=st.booleans(),
    scale=st.booleans(),
)  # fmt: skip
def test_any_finite_stream_has_finite_weights(X, size, k, solver, sparsity, init, intercept, scale):
    options = dict(n_components=k, solver=solver, sparsity=sparsity, init=init, batch_size=5,
                   fit_intercept=intercept, scale=scale)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        streamed = after(in_parts(X, size), **options)
        fitted = [streamed, model(max_iter=3, **options).fit(X)]
    for ours in fitted:
        norms = np.linalg.norm(ours.components_, axis=1)
        assert np.all((np.abs(norms - 1) < 1e-9) | (norms == 0))
        assert np.isfinite([ours.loss_, ours.penalty_]).all()
        W = ours.transform(X)
        assert np.isfinite(W).all()
        assert W.min() >= 0
        assert intercept or ours.score(X) >= -1e-9  # rows of zeros differ from an intercept


@quiet
@given(
    power=st.integers(-600, 600),
    solver=st.sampled_from(SOLVERS),
    sparsity=st.sampled_from([0.0, 0.2]),
    size=st.sampled_from([3, 50, 100]),
)
def test_the_scale_of_the_data_is_that_of_the_weights(power, solver, sparsity, size):
    data, options = X[:100], dict(solver=solver, sparsity=sparsity)
    pairs = [
        (model(max_iter=2, **options).fit(A), after(in_parts(A, size), **options))
        for A in (data, np.ldexp(data, power))
    ]
    for ours, theirs in zip(*pairs, strict=True):
        np.testing.assert_allclose(theirs.components_, ours.components_, atol=1e-7)
        np.testing.assert_allclose(
            np.ldexp(theirs.transform(np.ldexp(data, power)), -power), ours.transform(data),
            atol=1e-6,
        )  # fmt: skip
        assert theirs.penalty_ == pytest.approx(np.ldexp(ours.penalty_, power), rel=1e-9)


@quiet
@pytest.mark.parametrize("scale", [1e-200, 1e200, 1e-30, 1e30])
def test_a_stream_whose_scale_leaps(scale):
    for first, second in ((1.0, scale), (scale, 1.0)):
        assert after([first * X, second * X], sparsity=0).score(X) > 0.7
        sparse = after([first * X, second * X], sparsity=0.05)
        assert sparse.score(max(scale, 1.0) * X) > 0.7
        assert sparse.penalty_ == pytest.approx(
            0.05 * max(scale, 1.0) * np.sqrt(np.mean(X**2) * 12 / 2)  # the other is nothing to it
        )
    if 1e-37 < scale < 1e37:
        narrow = after(in_parts((scale * X).astype("float32"), 64))
        assert narrow.components_.dtype == "float32"
        np.testing.assert_allclose(
            narrow.components_, after(in_parts(X, 64)).components_, atol=0.02
        )


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_all_zero_batches_change_nothing_but_the_mean(solver):
    zero = np.zeros((64, 12))
    free = {"solver": solver, "sparsity": 0}  # rows of zeros lower rms, and with it a penalty
    fitted = after([zero, zero], **free)
    assert not fitted.components_.any()
    assert fitted.loss_ == 0
    assert not fitted.transform(X).any()
    plain = after([zero[:1], X[:100]], **free)
    fitted.partial_fit(X[:100])
    np.testing.assert_array_equal(fitted.components_, plain.components_)
    with_zeros = after([X[:100], zero], **free)
    np.testing.assert_allclose(
        with_zeros.components_, after([X[:100]], **free).components_, atol=1e-9
    )
    assert with_zeros.rms_ < plain.rms_
    assert not model(solver=solver).fit(zero).components_.any()


@quiet
@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_matrix, sp.coo_array])
@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_batches_are_dense_ones(make, solver):
    data = np.where(np.abs(X) > 0.6, X, 0)
    dense = after(in_parts(data, 30), solver=solver)
    sparse = after([make(part) for part in in_parts(data, 30)], solver=solver)
    np.testing.assert_allclose(sparse.components_, dense.components_, atol=1e-8)
    mixed = after([make(data[:30]), data[30:60], make(data[60:])], solver=solver)
    unmixed = after([data[:30], data[30:60], data[60:]], solver=solver)
    np.testing.assert_allclose(mixed.components_, unmixed.components_, atol=1e-8)
    np.testing.assert_allclose(
        model(solver=solver).fit(make(data)).components_,
        model(solver=solver).fit(data).components_,
        atol=1e-6,
    )


@quiet
def test_precision_follows_the_last_batch():
    fitted = after([X[:100].astype("float32")])
    assert fitted.components_.dtype == "float32"
    assert fitted.partial_fit(X[100:]).components_.dtype == "float64"
    assert after([X[:5].astype("float32"), X[5:100]]).components_.dtype == "float64"
    integers = np.round(10 * X).astype("int16")
    np.testing.assert_array_equal(
        model().fit(integers).components_, model().fit(integers.astype("float64")).components_
    )


def test_dead_components_are_zero_rows_and_a_warning():
    with pytest.warns(ConvergenceWarning, match=r"All weights are zero: sparsity=9 is too large"):
        fitted = model(sparsity=9.0).fit(X)
    assert not fitted.components_.any()
    assert not fitted.transform(X).any()
    rows = np.repeat([[1.0, 0, 0], [0, 2.0, 0]], 50, axis=0)
    start = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    for method in ("fit", "partial_fit"):
        dying = model(3, init="custom", solver="hals", tol=0)
        with pytest.warns(ConvergenceWarning, match="1 of 3 components died"):
            getattr(dying, method)(rows, H=start)
        np.testing.assert_array_equal(dying.components_[2], 0)
        np.testing.assert_allclose(dying.components_[:2], start[:2], atol=1e-12)
    revived = dying.partial_fit(-rows)  # it was kept, for rows to come
    np.testing.assert_allclose(revived.components_[2], start[2], atol=1e-6)


@quiet
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_entry_that_is_not_finite_is_named_within_its_batch(value):
    word = "NaN" if np.isnan(value) else "infinity"
    bad = X[100:200].copy()
    bad[70, 3] = value
    fitted = after([X[:100]])
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match=f"got {word} in row 70, column 3"):
        fitted.partial_fit(bad)
    assert vars(fitted) == before
    with pytest.raises(ValueError, match=f"got {word} in row 70, column 3") as caught:
        fitted.fit(iter([X[:100], bad]))
    assert caught.value.__notes__ == ["in batch 1 of the iterator"]
    assert vars(fitted) == before
    with pytest.raises(ValueError, match=f"got {word} in row 70, column 3"):
        fitted.fit(bad)
    assert vars(fitted) == before


@quiet
@pytest.mark.parametrize(
    ("method", "make"),
    [("fit", np.asarray), ("partial_fit", np.asarray), ("fit", lambda A: iter(in_parts(A, 100)))],
)
def test_an_interrupt_leaves_the_estimator_as_it_was(method, make, monkeypatch):
    fresh, collecting, fitted = model(), after([X[:5]]), model().fit(X)
    calls = iter(range(100))

    def interrupted(*given):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return _stream.step(*given)

    monkeypatch.setattr(_minibatch, "step", interrupted)
    for estimator in (fresh, collecting, fitted):
        calls, before = iter(range(100)), dict(vars(estimator))
        with pytest.raises(KeyboardInterrupt):
            getattr(estimator, method)(make(X))
        assert vars(estimator) == before
    with pytest.raises(NotFittedError):
        fresh.transform(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_warning_made_an_error_leaves_it_too(method):
    dying, start = model(3, init="custom", solver="hals", tol=0), np.eye(3)[[0, 1, 1]]
    start[2] *= -1
    before = dict(vars(dying))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning, match="1 of 3 components died"):
            getattr(dying, method)(np.repeat(np.eye(2, 3), 50, axis=0), H=start)
    assert vars(dying) == before


def test_features_and_their_names_stay_what_they_were():
    names = [f"gene {j}" for j in range(12)]
    frame = pd.DataFrame(X, columns=names)
    fitted = model().partial_fit(frame[:100]).partial_fit(frame[100:])
    assert list(fitted.feature_names_in_) == names
    assert list(fitted.get_feature_names_out()) == [f"minibatchsnmf{j}" for j in range(4)]
    with pytest.raises(ValueError, match="X has 5 features, but MiniBatchSNMF is expecting 12"):
        model().partial_fit(X).partial_fit(X[:, :5])
    with pytest.raises(ValueError, match="X has 5 features, but MiniBatchSNMF is expecting 12"):
        model().fit(iter([X, X[:, :5]]))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.partial_fit(frame.rename(columns={"gene 0": "other"}))
