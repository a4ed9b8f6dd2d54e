"""ConvexNMF: what the paper says of it, its kernels, and its scikit-learn face."""

import copy
import functools
import pickle
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import snmf
from snmf import ConvexNMF, _convex
from snmf.backends import Backend
from snmf.core.hull import Hull
from snmf.core.start import STARTS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
model = functools.partial(ConvexNMF, random_state=0, progress_bar=False)

RNG = np.random.default_rng(0)
X = RNG.random((60, 3)) @ RNG.standard_normal((3, 8)) + 0.2 * RNG.standard_normal((60, 8))
W0, C0 = RNG.random((60, 3)), RNG.random((3, 60))
DIGITS = load_digits().data[::4]
WINE = load_wine().data / load_wine().data.std(axis=0)

# The samples of Ding, Li & Jordan, section 5: columns
EXAMPLE = np.array([
    [1.3, 1.8, 4.8, 7.1, 5.0, 5.2, 8.0],
    [1.5, 6.9, 3.9, -5.5, -8.5, -3.9, -5.5],
    [6.5, 1.6, 8.2, -7.2, -8.7, -7.9, -5.2],
    [3.8, 8.3, 4.7, 6.4, 7.5, 3.2, 7.4],
    [-7.3, -1.8, -2.1, 2.7, 6.8, 4.8, 6.2],
]).T  # fmt: skip


def relative(X, W, H):
    return np.linalg.norm(X - W @ H) / np.linalg.norm(X)


def k_means(X, k):
    clusters = KMeans(k, n_init=5, random_state=0).fit(X)
    return (clusters.inertia_ / np.sum(X**2)) ** 0.5


# The paper


def test_the_example_of_the_paper_has_its_three_errors():
    fitted = model(2, sparsity=0, tol=1e-12, max_iter=1000).fit(EXAMPLE)
    assert fitted.reconstruction_err_ / np.linalg.norm(EXAMPLE) == pytest.approx(0.27559, abs=5e-6)
    semi = snmf.factorize(EXAMPLE, 2, sparsity=0, tol=1e-12, max_iter=2000, init="svd")
    assert semi.error / np.linalg.norm(EXAMPLE) == pytest.approx(0.26536, abs=5e-6)
    assert k_means(EXAMPLE, 2) == pytest.approx(0.32164, abs=5e-6)
    # … and sparse combinations of samples that belong together
    groups = [set(np.flatnonzero(c)) for c in fitted.combination_]
    assert any(group <= {0, 1, 2} for group in groups)
    assert any(group <= {3, 4, 5, 6} for group in groups)


def test_mu_is_the_papers_algorithm_step_for_step_on_nonnegative_data():
    """There XᵀX ≥ 0; with mixed signs the splits differ, see the next test."""
    data = np.abs(X).T  # features × samples, as in the paper
    G, F = W0.copy(), C0.T.copy()
    plus, minus = (lambda M: (np.abs(M) + M) / 2), (lambda M: (np.abs(M) - M) / 2)
    K, losses = data.T @ data, []
    for _ in range(6):
        losses.append(np.sum((data - data @ F @ G.T) ** 2) / np.sum(data**2))
        G = G * np.sqrt(
            (plus(K) @ F + G @ F.T @ minus(K) @ F) / (minus(K) @ F + G @ F.T @ plus(K) @ F)
        )
        F = F * np.sqrt(
            (plus(K) @ G + minus(K) @ F @ G.T @ G) / (minus(K) @ G + plus(K) @ F @ G.T @ G)
        )
    plain = model(3, solver="mu", accelerate=False, sparsity=0, init="custom", max_iter=5, tol=0)
    curve = plain.fit(data.T, W=W0, C=C0).loss_curve_
    np.testing.assert_allclose(curve, losses, rtol=1e-11)


