"""Mini-batches: against SNMF on the same rows, and what a stream must bear."""

import importlib
import inspect
import os
import pickle
import subprocess
import sys
import warnings
from contextlib import nullcontext

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import snmf
from snmf import SNMF, MiniBatchSNMF, _minibatch
from snmf.backends import ADAPTERS, Backend, adapter, owner
from snmf.core import nnls, updates
from snmf.core import stream as _stream
from snmf.core.limits import NO_LIMITS, Limits

RNG = np.random.default_rng(0)
SOLVERS = ["mu", "hals"]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def planted(n=600, p=12, k=4, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((k, p))
    return rng.random((n, k)) ** 3 @ H + noise * rng.standard_normal((n, p))


X = planted()


def model(n_components=4, **parameters):
    parameters = {"batch_size": 64, "progress_bar": False, "random_state": 0, **parameters}
    return MiniBatchSNMF(n_components, **parameters)


def one_epoch(**parameters):
    return model(max_iter=1, tol=0, max_no_improvement=None, **parameters)


def in_parts(A, size):
    return [A[i : i + size] for i in range(0, len(A), size)]


def after(batches, **parameters):
    fitted = model(**parameters)
    for batch in batches:
        fitted.partial_fit(batch)
    return fitted


def state(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def assert_same(ours, theirs):
    assert state(ours).keys() == state(theirs).keys()
    for name, value in state(ours).items():
        np.testing.assert_array_equal(value, state(theirs)[name], err_msg=name)


EXCUSED = {  # as for SNMF, and as scikit-learn excuses its own MiniBatchKMeans
    f"check_sample_weight_equivalence_on_{kind}_data": "the start is drawn after the rows"
    for kind in ("dense", "sparse")
}


def excused(estimator):
    return EXCUSED if estimator.init in ("kmeans", "auto") else {}


@parametrize_with_checks(
    [
        MiniBatchSNMF(n_components, solver=solver, sparsity=sparsity, init=init, random_state=0)
        for solver in SOLVERS
        for sparsity in (0, 0.05)
        for n_components, init in ((None, "kmeans"), (3, "svd"))
    ]
    + [MiniBatchSNMF(3, random_state=0)],
    expected_failed_checks=excused,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# How near it comes


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
def test_an_epoch_comes_near_to_a_full_fit(solver, sparsity, init):
    data = planted(20_000)
    given = {"solver": solver, "sparsity": sparsity, "init": init}
    full = SNMF(4, **given, random_state=0, progress_bar=False).fit(data)
    ours = one_epoch(**given, batch_size=256).fit(data)
    assert ours.penalty_ == pytest.approx(full.penalty_, rel=1e-12)

    def objective(fitted):
        W = fitted.transform(data)
        return 0.5 * np.sum((data - W @ fitted.components_) ** 2) + full.penalty_ * W.sum()

    first, best = full.loss_curve_[0] * 0.5 * np.sum(data**2), objective(full)
    assert objective(ours) - best <= 0.02 * (first - best)


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_more_epochs_come_nearer_and_the_stop_is_neither_too_soon_nor_never(solver):
    data, free = planted(4000), {"solver": solver, "sparsity": 0}  # the score is its objective
    once, fitted = one_epoch(**free).fit(data), model(**free).fit(data)
    assert fitted.score(data) > once.score(data) - 2e-4
    assert 1 < fitted.n_iter_ < 50
    full = SNMF(4, **free, random_state=0, progress_bar=False).fit(data)
    assert fitted.score(data) > full.score(data) - 2e-3
    assert one_epoch().set_params(max_iter=3).fit(data).n_iter_ == 3
    assert one_epoch().set_params(max_iter=3).fit(data).n_steps_ == 3 * 63
    impatient = model(tol=0, max_no_improvement=1).fit(data)
    assert impatient.n_steps_ < model(tol=0).fit(data).n_steps_
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 epochs were made.*for a given number"):
        model(max_iter=2, tol=1e-9, max_no_improvement=None).fit(data)


def test_a_young_stream_forgets_its_first_batches_and_an_old_one_as_told():
    algebra = adapter("numpy")
    batch = _stream.Batch(algebra.rows(X[:64]))
    stream = _stream.Stream.empty(4, 12).saw(batch)
    stream = stream.restarted(
        _stream.start(batch, 4, "kmeans", np.random.RandomState(0), NO_LIMITS)
    )

    def step(stream, part, keep=1.0):  # with a penalty, so that no norm moves from H to W
        some, ball = _stream.Batch(algebra.rows(part)), Limits(ball=True)
        return _stream.step(stream, some, 0.1, "hals", keep, ball)[0]

    first = step(stream, X[:64])
    np.testing.assert_array_equal(first.S, step(stream, X[:64], 0.0).S)  # there was nothing yet
    alone = step(first.restarted(first.H), X[64:128])
    for keep, kept in ((1.0, 0.5**3), (0.01, 0.01)):
        both = step(first, X[64:128], keep)
        np.testing.assert_allclose(both.S, alone.S + kept * first.S, rtol=1e-12)
        np.testing.assert_allclose(both.T, alone.T + kept * first.T, rtol=1e-12)
        assert both.square == pytest.approx(alone.square + kept * first.square)
        assert both.objective - kept * first.objective == pytest.approx(alone.objective)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_a_step_is_what_it_says(solver, l1):
    """Seen from within: its W is nearly the exact one, the sums are of it, and H solves them."""
    seen = []

    class Recording(type(adapter("numpy"))):
        def pass_over_block(self, update, X, W, *rest):
            done = super().pass_over_block(update, X, W, *rest)
            seen.append(done[0])
            return done

    ops, data = Recording(), planted(200, seed=1)
    before = _stream.Stream(**one_epoch(solver=solver).fit(X)._stream)
    before = before.restarted(before.H)
    update = _minibatch.UPDATES[solver]
    limits = Limits(ball=bool(l1))
    after, loss = _stream.step(before, _stream.Batch(ops.rows(data)), l1, update, 0.5, limits)
    (W,) = seen

    def objective(W):
        return (np.sum((data - W @ before.H) ** 2) + 2 * l1 * W.sum()) / np.sum(data**2)

    assert W.min() >= 0
    assert loss == pytest.approx(objective(W))
    exact = np.concatenate(nnls.exact_weights(ops.rows(data), before.H, l1)[0])
    assert objective(exact) - 1e-12 <= loss <= objective(exact) + 0.03
    if l1:
        sums = W.T @ data, W.T @ W
        ball = updates.least_squares_within(ops, *sums, before.H, limits.project, 2)
        np.testing.assert_allclose(after.H, ball, rtol=1e-10)
    else:
        best = np.linalg.lstsq(W, data, rcond=None)[0]
        norms = np.linalg.norm(best, axis=1)
        np.testing.assert_allclose(after.H, best / norms[:, None], rtol=1e-8)
        np.testing.assert_allclose(after.T, (W * norms).T @ (W * norms), rtol=1e-8)
        np.testing.assert_allclose(after.T @ after.H, after.S, rtol=1e-8)


def test_what_a_batch_says_nothing_of_stays():
    ops, H = adapter("numpy"), np.eye(3, 5)
    stream = _stream.Stream.empty(3, 5).restarted(H)
    data = np.array([[2.0, 0, 0, 1, 0], [4.0, 0, 0, -1, 0]])  # along the first component alone
    new = _stream.step(stream, _stream.Batch(ops.rows(data)), 0.0, "hals", 1.0, NO_LIMITS)[0].H
    np.testing.assert_array_equal(new[1:], H[1:])
    assert new[0] @ np.linalg.svd(data)[2][0] ** 2 > 0


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


# The rest of the face


def test_parameters_are_those_of_snmf_and_a_few():
    ours = {name: p.default for name, p in inspect.signature(MiniBatchSNMF).parameters.items()}
    theirs = {name: p.default for name, p in inspect.signature(SNMF).parameters.items()}
    assert list(ours)[:7] == list(theirs)[:7]
    assert set(ours) - set(theirs) == {"batch_size", "forget_factor", "max_no_improvement"}
    assert set(theirs) - set(ours) == set(_minibatch.NOT_HERE)
    assert {name for name in set(ours) & set(theirs) if ours[name] != theirs[name]} == {"tol"}
    assert set(ours) == set(_minibatch.CONSTRAINTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("batch_size", v) for v in (0, 1.5, None, True)],
        *[("forget_factor", v) for v in (-0.1, 1.1, np.nan)],
        *[("max_no_improvement", v) for v in (0, 2.5)],
        *[("max_iter", v) for v in (0, 1.5)],
        ("n_components", True),
        *[(name, "nope") for name in ("solver", "init", "backend", "tol", "n_components")],
    ],
)
def test_a_bad_parameter_is_named(name, value):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=name):
            getattr(model().set_params(**{name: value}), method)(X)


