"""The start from varimax: principal components, their rotation, and the scores of it."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from snmf.core import varimax

SHAPES = {"tall": (80, 12), "square": (20, 20), "wide": (25, 70)}


def sample(shape, dtype="float64", seed=0):
    """Sparse data of many signs with a mean, and weights of the rows."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape) * (rng.random(shape) < 0.4) + 0.5 * (rng.random(shape) < 0.2)
    return X.astype(dtype), rng.random(shape[0]) + 0.1


def planted(seed=0, n=2000, k=4, p=20, noise=0.05):
    """Independent scores that are zero in four rows of five, components, and data of both."""
    rng = np.random.default_rng(seed)
    W = rng.gamma(2, 0.5, (n, k)) * (rng.random((n, k)) < 0.2)
    H = rng.standard_normal((k, p))
    return W, H, W @ H + noise * rng.standard_normal((n, p))


def orthogonal(k, seed=0):
    return varimax.drawn(k, np.random.RandomState(seed))


def criterion(Z, R, share):
    """Kaiser's: the sum over columns of the variance of the squared scores."""
    squares = (Z @ R) ** 2
    return np.sum(share @ squares**2 - (share @ squares) ** 2)


def whitened(X, weights, k):
    share = weights / weights.sum()
    mean = share @ X
    return (X - mean) @ varimax.principal(X, share, mean, k), share


def matched(A, B):
    """The absolute cosines of the columns of A and B, matched one to one."""
    A, B = (M / np.linalg.norm(M, axis=0) for M in (A, B))
    cosines = np.abs(A.T @ B)
    return cosines[scipy.optimize.linear_sum_assignment(-cosines)]