def test_mu_with_mixed_signs_splits_products_as_semi_nmf_does():
    """A = K Cᵀ and B = C K Cᵀ in place of their parts, which bound the objective more loosely."""
    W, C, K, losses = W0.copy(), C0.copy(), X @ X.T, []
    plus, minus = (lambda M: (np.abs(M) + M) / 2), (lambda M: (np.abs(M) - M) / 2)
    for _ in range(6):
        losses.append(np.sum((X - W @ C @ X) ** 2) / np.sum(X**2))
        A, B = K @ C.T, C @ K @ C.T
        W = W * np.sqrt((plus(A) + W @ minus(B)) / (minus(A) + W @ plus(B)))
        S, T = W.T @ K, W.T @ W
        C = C * np.sqrt((plus(S) + T @ C @ minus(K)) / (minus(S) + T @ C @ plus(K)))
    plain = model(3, solver="mu", accelerate=False, sparsity=0, init="custom", max_iter=5, tol=0)
    np.testing.assert_allclose(plain.fit(X, W=W0, C=C0).loss_curve_, losses, rtol=1e-11)


@pytest.mark.parametrize(("data", "k"), [(DIGITS, 10), (WINE, 3)], ids=["digits", "wine"])
def test_errors_are_in_order_semi_convex_k_means(data, k):
    convex = model(k, sparsity=0).fit(data).reconstruction_err_ / np.linalg.norm(data)
    semi = snmf.factorize(
        data, k, sparsity=0, solver="hals", init="svd", progress_bar=False
    ).error / np.linalg.norm(data)  # fmt: skip
    assert semi <= convex <= k_means(data, k)


def test_components_are_found_again_from_other_starts():
    centred = WINE - WINE.mean(axis=0)
    for init in ("varimax", "kmeans"):
        fits = [model(3, init=init).set_params(random_state=s).fit(centred) for s in range(4)]
        cosines = [snmf.align(a, b).mean for a, b in combinations(fits, 2)]
        assert np.mean(cosines) > 0.999


def test_the_order_in_which_a_start_names_components_does_not_matter(monkeypatch):
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        columns = (W0 * [1, 2, 3])[:, order]
        monkeypatch.setitem(STARTS, "random", lambda rows, *_, W=columns: (rows.split(W), None))
        found.append(model(3, init="random", max_iter=20, tol=0).fit(X).loss_curve_)
    np.testing.assert_allclose(*found, rtol=1e-9)


# The objective


@pytest.mark.parametrize("solver", ["mu", "hals"])
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(2, 30), st.integers(1, 8), st.integers(1, 5)),
    sparsity=st.sampled_from([0.0, 0.02, 0.3]),
    init=st.sampled_from(["varimax", "kmeans", "svd", "random"]),
    accelerate=st.booleans(),
    kernel=st.sampled_from(["linear", "linear", "rbf", "cosine"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_the_objective_never_rises(solver, seed, shape, sparsity, init, accelerate, kernel, dtype):
    n, p, k = shape
    rng = np.random.default_rng(seed)
    data = (rng.random((n, 3)) @ rng.standard_normal((3, p))).astype(dtype)
    options = dict(solver=solver, sparsity=sparsity, init=init, accelerate=accelerate)
    fitted = model(k, max_iter=15, tol=0, kernel=kernel, **options)
    W = fitted.fit_transform(data)
    curve = fitted.loss_curve_
    assert np.all(np.diff(curve) <= 0)
    assert len(curve) == fitted.n_iter_ + 1
    C = fitted.combination_.astype("float64")
    assert C.min() >= 0
    assert W.min() >= 0
    assert W.dtype == fitted.combination_.dtype == dtype
    # … and is that of the factors themselves, which the exact last step lowers further
    K = pairwise_kernels(data.astype("float64"), metric=kernel)
    error = np.trace(K) - 2 * np.sum((W @ C) * K) + np.sum((W.T @ W) * (C @ K @ C.T))
    rounding = np.trace(K) * (1e-5 if dtype == "float32" else 1e-9)
    assert fitted.reconstruction_err_**2 == pytest.approx(error, abs=rounding)
    final = 0.5 * error + fitted.penalty_ * W.sum(dtype="float64")
    assert final <= 0.5 * np.trace(K) * curve[-1] + rounding


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_the_data_does_not_matter(scale):
    ours, theirs = model(3), model(3)
    W = ours.fit_transform(scale * X)
    np.testing.assert_allclose(W / scale, theirs.fit_transform(X), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.components_, theirs.components_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.combination_ @ (scale * X), ours.components_, atol=1e-12)


def test_sample_weights_count_rows():
    weights = np.arange(60) % 3
    repeated = np.repeat(X, weights, axis=0)
    fitted = model(2, candidates=X[:20]).fit(X, sample_weight=weights)
    again = model(2, candidates=X[:20]).fit(repeated)
    assert fitted.reconstruction_err_ == pytest.approx(again.reconstruction_err_, rel=1e-6)
    without = model(2).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(without.candidate_indices_, np.flatnonzero(weights))
    assert model(2).fit_transform(X, sample_weight=weights).shape == (60, 2)


# Candidates and kernels


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, lambda A: A.astype("float32")])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_fit_transform_is_fit_then_transform(make, kernel):
    fitted = model(3, kernel=kernel)
    W = fitted.fit_transform(make(X))
    np.testing.assert_allclose(fitted.transform(make(X)), W, rtol=1e-6, atol=1e-6 * W.max())
    np.testing.assert_allclose(fitted.transform(make(X)[3:5]), W[3:5], atol=1e-6 * W.max())
    left = fitted.reconstruction_err_**2 / (60 * fitted.rms_**2)
    assert fitted.score(make(X)) == pytest.approx(1 - left, rel=1e-5)


