"""The locality penalty: prototypes and memberships."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import scale

import snmf
from snmf import SNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, random_state=0)


def planted(seed=0, n=60, p=8, k=4):
    rng = np.random.default_rng(seed)
    return 3 * rng.standard_normal((k, p))[rng.integers(k, size=n)] + rng.standard_normal((n, p))


def objective(X, W, H, mu, sparsity, D=1.0):
    """F with the penalty, as it is written."""
    square = np.sum(D * X**2) / np.sum(D * np.ones((len(X), 1)))
    distances = np.sum((X[:, None, :] - H[None, :, :]) ** 2, axis=2)
    near = 0.5 * np.sum(D * W * distances)
    sums = square * np.sum(D * (np.sum(W, axis=1, keepdims=True) - 1) ** 2)
    return (
        0.5 * np.sum(D * (X - W @ H) ** 2) + mu * (near + sums) + sparsity * square * np.sum(D * W)
    )


@pytest.mark.parametrize("solver", ["mu", "hals"])
@given(
    seed=st.integers(0, 10**6),
    mu=st.sampled_from([0.01, 0.5, 2.0, 100.0]),
    sparsity=st.sampled_from([0.0, 0.1]),
    init=st.sampled_from(["auto", "varimax", "kmeans", "svd", "random"]),
    weighted=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_the_objective_never_rises_and_is_what_is_written(
    solver, seed, mu, sparsity, init, weighted, dtype
):
    X = planted(seed).astype(dtype)
    D = np.random.default_rng(seed).random((len(X), 1)) + 0.1 if weighted else np.ones((60, 1))
    result = factorize(
        X, 4, solver=solver, locality=mu, sparsity=sparsity, init=init, max_iter=10, tol=0,
        sample_weight=D[:, 0] if weighted else None,
    )  # fmt: skip
    assert np.all(np.diff(result.loss_curve) <= 0)
    assert result.W.min() >= 0
    X, W, H = (A.astype("float64") for A in (X, result.W, result.H))
    whole = 0.5 * np.sum(D * X**2)
    final = objective(X, W, H, mu, sparsity, D) / whole
    rounding = 1e-4 if dtype == "float32" else 1e-10
    assert final <= result.loss_curve[-1] + rounding * (1 + mu)
    assert result.error == pytest.approx(np.sqrt(np.sum(D * (X - W @ H) ** 2)), rel=1e-4)


@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_the_curve_ends_at_what_is_written(sparsity):
    X = planted()
    result = factorize(X, 4, solver="hals", locality=0.7, sparsity=sparsity, tol=1e-12)
    final = objective(X, result.W, result.H, 0.7, sparsity) / (0.5 * np.sum(X**2))
    assert final == pytest.approx(result.loss_curve[-1], rel=1e-6)


@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_transform_is_the_exact_minimiser_row_by_row(sparsity):
    X = planted()
    model = SNMF(4, solver="hals", locality=1.5, sparsity=sparsity, random_state=0)
    W, H = model.fit_transform(X), model.components_
    np.testing.assert_allclose(model.transform(X), W, atol=1e-12)
    np.testing.assert_allclose(model.transform(X[5:7]), W[5:7], rtol=1e-12, atol=1e-14)
    square = np.mean(np.sum(X**2, axis=1))
    assert model.rms_ == pytest.approx(square**0.5)
    for x, w in zip(X[:20], W, strict=False):

        def of_row(v, x=x):
            distances = np.sum((x - H) ** 2, axis=1)
            return (
                0.5 * np.sum((x - v @ H) ** 2)
                + 1.5 * (0.5 * v @ distances + square * (v.sum() - 1) ** 2)
                + sparsity * square * v.sum()
            )

        slope = scipy.optimize.approx_fprime(w, of_row, 1e-6)
        assert np.all(np.abs(slope[w > 0]) < 1e-3)
        assert np.all(slope[w == 0] > -1e-3)


def test_weights_add_up_to_about_one_and_components_lie_in_the_data():
    X = planted()
    result = factorize(X, 4, solver="hals", locality=5.0)
    assert np.abs(result.W.sum(axis=1) - 1).max() < 0.5
    assert np.all(np.linalg.norm(result.H, axis=1) <= np.linalg.norm(X, axis=1).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scale_does_not_matter(dtype):
    X = planted().astype(dtype)
    parameters = {"solver": "hals", "locality": 1.0, "random_state": 0}
    model = SNMF(4, **parameters)
    W = model.fit_transform(X)
    for exponent in {"float32": (-60, 60), "float64": (-600, 600)}[dtype]:
        other = SNMF(4, **parameters)
        scaled = np.ldexp(X, exponent)
        np.testing.assert_array_equal(other.fit_transform(scaled), W)
        np.testing.assert_array_equal(other.transform(scaled), model.transform(X))
        np.testing.assert_array_equal(np.ldexp(other.components_, -exponent), model.components_)


@pytest.mark.parametrize(("dtype", "power"), [("float32", 100), ("float64", 100), ("float64", 900)])
def test_far_rows_have_no_weights_in_the_fit_and_in_transform(dtype, power):
    X = planted().astype(dtype)
    both, member = np.concatenate([X, np.ldexp(X, power)]), np.repeat([1, 0], len(X))
    model = SNMF(4, locality=1.0, random_state=0)
    W = model.fit_transform(both, sample_weight=member)
    assert W[:60].any(axis=1).all()
    assert not W[60:].any()
    np.testing.assert_array_equal(model.transform(both), W)
    if power > 250:  # then sums of squares are beyond the floats
        with pytest.raises(ValueError, match="times as long as those of the fit"):
            model.score(both)
    else:
        assert model.score(both) == pytest.approx(0, abs=1e-6)


def test_weights_are_exact_for_components_that_lost_digits_to_a_tiny_scale():
    X = np.ldexp(planted().astype("float32"), -138)
    model = SNMF(4, solver="hals", locality=1.0, random_state=0)
    W = model.fit_transform(X)
    np.testing.assert_allclose(model.transform(X), W, rtol=1e-6)


@pytest.mark.parametrize("k", [4, 10])  # more than the rank: some columns of the start are drawn
def test_the_svd_start_does_not_depend_on_the_scale(k):
    X = planted(n=20)
    options = {"init": "svd", "solver": "hals", "locality": 1.0, "max_iter": 3, "tol": 0}
    curve = factorize(X, k, **options).loss_curve
    for power in (-40, 3, 40):
        scaled = factorize(np.ldexp(X, power), k, **options).loss_curve
        np.testing.assert_allclose(scaled, curve, rtol=1e-11)


def test_a_start_that_no_number_of_the_dtype_holds_is_refused():
    X = np.full((3, 2), 1e38, dtype="float32")
    with pytest.raises(ValueError, match="H is too large a start for X"):
        factorize(X, 1, H=[[1e39, 1e39]], init="custom", locality=1.0, max_iter=0)


def test_a_start_far_from_memberships_and_prototypes_is_refused():
    W, H = np.ones((60, 2)), np.ones((2, 12))
    custom = {"init": "custom", "locality": 1.0, "max_iter": 1}
    with pytest.raises(ValueError, match="W is too large a start: with locality its rows add up"):
        factorize(planted(p=12), 2, W=1e30 * W, H=H, **custom)
    with pytest.raises(ValueError, match="H is too large a start for X"):
        factorize(np.zeros((60, 12)), 2, H=1e200 * H, **custom)


def test_a_weight_of_two_is_the_row_twice():
    X = planted()
    counts = np.random.default_rng(0).integers(0, 4, size=len(X))
    W = np.random.default_rng(1).random((len(X), 4)) + 0.1
    again = np.repeat(np.arange(len(X)), counts)
    parameters = {"init": "custom", "locality": 1.0, "max_iter": 8, "tol": 0, "solver": "hals"}
    weighted = factorize(X, 4, W=W, sample_weight=counts, **parameters)
    repeated = factorize(X[again], 4, W=W[again], **parameters)
    np.testing.assert_allclose(weighted.W[again], repeated.W, atol=1e-10)
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=1e-10)


def test_sparse_and_wide_data_are_as_good():
    rng = np.random.default_rng(0)
    X = sp.random_array((50, 300), density=0.2, format="csr", rng=rng)
    for parameters in ({}, {"init": "svd"}):
        ours, dense = (
            factorize(A, 3, locality=0.5, max_iter=6, tol=0, **parameters) for A in (X, X.toarray())
        )
        np.testing.assert_allclose(ours.W, dense.W, atol=1e-7)


def test_awkward_data_have_a_finite_answer():
    for X in (np.zeros((6, 3)), np.ones((6, 3)), np.eye(6, 3), np.ones((1, 1))):
        result = factorize(X, 2, locality=2.0)
        assert np.isfinite(result.W).all()
        assert np.isfinite(result.H).all()


@pytest.mark.parametrize("load", [load_iris, load_wine, load_digits])
def test_at_two_classes_are_told_apart_as_by_kmeans(load):
    X, labels = scale(load().data), load().target
    k = len(set(labels))
    ours, theirs = [], []
    for seed in range(3):
        W = snmf.fit_transform(X, k, locality=2.0, solver="hals", random_state=seed)
        clusters = KMeans(k, n_init=1, random_state=seed).fit(X).labels_
        ours.append(normalized_mutual_info_score(labels, W.argmax(axis=1)))
        theirs.append(normalized_mutual_info_score(labels, clusters))
    assert np.mean(ours) > np.mean(theirs) - 0.02


def test_what_has_no_meaning_is_refused():
    X = planted()
    with pytest.raises(ValueError, match="distances, which rows with missing values do not have"):
        factorize(X, 3, locality=1.0, missing_values=np.nan)
    with pytest.raises(ValueError, match="locality goes with no fixed part"):
        factorize(X, 3, locality=1.0, fixed="W", W=np.ones((60, 3)))
    with pytest.raises(ValueError, match="locality"):
        factorize(X, 3, locality=-1.0)


def test_wide_data_take_few_copies_of_themselves():
    X = np.random.default_rng(0).standard_normal((5, 200_000))
    fit = functools.partial(
        factorize, X, 3, locality=0.3, solver="hals", max_iter=2, tol=0, progress_bar=False
    )
    fit()
    tracemalloc.start()
    try:
        result = fit()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 4 * (X.nbytes + result.H.nbytes)
