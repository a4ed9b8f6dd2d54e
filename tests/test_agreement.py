"""Whether two fits agree: matched components, and stability over halves of the rows."""

from itertools import permutations

import array_api_strict as strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

import snmf
from snmf import SNMF, ConvexNMF, MiniBatchSNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
H = RNG.standard_normal((6, 30))
SPARSE = {"sparsity": 0.03, "solver": "hals"}


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def planted(n=400, k=4, p=20, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    W = rng.exponential(size=(n, k)) * (rng.random((n, k)) < 0.5)
    X = W @ rng.standard_normal((k, p))
    return X + noise * rng.standard_normal(X.shape)


# align


@pytest.mark.parametrize("seed", range(5))
def test_a_permutation_is_found_again_whatever_the_scale_and_the_noise(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    lengths = 10.0 ** rng.uniform(-200, 200, size=6)
    A = lengths[:, None] * (H + 0.3 * rng.standard_normal(H.shape))[order]
    found = snmf.align(A, H)
    np.testing.assert_array_equal(order[found.indices], np.arange(6))
    np.testing.assert_array_equal(found.components, A[found.indices])
    unit = A / lengths[:, None]
    expected = [cosine(unit[i], H[j]) for j, i in enumerate(found.indices)]
    np.testing.assert_allclose(found.cosines, expected, rtol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected))
    assert len(found.unmatched) == 0


def test_no_other_pairs_have_a_larger_sum_of_cosines():
    A, B = RNG.standard_normal((2, 5, 3))
    cosines = np.array([[cosine(a, b) for b in B] for a in A])
    best = max(cosines[list(order), range(5)].sum() for order in permutations(range(5)))
    assert snmf.align(A, B).cosines.sum() == pytest.approx(best)


def test_a_component_is_not_its_negative():
    found = snmf.align([[-1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, -1.0]])
    np.testing.assert_array_equal(found.indices, [1, 0])
    np.testing.assert_allclose(found.cosines, [0.6, 0], atol=1e-15)
    np.testing.assert_allclose(snmf.align(-H, H[:1]).cosines, snmf.align(H, -H[:1]).cosines)
    assert snmf.align(-H[:1], H[:1]).cosines == pytest.approx(-1)


def test_what_has_no_pair_is_named():
    few = snmf.align(H[[4, 1]], H)
    np.testing.assert_array_equal(few.indices, [-1, 1, -1, -1, 0, -1])
    expected = [np.nan, 1, np.nan, np.nan, 1, np.nan]
    np.testing.assert_allclose(few.cosines, expected)
    assert np.isnan(few.components[[0, 2, 3, 5]]).all()
    np.testing.assert_array_equal(few.components[[1, 4]], H[[1, 4]])
    assert few.mean == pytest.approx(1)
    many = snmf.align(H, H[[4, 1]])
    np.testing.assert_array_equal(many.indices, [4, 1])
    np.testing.assert_array_equal(many.unmatched, [0, 2, 3, 5])
    assert many.components.shape == (2, 30)


def test_a_component_of_zeros_has_cosine_zero():
    dead = np.where(np.arange(6)[:, None] == 2, 0, H)
    np.testing.assert_allclose(snmf.align(H[::-1], dead).cosines, [1, 1, 0, 1, 1, 1])


def test_fits_with_different_scales_are_not_compared():
    X = planted()
    whole, half = (SNMF(4, scale=True, random_state=0, **SPARSE).fit(A) for A in (X, X[:200]))
    plain = snmf.factorize(X, 4, random_state=0, **SPARSE)
    for A in (half, plain):
        with pytest.raises(ValueError, match=r"A and B must have the same scale; .* same array"):
            snmf.align(A, whole)
    rounded = SNMF(4, scale=whole.scale_, random_state=0, **SPARSE).fit(X.astype("float32"))
    ones = SNMF(4, scale=np.ones(20), random_state=0, **SPARSE).fit(X)
    for A, B in ((rounded, whole), (plain, ones), (plain.H, whole)):
        assert snmf.align(A, B).mean > 0.9
    with pytest.raises(ValueError, match="same number of features"):
        snmf.align(whole, SNMF(4, scale=True, random_state=0, **SPARSE).fit(X[:, :9]))


def test_all_fits_divide_by_the_deviations_of_all_rows():
    X, D = planted(), np.random.default_rng(0).integers(0, 3, 400)
    X[0] *= 30  # one half has this row, and another does not
    given = {"n_fits": 2, "random_state": 0, "sample_weight": D, **SPARSE}
    found = snmf.stability(X, 4, scale=True, **given)
    whole = snmf.factorize(X, 4, random_state=0, sample_weight=D, scale=True, **SPARSE)
    np.testing.assert_array_equal(found.components, whole.H)
    expected = snmf.stability(X, 4, scale=whole.scale, **given)
    np.testing.assert_array_equal(found.cosines, expected.cosines)


def test_it_prints_a_table():
    lines = str(snmf.align(H[[1, 0, 2, 3]], H[:3])).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["0", "1", "1.0000"], ["1", "0", "1.0000"], ["2", "2", "1.0000"]
    ]  # fmt: skip
    assert lines[4:] == ["mean cosine 1.0000", "of A without a pair: 3"]
    assert len(str(snmf.align(H[:1], H)).splitlines()) == 8
    assert repr(snmf.align(H, H)) == str(snmf.align(H, H))