@pytest.mark.parametrize(
    ("candidates", "indices"),
    [(None, np.arange(60)), ([5, 3, 17], [5, 3, 17]), (X[:9] + 0.1, None), (12, 12)],
)
def test_candidates_are_all_rows_some_or_others(candidates, indices):
    fitted = model(2, candidates=candidates).fit(X)
    H = fitted.combination_ @ fitted.candidates_
    np.testing.assert_allclose(H, fitted.components_, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(H, axis=1), 1)
    if indices is None:
        assert fitted.candidate_indices_ is None
        np.testing.assert_array_equal(fitted.candidates_, candidates)
        return
    if isinstance(indices, int):
        assert len(set(fitted.candidate_indices_)) == indices
    else:
        np.testing.assert_array_equal(fitted.candidate_indices_, indices)
    np.testing.assert_array_equal(fitted.candidates_, X[fitted.candidate_indices_])


def test_of_many_rows_a_sample_are_candidates(monkeypatch):
    monkeypatch.setattr(_convex, "MOST", 25)
    assert model(2).fit(X).combination_.shape == (2, 25)


def test_a_kernel_of_products_is_the_linear_one():
    """The same numbers through X Yᵀ and K alone, as through X itself."""
    start = {"W": W0, "C": C0}
    options = {"init": "custom", "max_iter": 20, "tol": 0}
    direct = model(3, **options)
    W = direct.fit_transform(X, **start)
    new = np.random.default_rng(1).standard_normal((5, 8))
    for kernel in ("precomputed", "poly", lambda a, b: float(a @ b)):
        precomputed = kernel == "precomputed"
        through = model(3, kernel=kernel, degree=1, gamma=1, coef0=0, **options)
        given = X @ X.T if precomputed else X
        np.testing.assert_allclose(through.fit_transform(given, **start), W, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(through.loss_curve_, direct.loss_curve_, rtol=1e-9)
        np.testing.assert_allclose(through.combination_, direct.combination_, atol=1e-8)
        assert through.reconstruction_err_ == pytest.approx(direct.reconstruction_err_, rel=1e-9)
        found = through.transform(new @ X.T if precomputed else new)
        np.testing.assert_allclose(found, direct.transform(new), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "poly", "cosine"])
def test_transform_is_nonnegative_least_squares_in_the_space_of_the_kernel(kernel):
    fitted = model(3, kernel=kernel, sparsity=0).fit(X)
    new = X[:6] + 0.1
    both = pairwise_kernels(np.vstack([X, new]), metric=kernel)
    values, V = np.linalg.eigh(both)
    points = V * np.sqrt(np.maximum(values, 0))  # with these inner products
    H = fitted.combination_ @ points[:60]
    expected = [nnls(H.T, x)[0] for x in points[60:]]
    np.testing.assert_allclose(fitted.transform(new), expected, atol=1e-7)


