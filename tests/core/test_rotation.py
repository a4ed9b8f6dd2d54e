"""The starts from principal components: these, their rotations, and the scores of it."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from snmf.core import rotation

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
    return rotation.drawn(k, np.random.RandomState(seed))


def kaisers(Z, R, share):
    """The sum over columns of the variance of the squared scores."""
    squares = (Z @ R) ** 2
    return np.sum(share @ squares**2 - (share @ squares) ** 2)


def comons(Z, R, share):
    """The sum over columns of the squared third moment."""
    return np.sum((share @ (Z @ R) ** 3) ** 2)


ROTATIONS = {"skewness": (rotation.skewness, comons), "varimax": (rotation.varimax, kaisers)}
by_each = pytest.mark.parametrize("rotate", [rotation.skewness, rotation.varimax])


def whitened(X, weights, k):
    share = weights / weights.sum()
    mean = share @ X
    return (X - mean) @ rotation.principal(X, share, mean, k), share


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
        monkeypatch.setattr(rotation, "DENSE", 4)
        monkeypatch.setattr(rotation, "_by_gram", None)
    else:
        monkeypatch.setattr(rotation, "_by_lanczos", None)
    found = rotation.principal(make(X), share, mean, k)
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
    scores = rotation.nonnegative_scores(X, np.ones(300), orthogonal(3), rotation.skewness)
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
    monkeypatch.setattr(rotation, "DENSE", dense)
    X, k = LACKING[what]
    for scale in (1.0, 2.0**-40):
        found = rotation.nonnegative_scores(
            make(X * X.dtype.type(scale)), np.ones(len(X)), orthogonal(k), rotation.skewness
        )
        assert found is None


def test_as_many_as_there_are_are_found():
    _, _, X = planted(n=50, noise=0)
    few = np.random.default_rng(0).standard_normal((30, 3))
    for data, k in ((X, 4), (few, 3)):
        first = orthogonal(k)
        assert rotation.nonnegative_scores(data, None, first, rotation.skewness) is not None


@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize("seed", range(5))
def test_the_rotation_is_orthogonal_and_no_other_has_a_larger_criterion(name, seed):
    rotate, criterion = ROTATIONS[name]
    _, _, X = planted(seed, n=300, noise=0.5)
    Z, share = whitened(X, np.random.default_rng(seed).random(300) + 0.1, 4)
    R = rotate(Z, share, orthogonal(4))
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


@by_each
@pytest.mark.parametrize("seed", range(5))
def test_independent_sparse_scores_are_found(rotate, seed):
    W, _, X = planted(seed)
    scores = rotation.nonnegative_scores(X, np.ones(len(X)), orthogonal(4, seed), rotate)
    found = X @ scores.M - scores.offset
    assert matched(found - found.mean(axis=0), W - W.mean(axis=0)).min() > 0.97
    # where the principal components themselves are not
    Z, _ = whitened(X, np.ones(len(X)), 4)
    assert matched(Z, W - W.mean(axis=0)).min() < 0.9


@pytest.mark.parametrize("seed", range(5))
def test_skewness_finds_dense_weights_where_noise_hides_them_from_varimax(seed):
    rng = np.random.default_rng(seed)
    W = rng.gamma(2, 0.5, (2000, 10))
    noisy = W + W.std() * rng.standard_normal(W.shape)
    Z, share = whitened(noisy, np.ones(len(W)), 10)
    found = {
        rotate: matched(Z @ rotate(Z, share, orthogonal(10, seed)), noisy - noisy.mean(axis=0))
        for rotate in (rotation.skewness, rotation.varimax)
    }
    assert found[rotation.skewness].min() > 0.9
    assert found[rotation.varimax].mean() < found[rotation.skewness].mean()


@pytest.mark.parametrize("k", [1, 3])
def test_scores_without_skewness_keep_the_rotation_that_was_drawn(k):
    half = np.round(8 * np.random.default_rng(0).standard_normal((64, k))) / 8  # sums are exact
    R = rotation.skewness(np.vstack([half, -half]), np.full(128, 1 / 128), np.eye(k))
    np.testing.assert_array_equal(R, np.eye(k))


@by_each
@pytest.mark.parametrize("sign", [1, -1])
def test_the_signs_and_the_shift_make_most_scores_positive(rotate, sign):
    _, _, X = planted()
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    scores = rotation.nonnegative_scores(sign * X, weights, orthogonal(4), rotate)
    again = np.repeat(sign * X, weights.astype(int), axis=0)
    L = again @ scores.M - scores.offset
    assert np.all(np.mean((L - L.mean(axis=0)) ** 3, axis=0) > 0)
    assert np.all(np.abs(np.mean(L < -1e-9, axis=0) - rotation.LOWEST) < 2 / len(X))
    np.testing.assert_allclose(np.std(L, axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(np.mean(np.maximum(L, 0), axis=0), scores.mean, rtol=1e-9)


@by_each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_of_weight_two_is_two_rows(rotate, dtype):
    X, _ = sample((80, 12), dtype)
    counts = np.random.default_rng(0).integers(1, 4, 80)
    weighted = rotation.nonnegative_scores(X, counts.astype(float), orthogonal(3), rotate)
    again = np.repeat(X, counts, axis=0)
    repeated = rotation.nonnegative_scores(again, np.ones(len(again)), orthogonal(3), rotate)
    for ours, theirs in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@by_each
def test_the_same_seed_gives_the_same_bits_at_any_scale(rotate):
    X, weights = sample((80, 12))
    one = rotation.nonnegative_scores(X, weights, orthogonal(3, 7), rotate)
    smaller, first = np.ldexp(X, -40), orthogonal(3, 7)
    again = rotation.nonnegative_scores(smaller, 4 * weights, first, rotate)
    np.testing.assert_array_equal(one.M, np.ldexp(again.M, -40))
    np.testing.assert_array_equal(one.offset, again.offset)
    np.testing.assert_array_equal(one.mean, again.mean)
    assert not np.array_equal(orthogonal(3, 7), orthogonal(3, 8))
