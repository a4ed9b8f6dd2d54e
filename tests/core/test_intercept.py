"""The intercept: X ≈ 1 mᵀ + W H."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.optimize import nnls
from sklearn.exceptions import ConvergenceWarning

import snmf
from snmf import SNMF, factorize, fit_transform
from snmf.backends import adapter
from snmf.core import updates
from snmf.core.intercept import FLAT, Shifted, centred, moments

QUIET = {"progress_bar": False, "random_state": 0}
fit = partial(factorize, fit_intercept=True, **QUIET)
SOLVERS, STARTS = ["mu", "hals"], ["skewness", "kmeans", "random"]


def planted(n=240, p=18, k=4, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(2, 0.5, (n, k)), rng.standard_normal((k, p))
    return W @ H + noise * rng.standard_normal((n, p)), H


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0, 0.03])
@pytest.mark.parametrize("init", STARTS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_shifted_matrix_has_the_same_components_and_weights(solver, sparsity, init):
    X, _ = planted()
    shift = 5 * np.random.default_rng(1).standard_normal(X.shape[1])
    options = {"solver": solver, "sparsity": sparsity, "init": init, "max_iter": 30}
    one, other = fit(X, 4, **options), fit(X + shift, 4, **options)
    np.testing.assert_allclose(other.W, one.W, atol=1e-9 * one.W.max())
    np.testing.assert_allclose(other.H, one.H, atol=1e-9)
    np.testing.assert_allclose(other.intercept, one.intercept + shift, atol=1e-9 * one.W.max())
    assert other.penalty == pytest.approx(one.penalty)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0, 0.01, 0.1])
@pytest.mark.parametrize("init", [*STARTS, "svd"])
@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_objective_never_rises(solver, sparsity, init, accelerate):
    X, _ = planted(noise=1.0)
    result = fit(X, 5, solver=solver, sparsity=sparsity, init=init, accelerate=accelerate, tol=0,
                 max_iter=40)  # fmt: skip
    curve = result.loss_curve
    assert np.all(np.diff(curve) <= 1e-12)
    residual = X - result.intercept - result.W @ result.H
    assert result.error == pytest.approx(np.linalg.norm(residual))
    whole = np.linalg.norm(X - X.mean(axis=0)) ** 2
    objective = (result.error**2 + 2 * result.penalty * result.W.sum()) / whole
    assert objective <= curve[-1] * (1 + 1e-9)
    assert result.rms == pytest.approx((whole / len(X)) ** 0.5)


@pytest.mark.parametrize("sparsity", [0, 0.05])
def test_the_weights_are_the_exact_ones_for_the_rows_less_the_intercept(sparsity):
    X, _ = planted()
    model = SNMF(4, sparsity=sparsity, fit_intercept=True, **QUIET)
    W = model.fit_transform(X)
    np.testing.assert_array_equal(model.transform(X), W)
    H, rest = model.components_, X - model.intercept_
    slope = (rest - W @ H) @ H.T - model.penalty_
    size = np.linalg.norm(rest, axis=1)[:, None]
    assert np.max(np.where(W > 0, np.abs(slope), slope) / size) < 1e-9
    if not sparsity:
        expected = [nnls(H.T, x)[0] for x in rest[:5]]
        np.testing.assert_allclose(W[:5], expected, atol=1e-9 * W.max())
    new = planted(seed=5)[0][:7]
    np.testing.assert_allclose(model.transform(new)[:1], model.transform(new[:1]), atol=1e-10)
    np.testing.assert_allclose(model.inverse_transform(W), model.intercept_ + W @ H)
    left = np.linalg.norm(X - model.inverse_transform(W))
    assert left == pytest.approx(model.reconstruction_err_)
    assert model.score(X) == pytest.approx(1 - (left / np.linalg.norm(X)) ** 2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0, 0.05])
def test_one_pass_is_the_definition(solver, sparsity):
    """The W-step on X less the intercept; then H and m at their common minimum."""
    X, _ = planted(n=40, p=7, k=3)
    rng, ops = np.random.default_rng(2), adapter("numpy")
    W, D, l1 = rng.random((40, 3)), rng.random((40, 1)) + 0.5, sparsity * 3.0
    rows, total = ops.rows(X), float(D.sum())
    mean, square = moments(rows, rows.split(D), total)
    np.testing.assert_allclose(mean, np.average(X, axis=0, weights=D[:, 0]))
    assert square == pytest.approx(np.sum(D * (X - mean) ** 2))
    update = {"mu": "multiplicative", "hals": "hals"}[solver]
    passes = Shifted(rows, square, l1, update, 2, rows.split(D), mean=mean, total=total)
    point = passes.start(rows.split(W), rng.standard_normal((3, 7)) / 3)
    new = passes.advance(point, point.H)
    H, m = point.H[:-1], point.H[-1]
    start = getattr(updates, update)
    expected = start(ops, (X - m) @ H.T, H @ H.T, W.copy(), l1, 2)
    (W,) = new.W
    np.testing.assert_allclose(W, expected, atol=1e-12)
    H, m = new.H[:-1], new.H[-1]
    residual = X - m - W @ H
    np.testing.assert_allclose(np.sum(D * residual, axis=0), 0, atol=1e-10)  # m is the best
    if not l1:
        np.testing.assert_allclose((D * W).T @ residual, 0, atol=1e-10)
    objective = np.sum(D * residual**2) + 2 * l1 * np.sum(D * W)
    assert new.loss * square == pytest.approx(objective)


@pytest.mark.parametrize("kind", ["sparse", "mapped", "dask", "frame", "float32", "wide"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_data_in_other_forms(kind, tmp_path):
    X, _ = planted(n=30, p=90) if kind == "wide" else planted()
    X[np.abs(X) < 0.5] = 0
    few = partial(fit, tol=0, max_iter=10)
    expected, given = few(X, 3), X
    if kind == "sparse":
        given = sp.csr_array(X)
    elif kind == "mapped":
        np.save(tmp_path / "X.npy", X)
        given = np.load(tmp_path / "X.npy", mmap_mode="r")
    elif kind == "dask":
        given = pytest.importorskip("dask.array").from_array(X, chunks=(50, -1))
    elif kind == "frame":
        given = pd.DataFrame(X)
    elif kind == "float32":
        given = X.astype("float32")
    elif kind == "wide":  # without compression
        order = np.argsort(np.arange(90) % 7)
        given, expected = X[:, order], expected
    found = few(given, 3)
    tolerance = {"float32": 2e-3, "wide": 1e-7}.get(kind, 1e-9)
    H, intercept = expected.H, expected.intercept
    if kind == "wide":
        H, intercept = H[:, order], intercept[order]
    W = np.asarray(found.W)
    np.testing.assert_allclose(W, expected.W, atol=tolerance * expected.W.max())
    np.testing.assert_allclose(found.H, H, atol=tolerance)
    np.testing.assert_allclose(found.intercept, intercept, atol=tolerance * expected.W.max())
    assert str(found.intercept.dtype) == ("float32" if kind == "float32" else "float64")


@pytest.mark.parametrize("sparsity", [0, 0.03])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sample_weights_count_rows(sparsity):
    X, _ = planted()
    counts = np.random.default_rng(3).integers(0, 3, len(X))
    options = {"init": "svd", "sparsity": sparsity, "max_iter": 20, "tol": 0, "solver": "hals"}
    weighted = fit(X, 3, sample_weight=counts, **options)
    repeated = fit(np.repeat(X, counts, axis=0), 3, **options)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=1e-8)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, atol=1e-8)
    assert weighted.error == pytest.approx(repeated.error)
    assert weighted.W.shape == (len(X), 3)  # rows of weight 0 get their W too


@pytest.mark.parametrize("power", [-600, 500])
def test_the_scale_of_the_data_is_that_of_the_result(power):
    X, _ = planted()
    one, other = fit(X, 3), fit(np.ldexp(X, power), 3)
    np.testing.assert_array_equal(np.ldexp(other.W, -power), one.W)
    np.testing.assert_array_equal(np.ldexp(other.intercept, -power), one.intercept)


@pytest.mark.parametrize(
    "X", [np.zeros((6, 4)), np.full((20, 4), 3.3), np.ones((1, 4)), np.eye(3)]
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_data_that_leave_nothing_to_find(X):
    for solver in SOLVERS:
        result = fit(X, 2, solver=solver)
        assert np.isfinite(result.W).all()
        assert np.isfinite(result.H).all()
        error = np.linalg.norm(X - result.intercept - result.W @ result.H)
        assert result.error == pytest.approx(error, abs=1e-12)


def test_a_component_that_is_the_same_in_all_rows_is_left_to_the_intercept():
    X, _ = planted()
    ops = adapter("numpy")
    rows = ops.rows(X)
    mean, square = moments(rows, None, len(X))
    W = np.random.default_rng(0).random((len(X), 3))
    W[:, 1] = 0.7
    for l1 in (0.0, 0.1):
        passes = Shifted(rows, square, l1, "hals", 1, mean=mean, total=len(X))
        _, T = centred(*passes.sums(rows.split(W))[:2])
        assert T[1, 1] == 0 < T[0, 0]
        point = passes.start(rows.split(W), None)
        assert np.isfinite(point.H).all()
        assert passes.advance(point, point.H).loss <= point.loss
    assert FLAT < 1e-6


def test_components_that_are_given_and_kept():
    X, H = planted()
    given = fit(X, 4, H=H, init="custom")
    assert given.loss_curve[-1] <= given.loss_curve[0]
    kept = fit(X, 4, H=H, fixed=4)
    np.testing.assert_allclose(kept.H, H / np.linalg.norm(H, axis=1)[:, None])
    residual = X - kept.intercept - kept.W @ kept.H
    assert np.abs(residual.mean(axis=0)).max() < 0.05 * np.abs(X).mean()  # m has moved to its best
    some = fit(X, 4, H=H[:2], fixed=2)
    np.testing.assert_allclose(some.H[:2], H[:2] / np.linalg.norm(H[:2], axis=1)[:, None])
    model = SNMF(3, fit_intercept=True, **QUIET).fit(X)
    old = model.components_.copy()
    np.testing.assert_allclose(model.add_components(X, 1).components_[:3], old)
    assert model.intercept_.shape == (X.shape[1],)


def test_a_warm_start_goes_on_from_the_intercept():
    X, _ = planted()
    for solver in SOLVERS:
        model = SNMF(4, fit_intercept=True, solver=solver, warm_start=True, **QUIET).fit(X)
        first = model.loss_curve_[-1]
        model.fit(X)
        assert model.loss_curve_[0] < 1.05 * first
        assert model.loss_curve_[-1] <= first * (1 + 1e-9)


def test_it_is_saved_and_goes_on_from_a_checkpoint(tmp_path):
    X, _ = planted()
    model = SNMF(4, fit_intercept=True, **QUIET).fit(X)
    snmf.save(model, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.intercept_, model.intercept_)
    options = {"checkpoint": tmp_path / "c.npz", "checkpoint_interval": 0, "n_init": 2, "tol": 0,
               "max_iter": 8, "init": "random", "solver": "hals"}  # fmt: skip
    whole = fit(X, 4, **options)

    class StoppedError(Exception):
        pass

    calls = []

    def stop(iteration):
        calls.append(iteration)
        assert iteration.components().shape == (4, X.shape[1])
        if len(calls) == 12:
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(X, 4, callback=stop, **options)
    resumed = fit(X, 4, **options)
    np.testing.assert_array_equal(resumed.W, whole.W)
    np.testing.assert_array_equal(resumed.intercept, whole.intercept)


def test_the_diagnostics_are_those_of_the_model():
    X, _ = planted()
    model = SNMF(4, fit_intercept=True, **QUIET).fit(X)
    W, H, m = model.transform(X), model.components_, model.intercept_
    found = model.diagnostics(X)
    residual = X - m - W @ H
    for j in range(4):
        without = np.sum((residual + np.outer(W[:, j], H[j])) ** 2) - np.sum(residual**2)
        assert found.share[j] == pytest.approx(without / np.sum(X**2))
    lengths = np.linalg.norm(X - m, axis=1).sum()
    np.testing.assert_allclose(found.mass, W.sum(axis=0) / lengths)


def test_what_does_not_go_together_is_refused():
    X, H = planted()
    with pytest.raises(ValueError, match="fit_intercept and locality do not go together"):
        fit(X, 4, locality=0.1)
    with pytest.raises(ValueError, match="fixed='W' goes with no intercept"):
        fit(X, 4, W=np.ones((len(X), 4)), fixed="W")
    with pytest.raises(ValueError, match="pass it with H"):
        fit(X, 4, intercept=np.ones(18))
    with pytest.raises(ValueError, match=r"intercept must have shape \(18,\); got \(3,\)"):
        fit(X, 4, H=H, init="custom", intercept=np.ones(3))
    with pytest.raises(ValueError, match="fit_intercept"):
        fit_transform(X, 4, fit_intercept="yes", **QUIET)


def test_of_centred_data_more_is_found_than_without():
    X, H = planted(n=600, p=40, k=5)
    X = X - X.mean(axis=0)
    with pytest.warns(snmf._advice.ConvergenceWarning, match="set fit_intercept=True"):
        without = factorize(X, 5, **QUIET)
    found, before = (np.sum(snmf.align(r.H, H).cosines > 0.9) for r in (fit(X, 5), without))
    assert found == 5 > before


def with_holes(X, share=0.2, seed=3):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


incomplete = partial(fit, missing_values=np.nan)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0, 0.05])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_with_missing_values_the_objective_over_the_observed_never_rises(
    solver, sparsity, weighted
):
    X = with_holes(planted(noise=1.0)[0])
    D = np.random.default_rng(1).random(len(X)) + 0.2 if weighted else None
    result = incomplete(X, 4, solver=solver, sparsity=sparsity, tol=0, max_iter=25, sample_weight=D)
    assert np.all(np.diff(result.loss_curve) <= 1e-12)
    D = np.ones(len(X)) if D is None else D
    known, entry = ~np.isnan(X), np.where(np.isnan(X), 0, D[:, None])
    mean = np.nansum(entry * X, axis=0) / entry.sum(axis=0)
    whole = np.nansum(entry * (X - mean) ** 2)
    residual = np.where(known, X - result.intercept - result.W @ result.H, 0)
    assert result.error**2 == pytest.approx(np.sum(entry * residual**2))
    assert result.rms == pytest.approx((whole / D.sum()) ** 0.5)
    objective = result.error**2 + 2 * result.penalty * np.sum(D[:, None] * result.W)
    assert objective / whole <= result.loss_curve[-1] * (1 + 1e-9)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("sparsity", [0, 0.05])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_of_incomplete_rows_are_exact(make, sparsity):
    X = with_holes(planted()[0])
    X[3] = np.nan
    model = SNMF(4, sparsity=sparsity, fit_intercept=True, missing_values=np.nan, **QUIET)
    W = model.fit_transform(make(X))
    np.testing.assert_array_equal(model.transform(make(X)), W)
    assert not W[3].any()
    H, m, known = model.components_, model.intercept_, ~np.isnan(X)
    residual = np.where(known, X - m - W @ H, 0)
    slope = residual @ H.T - model.penalty_
    size = np.linalg.norm(np.where(known, X - m, 0), axis=1)[:, None] + 1
    assert np.max(np.where(W > 0, np.abs(slope), slope) / size) < 1e-8
    square = np.nansum(X**2)
    assert model.score(make(X)) == pytest.approx(1 - np.sum(residual**2) / square)
    found = model.diagnostics(make(X))
    for j in range(4):
        without = residual + known * np.outer(W[:, j], H[j])
        assert found.share[j] == pytest.approx((np.sum(without**2) - np.sum(residual**2)) / square)
    lengths = np.linalg.norm(np.where(known, X - m, 0), axis=1).sum()
    np.testing.assert_allclose(found.mass, W.sum(axis=0) / lengths)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_shifted_matrix_with_holes_has_the_same_components_and_weights():
    X = with_holes(planted()[0])
    shift = 5 * np.random.default_rng(1).standard_normal(X.shape[1])
    for solver in SOLVERS:
        options = {"solver": solver, "max_iter": 15, "tol": 0}
        one, other = incomplete(X, 4, **options), incomplete(X + shift, 4, **options)
        np.testing.assert_allclose(other.W, one.W, atol=1e-8 * one.W.max())
        np.testing.assert_allclose(other.H, one.H, atol=1e-8)
        np.testing.assert_allclose(other.intercept, one.intercept + shift, atol=1e-8 * 20)


def test_without_holes_it_is_the_fit_of_complete_rows():
    X, _ = planted()
    few = {"tol": 0, "max_iter": 10, "accelerate": False}
    one, other = fit(X, 4, **few), incomplete(X, 4, **few)
    np.testing.assert_allclose(other.W, one.W, atol=1e-9 * one.W.max())
    np.testing.assert_allclose(other.intercept, one.intercept, atol=1e-9 * one.W.max())


def test_holes_are_filled_and_components_found_as_in_complete_data():
    X, H = planted(n=400, p=30, k=4, noise=0.1)
    X = X - X.mean(axis=0)
    holes = with_holes(X, 0.3)
    model = SNMF(4, fit_intercept=True, missing_values=np.nan, scale=True, **QUIET)
    back = model.inverse_transform(model.fit_transform(holes))
    cosines = snmf.align(model.components_ * model.scale_, H).cosines
    assert cosines.min() > 0.95
    gone = np.isnan(holes)
    assert np.std((back - X)[gone]) < 0.2 * np.std(X[gone])


@pytest.mark.parametrize(
    ("dtype", "far"), [("float32", 1e3), ("float32", 1e5), ("float64", 1e4), ("float64", 1e6)]
)
@pytest.mark.parametrize("estimator", [SNMF, snmf.MiniBatchSNMF])
def test_of_a_mean_far_larger_than_the_spread_all_is_found_or_a_warning_says_so(
    dtype, far, estimator
):
    X, H = planted(n=600, k=3, noise=0.1)
    X = (X + far * X.std(axis=0)).astype(dtype)
    model = estimator(3, fit_intercept=True, scale=True, **QUIET)
    if far >= 1e5:
        with pytest.warns(snmf._advice.ConvergenceWarning, match="Subtract a row near the mean"):
            model.fit(X)
    else:
        model.fit(X)
        assert snmf.align(model.components_ * model.scale_, H).cosines.min() > 0.95


def test_centred_data_with_holes_are_warned_of_too():
    X, _ = planted()
    X = X - X.mean(axis=0)
    X[3, 5] = np.nan
    with pytest.warns(ConvergenceWarning, match="X is centred"):
        factorize(X, 4, missing_values=np.nan, **QUIET)