def test_opposite_candidates_of_a_rounded_kernel_do_not_grow():
    """With one feature all cosines are 1 or −1, in float32 but for rounding."""
    for seed in range(4):
        x = np.random.default_rng(seed).standard_normal((17, 1)).astype("float32")
        fitted = model(1, kernel="cosine", init="svd", sparsity=0, max_iter=15, tol=0).fit(x)
        assert fitted.combination_.max() < 100
        fewer = min(np.sum(x > 0), np.sum(x < 0))  # their rows have weight zero
        assert fitted.reconstruction_err_**2 == pytest.approx(fewer, abs=1e-3)


def test_a_component_that_died_has_no_weights_in_the_space_of_a_kernel():
    rng = np.random.default_rng(909740)
    rows = rng.random((7, 3)) @ rng.standard_normal((3, 2))
    for seed in range(8):
        data = rows * (1 + 1e-8 * np.random.default_rng(seed).standard_normal(rows.shape))
        fitted = model(4, kernel="poly", solver="mu", init="kmeans", sparsity=0, max_iter=15, tol=0)
        W = fitted.fit_transform(data)
        dead = ~fitted.combination_.any(axis=1)
        assert not W[:, dead].any()
        assert not fitted.gram_[dead].any()
        K = pairwise_kernels(data, metric="poly")
        values, V = np.linalg.eigh(K)
        points = V * np.sqrt(np.maximum(values, 0))  # with these inner products
        left = [nnls((fitted.combination_ @ points).T, x)[1] for x in points]
        assert fitted.reconstruction_err_ == pytest.approx(np.linalg.norm(left), rel=1e-6)


def test_kernel_values_that_do_not_fit_in_memory_are_computed_in_every_pass(monkeypatch):
    kept = model(3, kernel="rbf").fit(X)
    monkeypatch.setattr("snmf.core.kernels.IN_MEMORY", 0)
    np.testing.assert_allclose(
        model(3, kernel="rbf").fit(X).combination_, kept.combination_, atol=1e-8
    )


def test_a_precomputed_kernel_with_rows_of_weight_zero():
    weights = np.arange(60) % 3
    K = pairwise_kernels(X, metric="rbf")
    ours, theirs = model(2, kernel="precomputed"), model(2, kernel="rbf")
    W = ours.fit_transform(K, sample_weight=weights)
    np.testing.assert_allclose(W, theirs.fit_transform(X, sample_weight=weights), atol=1e-8)
    np.testing.assert_array_equal(ours.candidate_indices_, np.flatnonzero(weights))
    again = ours.fit(K, sample_weight=weights).transform(K)
    np.testing.assert_allclose(again, W, atol=1e-8)


def test_weights_in_a_file(tmp_path):
    np.save(tmp_path / "x.npy", X)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    for kernel in ("linear", "rbf"):
        fitted = model(3, kernel=kernel)
        W = fitted.fit_transform(stored, out=tmp_path / "w.npy")
        assert isinstance(W, np.memmap)
        np.testing.assert_allclose(W, model(3, kernel=kernel).fit_transform(X), atol=1e-10)
        again = fitted.transform(stored, out=tmp_path / "again.npy")
        np.testing.assert_allclose(again, W, atol=1e-10)


# The scikit-learn face


EXCUSED = {
    f"check_sample_weight_equivalence_on_{kind}_data": "a repeated row is a candidate twice"
    for kind in ("dense", "sparse")
}


def excused(estimator):
    """The start with a kernel is made of candidates; None for k counts rows."""
    plain = estimator.kernel == "linear" and estimator.n_components is not None
    return {} if plain else EXCUSED