def test_what_does_not_fit_together_is_refused():
    H = np.eye(4, 12)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=r"go together: .* got init='custom' and no H"):
            getattr(model(init="custom"), method)(X)
        with pytest.raises(ValueError, match=r"go together: .* got init='auto' and an H"):
            getattr(model(), method)(X, H=H)
        with pytest.raises(ValueError, match=r"H must have shape \(4, 12\); got \(12, 4\)"):
            getattr(model(init="custom"), method)(X, H=H.T)
    with pytest.raises(ValueError, match="H begins a stream"):
        model(init="custom").partial_fit(X, H=H).partial_fit(X, H=H)
    with pytest.raises(ValueError, match=r"n_components must stay 4 .* got 5"):
        model().partial_fit(X).set_params(n_components=5).partial_fit(X)
    with pytest.raises(ValueError, match="an iterator that is at its end"):
        model().fit(iter([]))
    with pytest.raises(ValueError, match="fit_transform, which reads it twice"):
        model().fit_transform(iter([X]))


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("k", [3, 16])
def test_fit_transform_is_fit_then_transform(solver, sparsity, k):
    fitted = model(k, solver=solver, sparsity=sparsity, max_iter=5)
    W = fitted.fit_transform(X)
    again = fitted.fit(X).transform(X)
    np.testing.assert_allclose(again, W, rtol=1e-6, atol=1e-6 * W.max())
    np.testing.assert_allclose(fitted.inverse_transform(W), W @ fitted.components_)
    share = 1 - np.sum((X - W @ fitted.components_) ** 2) / np.sum(X**2)
    assert fitted.score(X) == pytest.approx(share)


