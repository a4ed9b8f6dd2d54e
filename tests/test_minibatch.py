"""Mini-batches: against SNMF on the same rows, and the estimator itself."""

import inspect
import pickle

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks
from streams import SOLVERS, X, after, assert_same, model, one_epoch, planted, quiet

import snmf
from snmf import SNMF, MiniBatchSNMF, _minibatch
from snmf.backends import adapter
from snmf.core import nnls, updates
from snmf.core import stream as _stream
from snmf.core.limits import NO_LIMITS, Limits

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


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_penalty_beyond_the_largest_number_is_that_number():
    X = 1e300 * np.tanh(np.random.default_rng(0).standard_normal((40, 5)))
    model = MiniBatchSNMF(2, sparsity=1e40, max_iter=1, progress_bar=False).fit(X)
    assert model.penalty_ == np.finfo("float64").max
    assert not model.transform(X).any()
