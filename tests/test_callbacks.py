"""Callbacks: a function's own, and scikit-learn's where it has them."""

import numpy as np
import pytest
from sklearn.base import clone

import snmf
from snmf import SNMF, ConvexNMF

X = np.random.default_rng(0).standard_normal((60, 8))


def test_a_callback_sees_every_iteration_and_may_end_the_fit(recwarn):
    seen = []

    def callback(iteration):
        seen.append((iteration.number, iteration.loss, iteration.components()))
        return iteration.number == 4

    result = snmf.factorize(X, 3, random_state=0, callback=callback, sparsity=0.1)
    assert [number for number, *_ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss, _ in seen] == list(result.loss_curve[1:])
    assert result.n_iter == 4
    assert not result.converged
    assert result.reason == "a callback stopped it"
    order = [np.argmax(np.abs(seen[-1][2] @ h)) for h in result.H]
    np.testing.assert_allclose(seen[-1][2][order], result.H, atol=1e-12)
    assert not recwarn


@pytest.mark.parametrize("parameters", [{"locality": 1.0}, {}])
def test_components_are_at_the_scale_of_the_result(parameters):
    wide = np.random.default_rng(0).standard_normal((20, 90)) * 1e200
    seen = []
    result = snmf.factorize(
        wide, 2, random_state=0, max_iter=3, tol=0, **parameters,
        callback=lambda iteration: seen.append(iteration.components()),
    )  # fmt: skip
    norms = np.sort(np.linalg.norm(seen[-1] / 1e200, axis=1))
    np.testing.assert_allclose(norms, np.sort(np.linalg.norm(result.H / 1e200, axis=1)))


callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has them from 1.9 on")


class Recorder:
    """Ends the fit after some iterations, and keeps what it was given."""

    def __init__(self, last=None):
        self.last, self.scores, self.hooks = last, [], []

    def setup(self, estimator, context):
        self.hooks.append("setup")

    def teardown(self, estimator, context):
        self.hooks.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.hooks.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.hooks.append(f"end {context.task_name}")
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X))
        return len(self.scores) == self.last


def test_scikit_learns_callbacks_are_called_and_may_end_the_fit():
    recorder = Recorder(last=3)
    free = {"solver": "hals", "sparsity": 0, "random_state": 0}  # the score rises without a penalty
    model = SNMF(3, **free).set_callbacks(recorder).fit(X)
    assert model.n_iter_ == 3
    assert recorder.hooks[:2] == ["setup", "begin fit"]
    assert recorder.hooks[-2:] == ["end fit", "teardown"]
    assert recorder.hooks.count("end iteration") == 3
    assert recorder.scores == sorted(recorder.scores)
    assert recorder.scores[-1] == pytest.approx(model.score(X))
    assert not [name for name in vars(model) if name.startswith("_callback")]
    plain = SNMF(3, **free, max_iter=3, tol=0).fit(X)
    np.testing.assert_array_equal(model.components_, plain.components_)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_so_they_are_in_a_fit_of_convex_nmf(kernel):
    recorder = Recorder(last=3)
    model = ConvexNMF(3, sparsity=0, kernel=kernel, random_state=0).set_callbacks(recorder).fit(X)
    assert model.n_iter_ == 3
    assert recorder.scores == sorted(recorder.scores)
    assert recorder.scores[-1] == pytest.approx(model.score(X))


def test_a_fit_that_fails_tears_down_and_leaves_the_model_as_it_was():
    recorder = Recorder()
    model = SNMF(3, random_state=0, max_iter=5, tol=0).set_callbacks(recorder).fit(X)
    before = model.components_
    with pytest.raises(ValueError, match="finite"):
        model.fit(np.where(X > 2, np.nan, X))
    assert recorder.hooks[-1] == "teardown"
    assert model.components_ is before


def test_the_scoring_monitor_of_scikit_learn_keeps_the_scores():
    explained = {"explained": lambda model, X, y: model.score(X)}
    monitor = callback.ScoringMonitor(scoring=explained)
    model = SNMF(3, random_state=0, max_iter=5, tol=0).set_callbacks(monitor).fit(X)
    scores = [entry["explained"] for entry in monitor.get_logs().data if "explained" in entry]
    assert len(scores) == 5
    assert scores[-1] == pytest.approx(model.score(X))


def test_the_progress_bar_of_scikit_learn_runs():
    pytest.importorskip("rich")
    model = SNMF(3, random_state=0, max_iter=5, tol=0)
    model.set_callbacks(callback.ProgressBar()).fit(X)
    assert clone(model).get_params() == model.get_params()