@quiet
def test_n_components_none():
    assert model(None).fit(X[:7]).n_components_ == 7
    assert model(None).partial_fit(X[:7]).n_components_ == 12
    for fitted in (model(None, init="custom").fit, model(None, init="custom").partial_fit):
        assert fitted(X, H=np.eye(4, 12)).partial_fit(X).n_components_ == 4
    assert model(None, init="custom").fit(iter([X, X]), H=np.eye(4, 12)).n_components_ == 4
    assert model(20).partial_fit(X[:7]).partial_fit(X[7:]).components_.shape == (20, 12)


@quiet
def test_order_a_custom_start_and_bits():
    fitted = model().fit(X)
    weights = np.diagonal(fitted._stream["T"])
    assert list(weights) == sorted(weights, reverse=True)
    np.testing.assert_array_equal(fitted.components_, model().fit(X).components_)
    for n_jobs in (1, 3):
        again = model(n_jobs=n_jobs).fit(X)
        np.testing.assert_allclose(again.components_, fitted.components_, rtol=1e-9)
    turned = fitted.components_[::-1]
    custom = model(init="custom", max_iter=1, tol=0).fit(X, H=7 * turned)
    assert np.sum(custom.components_ * turned, axis=1).min() > 0.95  # in the order given
    other = model(random_state=1, init="random").fit(X)
    assert not np.array_equal(other.components_, fitted.components_)


@quiet
@pytest.mark.parametrize("way", ["pickle", "save"])
def test_survives_a_file_between_two_calls(way, tmp_path):
    for first in (X[:5], X[:100]):
        fitted = model().partial_fit(first)
        if way == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        else:
            snmf.save(fitted, tmp_path / "model.npz")
            again = snmf.load(tmp_path / "model.npz")
        assert_same(again.partial_fit(X), fitted.partial_fit(X))


@quiet
def test_rows_on_disk_are_rows_in_memory(tmp_path):
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same(after([stored[:30], stored[30:]]), after([X[:30], X[30:]]))
    ours, theirs = model(tol=0, max_iter=3).fit(stored), model(tol=0, max_iter=3).fit(X)
    assert isinstance(ours.components_, np.ndarray)
    assert ours.score(stored) == pytest.approx(theirs.score(X), abs=5e-3)  # in another order
    assert ours.rms_ == pytest.approx(theirs.rms_)


@quiet
def test_a_line_for_every_epoch(capsys):
    fitted = model(verbose=True).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert fitted.n_iter_ - 1 <= len(lines) <= fitted.n_iter_
    assert lines[0].startswith("iteration 1: loss 0.")


# Backends

