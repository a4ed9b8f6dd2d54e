"""The updates against the paper, loop by loop, and what they must never do."""

import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snmf.backends import Backend, adapter, owner
from snmf.core import updates
from snmf.core.limits import Limits

WSTEPS = ["multiplicative", "hals"]
BALL = Limits(ball=True)


@pytest.fixture(params=["numpy", "array_api_strict"])
def ops(request):
    """The adapter with its kernels, and the base class, which runs the definition."""
    return adapter("numpy") if request.param == "numpy" else Backend("array_api_strict")


def problem(seed, n=30, p=12, k=4, dtype="float64"):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    W, H = rng.random((n, k)), rng.standard_normal((k, p))
    return [A.astype(dtype) for A in (X, W, H)]


def objective(X, W, H, l1):
    X, W, H = (A.astype("float64") for A in (X, W, H))
    return 0.5 * np.sum((X - W @ H) ** 2) + l1 * W.sum()


def step(ops, name, X, W, H, l1=0.0, repeats=1):
    A, B = (ops.asarray(M) for M in (X @ H.T, H @ H.T))
    return np.asarray(ops.to_host(getattr(ops, name)(A, B, ops.asarray(W), l1, repeats)))


def papers_rule(X, W, H, l1):
    """Equation (10) of Ding, Li & Jordan (2010) for G = W, F = Hᵀ and data Xᵀ, entry by entry."""
    n, k = W.shape
    new = np.empty_like(W)
    for i in range(n):
        for j in range(k):
            xf = sum(X[i, m] * H[j, m] for m in range(X.shape[1]))
            up, down = (abs(xf) + xf) / 2, (abs(xf) - xf) / 2
            for r in range(k):
                ff = sum(H[r, m] * H[j, m] for m in range(X.shape[1]))
                up += W[i, r] * (abs(ff) - ff) / 2
                down += W[i, r] * (abs(ff) + ff) / 2
            new[i, j] = W[i, j] * math.sqrt(up / (down + l1))
    return new


@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_multiplicative_is_the_papers_rule(ops, l1):
    X, W, H = problem(0)
    np.testing.assert_allclose(
        step(ops, "multiplicative", X, W, H, l1), papers_rule(X, W, H, l1), rtol=1e-12
    )


@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_hals_puts_every_column_at_its_minimum(ops, l1):
    X, W, H = problem(1)
    new, before = step(ops, "hals", X, W, H, l1), W.copy()
    for j in range(W.shape[1]):
        mixed = np.column_stack([new[:, :j], before[:, j:]])
        free = (X - mixed @ H + np.outer(mixed[:, j], H[j])) @ H[j] - l1
        np.testing.assert_allclose(new[:, j], np.maximum(0, free / (H[j] @ H[j])), atol=1e-12)


@pytest.mark.parametrize("name", WSTEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_repeats_are_steps_one_after_the_other(ops, name, dtype):
    X, W, H = problem(2, dtype=dtype)
    once = step(ops, name, X, step(ops, name, X, W, H, 0.1), H, 0.1)
    twice = step(ops, name, X, W, H, 0.1, repeats=2)
    np.testing.assert_allclose(twice, once, rtol=100 * np.finfo(dtype).eps, atol=1e-6)
    assert twice.dtype == dtype


@pytest.mark.parametrize("name", WSTEPS)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 6)),
    l1=st.sampled_from([0.0, 0.01, 1.0, 50.0]),
    zeros=st.sampled_from([0.0, 0.5]),
)
def test_a_w_step_never_raises_the_objective(name, seed, shape, l1, zeros):
    X, W, H = problem(seed, *shape)
    rng = np.random.default_rng(seed)
    W = W * (rng.random(W.shape) >= zeros)
    for ops in (adapter("numpy"), Backend("array_api_strict")):
        new = step(ops, name, X, W, H, l1)
        assert new.min() >= 0
        assert objective(X, new, H, l1) <= objective(X, W, H, l1) * (1 + 1e-12) + 1e-12
        if name == "multiplicative":
            assert np.all(new[W == 0] == 0)


def alternate(rule, X, W, steps=60):
    """The objective after every W-step and least-squares H-step."""
    curve = []
    for _ in range(steps):
        H = np.linalg.lstsq(W, X)[0]
        curve.append(objective(X, W, H, 0))
        W = rule(X, W, H)
    return np.array(curve)


def wrong_rule(X, W, H):
    """(W B)⁺ in place of W B⁺: it looks alike, and is in circulation."""
    A, M = X @ H.T, W @ H @ H.T
    up = np.maximum(A, 0) + np.maximum(-M, 0)
    return W * np.sqrt(up / (np.maximum(-A, 0) + np.maximum(M, 0) + 1e-12))


def test_the_alternation_falls_where_a_rule_in_circulation_rises():
    rng = np.random.default_rng(0)
    X = rng.random((300, 8)) @ rng.standard_normal((8, 40)) + 0.1 * rng.standard_normal((300, 40))
    W = rng.random((300, 8))
    ours = alternate(lambda *f: step(adapter("numpy"), "multiplicative", *f), X, W)
    theirs = alternate(wrong_rule, X, W)
    assert np.all(np.diff(ours) <= 1e-12 * ours[0])
    assert np.any(np.diff(theirs) > 1e-3 * theirs[0])
    assert ours[-1] < theirs[-1]


