"""What holds of every fit: the facts of the mathematics, and of the numbers."""

import functools
import warnings
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from fits import INITS, SOLVERS, NumPy, factorize, planted
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import snmf
from snmf.backends import adapter
from snmf.core import solve, svd, wide
from snmf.core.options import UPDATES
from snmf.core.start import unit_rows
from snmf.storage import rows as _rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def bound(X, k):
    """The error of the best approximation of rank k."""
    return np.linalg.norm(np.linalg.svd(X.astype("float64"), compute_uv=False)[k:])


def error(X, result):
    return np.linalg.norm(X.astype("float64") - result.W.astype("float64") @ result.H)


# The objective


@pytest.mark.parametrize("solver", SOLVERS)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 15), st.integers(1, 8)),
    sparsity=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    init=st.sampled_from(INITS),
    accelerate=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_the_objective_never_rises(solver, seed, shape, sparsity, init, accelerate, dtype):
    n, p, k = shape
    X = planted(seed, n, p, dtype=dtype)
    options = dict(solver=solver, sparsity=sparsity, init=init, accelerate=accelerate)
    result = factorize(X, k, max_iter=30, tol=0, **options)
    assert np.all(np.diff(result.loss_curve) <= 0)
    assert len(result.loss_curve) == result.n_iter + 1
    # … and is the objective of the factors themselves, which the exact last step lowers further
    whole = 0.5 * np.sum(X.astype("float64") ** 2)
    final = 0.5 * error(X, result) ** 2 + result.penalty * result.W.sum(dtype="float64")
    assert final <= whole * (result.loss_curve[-1] + (1e-5 if dtype == "float32" else 1e-9))
    assert result.error == pytest.approx(error(X, result), rel=1e-5, abs=1e-5 * whole**0.5)
    assert result.W.min() >= 0
    assert result.W.dtype == result.H.dtype == dtype


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("accelerate", [False, True])
def test_no_pass_raises_the_true_objective(solver, sparsity, accelerate):
    """The loop would hide a rise, since it goes back: so every pass is looked at from outside."""
    X = planted()
    rng = np.random.default_rng(0)
    rows = adapter("numpy").rows(X)
    l1 = sparsity * (np.sum(X**2) / len(X)) ** 0.5
    update = UPDATES[solver]
    repeats = 3 if accelerate else 1
    alternation = solve.Alternation(rows, np.sum(X**2), l1, update, repeats)
    point = alternation.start([rng.random((len(X), 4))], None)
    for _ in range(60):
        new = alternation.advance(point, point.H)
        values = [
            np.sum((X - np.concatenate(q.W) @ q.H) ** 2) + 2 * l1 * np.sum(q.W[0])
            for q in (point, new)
        ]
        assert values[1] <= values[0] * (1 + 1e-13)
        assert new.loss == pytest.approx(values[1] / np.sum(X**2), rel=1e-11)
        point = new