@parametrize_with_checks(
    [model(2), model(), model(2, kernel="rbf")],
    expected_failed_checks=excused,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_face():
    frame = pd.DataFrame(X, columns=[f"gene {j}" for j in range(8)])
    fitted = model(3).fit(frame)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert list(fitted.get_feature_names_out()) == ["convexnmf0", "convexnmf1", "convexnmf2"]
    W = fitted.transform(frame)
    np.testing.assert_allclose(fitted.inverse_transform(W), W @ fitted.components_)
    assert fitted.diagnostics(frame).share.shape == (3,)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(frame), W)
    np.testing.assert_array_equal(clone(fitted).fit(frame).components_, fitted.components_)
    search = GridSearchCV(model(), {"n_components": [1, 4]}).fit(X)
    assert search.best_params_ == {"n_components": 4}
    best = model(3, n_init=4, init="random").fit(X)
    assert best.loss_curve_[-1] <= model(3, init="random").fit(X).loss_curve_[-1]


@pytest.mark.parametrize("kernel", ["linear", "rbf", "precomputed"])
def test_a_model_comes_back_from_its_file(tmp_path, kernel):
    data = pairwise_kernels(X) if kernel == "precomputed" else sp.csr_array(X)
    fitted = model(3, kernel=kernel).fit(data)
    snmf.save(fitted, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    assert {*vars(again)} == {*vars(fitted)}
    np.testing.assert_array_equal(again.transform(data), fitted.transform(data))
    broken = copy.copy(fitted)
    broken.combination_ = np.full_like(fitted.combination_, np.nan)
    with pytest.raises(ValueError, match="combination_ must be finite"):
        snmf.save(broken, tmp_path / "broken.npz")
    with pytest.raises(TypeError, match=r"kernel must be an array.* Pickle the model to keep a"):
        snmf.save(model(2, kernel=np.dot).fit(X), tmp_path / "function.npz")


def test_displays():
    plots = pytest.importorskip("snmf.plots")
    linear, rbf = model(3).fit(X), model(3, kernel="rbf").fit(X)
    plots.ComponentsDisplay.from_estimator(linear)
    plots.ConvergenceDisplay.from_estimator(linear, X)
    plots.ConvergenceDisplay.from_estimator(rbf)
    plots.WeightsDisplay.from_estimator(rbf, X)
    with pytest.raises(ValueError, match="must have components in the space of X"):
        plots.ComponentsDisplay.from_estimator(rbf)
    with pytest.raises(ValueError, match="is no bound in the space of a kernel"):
        plots.ConvergenceDisplay.from_estimator(rbf, X)
    with pytest.raises(NotFittedError):
        plots.WeightsDisplay.from_estimator(model(3), X)


def test_a_fit_that_fails_changes_nothing(monkeypatch):
    fitted = model(2).fit(X)
    before = dict(vars(fitted))
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.fit(X[:, :5])
    assert vars(fitted) == before


def test_a_fit_that_has_not_converged_says_so():
    with pytest.warns(ConvergenceWarning, match="has not converged"):
        model(3, max_iter=1, tol=1e-12).fit(X)
    with pytest.warns(ConvergenceWarning, match="All weights are zero: sparsity=10 is too large"):
        model(3, sparsity=10).fit(X)


# Bad input


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sparsity": -1}, "The 'sparsity' parameter of ConvexNMF"),
        ({"n_components": "auto"}, "The 'n_components' parameter of ConvexNMF"),
        ({"solver": "auto"}, "The 'solver' parameter of ConvexNMF"),
        ({"kernel": "nope"}, "The 'kernel' parameter of ConvexNMF"),
        ({"kernel_params": 3}, "The 'kernel_params' parameter"),
        ({"candidates": 61}, "candidates must be at most n_samples=60; got 61"),
        ({"candidates": 0}, "candidates must be an int from 1, indices of rows of X"),
        ({"candidates": [1, 60]}, "candidates must be an int from 1, indices of rows of X"),
        ({"candidates": [0.5]}, "candidates must be an int from 1, indices of rows of X"),
        ({"candidates": X[:, :3]}, "candidates must have 8 columns, as X; got 3"),
        ({"candidates": X * np.nan}, "candidates contains NaN"),
        ({"kernel": "additive_chi2"}, "X contains negative values"),  # scikit-learn's words
        ({"kernel": "precomputed"}, "X must be the kernel matrix"),
        ({"init": "custom"}, "init='custom' and a start go together"),
    ],
)
def test_a_bad_parameter_is_named(parameters, words):
    with pytest.raises(ValueError, match=words):
        model().set_params(**{"n_components": 2, **parameters}).fit(X)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"C": C0}, "C is a start beside W; got C alone"),
        ({"W": W0, "C": -C0}, "C must be nonnegative; its smallest entry is -"),
        ({"W": W0, "C": C0[:, :5]}, r"C must have shape \(3, 60\); got \(3, 5\)"),
        ({"W": -W0}, "W must be nonnegative"),
        ({"W": 1e30 * W0, "C": C0}, "W and C are too large a start for X"),
    ],
)
def test_a_bad_start_is_refused(start, words):
    with pytest.raises(ValueError, match=words):
        model(3, init="custom").fit(X, **start)