@pytest.mark.parametrize("name", WSTEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("l1", [0.0, 0.1])
def test_an_empty_component_gets_no_weight_and_no_nan(ops, name, dtype, l1):
    X, W, H = problem(4, dtype=dtype)
    H[1] = 0
    new = step(ops, name, X, W, H, l1)
    assert np.isfinite(new).all()
    assert np.all(new[:, 1] == 0)
    assert np.all(step(ops, name, 0 * X, 0 * W, H, l1) == 0)


def test_least_squares_solves_the_normal_equations():
    ops = adapter("numpy")
    X, W, _ = problem(5)
    best = np.linalg.lstsq(W, X)[0]
    for before in (0 * best, np.ones_like(best)):
        H = updates.least_squares(ops, W.T @ X, W.T @ W, before, 1e-12)
        np.testing.assert_allclose(H, best, atol=1e-12)


def test_least_squares_leaves_alone_what_the_weights_do_not_tell():
    ops = adapter("numpy")
    X, W, _ = problem(5)
    k = W.shape[1]
    W = np.column_stack([W, W[:, 0], 0 * W[:, 0]])  # twins, and an empty component
    before = np.random.default_rng(0).standard_normal((k + 2, X.shape[1]))
    H = updates.least_squares(ops, W.T @ X, W.T @ W, before, 1e-12)
    np.testing.assert_allclose(W @ H, W @ np.linalg.lstsq(W, X)[0], atol=1e-10)
    np.testing.assert_allclose(H[0] - H[k], before[0] - before[k], atol=1e-10)
    np.testing.assert_array_equal(H[k + 1], before[k + 1])


def test_least_squares_loses_no_component_for_being_small():
    ops = adapter("numpy")
    X, W, _ = problem(6)
    W[:, 0] *= 1e-9
    H = updates.least_squares(ops, W.T @ X, W.T @ W, np.zeros((W.shape[1], X.shape[1])), 1e-6)
    np.testing.assert_allclose(W @ H, W @ np.linalg.lstsq(W, X)[0], atol=1e-7)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 6), sweeps=st.integers(1, 3))
def test_the_h_step_in_the_ball_falls_and_stays_inside(seed, k, sweeps):
    ops = adapter("numpy")
    X, W, H = problem(seed, k=k)
    H /= np.linalg.norm(H, axis=1)[:, None]
    W[:, 0] *= seed % 3  # sometimes an empty component, which keeps its row
    new = updates.least_squares_within(ops, W.T @ X, W.T @ W, H, BALL.project, sweeps)
    assert np.linalg.norm(new, axis=1).max() <= 1 + 1e-12
    assert objective(X, W, new, 0) <= objective(X, W, H, 0) * (1 + 1e-12)


def test_the_h_step_in_the_ball_ends_at_the_constrained_minimum():
    ops = adapter("numpy")
    X, W, H = problem(7)
    S, T = W.T @ X, W.T @ W
    H = updates.least_squares_within(ops, S, T, H, BALL.project, 2000)
    gradient = T @ H - S
    for g, h in zip(gradient, H, strict=True):  # −g is a multiple ≥ 0 of h, and 0 inside the ball
        multiplier = -(g @ h)
        assert multiplier >= -1e-9
        np.testing.assert_allclose(g, -multiplier * h / (h @ h), atol=1e-8)
        assert np.linalg.norm(h) > 1 - 1e-9 or abs(multiplier) < 1e-8


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["float32", "float64"]))
def test_the_loss_by_sums_is_the_residual(seed, dtype):
    ops = adapter("numpy")
    X, W, H = problem(seed, dtype=dtype)
    S, T, total = (A.astype("float64") for A in updates.sums_of_block(ops, X, W))
    H, square = H.astype("float64"), float(np.sum(X.astype("float64") ** 2))
    by_sums = 0.5 * updates.squared_error(ops, square, S, T, H) + 0.1 * total.sum()
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    assert by_sums == pytest.approx(objective(X, W, H, 0.1), rel=tolerance)


def test_parts_are_ding_et_als(ops):
    A = np.array([[1.5, -2.0], [0.0, -0.5]])
    plus, minus = (np.asarray(f(ops.asarray(A))) for f in (ops.positive_part, ops.negative_part))
    np.testing.assert_array_equal(plus, (np.abs(A) + A) / 2)
    np.testing.assert_array_equal(minus, (np.abs(A) - A) / 2)


def test_strict_arrays_are_what_the_base_class_computes_with():
    ops = Backend("array_api_strict")
    A = ops.asarray(np.eye(2))
    assert isinstance(A, type(array_api_strict.asarray(0)))
    assert owner(A).namespace == "array_api_strict"
    assert owner(np.eye(2).tolist()) == adapter("numpy")
