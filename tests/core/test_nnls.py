"""The exact W: optimality conditions, SciPy's nnls, and a row for itself."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from snmf.backends import adapter
from snmf.core import locality, missing, nnls, quadratic
from snmf.core import passive as passive_sets
from snmf.storage import rows as _rows

OPS = adapter("numpy")


def unit(H):
    norms = np.linalg.norm(H, axis=1, keepdims=True)
    return H / np.where(norms > 0, norms, 1)


def solve(X, H, l1=0.0):
    W, _, powers = nnls.best_weights(OPS, X, nnls.Components(OPS, H), l1)
    assert not powers.any()
    return W


def slope(X, W, H, l1):
    """The largest entry of the gradient that a step within W ≥ 0 could follow, row by row."""
    G = (W @ H - X) @ H.T + l1
    return np.abs(np.where(W > 0, G, np.minimum(G, 0))).max(axis=1)


def rows(rng, H, n=40):
    """Rows inside the cone of H, in its span, and anywhere."""
    k, p = H.shape
    inside, span = rng.random((n, k)) @ H, rng.standard_normal((n, k)) @ H
    return np.vstack([inside, span, rng.standard_normal((n, p)), np.zeros((1, p))])


def components(kind, rng):
    if kind == "free":
        return rng.standard_normal((8, 20))
    if kind == "more than features":
        return rng.standard_normal((12, 4))
    if kind == "graded":
        U, V = (np.linalg.qr(rng.standard_normal((m, m)))[0] for m in (6, 15))
        return U @ (np.logspace(0, -3, 6)[:, None] * V[:6])
    if kind == "with empty":
        return np.vstack([rng.standard_normal((4, 9)), np.zeros((2, 9))])
    if kind == "correlated":
        return 3 + rng.standard_normal((10, 30))
    H = rng.standard_normal((3, 10))
    near = {"duplicate": 0, "near-duplicate 1e-5": 1e-5, "near-duplicate 1e-9": 1e-9}
    if kind in near:
        return np.vstack([H, H[:2] + near[kind] * rng.standard_normal((2, 10))])
    opposite = {"opposite": 0, "near-opposite 1e-6": 1e-6}
    if kind in opposite:
        return np.vstack([H, -H[:2] + opposite[kind] * rng.standard_normal((2, 10))])
    assert kind == "sum to zero"
    return np.vstack([H, -H.sum(axis=0)])


KINDS = [
    "free", "more than features", "graded", "with empty", "correlated", "duplicate",
    "near-duplicate 1e-5", "near-duplicate 1e-9", "opposite", "near-opposite 1e-6", "sum to zero",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l1", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_optimal_for_every_conditioning(kind, l1, seed):
    rng = np.random.default_rng(seed)
    H = unit(components(kind, rng))
    X = rows(rng, H)
    W = solve(X, H, l1)
    assert W.min() >= 0
    assert np.all(slope(X, W, H, l1) <= 1e-8 * np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(kind, seed):
    rng = np.random.default_rng(seed)
    H = unit(components(kind, rng))
    X = rows(rng, H)
    W = solve(X, H)
    theirs = np.array([scipy.optimize.nnls(H.T, x)[0] for x in X])
    solved = slope(X, theirs, H, 0) <= 1e-6 * np.linalg.norm(X, axis=1)  # nor does SciPy always
    assert np.mean(solved) > 0.9
    ours = np.linalg.norm(X - W @ H, axis=1)
    assert np.all(ours <= np.linalg.norm(X - theirs @ H, axis=1) + 1e-6 * np.abs(X).max())
    X, W, theirs = X[solved], W[solved], theirs[solved]
    np.testing.assert_allclose(W @ H, theirs @ H, atol=1e-6 * np.abs(theirs @ H).max())
    if np.linalg.cond(H @ H.T) < 1e6:
        np.testing.assert_allclose(W, theirs, atol=1e-6 * theirs.max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_a_row_does_not_depend_on_the_rows_beside_it(kind, l1):
    rng = np.random.default_rng(0)
    H = unit(components(kind, rng))
    X = rows(rng, H)
    alone = np.vstack([solve(x[None, :], H, l1) for x in X])
    together = solve(np.asfortranarray(X), H, l1)
    np.testing.assert_allclose(alone, together, atol=1e-6 * max(1, together.max()))


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    l1=st.sampled_from([0.0, 1e-3, 0.2, 10.0]),
    offset=st.sampled_from([0.0, 1.0, -5.0]),
)
def test_optimal(seed, shape, l1, offset):
    rng = np.random.default_rng(seed)
    H = unit(offset + rng.standard_normal(shape))
    X = rows(rng, H, n=5)
    W = solve(X, H, l1)
    assert np.all(slope(X, W, H, l1) <= 1e-8 * np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("power", [-1074, -600, 600, 1000])
def test_a_row_may_have_any_scale(power):
    rng = np.random.default_rng(0)
    H = unit(rng.standard_normal((4, 10)))
    X = rng.integers(-9, 9, size=(6, 10)).astype(float)
    mixed = np.vstack([X, np.ldexp(X, power)])
    W, squares, powers = nnls.best_weights(OPS, mixed, nnls.Components(OPS, H), 0.0)
    np.testing.assert_array_equal(powers[:6], 0)
    total = np.ldexp(W, powers[:, None].astype(int))
    np.testing.assert_allclose(total[6:], np.ldexp(total[:6], power), rtol=1e-12, atol=5e-324)
    np.testing.assert_allclose(squares[:6], np.sum((X - W[:6] @ H) ** 2, axis=1), rtol=1e-10)


def test_a_penalty_far_above_a_tiny_row_leaves_it_at_zero():
    H = unit(np.random.default_rng(0).standard_normal((3, 5)))
    H[2] = 0
    X = np.vstack([H[0], 1e-300 * H[0]])
    W, _, _ = nnls.best_weights(OPS, X, nnls.Components(OPS, H), 0.01)
    assert W[0, 0] > 0
    assert np.all(W[1] == 0)


def test_the_error_is_the_residual_near_an_exact_fit_too():
    rng = np.random.default_rng(0)
    H = unit(rng.standard_normal((4, 10)))
    X = rng.random((20, 4)) @ H + 1e-9 * rng.standard_normal((20, 10))
    W, squares, _ = nnls.best_weights(OPS, X, nnls.Components(OPS, H), 0.0)
    np.testing.assert_allclose(squares, np.sum((X - W @ H) ** 2, axis=1), rtol=1e-6)


@pytest.mark.parametrize("apart", [1e-8, 1e-10, 1e-12, 1e-14, 0])
def test_weights_that_would_cancel_beyond_rounding_are_never_worse_than_none(apart):
    rng = np.random.default_rng(0)
    h = rng.standard_normal(12)
    H = unit(np.array([[1], [-1], [1], [-1], [1]]) * h + apart * rng.standard_normal((5, 12)))
    X = rng.standard_normal((200, 12))
    W, squares, _ = nnls.best_weights(OPS, X, nnls.Components(OPS, H), 0.0)
    residual = np.sum((X - W @ H) ** 2, axis=1)
    np.testing.assert_allclose(squares, residual, rtol=1e-3)
    assert np.all(residual <= np.sum(X**2, axis=1) * (1 + 1e-12))


@pytest.mark.parametrize("kind", ["correlated", "opposite"])  # B is regular, and singular
@pytest.mark.parametrize("l1", [0.0, 0.05])
@pytest.mark.parametrize("many", [0, quadratic.MANY])
@pytest.mark.parametrize("left", ["at first", "always"])
def test_rows_that_pivoting_leaves_are_solved_all_the_same(kind, l1, many, left, monkeypatch):
    rng = np.random.default_rng(0)
    H = unit(components(kind, rng))
    X = rows(rng, H)
    expected = solve(X, H, l1)
    pivot, by_multipliers, active_set = (
        quadratic._pivot, quadratic._by_multipliers, scipy.optimize.nnls
    )  # fmt: skip
    calls = {"multipliers": 0, "active sets": 0}

    def never(system, G, V, *given):
        U, settled = pivot(system, G, V, *given)
        return U, settled & (V is not None and left == "at first")

    def counted(function, name):
        def call(*given, **more):
            calls[name] += 1
            return function(*given, **more)

        return call

    monkeypatch.setattr(quadratic, "MANY", many)
    monkeypatch.setattr(quadratic, "_pivot", never)
    monkeypatch.setattr(quadratic, "_by_multipliers", counted(by_multipliers, "multipliers"))
    monkeypatch.setattr(scipy.optimize, "nnls", counted(active_set, "active sets"))
    W = solve(X, H, l1)
    # slope² ≤ 2 λ_max(B) (F − F_min), and what is below EQUAL of that is taken for rounding
    resolved = np.sqrt(2 * len(H) * quadratic.EQUAL) if left == "always" else 1e-8
    assert np.all(slope(X, W, H, l1) <= resolved * np.linalg.norm(X, axis=1))
    np.testing.assert_allclose(W @ H, expected @ H, atol=2 * resolved * np.abs(X).max())
    assert calls["multipliers"] or (many and left == "at first")
    assert (calls["active sets"] > 0) == (many > 0 or left == "always")


@pytest.mark.parametrize("power", [3, 4, 5, 6])  # of the condition of H: that of B is its square
@pytest.mark.parametrize("shape", [(40, 12), (12, 12), (12, 40), (60, 60)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_of_the_objective_is_left_however_h_is_conditioned(power, shape, dtype):
    rng = np.random.default_rng(power)
    rank = min(shape)
    U, V = (np.linalg.qr(rng.standard_normal((m, m)))[0][:, :rank] for m in shape)
    H = unit(U * np.logspace(0, -power, rank) @ V.T).astype(dtype)
    X = rng.standard_normal((60, shape[1]))
    W = solve(X, H)
    H = H.astype("float64")  # as it is, to the last digit
    least = np.array([scipy.optimize.nnls(H.T, x)[1] for x in X])
    left = np.linalg.norm(X - W @ H, axis=1) - least
    assert np.all(left <= 1e-6 * np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("apart", [1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 0])
@pytest.mark.parametrize("l1", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimal_where_half_of_the_components_are_nearly_the_others(apart, l1, dtype):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        k, p = rng.integers(6, 24), rng.integers(6, 34)
        H = rng.standard_normal((k, p))
        H[k // 2 :] = H[: k - k // 2] + apart * rng.standard_normal((k - k // 2, p))
        H, X = unit(H).astype(dtype), rng.standard_normal((30, p))
        for data in (X, sp.csr_array(X)):
            W = solve(data, H, l1)
            left = slope(X, W, H.astype("float64"), l1)
            assert np.all(left <= 1e-8 * np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("k", [12, 20])
def test_the_penalty_is_what_was_asked_for_however_coarse_h_is(k):
    rng = np.random.default_rng(0)
    H = unit(rng.standard_normal((k, 10))).astype("float32")
    X = rng.standard_normal((60, 10))
    W = solve(X, H, 0.1)
    assert np.all(slope(X, W, H.astype("float64"), 0.1) <= 1e-8 * np.linalg.norm(X, axis=1))


def test_rows_that_are_left_are_solved_for_h_as_it_is(monkeypatch):
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(2))
    H = unit(U * np.logspace(0, -6, 20) @ V).astype("float32")  # the least are 20 u_float32
    X = rng.standard_normal((200, 20))

    def nothing(curvature, A, *given):
        return 0 * A, np.arange(len(A))

    monkeypatch.setattr(quadratic, "nnls", nothing)
    W, H = solve(X, H), H.astype("float64")
    least = np.array([scipy.optimize.nnls(H.T, x)[1] for x in X])
    left = np.linalg.norm(X - W @ H, axis=1) - least
    assert np.all(left <= 1e-8 * np.linalg.norm(X, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_components_in_another_order_have_their_weights_in_that_order(kind, l1):
    rng = np.random.default_rng(0)
    H = unit(components(kind, rng))
    X = OPS.rows(rows(rng, H))
    twins = len(np.unique(H, axis=0)) < len(H)
    order = rng.permutation(len(H))
    W, other = (np.vstack(nnls.exact_weights(X, C, l1)[0]) for C in (H, H[order]))
    if twins:
        np.testing.assert_allclose(W @ H, other @ H[order], atol=1e-7 * np.abs(X.X).max())
    else:
        np.testing.assert_array_equal(W[:, order], other)


@pytest.mark.parametrize(
    "kind", ["decaying spectrum", "more than features", "a few directions and little noise"]
)
def test_where_components_are_nearly_dependent_a_row_takes_few_systems(kind, monkeypatch):
    rng = np.random.default_rng(0)
    if kind == "decaying spectrum":
        H, X = (rng.standard_normal((m, 80)) * np.logspace(0, -5, 80) for m in (60, 50))
    elif kind == "more than features":
        H, X = (rng.standard_normal((m, 40)) for m in (120, 50))
    else:
        plane = rng.standard_normal((20, 80))
        H, X = (
            rng.standard_normal((m, 20)) @ plane + 1e-3 * rng.standard_normal((m, 80))
            for m in (60, 50)
        )
    H, solved, systems = unit(H), [], type(OPS).solve_passive
    alone, active_set = [], scipy.optimize.nnls

    def counted(self, A, system, passive):
        solved.append(len(A))
        return systems(self, A, system, passive)

    def one_by_one(*given, **more):
        alone.append(1)
        return active_set(*given, **more)

    monkeypatch.setattr(type(OPS), "solve_passive", counted)
    monkeypatch.setattr(scipy.optimize, "nnls", one_by_one)
    W = solve(X, H)
    assert np.all(slope(X, W, H, 0.0) <= 1e-8 * np.linalg.norm(X, axis=1))
    assert sum(solved) < len(H) * len(X)  # single exchanges: one for each component that enters
    assert len(alone) <= (len(X) if len(H) <= quadratic.MANY else 0)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["plain", "missing", "locality"])
def test_pieces_of_a_block_come_to_what_the_block_does(make, weighted, name, monkeypatch):
    rng = np.random.default_rng(0)
    H, X = unit(rng.standard_normal((4, 12))), rng.standard_normal((50, 12))
    X[rng.random(X.shape) < 0.2] = np.nan if name == "missing" else 0
    solver = {
        "plain": None,
        "missing": missing.best_weights,
        "locality": functools.partial(locality.best_weights, mu=0.5, mean_square=2.0),
    }[name]
    rows = OPS.rows(make(X))
    weights = rows.split(rng.random((50, 1))) if weighted else None
    found = []
    for together in (2**17, 4 * 7):
        monkeypatch.setattr(nnls, "TOGETHER", together)
        (W,), square, squares, _ = nnls.exact_weights(rows, H, 0.1, 0, weights, solver)
        found.append((W, square, squares))
    for whole, pieces in zip(*found, strict=True):
        np.testing.assert_allclose(pieces, whole, rtol=1e-10, atol=1e-12)
    D = np.ones((50, 1)) if weights is None else weights[0]
    errors = np.nansum((X - found[1][0] @ H) ** 2, axis=1, keepdims=True)
    assert found[1][1] == pytest.approx(np.sum(D * errors))


def test_a_block_of_many_weights_is_worked_on_in_pieces(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 2**23)
    rng = np.random.default_rng(0)
    H = unit(rng.standard_normal((128, 160)))
    X = OPS.rows(rng.standard_normal((4096, 160)))
    assert len(X.slices) == 1
    tracemalloc.start()
    (W,), *_ = nnls.exact_weights(X, H, 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < W.nbytes + 2**24  # arrays of the whole block are 4 MiB each


def eliminated(A, M, passive):
    """By elimination in whole systems, with rows of the identity where z is zero."""
    both = passive[:, :, None] & passive[:, None, :]
    right = np.where(passive, A, 0.0)[:, :, None]
    return np.linalg.solve(np.where(both, M, np.eye(A.shape[1])), right)[:, :, 0]


@pytest.mark.parametrize("rank", [0, 9, 12])  # by this the zeros are more than B lacks, or not
@pytest.mark.parametrize("least", [1, 1e-3, 1e-5, 1e-6])
def test_systems_on_passive_sets_leave_what_elimination_leaves(rank, least):
    rng = np.random.default_rng(0)
    H = rng.standard_normal((12, 30))
    H[rank:] = least * H[rank:] + H[: 12 - rank].sum(axis=0)
    system = quadratic.System(OPS, unit(H) @ unit(H).T + 1e-13 * np.eye(12), delicate=True)
    A = rng.standard_normal((60, 12))
    passive = rng.random((60, 12)) < np.linspace(0, 1, 60)[:, None]
    Z, R, rounding = quadratic._solved(system, A, passive, np.abs(A).max(axis=1))
    assert np.all(Z[~passive] == 0)
    # elimination leaves 3 k u Σ|z| by Cholesky's bound, and finding it adds k u (|a| + Σ|z|)
    bound = 4 * 12 * 2.0**-53 * (np.abs(A).max(axis=1) + np.abs(Z).sum(axis=1))
    for solution in (Z, eliminated(A, system.matrix, passive)):
        residual = np.abs(np.where(passive, A - solution @ system.matrix, 0)).max(axis=1)
        np.testing.assert_array_less(residual, 2 * bound)  # it is found here once more
    np.testing.assert_array_less(rounding, 2 * bound)
    assert np.all(np.abs(R - (A - Z @ system.matrix)) <= 2 * bound[:, None])


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("k", [1, 5, 21])
@pytest.mark.parametrize("entries", [2**17, 50])  # solved together, or a row or two at a time
def test_systems_by_size_are_the_masked_ones(on_host, k, entries, monkeypatch):
    monkeypatch.setattr(type(OPS), "on_host", on_host)
    monkeypatch.setattr(passive_sets, "SYSTEMS" if on_host else "ON_DEVICE", entries)
    rng = np.random.default_rng(0)
    H = rng.standard_normal((k, 2 * k + 3))
    A, B = rng.standard_normal((60, k)), H @ H.T
    passive = rng.random((60, k)) < np.linspace(0, 1, 60)[:, None]
    passive[0], passive[-1] = False, True
    expected = eliminated(A, B, passive)
    np.testing.assert_allclose(OPS.eliminate(A, B, passive), expected, atol=1e-12)
    each = np.stack([B] * 60) + np.linspace(0, 1, 60)[:, None, None] * np.eye(k)
    ours = OPS.eliminate(A, each, passive)
    np.testing.assert_allclose(ours, eliminated(A, each, passive), atol=1e-12)
    system = quadratic.System(OPS, B, delicate=False)
    np.testing.assert_allclose(OPS.solve_passive(A, system, passive), expected, atol=1e-12)


def test_pivoting_from_a_poor_guess_does_not_go_in_circles():
    rng = np.random.default_rng(0)
    H = unit(rng.standard_normal((40, 50)) * np.logspace(0, -3, 50))  # a condition of 8e5
    X = rng.standard_normal((100, 50))
    system = quadratic.Curvature(OPS, H @ H.T).system(0.0)
    size = np.linalg.norm(X, axis=1)
    W, settled = quadratic._pivot(system, X @ H.T, None, X @ H.T > 0, size)
    assert np.sum(settled) >= 95  # 79 if all components of the wrong sign always move
    assert np.all(slope(X, W, H, 0.0)[settled] <= 1e-8 * size[settled])


@pytest.mark.parametrize("sparsity", [0.003, 0.01, 0.05])
def test_a_penalty_over_many_components_of_few_directions_needs_few_active_sets(
    monkeypatch, sparsity
):
    """Multipliers of a small penalty end far from such weights: few are left of many."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 20)) @ rng.standard_normal((20, 90)) + rng.standard_normal(
        (40, 90)
    )
    H = rng.standard_normal((80, 20)) @ rng.standard_normal((20, 90))
    H /= np.linalg.norm(H, axis=1)[:, None]
    H += 0.05 / 90**0.5 * rng.standard_normal(H.shape)
    H /= np.linalg.norm(H, axis=1)[:, None]
    left = []
    real = quadratic.by_active_sets

    def seen(curvature, A, W, rows):
        left.append(rows.shape[0])
        return real(curvature, A, W, rows)

    monkeypatch.setattr(quadratic, "by_active_sets", seen)
    l1 = sparsity * np.linalg.norm(X) / len(X) ** 0.5
    (W,), *_ = nnls.exact_weights(adapter("numpy").rows(X), H, l1)
    slope = (X - W @ H) @ H.T - l1
    wrong = np.where(W > 0, np.abs(slope), np.maximum(slope, 0))
    assert np.max(wrong / np.linalg.norm(X, axis=1)[:, None]) < 1e-8
    assert sum(left) <= 10  # of 40