def test_other_libraries_have_the_linear_kernel():
    strict = pytest.importorskip("array_api_strict")
    fitted, ours = model(3), strict.asarray(X)
    W = fitted.fit_transform(ours)
    assert type(W) is type(fitted.components_) is type(fitted.combination_) is type(ours)
    np.testing.assert_allclose(np.asarray(W), model(3).fit_transform(X), rtol=1e-6, atol=1e-8)
    with pytest.raises(TypeError, match="kernel='rbf' needs NumPy arrays or SciPy sparse"):
        model(3, kernel="rbf").fit(ours)
    with pytest.raises(TypeError, match="and backend='numpy'; got 'array_api_strict'"):
        model(3, kernel="rbf", backend=Backend("array_api_strict")).fit(X)
    dask = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match=r"needs NumPy arrays .*; got an array of Dask"):
        model(3, kernel="rbf").fit(dask.from_array(X))


@pytest.mark.parametrize(
    "options",
    [{}, {"candidates": [49, 3, 16, 3]}, {"candidates": X[:9], "solver": "mu", "init": "random"}],
)
def test_rows_of_dask(options):
    dask = pytest.importorskip("dask.array")
    ours, theirs, counts = model(3, **options), model(3, **options), (np.arange(60) + 1) % 3
    rows = dask.from_array(X, chunks=(25, -1))
    W = ours.fit_transform(rows, sample_weight=counts)
    assert isinstance(W, dask.Array)
    expected = theirs.fit_transform(X, sample_weight=counts)
    np.testing.assert_allclose(W.compute(), expected, atol=1e-8)
    np.testing.assert_allclose(ours.combination_, theirs.combination_, atol=1e-8)
    np.testing.assert_array_equal(ours.candidates_, theirs.candidates_)
    assert ours.score(rows) == pytest.approx(theirs.score(X))


def test_a_pass_does_not_send_the_candidates_to_workers():
    hull = Hull(None, 1.0, 0.0, "hals", 1, gram=np.eye(60), candidates=X)
    again = pickle.loads(pickle.dumps(hull))
    assert (again.gram, again.candidates) == (None, None)
    assert again.update == hull.update


def test_what_a_kernel_has_not_is_refused_by_name():
    fitted, precomputed = model(2, kernel="rbf").fit(X), model(2, kernel="precomputed")
    for call in (fitted.bic, fitted.diagnostics, fitted.inverse_transform):
        with pytest.raises(ValueError, match=r"needs components in the space of X.*kernel='rbf'"):
            call(X)
    with pytest.raises(AttributeError, match="has no attribute 'score'"):
        precomputed.score(X @ X.T)
    with pytest.raises(ValueError, match="ConvexNMF has no components_ with kernel='rbf'"):
        snmf.align(fitted, fitted)
    with pytest.raises(ValueError, match="candidates must be an int or indices of rows"):
        precomputed.set_params(candidates=X).fit(X @ X.T)
    for kernel in ("sigmoid", "additive_chi2"):
        with pytest.raises(ValueError, match="must be positive semidefinite"):
            model(2, kernel=kernel).fit(np.abs(X))
    with pytest.raises(ValueError, match=r"k\(x, x\) must be between"):
        model(2, kernel="poly").fit(X * 1e60)
    with pytest.raises(ValueError, match="X must be finite; got NaN in row 4"):
        model(2, kernel="rbf").fit(np.where(np.arange(60)[:, None] == 4, np.nan, X))