OTHERS = {
    "array_api_strict": None,
    "array_api_strict, device1": array_api_strict.Device("device1"),
}


@pytest.fixture(params=[*ADAPTERS, "jax, x64", *OTHERS])
def backend(request):
    """Every backend that can run here; the others skip with their reason."""
    if request.param in OTHERS:
        yield Backend("array_api_strict", OTHERS[request.param])
        return
    library, _, variant = request.param.partition(", ")
    try:
        found = adapter(library)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    with importlib.import_module("jax").enable_x64(True) if variant else nullcontext():
        yield found


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_backend_is_numpys(backend, solver, sparsity, dtype):
    if dtype > backend.widest:
        pytest.skip(f"{backend.name} has no {dtype} here")
    options = dict(solver=solver, sparsity=sparsity, max_iter=2, tol=0, max_no_improvement=None)
    data, slack = X[:192].astype(dtype), {"float32": 5e-3, "float64": 1e-7}[dtype]
    there = backend.asarray(data, dtype)

    def close(ours, theirs):
        np.testing.assert_allclose(ours, theirs, atol=slack * np.abs(theirs).max())

    theirs, ours = model(**options).fit(data), model(**options).fit(there)
    assert owner(ours.components_) == owner(there)
    assert ours.components_.dtype == there.dtype
    close(backend.to_host(ours.components_), theirs.components_)
    named = model(backend=backend, **options).fit(data)  # NumPy in, NumPy out
    assert isinstance(named.components_, np.ndarray)
    close(named.components_, theirs.components_)
    theirs = after(in_parts(data, 64), **options)
    ours = after([there[i : i + 64, :] for i in (0, 64, 128)], **options)
    close(backend.to_host(ours.components_), theirs.components_)
    W = ours.transform(there)
    assert owner(W) == owner(there)
    close(backend.to_host(W), theirs.transform(data))
    assert ours.score(there) == pytest.approx(theirs.score(data), abs=slack)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=slack)


@quiet
@pytest.mark.parametrize("init", ["auto", "varimax", "kmeans", "svd", "random", "custom"])
def test_every_backend_starts_from_few_rows(backend, init):
    data, there = X[:64].astype("float32"), backend.asarray(X[:64], "float32")
    given = [{"H": make(np.eye(4, 12), "float32")} if init == "custom" else {}
             for make in (np.asarray, backend.asarray)]  # fmt: skip
    theirs = model(init=init).partial_fit(data[:30], **given[0]).partial_fit(data[30:])
    ours = model(init=init).partial_fit(there[:30, :], **given[1]).partial_fit(there[30:, :])
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)
    try:
        pickle.loads(pickle.dumps(there))
    except TypeError:
        return  # an array-api-strict whose arrays cannot be pickled
    revived = pickle.loads(pickle.dumps(ours.set_params(backend=backend)))
    assert isinstance(revived.partial_fit(data).components_, np.ndarray)


def test_scikit_learns_array_api_checks_pass():
    """In a process of its own, since the variable must be set before SciPy is imported."""
    code = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
from snmf import MiniBatchSNMF
warnings.simplefilter("ignore")
model = MiniBatchSNMF(3, init="svd", random_state=0)
for check in check_estimator(model, on_skip=None, on_fail=None):
    if "array_api" in check["check_name"] or check["status"] == "failed":
        print(check["status"], check["check_name"], check["exception"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("failed")]
    assert [line for line in lines if line.startswith("passed")]


# Weights of rows


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
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_backend_takes_weights(backend, solver):
    data, D = X[:192].astype("float32"), np.random.default_rng(0).integers(0, 3, 192)
    there, options = backend.asarray(data, "float32"), dict(solver=solver, max_iter=2, tol=0)
    weights = backend.asarray(D.astype("float32"))
    theirs = model(**options).fit(data, sample_weight=D)
    ours = model(**options).fit(there, sample_weight=weights)
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)
    theirs = model(**options).partial_fit(data, sample_weight=D)
    ours = model(**options).partial_fit(there, sample_weight=weights)
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)


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


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_penalty_beyond_the_largest_number_is_that_number():
    X = 1e300 * np.tanh(np.random.default_rng(0).standard_normal((40, 5)))
    model = MiniBatchSNMF(2, sparsity=1e40, max_iter=1, progress_bar=False).fit(X)
    assert model.penalty_ == np.finfo("float64").max
    assert not model.transform(X).any()