def test_fits_and_arrays_of_other_libraries():
    X = planted()
    model = SNMF(4, random_state=0, progress_bar=False, **SPARSE).fit(X)
    result = snmf.factorize(X, 4, random_state=1, progress_bar=False, **SPARSE)
    expected = snmf.align(model.components_, result.H)
    assert expected.mean > 0.99
    for A, B in (
        (model, result),
        (strict.asarray(model.components_), pd.DataFrame(result.H)),
        (model.components_.tolist(), strict.asarray(result.H)),
    ):
        found = snmf.align(A, B)
        np.testing.assert_array_equal(found.indices, expected.indices)
        assert type(found.components) is np.ndarray
    assert snmf.align(PCA(3).fit(X), model).cosines.shape == (4,)


def test_arrays_of_dask():
    da = pytest.importorskip("dask.array")
    assert snmf.align(da.from_array(H, chunks=(2, -1)), H).mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("A", "error", "words"),
    [
        (H[:, :5], ValueError, "same number of features .columns.; got 5 and 30"),
        (H[0], ValueError, "Expected 2D array"),
        (np.where(H > 2, np.nan, H), ValueError, "Input A contains NaN"),
        (SNMF(2), NotFittedError, "not fitted"),
        (KMeans(2).fit(H), ValueError, "A must have components; KMeans has no components_"),
    ],
)
def test_bad_components_are_refused(A, error, words):
    with pytest.raises(error, match=words):
        snmf.align(A, H)


# stability


def test_what_is_in_the_data_is_found_in_every_half():
    X = planted()
    found = snmf.stability(X, 4, random_state=0, **SPARSE)
    assert found.cosines.shape == (5, 4)
    assert found.cosines.min() > 0.99
    assert found.mean > 0.99


def test_what_is_not_is_not():
    """A fifth component fits noise, or a sum of others; in noise alone nothing is found again."""
    found = [snmf.stability(planted(seed=i), 5, random_state=0, **SPARSE) for i in range(4)]
    cosines = np.mean([np.sort(each.per_component) for each in found], axis=0)
    assert cosines[0] < 0.8 < 0.9 < cosines[1]
    noise = np.random.default_rng(1).standard_normal((400, 20))
    assert snmf.stability(noise, 5, random_state=0, **SPARSE).mean < 0.6