def test_plain_mu_is_the_papers_algorithm_step_for_step():
    X = planted()
    rng = np.random.default_rng(1)
    W = start = rng.random((len(X), 4))
    losses = []
    for _ in range(6):  # F = X G (GᵀG)⁻¹, then the rule for G
        H = np.linalg.solve(W.T @ W, W.T @ X)
        losses.append(np.sum((X - W @ H) ** 2) / np.sum(X**2))
        A, B = X @ H.T, H @ H.T
        plus, minus = (lambda M: (np.abs(M) + M) / 2), (lambda M: (np.abs(M) - M) / 2)
        W = W * np.sqrt((plus(A) + W @ minus(B)) / (minus(A) + W @ plus(B)))
    options = dict(sparsity=0, init="custom", accelerate=False, max_iter=5, tol=0)
    result = factorize(X, 4, W=start, **options)
    np.testing.assert_allclose(result.loss_curve, losses, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_acceleration_gets_there_in_fewer_passes(solver):
    X = planted(n=400, p=60, k=8, noise=1.0)
    fast = factorize(X, 8, solver=solver, tol=1e-6, max_iter=2000)
    plain = factorize(X, 8, solver=solver, tol=1e-6, max_iter=2000, accelerate=False)
    assert fast.n_iter < 0.7 * plain.n_iter
    assert fast.error < plain.error * 1.002


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_near_an_exact_fit_the_loss_is_still_the_residual(dtype, make):
    X = planted(n=300, noise=1e-4, dtype=dtype)
    result = factorize(make(X), 4, solver="hals", sparsity=0, init="svd", tol=0, max_iter=300)
    noise = result.loss_curve[-1] ** 0.5 * np.linalg.norm(X.astype("float64"))
    assert noise == pytest.approx(error(X, result), rel=0.02)
    assert result.error == pytest.approx(error(X, result), rel=1e-3)
    assert result.error < 2 * bound(X, 4)


# Bounds, and the SVD start


@pytest.mark.parametrize("solver", SOLVERS)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6), init=st.sampled_from(INITS))
def test_no_error_is_below_the_svd_bound(solver, seed, k, init):
    X = planted(seed, 40, 12)
    assert factorize(X, k, solver=solver, init=init).error >= bound(X, k) * (1 - 1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("k", [2, 3, 7, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(120, 30), (30, 120)])
@pytest.mark.parametrize("max_iter", [0, 1, 5])
def test_the_svd_start_is_at_most_the_bound_of_one_rank_less(solver, k, dtype, shape, max_iter):
    X = planted(1, *shape, k=8, noise=1.0, dtype=dtype)
    X = X - X.mean(axis=0)
    options = dict(sparsity=0, solver=solver, max_iter=max_iter, tol=0)
    result = factorize(X, k, init="svd", **options)
    slack = 1 + (1e-5 if dtype == "float32" else 1e-10)
    assert result.error <= bound(X, k - 1) * slack
    assert result.loss_curve[0] ** 0.5 * np.linalg.norm(X) <= bound(X, k - 1) * slack


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("k", [1, 2, 3, 7, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_svd_start_is_the_global_optimum_where_the_span_holds_a_positive_vector(
    solver, k, dtype
):
    X = planted(2, k=8, noise=1.0, dtype=dtype)
    X[:, 0] += 40
    result = factorize(X, k, init="svd", sparsity=0, solver=solver)
    slack = 1e-6 if dtype == "float32" else 1e-10
    assert result.error == pytest.approx(bound(X, k), rel=slack)


def test_the_linear_program_finds_a_positive_vector_that_the_first_singular_vector_is_not():
    rng = np.random.default_rng(0)
    U = np.linalg.qr(np.column_stack([rng.standard_normal((200, 3)), rng.random(200) + 0.5]))[0]
    V = np.linalg.qr(rng.standard_normal((20, 4)))[0]
    X = (U * [9, 7, 5, 3]) @ V.T
    X = X + 0.01 * rng.standard_normal(X.shape)
    first = np.linalg.svd(X)[0][:, 0]
    assert first.min() < 0 < first.max()
    result = factorize(X, 4, init="svd", sparsity=0, max_iter=0)
    assert result.error == pytest.approx(bound(X, 4), rel=1e-10)


def test_the_svd_start_by_lanczos_is_the_one_by_gram(monkeypatch):
    X = planted(3, 60, 40)
    gram = factorize(X, 5, init="svd", max_iter=0)
    for shape in ((60, 40), (40, 60)):
        Y = X.reshape(shape)
        exact = factorize(Y, 5, init="svd", max_iter=0)
        with monkeypatch.context() as patch:
            patch.setattr(svd, "GRAM", 10)
            lanczos = factorize(Y, 5, init="svd", max_iter=0)
        assert lanczos.error == pytest.approx(exact.error, rel=1e-8)
    assert gram.error <= bound(X, 4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("init", INITS)
def test_exact_low_rank_with_more_components_than_rank(solver, init):
    X = planted(noise=0, k=3)
    options = dict(sparsity=0, solver=solver, max_iter=500, tol=1e-9)
    result = factorize(X, 6, init=init, **options)
    assert result.error < 0.01 * np.linalg.norm(X)
    if init == "svd":
        assert result.error < 1e-7 * np.linalg.norm(X)


# Components that are there


def sharing_a_direction(seed, filled, n=600, p=40, k=5):
    """Components with a cosine of about .5, and data of them and of noise."""
    rng = np.random.default_rng(seed)
    W = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < filled)
    H = unit_rows(rng.standard_normal((k, p)))[0]
    H = unit_rows(H + unit_rows(rng.standard_normal((1, p)))[0])[0]
    clean = W @ H
    return H, clean + 0.3 * clean.std() * rng.standard_normal(clean.shape)


def share_found(filled, **parameters):
    """The share of planted components that a fit finds, over three data sets."""
    cosines = []
    for seed in range(3):
        H, X = sharing_a_direction(seed, filled)
        cosines.append(snmf.align(factorize(X, 5, **parameters), H).cosines)
    return np.mean(np.concatenate(cosines) > 0.9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("filled", [1.0, 0.2])
def test_planted_components_are_found_by_default(filled, solver):
    ours = share_found(filled, solver=solver)
    assert ours > 0.85
    # which no fit of the paper's objective does, and least of all the one of the smallest error
    assert share_found(filled, solver=solver, sparsity=0, init="kmeans") < ours - 0.15
    assert share_found(filled, solver=solver, sparsity=0, init="svd") < 0.4


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_seeds_find_the_same_by_default(solver):
    _, X = sharing_a_direction(0, 0.2)

    def agreement(**parameters):
        one, other = (factorize(X, 5, solver=solver, random_state=i, **parameters) for i in (1, 2))
        return snmf.align(one, other).cosines.min()

    assert agreement() > 0.99
    assert agreement(sparsity=0, init="random") < 0.9


@pytest.mark.parametrize("locality", [0, 0.5])
def test_the_start_by_default_is_skewness_and_kmeans_with_locality(locality):
    X, options = planted(), dict(locality=locality, max_iter=3, tol=0)
    ours = factorize(X, 4, **options)
    inits = ("skewness", "varimax", "kmeans")
    named = {init: factorize(X, 4, init=init, **options).W for init in inits}
    np.testing.assert_array_equal(ours.W, named["kmeans" if locality else "skewness"])
    for one, other in combinations(named.values(), 2):
        assert not np.allclose(one, other)


@pytest.mark.parametrize("init", ["skewness", "varimax"])
def test_starts_are_from_clusters_where_principal_components_are_missing(init):
    X = planted(n=50, k=2, noise=0)
    clusters = factorize(X, 3, init="kmeans", max_iter=0)
    ours = factorize(X, 3, init=init, max_iter=0)
    for result in (clusters, ours):
        assert np.isfinite(result.W).all()
    assert ours.loss_curve[0] == pytest.approx(clusters.loss_curve[0], rel=0.5)


def test_restarts_from_skewness_differ():
    X = np.random.default_rng(0).standard_normal((200, 30))  # where every rotation is as good
    one = factorize(X, 6, random_state=0)
    best = factorize(X, 6, random_state=0, n_init=6)
    assert best.loss_curve[-1] < one.loss_curve[-1]


# Invariances


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("accelerate", [False, True])
class TestInvariance:
    @pytest.fixture
    def fit(self, solver, sparsity, accelerate):
        return functools.partial(
            factorize, n_components=4, solver=solver, sparsity=sparsity, accelerate=accelerate,
            max_iter=15, tol=0,
        )  # fmt: skip

    @pytest.mark.parametrize("init", INITS)
    @pytest.mark.parametrize("c", [1e-3, 7.0, 2.0**300])
    def test_scale(self, fit, init, c):
        X = planted()
        X = X - X.mean(axis=0)  # so that the svd start is not the optimum, where rounding decides
        ours, scaled = fit(X, init=init), fit(c * X, init=init)
        np.testing.assert_allclose(scaled.W / c, ours.W, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(scaled.H, ours.H, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(scaled.loss_curve, ours.loss_curve, rtol=1e-9)
        assert scaled.error / c == pytest.approx(ours.error, rel=1e-8)

    def test_repeated_data(self, fit):
        """λ does not depend on how many rows there are."""
        X = planted()
        start = np.random.default_rng(3).random((len(X), 4))
        ours = fit(X, W=start, init="custom")
        tiled = fit(np.tile(X, (3, 1)), W=np.tile(start, (3, 1)), init="custom")
        assert tiled.penalty == pytest.approx(ours.penalty, rel=1e-12)
        np.testing.assert_allclose(tiled.W, np.tile(ours.W, (3, 1)), atol=1e-8)
        np.testing.assert_allclose(tiled.H, ours.H, atol=1e-8)
        np.testing.assert_allclose(tiled.loss_curve, ours.loss_curve, rtol=1e-10)

    def test_rotation_of_the_features(self, fit):
        X = planted()
        rng = np.random.default_rng(5)
        Q, start = np.linalg.qr(rng.standard_normal((30, 30)))[0], rng.random((len(X), 4))
        ours, turned = (fit(Y, W=start, init="custom") for Y in (X, X @ Q))
        np.testing.assert_allclose(turned.W, ours.W, atol=1e-8)
        np.testing.assert_allclose(turned.H, ours.H @ Q, atol=1e-8)

    def test_order_of_the_rows(self, fit):
        X = planted()
        rng = np.random.default_rng(6)
        order, start = rng.permutation(len(X)), rng.random((len(X), 4))
        ours = fit(X, W=start, init="custom")
        moved = fit(X[order], W=start[order], init="custom")
        np.testing.assert_allclose(moved.W, ours.W[order], atol=1e-8)

    def test_size_of_the_blocks(self, fit, monkeypatch):
        X = planted()
        ours = fit(X)
        monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 7))
        parts = fit(X)
        np.testing.assert_allclose(parts.W, ours.W, atol=1e-8)
        np.testing.assert_allclose(parts.loss_curve, ours.loss_curve, rtol=1e-10)

    def test_number_of_threads_to_the_bit(self, fit, monkeypatch):
        monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 7))
        X = planted()
        one = fit(X, n_jobs=1)
        for n_jobs in (2, 5, -1):
            many = fit(X, n_jobs=n_jobs)
            np.testing.assert_array_equal(many.W, one.W)
            np.testing.assert_array_equal(many.H, one.H)
            np.testing.assert_array_equal(many.loss_curve, one.loss_curve)
        np.testing.assert_allclose(fit(X).W, one.W, atol=1e-8)

    def test_threads_of_blas_to_the_bit_where_there_are_many_blocks(self, fit, monkeypatch):
        monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 7))
        X = planted()
        one = fit(X, n_jobs=1)
        monkeypatch.setattr(NumPy, "threads_of_products", lambda self: 3)
        many = fit(X)
        np.testing.assert_array_equal(many.W, one.W)
        np.testing.assert_array_equal(many.loss_curve, one.loss_curve)

    @pytest.mark.parametrize("init", INITS)
    def test_seed_to_the_bit(self, fit, init):
        X = planted()
        first, second = fit(X, init=init), fit(X, init=init)
        np.testing.assert_array_equal(first.W, second.W)
        np.testing.assert_array_equal(first.H, second.H)

    @pytest.mark.parametrize("make", [sp.csr_array, sp.csc_matrix, sp.coo_array, sp.csr_matrix])
    @pytest.mark.parametrize("init", INITS)
    def test_sparse_or_dense(self, fit, make, init):
        X = planted()
        X[np.abs(X) < 0.6] = 0
        dense, sparse = fit(X, init=init), fit(make(X), init=init)
        np.testing.assert_allclose(sparse.W, dense.W, atol=1e-7)
        np.testing.assert_allclose(sparse.H, dense.H, atol=1e-7)
        assert sparse.error == pytest.approx(dense.error, rel=1e-9)


