"""Limits of components: few nonzero entries, nonnegative, in the unit ball."""

from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

import snmf
from snmf import SNMF, MiniBatchSNMF, factorize
from snmf.backends import adapter
from snmf.core import updates
from snmf.core.limits import Limits
from snmf.storage import rows as _rows

QUIET = {"progress_bar": False, "random_state": 0}
fit = partial(factorize, **QUIET)
LIMITS = {
    "few": {"n_nonzero_features": 5},
    "share": {"n_nonzero_features": 0.25},
    "positive": {"positive_components": True},
    "both": {"n_nonzero_features": 5, "positive_components": True},
}
each_limit = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
may_not_converge = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def assert_within(H, limit, first=0):
    H, p = H[first:], H.shape[1]
    if limit.get("positive_components"):
        assert H.min() >= 0
    most = limit.get("n_nonzero_features", p)
    most = round(most * p) if isinstance(most, float) else most
    assert np.count_nonzero(H, axis=1).max() <= most
    assert np.any(H != 0)


def planted(n=240, p=20, k=4, noise=0.2, seed=0, dtype="float64"):
    """Data of sparse components of any sign."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((k, p)) * (rng.random((k, p)) < 0.3)
    W = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < 0.4)
    return (W @ H + noise * rng.standard_normal((n, p))).astype(dtype)


# The projection and the step


def nearest_by_trial(v, limits):
    """The nearest row within the limits, by trial of every set of entries."""
    best, least = np.zeros_like(v), np.inf
    most = len(v) if limits.nonzeros is None else limits.nonzeros
    for size in range(most + 1):
        for some in combinations(range(len(v)), size):
            h = np.zeros_like(v)
            h[list(some)] = v[list(some)]
            if limits.nonnegative:
                h = np.maximum(h, 0)
            if limits.ball:
                h = h / max(1.0, np.linalg.norm(h))
            if (distance := np.linalg.norm(v - h)) < least - 1e-12:
                best, least = h, distance
    return best


@given(
    v=arrays("float64", st.integers(1, 6), elements=st.floats(-3, 3, allow_subnormal=False)),
    ball=st.booleans(),
    nonnegative=st.booleans(),
    nonzeros=st.one_of(st.none(), st.integers(1, 7)),
)
def test_the_projection_is_the_nearest_row(v, ball, nonnegative, nonzeros):
    limits = Limits(ball, nonnegative, nonzeros)
    before, h = v.copy(), limits.project(v)
    np.testing.assert_array_equal(v, before)
    assert not nonnegative or h.min() >= 0
    assert nonzeros is None or np.count_nonzero(h) <= nonzeros
    assert not ball or np.linalg.norm(h) <= 1 + 1e-15
    nearest = nearest_by_trial(v, limits)
    assert np.linalg.norm(v - h) == pytest.approx(np.linalg.norm(v - nearest), abs=1e-12)


@given(
    seed=st.integers(0, 10**6),
    ball=st.booleans(),
    nonnegative=st.booleans(),
    nonzeros=st.one_of(st.none(), st.integers(1, 8)),
    first=st.integers(0, 2),
)
def test_a_step_stays_within_the_limits_and_does_not_raise_the_objective(
    seed, ball, nonnegative, nonzeros, first
):
    rng, limits = np.random.default_rng(seed), Limits(ball, nonnegative, nonzeros)
    X, W = rng.standard_normal((30, 8)), rng.random((30, 4)) * (rng.random(4) < 0.9)
    H = np.stack([h if j < first else limits.project(h)
                  for j, h in enumerate(rng.standard_normal((4, 8)))])  # fmt: skip
    sums = W.T @ X, W.T @ W
    new = updates.least_squares_within(adapter("numpy"), *sums, H, limits.project, 2, first)
    assert np.linalg.norm(X - W @ new) <= np.linalg.norm(X - W @ H) * (1 + 1e-12)
    np.testing.assert_array_equal(new[:first], H[:first])
    for h in new[first:]:
        assert not nonnegative or h.min() >= 0
        assert nonzeros is None or np.count_nonzero(h) <= nonzeros
        assert not ball or np.linalg.norm(h) <= 1 + 1e-12


def test_without_other_limits_the_steps_end_at_nonnegative_least_squares():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((40, 7)), rng.random((40, 4))
    S, T = W.T @ X, W.T @ W
    limits = Limits(nonnegative=True)
    H = updates.least_squares_within(adapter("numpy"), S, T, 0 * S, limits.project, 500)
    gradient = T @ H - S
    assert np.all(gradient >= -1e-10)
    np.testing.assert_allclose(gradient * H, 0, atol=1e-10)


# Fits


@each_limit
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0, 0.03])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
@pytest.mark.parametrize("accelerate", [True, False])
@may_not_converge
def test_the_objective_never_rises(limit, solver, sparsity, init, accelerate):
    X = planted(noise=0.5)
    result = fit(X, 4, solver=solver, sparsity=sparsity, init=init, accelerate=accelerate, tol=0,
                 max_iter=25, **limit)  # fmt: skip
    assert np.all(np.diff(result.loss_curve) <= 1e-12)
    assert_within(result.H, limit)
    objective = result.error**2 + 2 * result.penalty * result.W.sum()
    assert objective <= result.loss_curve[-1] * np.sum(X**2) * (1 + 1e-9)


@each_limit
@pytest.mark.parametrize(
    "setting",
    [
        {"fit_intercept": True}, {"fit_intercept": True, "sparsity": 0}, {"locality": 0.3},
        {"missing_values": np.nan}, {"n_init": 2}, {"exact": False},
    ],
    ids=["intercept", "intercept, 0", "locality", "missing", "restarts", "inexact"],
)  # fmt: skip
@may_not_converge
def test_limits_go_with_everything_else(limit, setting):
    X = planted(noise=0.5) + 1
    if "missing_values" in setting:
        X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    result = fit(X, 4, tol=0, max_iter=25, **setting, **limit)
    assert np.all(np.diff(result.loss_curve) <= 1e-12)
    assert_within(result.H, limit)


@each_limit
@may_not_converge
def test_rows_of_weight_zero_are_absent_and_integers_are_copies(limit):
    X = planted()
    counts = np.random.default_rng(2).integers(0, 3, len(X))
    W = np.random.default_rng(3).random((len(X), 4))
    options = {"init": "custom", "max_iter": 5, "tol": 0, **limit}
    again = np.repeat(np.arange(len(X)), counts)
    one = fit(X, 4, W=W, sample_weight=counts, **options)
    other = fit(X[again], 4, W=W[again], **options)
    np.testing.assert_allclose(one.H, other.H, atol=1e-9)


@each_limit
@pytest.mark.parametrize("init", ["custom", "auto"])
@may_not_converge
def test_fixed_rows_stay_and_the_others_are_within(limit, init):
    X, rng = planted(), np.random.default_rng(4)
    kept = rng.standard_normal((2, X.shape[1]))
    given = kept if init == "auto" else np.vstack([kept, rng.standard_normal((2, X.shape[1]))])
    result = fit(X, 4, H=given, fixed=2, init=init, max_iter=10, tol=0, **limit)
    np.testing.assert_allclose(
        result.H[:2], kept / np.linalg.norm(kept, axis=1)[:, None], atol=1e-12
    )
    assert_within(result.H, limit, first=2)


@each_limit
@pytest.mark.parametrize("start", ["W", "H", "both"])
@may_not_converge
def test_a_given_start_is_projected(limit, start):
    X, rng = planted(), np.random.default_rng(5)
    given = {"W": rng.random((len(X), 4)), "H": rng.standard_normal((4, X.shape[1]))}
    given = {name: A for name, A in given.items() if start in (name, "both")}
    for max_iter in (0, 5):
        result = fit(X, 4, init="custom", max_iter=max_iter, tol=0, **given, **limit)
        assert_within(result.H, limit)


@each_limit
@may_not_converge
def test_a_fixed_w_gets_the_best_components_within(limit):
    X = planted()
    W = np.random.default_rng(6).random((len(X), 4))
    result = fit(X, 4, W=W, fixed="W", tol=0, max_iter=300, **limit)
    assert_within(result.H, limit)
    if "n_nonzero_features" not in limit:
        # The fit ends where rounding of F hides its fall, which a step in an entry of H with the
        # gradient g makes at least g² / 2 T_jj. Sums of F have about 8 roundings of ‖X‖².
        gradient, most = W.T @ (result.W @ result.H - X), np.sum(W**2, axis=0).max()
        hidden = 8 * np.finfo("float64").eps * np.sum(X**2)
        assert np.all(gradient >= -np.sqrt(2 * most * hidden))


@each_limit
@may_not_converge
def test_wide_data_are_not_turned(limit):
    X = planted(n=12, p=80, k=3)
    result = fit(X, 3, max_iter=5, tol=0, **limit)
    assert_within(result.H, limit)
    dense = fit(np.vstack([X, np.zeros((200, 80))]), 3, max_iter=0, **limit)
    assert dense.H.shape == result.H.shape


@each_limit
@may_not_converge
def test_the_data_may_lie_anywhere(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 2**12)
    X = planted()
    X[np.abs(X) < 0.3] = 0
    np.save(tmp_path / "X.npy", X)
    options = {"init": "random", "max_iter": 10, "tol": 0, **limit}
    whole = fit(X, 4, **options)
    for other in (sp.csr_array(X), pd.DataFrame(X), np.load(tmp_path / "X.npy", mmap_mode="r")):
        np.testing.assert_allclose(fit(other, 4, **options).H, whole.H, atol=1e-9)
    on_two = fit(X, 4, n_jobs=2, **options)
    np.testing.assert_array_equal(on_two.H, whole.H)


@each_limit
@pytest.mark.parametrize("sparsity", [0, 0.03])
@may_not_converge
def test_mini_batches_stay_within(limit, sparsity):
    X = planted(n=600)
    model = MiniBatchSNMF(4, batch_size=100, sparsity=sparsity, **limit, **QUIET).fit(X)
    assert_within(model.components_, limit)
    full = SNMF(4, sparsity=sparsity, **limit, **QUIET).fit(X)
    assert model.score(X) > full.score(X) - 0.03
    for start in range(0, 600, 100):
        model.partial_fit(X[start : start + 100])
    assert_within(model.components_, limit)
    H = np.random.default_rng(7).standard_normal((4, X.shape[1]))
    custom = MiniBatchSNMF(4, init="custom", max_iter=1, **limit, **QUIET).fit(X, H=H)
    assert_within(custom.components_, limit)


def test_an_estimator_saves_and_transforms_with_limits(tmp_path):
    X = planted()
    model = SNMF(3, n_nonzero_features=5, positive_components=True, **QUIET)
    W = model.fit_transform(X)
    np.testing.assert_allclose(model.transform(X), W, atol=1e-7)
    snmf.save(model, tmp_path / "m.npz")
    again = snmf.load(tmp_path / "m.npz")
    assert again.get_params()["n_nonzero_features"] == 5
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    more = again.add_components(X, 1)
    assert_within(more.components_, {"n_nonzero_features": 5, "positive_components": True})


def test_a_constant_component_goes_with_limits_and_nothing_is_left_of_zeros():
    result = fit(np.zeros((10, 4)), 2, n_nonzero_features=1, positive_components=True)
    assert not result.H.any()
    assert not result.W.any()


def test_the_number_of_components_is_found_among_fits_of_the_same_kind():
    X = planted(noise=0.1)
    assert SNMF("auto", n_nonzero_features=20, **QUIET).fit(X).n_components_ == 4
    free = snmf.select_n_components(X, [4], random_state=0).errors
    limited = snmf.select_n_components(X, [4], n_nonzero_features=1, random_state=0).errors
    assert np.all(limited > free)


@pytest.mark.parametrize("estimator", [SNMF, MiniBatchSNMF])
@pytest.mark.parametrize("value", [0, -1, 1.5, 0.0, True, "few"])
def test_what_is_no_number_of_features_is_refused(estimator, value):
    with pytest.raises(ValueError, match="n_nonzero_features"):
        estimator(2, n_nonzero_features=value).fit(planted())


@pytest.mark.parametrize("estimator", [SNMF, MiniBatchSNMF])
def test_more_entries_than_features_are_refused(estimator):
    with pytest.raises(ValueError, match="at most the number of features, 20; got 21"):
        estimator(2, n_nonzero_features=21).fit(planted())
    estimator(2, n_nonzero_features=20, **QUIET).fit(planted())


# What they find


def found(H, components):
    lengths = np.linalg.norm(H, axis=1)[:, None] * np.linalg.norm(components, axis=1)
    cosines = np.abs(H @ components.T) / np.maximum(lengths, 1e-30)
    return np.mean(cosines[linear_sum_assignment(-cosines)] > 0.9)


@pytest.mark.parametrize("noise", [0.23, 0.83])
@pytest.mark.parametrize("solver", ["mu", "hals"])
def test_sparse_components_are_found(noise, solver):
    """20 components of 10 entries each among 300, at noise of 23 and 83 % of ‖X‖."""
    rng = np.random.default_rng(0)
    H = np.zeros((20, 300))
    for h in H:
        h[rng.choice(300, 10, replace=False)] = rng.standard_normal(10)
    H /= np.linalg.norm(H, axis=1)[:, None]
    signal = rng.gamma(2, 0.5, (2000, 20)) * (rng.random((2000, 20)) < 0.2) @ H
    E = rng.standard_normal(signal.shape)
    X = signal + E * np.linalg.norm(signal) / np.linalg.norm(E) * noise / (1 - noise**2) ** 0.5
    result = fit(X, 20, n_nonzero_features=10, solver=solver)
    assert found(H, result.H) == 1
    assert np.count_nonzero(result.H, axis=1).max() == 10


def test_positive_components_end_where_nmf_does():
    X = load_digits().data
    theirs = NMF(16, max_iter=1000, random_state=0).fit(X)
    options = {"positive_components": True, "sparsity": 0}
    errors = [fit(X, 16, **options | {"random_state": seed}).error for seed in range(4)]
    assert np.mean(errors) <= 1.005 * theirs.reconstruction_err_


@pytest.mark.parametrize("positive", [False, True])
def test_the_solver_is_chosen_by_the_sign_of_components(positive):
    X = planted()
    auto, mu, hals = (
        fit(X, 4, positive_components=positive, solver=solver) for solver in ("auto", "mu", "hals")
    )
    same, other = (hals, mu) if positive else (mu, hals)
    np.testing.assert_array_equal(auto.H, same.H)
    assert not np.array_equal(auto.H, other.H)
    np.testing.assert_array_equal(fit(X, 4, positive_components=positive).H, auto.H)


def test_nonnegative_components_of_data_with_negative_noise():
    rng = np.random.default_rng(0)
    H = rng.gamma(1, 1, (5, 60)) * (rng.random((5, 60)) < 0.3)
    signal = rng.gamma(2, 0.5, (800, 5)) * (rng.random((800, 5)) < 0.4) @ H
    X = signal + 0.5 * signal.std() * rng.standard_normal(signal.shape)
    assert X.min() < 0
    result = fit(X, 5, positive_components=True, solver="hals")
    assert found(H, result.H) == 1
    assert np.linalg.norm(result.W @ result.H - signal) < 0.2 * np.linalg.norm(signal)
