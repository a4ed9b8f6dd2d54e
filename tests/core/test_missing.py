"""Missing values: F sums over the observed entries, and nothing else does."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import snmf
from snmf import SNMF
from snmf.backends import owner
from snmf.core import missing
from snmf.core.missing import observed

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, random_state=0, missing_values=np.nan)


def planted(seed=0, n=120, p=20, k=3, noise=0.1, share=0.3):
    """Data of rank k, its noisy version, and that with holes."""
    rng = np.random.default_rng(seed)
    clean = rng.random((n, k)) @ rng.standard_normal((k, p))
    noisy = clean + noise * rng.standard_normal((n, p))
    return clean, noisy, np.where(rng.random((n, p)) < share, np.nan, noisy)


def observed_error(X, W, H, D=1.0):
    return np.sum(D * np.nan_to_num(X - W @ H) ** 2)


@pytest.mark.parametrize("solver", ["mu", "hals"])
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.05, 0.5, 0.95]),
    sparsity=st.sampled_from([0.0, 0.1]),
    init=st.sampled_from(["varimax", "kmeans", "svd", "random"]),
    weighted=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_the_observed_objective_never_rises(solver, seed, share, sparsity, init, weighted, dtype):
    _, _, X = planted(seed, 25, 8, share=share)
    X = X.astype(dtype)
    D = np.random.default_rng(seed).random((25, 1)) + 0.1 if weighted else np.ones((25, 1))
    result = factorize(
        X, 3, solver=solver, sparsity=sparsity, init=init, max_iter=15, tol=0,
        sample_weight=D[:, 0] if weighted else None,
    )  # fmt: skip
    assert np.all(np.diff(result.loss_curve) <= 0)
    assert result.W.min() >= 0
    assert np.isfinite(result.W).all()
    assert np.isfinite(result.H).all()
    square = np.nansum(D * X.astype("float64") ** 2)
    left = observed_error(X.astype("float64"), result.W.astype("float64"), result.H, D)
    rounding = 1e-5 if dtype == "float32" else 1e-10
    assert result.error**2 == pytest.approx(left, abs=rounding * max(square, 1))
    final = left + 2 * result.penalty * np.sum(D * result.W)
    assert final <= square * (result.loss_curve[-1] + rounding)


@pytest.mark.parametrize("solver", ["mu", "hals"])
def test_holes_are_filled_by_what_the_data_say(solver):
    clean, _, X = planted(noise=0.0)
    options = dict(sparsity=0, tol=1e-12, max_iter=2000, missing_values=np.nan, random_state=0)
    model = SNMF(3, solver=solver, **options)
    imputed = model.inverse_transform(model.fit_transform(X))
    assert np.max(np.abs(imputed - clean)) < 0.01 * np.max(np.abs(clean))


def on_disk(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", ["array", "on disk", "sparse"])
def test_a_row_of_weight_two_is_two_rows(place, dtype, tmp_path):
    _, _, X = planted(share=0.4)
    X, rng = (X + 2).astype(dtype), np.random.default_rng(0)
    X[rng.random(X.shape) < 0.2] = 0
    counts = rng.integers(0, 4, len(X))
    again = np.repeat(np.arange(len(X)), counts)
    start = rng.random((len(X), 3))
    ours = {"array": X, "on disk": on_disk(X, tmp_path), "sparse": sp.csr_array(X)}[place]
    weighted = factorize(
        ours, 3, W=start, init="custom", sample_weight=counts, max_iter=4, tol=0
    )  # fmt: skip
    repeated = factorize(X[again], 3, W=start[again], init="custom", max_iter=4, tol=0)
    rtol = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=rtol)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=10 * rtol)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_means_of_columns_are_weighted(make, dtype):
    X = np.array([[1, 5, np.nan], [3, np.nan, np.nan], [0, 2, 7]], dtype=dtype)

    def means(weights):
        source = owner(X)
        rows = source.rows(source.check(make(X)))
        return observed(rows, rows.split(np.array(weights)[:, None])).means

    np.testing.assert_allclose(means([1, 2, 1]), [7 / 4, 7 / 2, 7], rtol=1e-6)
    # where only rows of next to no weight are observed, the mean is still one of theirs
    np.testing.assert_allclose(means([1e-320, 1, 1e-320]), [3, 7 / 2, 7], rtol=1e-6)


def test_without_holes_it_is_the_fit_of_the_whole():
    _, X, _ = planted()
    parameters = {
        "random_state": 0,
        "solver": "hals",
        "max_iter": 20,
        "tol": 0,
        "accelerate": False,
    }
    whole = snmf.factorize(X, 3, **parameters)
    result = snmf.factorize(X, 3, missing_values=np.nan, **parameters)
    np.testing.assert_allclose(result.W, whole.W, atol=1e-9)
    np.testing.assert_allclose(result.loss_curve, whole.loss_curve, rtol=1e-9)


@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_transform_is_each_rows_nonnegative_least_squares_over_its_own_entries(sparsity):
    _, _, X = planted(share=0.6)
    model = SNMF(3, sparsity=sparsity, missing_values=np.nan, random_state=0)
    W = model.fit_transform(X)
    np.testing.assert_array_equal(W, model.transform(X))
    H = model.components_
    for x, w in zip(X, W, strict=True):
        seen = ~np.isnan(x)
        gradient = H[:, seen] @ (w @ H[:, seen] - x[seen]) + model.penalty_
        assert np.all(np.abs(gradient[w > 0]) < 1e-8)
        assert np.all(gradient[w == 0] > -1e-8)
        if not sparsity:
            best = scipy.optimize.nnls(H[:, seen].T, x[seen])[1]
            assert np.linalg.norm(x[seen] - w @ H[:, seen]) == pytest.approx(best, abs=1e-8)
    np.testing.assert_allclose(model.transform(X[7:8]), W[7:8], rtol=1e-12)
    assert model.score(X) == pytest.approx(1 - observed_error(X, W, H) / np.nansum(X**2))


def test_fewer_entries_than_components_are_enough_for_a_finite_answer():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12))
    model = SNMF(5, sparsity=0, missing_values=np.nan, random_state=0).fit(X)
    few = np.full((30, 12), np.nan)
    for row, x in zip(few, X, strict=False):
        seen = rng.choice(12, 2, replace=False)
        row[seen] = x[seen]
    W = model.transform(few)
    assert np.isfinite(W).all()
    for x, w in zip(few, W, strict=True):
        seen = ~np.isnan(x)
        best = scipy.optimize.nnls(model.components_[:, seen].T, x[seen])[1]
        assert np.linalg.norm(x[seen] - w @ model.components_[:, seen]) <= best + 1e-6


def test_rows_and_columns_with_nothing_in_them_get_a_word():
    _, _, X = planted()
    X[[3, 5]] = np.nan
    X[:, 7] = np.nan
    with pytest.warns(ConvergenceWarning) as said:
        result = factorize(X, 3)
    words = " ".join(str(w.message) for w in said)
    assert "2 rows of X have no observed entry: their weights are zero" in words
    assert "1 columns of X have no observed entry: H is zero there" in words
    assert not result.W[[3, 5]].any()
    assert not result.H[:, 7].any()
    assert result.W[4].any()


def test_nothing_at_all_is_zero():
    result = factorize(np.full((5, 4), np.nan), 2)
    assert not result.W.any()
    assert result.error == 0


def test_the_scale_does_not_matter():
    _, _, X = planted()
    one = factorize(X, 3)
    for exponent in (-600, 600):
        other = factorize(np.ldexp(X, exponent), 3)
        np.testing.assert_allclose(np.ldexp(other.W, -exponent), one.W, rtol=1e-9, atol=1e-12)


def test_what_a_sparse_matrix_stores_may_be_missing_and_what_it_does_not_is_zero():
    rng = np.random.default_rng(0)
    X = sp.random_array((80, 15), density=0.3, format="csr", rng=rng)
    X.data -= 0.4
    X.data[rng.random(X.nnz) < 0.2] = np.nan
    for parameters in ({}, {"solver": "hals", "sparsity": 0.05}, {"init": "svd"}):
        ours, dense = (factorize(A, 3, max_iter=10, tol=0, **parameters) for A in (X, X.toarray()))
        np.testing.assert_allclose(ours.loss_curve, dense.loss_curve, rtol=1e-9)
        np.testing.assert_allclose(ours.W, dense.W, atol=1e-7)


def test_nan_is_an_error_unless_it_is_said_to_be_missing():
    _, _, X = planted()
    with pytest.raises(ValueError, match="X must be finite; got NaN in row"):
        snmf.factorize(X, 3)
    X[1, 2] = np.inf
    with pytest.raises(ValueError, match="X must be finite; got infinity in row 1, column 2"):
        factorize(X, 3)
    with pytest.raises(ValueError, match="missing_values"):
        snmf.factorize(X, 3, missing_values=-1)


def test_no_more_than_a_block_is_filled_at_a_time():
    _, _, X = planted(n=60_000, p=100)
    X = X.astype("float32")
    factorize(X[:100], 3, max_iter=2)  # what is imported late is there
    tracemalloc.start()
    with threadpool_limits(1):  # so that blocks are not on threads
        factorize(X, 3, max_iter=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes  # about ten blocks of 4096 rows, in float64 at the end


@pytest.mark.parametrize("sparsity", [0.0, 0.01])
def test_rows_that_are_solved_together_take_little_memory_and_do_not_change_a_row(
    sparsity, monkeypatch
):
    rng = np.random.default_rng(0)
    H, X = rng.standard_normal((60, 60)), rng.standard_normal((400, 60))
    X[rng.random(X.shape) < 0.2] = np.nan
    fit = functools.partial(factorize, X, H=H, fixed=60, sparsity=sparsity, n_jobs=1)
    fit()  # what is imported late is there
    tracemalloc.start()
    W = fit().W
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 22 * 2**20  # it was 130 MB where all of these rows were solved together
    monkeypatch.setattr(missing, "TOGETHER", 2**12)  # each alone
    np.testing.assert_array_equal(fit().W, W)


@pytest.mark.parametrize("shape", [(40, 12), (12, 12), (60, 30)])
@pytest.mark.parametrize("power", [3, 5, 6, 7])  # of the condition of H
def test_nothing_of_the_objective_is_left_however_h_is_conditioned(shape, power):
    rng = np.random.default_rng(0)
    k, p = shape
    U, V = (np.linalg.qr(rng.standard_normal((m, m)))[0][:, :p] for m in shape)
    H = (U * np.logspace(0, -power, p)) @ V.T
    H /= np.linalg.norm(H, axis=1, keepdims=True)
    X = rng.standard_normal((20, p))
    X[rng.random(X.shape) < 0.2] = np.nan
    result = factorize(X, H=H, fixed=k, sparsity=0, progress_bar=False)
    H = result.H
    for x, w in zip(X, result.W, strict=True):
        seen = ~np.isnan(x)
        least = scipy.optimize.nnls(H[:, seen].T, x[seen], maxiter=5000)[1]
        left = np.linalg.norm(x[seen] - w @ H[:, seen]) - least
        assert left <= 1e-8 * np.linalg.norm(x[seen])