def test_the_numbers_are_those_of_align():
    X = planted(noise=1.0)
    found = snmf.stability(X, 4, n_fits=3, random_state=0, solver="hals")
    whole = snmf.factorize(X, 4, random_state=0, solver="hals", progress_bar=False)
    np.testing.assert_array_equal(found.components, whole.H)
    rng = np.random.RandomState(0)
    fits = []
    for _ in range(3):
        some = np.sort(rng.permutation(400)[:200])
        seed = rng.randint(2**31 - 1)
        fits.append(snmf.factorize(X[some], 4, random_state=seed, solver="hals").H)
    expected = [snmf.align(fit, whole).cosines for fit in fits]
    np.testing.assert_allclose(found.cosines, expected, atol=1e-8)
    np.testing.assert_allclose(found.per_component, np.mean(expected, axis=0), atol=1e-8)
    pairs = [[snmf.align(a, b).mean for b in fits] for a in fits]
    np.testing.assert_allclose(found.pairs, pairs, atol=1e-8)
    mean = np.mean([pairs[i][j] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert found.mean == pytest.approx(mean, abs=1e-8)
    assert 0.3 < mean < 0.999


def test_with_all_rows_the_seeds_differ():
    X = planted(noise=1.0)
    given = {"n_fits": 3, "subsample": 1, "random_state": 0, "tol": 1e-3, "init": "random"}
    found = snmf.stability(X, 4, **given)
    assert found.cosines.max() < 1 - 1e-6
    again = snmf.stability(X, 4, **given)
    np.testing.assert_array_equal(found.cosines, again.cosines)
    with pytest.raises(ValueError, match="init='svd' is no random start, and subsample=1 takes"):
        snmf.stability(X, 4, **{**given, "init": "svd"})
    assert snmf.stability(X, 4, init="svd", n_fits=2, random_state=0).cosines.max() < 1 - 1e-9


def test_any_kind_of_data(tmp_path):
    X = np.where(np.abs(planted()) < 0.3, 0, planted())
    np.save(tmp_path / "X.npy", X)
    given = {"n_fits": 2, "random_state": 0, **SPARSE}
    expected = snmf.stability(X, 4, **given)
    kinds = [
        sp.csr_array(X),
        pd.DataFrame(X),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        strict.asarray(X),
    ]
    for data in kinds:
        found = snmf.stability(data, 4, **given)
        np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-6)
        assert type(found.components) is np.ndarray


def test_rows_of_dask():
    da = pytest.importorskip("dask.array")
    X, given = planted(), {"n_fits": 2, "random_state": 0, **SPARSE}
    found = snmf.stability(da.from_array(X, chunks=(90, -1)), 4, **given)
    expected = snmf.stability(X, 4, **given)
    np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-6)


def test_missing_values():
    X = planted()
    X[RNG.random(X.shape) < 0.1] = np.nan
    found = snmf.stability(X, 4, n_fits=2, random_state=0, missing_values=np.nan, **SPARSE)
    assert found.mean > 0.98


def test_rows_of_weight_zero_are_not_drawn():
    X, D = planted(), np.random.default_rng(0).permutation(np.r_[np.ones(300), np.zeros(100)])
    wild = np.where(D[:, None] == 0, 1e3 * RNG.standard_normal(X.shape), X)
    found = snmf.stability(wild, 4, n_fits=2, random_state=0, sample_weight=D, **SPARSE)
    assert found.mean > 0.98
    whole = snmf.factorize(wild, 4, random_state=0, sample_weight=D, progress_bar=False, **SPARSE)
    np.testing.assert_array_equal(found.components, whole.H)
    # a half of the rows with a weight, with their weights
    D = D * RNG.exponential(size=400)
    found = snmf.stability(X, 4, n_fits=2, random_state=0, sample_weight=D, **SPARSE)
    rng = np.random.RandomState(0)
    some = rng.permutation(np.flatnonzero(D))[:150]
    drawn, seed = np.isin(np.arange(400), some), rng.randint(2**31 - 1)
    half = snmf.factorize(
        X, 4, random_state=seed, sample_weight=D * drawn, progress_bar=False, **SPARSE
    )
    np.testing.assert_allclose(found.cosines[0], snmf.align(half, found.components).cosines)