@pytest.mark.parametrize("way", ["a Gram matrix", "Lanczos"])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, sp.csr_matrix])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_principal_components_are_those_of_the_svd(way, make, dtype, shape, monkeypatch):
    X, weights = sample(SHAPES[shape], dtype)
    share, k = weights / weights.sum(), 5
    mean = share @ X
    if way == "Lanczos":
        monkeypatch.setattr(varimax, "DENSE", 4)
        monkeypatch.setattr(varimax, "_by_gram", None)
    else:
        monkeypatch.setattr(varimax, "_by_lanczos", None)
    found = varimax.principal(make(X), share, mean, k)
    _, deviation, Vt = np.linalg.svd(np.sqrt(share)[:, None] * (X - mean), full_matrices=False)
    expected = Vt[:k].T / deviation[:k]
    expected *= np.sign(np.sum(expected * found, axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    Z = (X - mean) @ found
    np.testing.assert_allclose(share @ Z, 0, atol=1e-9)
    np.testing.assert_allclose(Z.T @ (share[:, None] * Z), np.eye(k), atol=1e-9)


def test_sparse_data_of_many_columns_are_never_dense(monkeypatch):
    X = sp.random_array((300, 10**6), density=1e-5, rng=np.random.default_rng(0), format="csr")
    monkeypatch.setattr(sp.csr_array, "toarray", None)
    scores = varimax.nonnegative_scores(X, np.ones(300), orthogonal(3))
    assert np.isfinite(scores.M).all()


LACKING = {
    "more components than columns": (np.random.default_rng(0).standard_normal((30, 3)), 4),
    "as many components as rows": (np.random.default_rng(0).standard_normal((4, 30)), 4),
    "zeros": (np.zeros((20, 6)), 2),
    "the same row": (np.tile(np.random.default_rng(0).standard_normal(6), (20, 1)), 1),
    "a rank below k": (planted(n=50, noise=0)[2], 5),
    "a rank below k in float32": (planted(n=50, noise=0)[2].astype("float32"), 5),
    "two kinds of row": (np.repeat(np.eye(2, 9), 10, axis=0), 2),
}


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dense", [2048, 1])
@pytest.mark.parametrize("what", LACKING)
def test_there_are_none_where_principal_components_are_missing(make, dense, what, monkeypatch):
    monkeypatch.setattr(varimax, "DENSE", dense)
    X, k = LACKING[what]
    for scale in (1.0, 2.0**-40):
        found = varimax.nonnegative_scores(
            make(X * X.dtype.type(scale)), np.ones(len(X)), orthogonal(k)
        )
        assert found is None


def test_as_many_as_there_are_are_found():
    _, _, X = planted(n=50, noise=0)
    assert varimax.nonnegative_scores(X, np.ones(50), orthogonal(4)) is not None
    few = np.random.default_rng(0).standard_normal((30, 3))
    assert varimax.nonnegative_scores(few, np.ones(30), orthogonal(3)) is not None


@pytest.mark.parametrize("seed", range(5))
def test_the_rotation_is_orthogonal_and_no_other_has_a_larger_criterion(seed):
    _, _, X = planted(seed, n=300, noise=0.5)
    Z, share = whitened(X, np.random.default_rng(seed).random(300) + 0.1, 4)
    R = varimax.rotation(Z, share, orthogonal(4))
    np.testing.assert_allclose(R.T @ R, np.eye(4), atol=1e-12)
    ours = criterion(Z, R, share)
    assert all(criterion(Z, orthogonal(4, other), share) < ours for other in range(200))
    # nor is a plane in which a small turn raises it
    for i in range(4):
        for j in range(i):
            for angle in (-0.05, 0.05):
                turn = np.eye(4)
                turn[[i, j], [i, j]] = np.cos(angle)
                turn[i, j], turn[j, i] = np.sin(angle), -np.sin(angle)
                assert criterion(Z, R @ turn, share) < ours


@pytest.mark.parametrize("seed", range(5))
def test_independent_sparse_scores_are_found(seed):
    W, _, X = planted(seed)
    scores = varimax.nonnegative_scores(X, np.ones(len(X)), orthogonal(4, seed))
    found = X @ scores.M - scores.offset
    assert matched(found - found.mean(axis=0), W - W.mean(axis=0)).min() > 0.97
    # where the principal components themselves are not
    Z, _ = whitened(X, np.ones(len(X)), 4)
    assert matched(Z, W - W.mean(axis=0)).min() < 0.9


@pytest.mark.parametrize("sign", [1, -1])
def test_the_signs_and_the_shift_make_most_scores_positive(sign):
    _, _, X = planted()
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    scores = varimax.nonnegative_scores(sign * X, weights, orthogonal(4))
    again = np.repeat(sign * X, weights.astype(int), axis=0)
    L = again @ scores.M - scores.offset
    assert np.all(np.mean((L - L.mean(axis=0)) ** 3, axis=0) > 0)
    assert np.all(np.abs(np.mean(L < -1e-9, axis=0) - varimax.LOWEST) < 2 / len(X))
    np.testing.assert_allclose(np.std(L, axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(np.mean(np.maximum(L, 0), axis=0), scores.mean, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_of_weight_two_is_two_rows(dtype):
    X, _ = sample((80, 12), dtype)
    counts = np.random.default_rng(0).integers(1, 4, 80)
    weighted = varimax.nonnegative_scores(X, counts.astype(float), orthogonal(3))
    again = np.repeat(X, counts, axis=0)
    repeated = varimax.nonnegative_scores(again, np.ones(len(again)), orthogonal(3))
    for ours, theirs in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_same_seed_gives_the_same_bits_at_any_scale():
    X, weights = sample((80, 12))
    one = varimax.nonnegative_scores(X, weights, orthogonal(3, 7))
    again = varimax.nonnegative_scores(np.ldexp(X, -40), 4 * weights, orthogonal(3, 7))
    np.testing.assert_array_equal(one.M, np.ldexp(again.M, -40))
    np.testing.assert_array_equal(one.offset, again.offset)
    np.testing.assert_array_equal(one.mean, again.mean)
    assert not np.array_equal(orthogonal(3, 7), orthogonal(3, 8))
