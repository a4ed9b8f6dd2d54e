"""The steps of convex NMF: each is a minimiser, or never raises the objective."""

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from snmf.backends import adapter
from snmf.core import hull, kernels
from snmf.core.hull import Hull
from snmf.core.options import UPDATES


def problem(seed, n, p, k, m, dtype="float64"):
    """Data of any sign, candidates of which two are equal and one is zero, and a start."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2)) @ rng.standard_normal((2, p)) + 0.3 * rng.standard_normal((n, p))
    Y = rng.standard_normal((m, p))
    Y[-1], Y[0] = Y[0], 0
    return X.astype(dtype), Y, rng.random((n, k)), rng.random((k, m))


def objective(X, W, C, Y, l1):
    """The objective in the form that the scale of the components does not change."""
    H = C @ Y
    penalty = l1 * np.sum(np.linalg.norm(H, axis=1) * W.sum(axis=0))
    return 0.5 * np.sum((X - W @ H) ** 2) + penalty


def best_of_all_passive_sets(K, target):
    """The least ½ c K cᵀ − c r over c ≥ 0: the least over all sets of positive entries."""
    m, found = len(K), [0.0]
    for P in chain.from_iterable(combinations(range(m), size) for size in range(1, m + 1)):
        c = np.zeros(m)
        c[[*P]] = np.linalg.lstsq(K[np.ix_(P, P)], target[[*P]], rcond=1e-10)[0]
        if c.min() >= 0:
            found.append(0.5 * c @ K @ c - c @ target)
    return min(found)


@given(seed=st.integers(0, 10**6), p=st.integers(1, 6), m=st.integers(2, 6), first=st.booleans())
def test_a_row_of_c_is_the_minimiser_given_the_others(seed, p, m, first):
    X, Y, W, C = problem(seed, 12, p, 1, m)
    K, S, T = Y @ Y.T, W.T @ X @ Y.T, W.T @ W
    c = hull.active_sets(S, T, C if first else 0 * C, K, 1)[0]
    assert c.min() >= 0
    target = S[0] / T[0, 0]
    least = best_of_all_passive_sets(K, target)
    assert 0.5 * c @ K @ c - c @ target == pytest.approx(least, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("kernel", [False, True])
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 15), st.integers(1, 6), st.integers(1, 4), st.integers(2, 8)),
    sparsity=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_no_pass_raises_the_true_objective(solver, kernel, seed, shape, sparsity):
    """The loop would hide a rise, since it goes back: so every pass is looked at from outside."""
    X, Y, W, C = problem(seed, *shape)
    square = np.sum(X**2)
    l1 = sparsity * (square / len(X)) ** 0.5
    rows = adapter("numpy").rows(X @ Y.T if kernel else X)
    alternation = Hull(
        rows, square, l1, UPDATES[solver], 2, gram=Y @ Y.T, candidates=None if kernel else Y
    )
    point = alternation.start(rows.split(W), C)
    before = objective(X, W, C, Y, l1)
    assert point.loss == pytest.approx(2 * before / square, rel=1e-9, abs=1e-12)
    for _ in range(8):
        point = alternation.advance(point, point.H)
        after = objective(X, np.concatenate(list(point.W)), point.H, Y, l1)
        assert after <= before * (1 + 1e-11) + 1e-13 * square
        assert point.loss == pytest.approx(2 * after / square, rel=1e-9, abs=1e-12)
        assert point.H.min() >= 0
        before = after


def test_multiplicative_steps_are_those_of_the_formula():
    X, Y, W, C = problem(0, 30, 5, 3, 7)
    K, plus, minus = Y @ Y.T, (lambda M: (np.abs(M) + M) / 2), (lambda M: (np.abs(M) - M) / 2)
    S, T = W.T @ X @ Y.T, W.T @ W
    expected = C.copy()
    for _ in range(3):
        expected *= np.sqrt(
            (plus(S) + T @ expected @ minus(K)) / (minus(S) + T @ expected @ plus(K) + 1e-300)
        )
    found = hull.multiplicative(S, T, C, plus(K), minus(K), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    nonnegative = hull.multiplicative(S, T, C, plus(K), None, 1)
    np.testing.assert_allclose(nonnegative, hull.multiplicative(S, T, C, plus(K), 0 * K, 1))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_start_without_zeros_ends_at_the_minimum_too(spread):
    """With as many positive entries as candidates: many leave at once, or none do."""
    rng = np.random.default_rng(0)
    Y = spread * rng.random((80, 90)) + np.eye(80, 90)
    start, v = rng.random((1, 80)), rng.random(80) @ Y + 9 * spread * rng.standard_normal(90)
    found = hull.active_sets(v[None] @ Y.T, np.ones((1, 1)), start, Y @ Y.T, 2)[0]
    expected, _ = nnls(Y.T, v)
    assert (np.count_nonzero(expected == 0) > hull.LEAVE) == bool(spread)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_from_many_candidates_that_must_leave_a_row_begins_at_zero(monkeypatch):
    rng = np.random.default_rng(0)
    Y, start = rng.random((80, 90)) + np.eye(80, 90), rng.random((1, 80))
    v = start[0] @ Y + rng.standard_normal(90)
    K, S, T = Y @ Y.T, v[None] @ Y.T, np.ones((1, 1))
    monkeypatch.setattr(hull, "LEAVE", 2)
    monkeypatch.setattr(hull, "EXCHANGES", 2)
    found = hull.active_sets(S, T, start, K, 1)[0]
    np.testing.assert_allclose(found, nnls(Y.T, v)[0], atol=1e-7)
    monkeypatch.setattr(hull, "SETTLED", 2.0)  # it stops at 0, which is worse than the start
    np.testing.assert_array_equal(hull.active_sets(S, T, start, K, 1), start)


def test_a_component_without_weights_stays_as_it_is():
    X, Y, W, C = problem(1, 20, 4, 3, 6)
    W[:, 1] = 0
    K, S, T = Y @ Y.T, W.T @ X @ Y.T, W.T @ W
    found = hull.active_sets(S, T, C, K, 2)
    np.testing.assert_array_equal(found[1], C[1])
    assert not np.array_equal(found[0], C[0])


def test_active_sets_stand_candidates_that_are_nearly_equal():
    rng = np.random.default_rng(0)
    Y = np.repeat(rng.random((5, 4)), 40, axis=0) + 1e-9 * rng.random((200, 4))
    X, W = rng.random((50, 4)), rng.random((50, 3))
    K, S, T = Y @ Y.T, W.T @ X @ Y.T, W.T @ W
    C = hull.active_sets(S, T, np.zeros((3, 200)), K, 50)
    few = hull.active_sets(W.T @ X @ Y[::40].T, T, np.zeros((3, 5)), Y[::40] @ Y[::40].T, 50)
    errors = [np.linalg.norm(X - W @ c @ y) for c, y in ((C, Y), (few, Y[::40]))]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_a_kernel_matrix_must_be_one():
    with pytest.raises(ValueError, match="must be symmetric"):
        kernels.check_gram(np.array([[1.0, 2.0], [0.0, 1.0]]), 1e-16)
    with pytest.raises(ValueError, match="must be positive semidefinite"):
        kernels.check_gram(np.array([[1.0, 2.0], [2.0, 1.0]]), 1e-16)
    np.testing.assert_array_equal(kernels.check_gram(np.zeros((2, 2)), 1e-16), np.zeros((2, 2)))