# The canonical form


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_canonical_form(solver, sparsity, dtype):
    X = planted(dtype=dtype)
    result = factorize(X, 5, solver=solver, sparsity=sparsity)
    alive = np.any(result.H != 0, axis=1)
    np.testing.assert_allclose(np.linalg.norm(result.H[alive], axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(np.any(result.W > 0, axis=0), alive)
    assert np.all(np.diff(np.linalg.norm(result.W.astype("float64"), axis=0)) <= 0)
    rms = np.linalg.norm(X) / len(X) ** 0.5
    assert result.penalty == pytest.approx(sparsity * rms, rel=1e-5)


def test_a_dead_component_is_a_zero_column_and_a_zero_row():
    X = planted()
    start = np.random.default_rng(0).random((len(X), 3))
    start[:, 1] = 0
    with pytest.warns(ConvergenceWarning, match="1 of 3 components died"):
        result = factorize(X, 3, W=start, init="custom")
    assert np.all(result.W[:, 1] == 0)
    assert np.all(result.H[1] == 0)
    assert result.error < np.linalg.norm(X)


@pytest.mark.parametrize("make", [sp.csr_array, np.asarray])
def test_a_component_of_minute_weights_is_whole_or_nothing(make):
    X = np.zeros((8, 6))
    X[np.arange(8), np.arange(8) % 6] = np.logspace(180, -180, 8)
    result = factorize(make(X), 6, solver="hals", init="svd")
    np.testing.assert_array_equal(np.any(result.W != 0, axis=0), np.any(result.H != 0, axis=1))


def test_a_start_keeps_its_order():
    X = planted()
    first = factorize(X, 4)
    order = [2, 0, 3, 1]
    again = factorize(X, 4, W=first.W[:, order], H=first.H[order], init="custom", max_iter=2)
    cosines = np.sum(again.H * first.H[order], axis=1)
    assert np.all(cosines > 0.99)


@pytest.mark.parametrize("n_fixed", [0, 2])
def test_components_are_not_made_alike_by_weights_that_are(n_fixed):
    X = planted(dtype="float32")
    rng = np.random.default_rng(0)
    W, H = rng.random((len(X), 4)), rng.standard_normal((4, X.shape[1]))
    W[:, 3] = (1 + 1e-5 * rng.random(len(X))) * W[:, 2]  # Wᵀ W tells them apart by rounding only
    rows = adapter("numpy").rows(X)
    fixed = H[:n_fixed] if n_fixed else None
    kept = solve.Alternation(rows, np.sum(X**2), 0.0, "kept", 1, fixed=fixed)
    point = kept.start(rows.split(W), H)
    new = kept.advance(point, H)
    assert new.loss < point.loss
    np.testing.assert_allclose(new.H[2] - new.H[3], H[2] - H[3], atol=1e-3)


# Starts


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("given_", ["W", "H", "W and H"])
@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_custom_start_goes_on_where_the_last_fit_ended(solver, sparsity, given_, scale):
    X = planted()
    options = dict(solver=solver, sparsity=sparsity)
    ended = factorize(X, 4, **options)
    # the last fit ended with the exact W; what is to be completed or lifted starts a little above
    start = {"H": ended.H * scale} if "H" in given_ else {}
    if "W" in given_:
        start["W"] = ended.W / scale
    again = factorize(X, 4, init="custom", max_iter=0, **start, **options)
    completed = (given_ == "W" and sparsity) or (given_ == "H" and solver == "mu")
    assert (again.loss_curve[0] <= ended.loss_curve[-1] * (1 + 1e-9)) != completed
    if given_ != "W":
        assert again.error == pytest.approx(ended.error, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sparsity", [0.0, 0.05])
@pytest.mark.parametrize("minute", [1e-10, 1e-20, 1e-22, 1e-30, 1e-40])
def test_minute_weights_to_start_from_are_as_good(solver, dtype, sparsity, minute):
    X = planted(dtype=dtype)
    rng = np.random.default_rng(0)
    W, H = rng.random((len(X), 4)), rng.standard_normal((4, X.shape[1]))
    options = dict(init="custom", solver=solver, sparsity=sparsity)
    expected = factorize(X, 4, W=W, **options).error
    scaled = W * [1, 1, minute, 1]
    assert factorize(X, 4, W=scaled, **options).error == pytest.approx(expected, rel=1e-4)
    result = factorize(X, 4, W=scaled, H=H, **options)
    assert result.error < np.linalg.norm(X)


def test_restarts_keep_the_best(monkeypatch):
    X = planted(noise=1.0)
    rng = np.random.RandomState(3)
    single = [factorize(X, 6, init="random", random_state=rng, max_iter=8) for _ in range(4)]
    best = factorize(X, 6, init="random", random_state=np.random.RandomState(3), max_iter=8,
                     n_init=4)  # fmt: skip
    losses = [result.loss_curve[-1] for result in single]
    assert len(set(losses)) == 4
    assert best.loss_curve[-1] == min(losses)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("k", [1, 2, 5, 11, 30])
@pytest.mark.parametrize("shape", [(8, 10), (10, 3), (1, 5), (6, 1), (1, 1)])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_any_number_of_components(init, solver, k, shape, sparsity):
    X = np.random.default_rng(0).standard_normal(shape)
    result = factorize(X, k, init=init, solver=solver, sparsity=sparsity)
    assert result.W.shape == (shape[0], k)
    assert result.H.shape == (k, shape[1])
    assert np.isfinite(result.W).all()
    assert np.isfinite(result.H).all()
    assert result.error < np.linalg.norm(X) * (1 + 1e-12)
    if k == 30 and sparsity == 0 and init == "svd":
        assert result.error < 0.05 * np.linalg.norm(X)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "random"])
def test_wide_data_is_fitted_on_coordinates_with_nothing_lost(
    make, solver, sparsity, init, monkeypatch
):
    X = planted(n=25, p=300)
    X[np.abs(X) < 0.3] = 0
    options = dict(solver=solver, sparsity=sparsity, init=init, max_iter=10, tol=0)
    options["accelerate"] = False  # since the number of W-steps goes by the shape
    seen = []
    monkeypatch.setattr(
        solve.Alternation, "advance",
        lambda self, *a, f=solve.Alternation.advance: seen.append(self.rows.shape) or f(self, *a),
    )  # fmt: skip
    ours = factorize(make(X), 4, **options)
    assert set(seen) == {(25, 25)}
    monkeypatch.setattr(wide, "pays", lambda rows: False)
    plain = factorize(make(X), 4, **options)
    np.testing.assert_allclose(ours.loss_curve, plain.loss_curve, rtol=1e-9)
    np.testing.assert_allclose(ours.W, plain.W, atol=1e-6)
    np.testing.assert_allclose(ours.H, plain.H, atol=1e-6)


# Words


def test_not_converged_says_what_to_do():
    with pytest.warns(
        ConvergenceWarning, match="not converged: max_iter=2 .* Raise max_iter"
    ) as told:
        result = factorize(planted(), 4, max_iter=2)
    assert told[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="max_iter=0 iterations were made. Raise"):
        factorize(planted(), 4, max_iter=0)
    assert not result.converged
    assert "max_iter=2" in result.reason
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factorize(planted(), 4, max_iter=2, tol=0)


def test_all_zero_weights_name_the_largest_useful_sparsity():
    X = planted()
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    with pytest.warns(
        ConvergenceWarning, match=r"All weights are zero: sparsity=1.001 .* any value from 1 on"
    ):
        result = factorize(X, 4, sparsity=1.001)
    assert np.all(result.W == 0)
    assert factorize(X, 4, sparsity=0.5, solver="hals").W.max() > 0
    assert np.all(factorize(X, 4, sparsity=1e300).W == 0)


def test_a_start_of_zeros_is_told_of():
    with pytest.warns(ConvergenceWarning, match="All weights are zero. Start from positive"):
        factorize(planted(), 2, W=np.zeros((120, 2)), init="custom", sparsity=0.1)


def test_collinear_components_are_told_of():
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2, 8))
    H = np.vstack([h, -h + 1e-4 * rng.standard_normal((2, 8))])
    with pytest.warns(ConvergenceWarning, match="nearly collinear, so that their weights cancel"):
        factorize(planted(p=8), 4, H=H, init="custom", sparsity=0, max_iter=0)


def test_fit_transform_is_the_weights_of_factorize():
    X = planted()
    W = snmf.fit_transform(X, 3, random_state=0, solver="hals", progress_bar=False)
    np.testing.assert_array_equal(W, factorize(X, 3, solver="hals").W)


def test_sparsity_makes_zeros():
    X = planted(noise=1.0)
    share = [np.mean(factorize(X, 6, solver="hals", sparsity=s).W == 0) for s in (0, 0.1, 0.3)]
    assert share[0] < share[1] < share[2]