@pytest.mark.parametrize(
    "estimator",
    [
        SNMF(9, random_state=5, **SPARSE),
        MiniBatchSNMF(batch_size=50, **SPARSE),
        ConvexNMF(sparsity=0.1),
    ],
)
def test_fits_of_an_estimator(estimator):
    before = estimator.get_params()
    given = {"n_fits": 3, "random_state": 0}
    found = snmf.stability(planted(), 4, estimator=estimator, **given)
    assert found.cosines.shape == (3, 4)
    whole = clone(estimator).set_params(n_components=4, random_state=0).fit(planted())
    np.testing.assert_array_equal(found.components, whole.components_)
    rng = np.random.RandomState(0)
    drawn = np.isin(np.arange(400), rng.permutation(400)[:200]).astype("float64")
    half = clone(whole).set_params(random_state=rng.randint(2**31 - 1))
    half.fit(planted(), sample_weight=drawn)
    np.testing.assert_allclose(found.cosines[0], snmf.align(half, whole).cosines, atol=1e-8)
    assert estimator.get_params() == before
    assert not hasattr(estimator, "components_")
    if isinstance(estimator, SNMF):
        expected = snmf.stability(planted(), 4, **given, **SPARSE)
        np.testing.assert_array_equal(found.cosines, expected.cosines)
        assert len(snmf.stability(planted(), estimator=estimator, **given).components) == 9


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"estimator": SNMF(), "sparsity": 0.1}, TypeError, r"and the parameters \['sparsity'\]"),
        ({"estimator": {}}, TypeError, "must be an SNMF, MiniBatchSNMF or ConvexNMF, or None; got"),
        ({"estimator": ConvexNMF(kernel="rbf")}, ValueError, "got kernel='rbf'. Set kernel='lin"),
        ({"estimator": SNMF(checkpoint="a.npz")}, ValueError, "no checkpoint; got 'a.npz'"),
        ({"estimator": SNMF(init="custom")}, ValueError, "stability makes its own starts"),
        ({"estimator": SNMF(init="svd"), "subsample": 1}, ValueError, "takes all 400 rows"),
    ],
)
def test_an_estimator_that_cannot_be_compared_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        snmf.stability(planted(), 4, **given)


def test_it_prints_a_table_of_components():
    found = snmf.stability(planted(), 4, n_fits=2, random_state=0)
    lines = str(found).splitlines()
    assert lines[0].split() == ["component", "mean", "cosine", "lowest"]
    values = found.cosines[:, 3]
    assert lines[4].split() == ["3", f"{values.mean():.4f}", f"{values.min():.4f}"]
    assert lines[5:] == [f"mean over pairs of 2 fits {found.mean:.4f}"]
    assert repr(found) == str(found)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"n_fits": 1}, ValueError, "n_fits must be a whole number from 2; got 1"),
        ({"n_fits": True}, ValueError, "n_fits must be"),
        ({"subsample": 0}, ValueError, "subsample must be above 0 and at most 1; got 0"),
        ({"subsample": np.nan}, ValueError, "at most 1; got nan"),
        ({"subsample": 1e-4}, ValueError, "subsample=0.0001 of 400 rows leaves none"),
        ({"subsample": 0.9999, "init": "svd"}, ValueError, "takes all 400 rows"),
        ({"init": "custom"}, ValueError, "stability makes its own starts"),
        ({"checkpoint": "file"}, TypeError, r"parameters \['checkpoint'\]; it takes"),
        ({"W": np.ones((400, 4))}, TypeError, r"parameters \['W'\]; it takes"),
        ({"n_components": "auto"}, ValueError, "n_components"),
        ({"sample_weight": np.zeros(400)}, ValueError, "must not be zero for every row"),
    ],
)
def test_bad_questions_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        snmf.stability(planted(), **{"n_components": 4, **given})
