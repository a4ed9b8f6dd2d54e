"""How many components."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

import snmf
from snmf import SNMF
from snmf._selection import held_out_error, supported

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


HALS = {"solver": "hals", "sparsity": 0, "init": "svd"}


def planted(k, seed=0, n=200, p=30, noise=0.2):
    rng = np.random.default_rng(seed)
    clean = np.maximum(0, rng.standard_normal((n, k))) @ rng.standard_normal((k, p))
    return clean + noise * clean.std() * rng.standard_normal((n, p))


@pytest.mark.parametrize("k", [3, 5, 8])
def test_the_planted_number_is_found(k):
    X = planted(k, seed=k)
    result = snmf.select_n_components(X, range(1, 11), random_state=0)
    assert result.best == k
    assert isinstance(result.best, int)
    assert result.errors.shape == (10, 3)
    assert np.all(result.errors[k - 1].mean() < result.errors[k - 2].mean())
    assert SNMF("auto", random_state=0).fit(X).n_components_ == k


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("k", [5, 10])
def test_dense_weights_and_noise_change_it_by_one_at_most(k, noise):
    """With a penalty, and noise of 0.1, the held-out error falls long after k."""
    rng = np.random.default_rng(k)
    clean = rng.gamma(2, 0.5, (100 * k, k)) @ rng.standard_normal((k, 10 * k))
    X = clean + noise * np.sqrt(np.mean(clean**2)) * rng.standard_normal(clean.shape)
    numbers = [1, 2, *range(k - 3, k + 4), 2 * k]
    assert abs(snmf.select_n_components(X, numbers, random_state=0).best - k) <= 1
    assert abs(SNMF("auto", random_state=0).fit(X).n_components_ - k) <= 1


def test_auto_and_the_table_choose_alike():
    """As long as they compare the same numbers: with 7 columns there are 6 to choose from."""
    X = np.random.default_rng(1).gamma(1, 1, (80, 3)) @ np.random.default_rng(2).normal(size=(3, 7))
    X += 0.5 * np.random.default_rng(3).normal(size=X.shape)
    result = snmf.select_n_components(X, [1, 2, 3, 4, 5, 6, 14], random_state=4)
    assert result.best == SNMF("auto", random_state=4).fit(X).n_components_ == 3


@pytest.mark.parametrize("shape", [(200, 7), (300, 40)])
def test_white_noise_supports_no_number(shape):
    X = np.random.default_rng(0).standard_normal(shape)
    result = snmf.select_n_components(X, [1, 2, 3, 14], random_state=0)
    assert result.best is None
    assert str(result).splitlines()[-1].startswith("No number of components is supported")
    pytest.importorskip("matplotlib")
    assert result.plot().chosen is None


def test_auto_warns_if_no_number_is_supported():
    X = np.random.default_rng(0).standard_normal((300, 40))
    with pytest.warns(ConvergenceWarning, match="No number of components is supported: held-out"):
        assert SNMF("auto", random_state=0).fit(X).n_components_ == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SNMF("auto", random_state=0).fit(planted(2))


@pytest.mark.parametrize("seed", range(5))
def test_as_many_components_as_columns_are_never_chosen(seed):
    """Columns nearly agree, so that with a penalty any number of components predicts them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((60, 1)) + 0.1 * rng.standard_normal((60, 7))
    result = snmf.select_n_components(X, [7, 8, 14], sparsity=0.1, random_state=seed)
    assert result.errors.min() < 0.5
    assert result.best is None


def test_what_is_held_out_is_not_seen_by_the_fit():
    """Rows a million times as large would draw the fit to them, and columns the weights."""
    X = planted(3)
    test = np.random.default_rng(7).permutation(200)[:40]
    wild = X.copy()
    wild[test] = 1e6 * np.random.default_rng(1).standard_normal((40, 30))
    assert held_out_error(wild, 3, 0.2, 7, HALS) > 0.9
    assert held_out_error(X, 3, 0.2, 7, HALS) < 0.4
    one = X.copy()
    one[:, 4] = 1e6 * np.random.default_rng(1).standard_normal(200)
    assert held_out_error(one, 3, 0.2, 7, HALS) > 0.9


def test_the_error_is_that_of_the_held_out_entries():
    rng = np.random.default_rng(0)
    X = rng.random((300, 2)) @ rng.standard_normal((2, 20))
    exact = {**HALS, "tol": 1e-13, "max_iter": 3000}
    assert held_out_error(X, 2, 0.2, 0, exact) < 1e-2
    for scale in (1e-200, 1e200):
        assert held_out_error(scale * X, 1, 0.2, 0, HALS) == pytest.approx(
            held_out_error(X, 1, 0.2, 0, HALS), rel=1e-6
        )


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_nothing_to_predict_from_is_an_error_of_one(shape):
    assert held_out_error(np.ones(shape), 1, 0.2, 0, HALS) == 1
    assert held_out_error(np.zeros((5, 4)), 1, 0.2, 0, HALS) == 1


def test_rows_count_as_much_as_their_weight_says():
    X = planted(2, n=100)
    both = np.vstack([X, 100 * planted(3, seed=1, n=100)])
    assert held_out_error(both, 2, 0.2, 0, HALS) > 0.4
    assert held_out_error(both, 2, 0.2, 0, HALS, np.repeat([1.0, 1e-12], 100)) < 0.3
    alike = held_out_error(X, 2, 0.2, 0, HALS, np.full(100, 3.0))
    assert alike == pytest.approx(held_out_error(X, 2, 0.2, 0, HALS), rel=1e-6)


@pytest.mark.parametrize("more", [{"locality": 1.0}, {"sparsity": 0.1}, {"solver": "mu"}])
def test_its_parameters_are_those_of_the_fits(more):
    X = planted(3)
    found = snmf.select_n_components(X, [1, 3], random_state=0, **more).errors
    plain = snmf.select_n_components(X, [1, 3], random_state=0).errors
    assert np.all(found[1] < found[0])
    assert not np.allclose(found, plain, rtol=1e-6)


def test_missing_values_stay_missing():
    X = planted(3)
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    result = snmf.select_n_components(X, [2, 3, 4], random_state=0, restarts=2)
    assert result.best == 3
    assert np.isfinite(result.errors).all()
    assert np.isfinite(result.stability).all()
    assert SNMF("auto", missing_values=np.nan, random_state=0).fit(X).n_components_ == 3


def test_stability_is_one_for_what_every_start_finds():
    rng = np.random.default_rng(0)
    centres = 10 * rng.standard_normal((3, 8))
    X = centres[rng.integers(3, size=150)] + 0.01 * rng.standard_normal((150, 8))
    result = snmf.select_n_components(
        X, [3, 7], restarts=4, random_state=0, repeats=1, sparsity=0.2
    )
    assert result.stability[0] > 0.99
    assert result.stability[1] <= 1


def test_it_prints_and_plots_and_is_the_same_on_any_number_of_jobs():
    X = planted(3)
    one = snmf.select_n_components(X, [4, 3, 2], random_state=0, restarts=2)
    two = snmf.select_n_components(X, [2, 3, 4], random_state=0, restarts=2, n_jobs=2)
    np.testing.assert_array_equal(one.n_components, [2, 3, 4])
    np.testing.assert_allclose(one.errors, two.errors, rtol=1e-6)
    lines = str(one).splitlines()
    assert len(lines) == 4
    assert [line.endswith("best") for line in lines] == [False, False, True, False]
    pytest.importorskip("matplotlib")
    assert one.plot().ax_ is not None


def test_the_smallest_of_the_best_within_the_error_of_the_difference():
    ks = np.array([1, 2, 3, 4])
    errors = np.array([[0.9, 0.9], [0.52, 0.5], [0.5, 0.48], [0.7, 0.7]])
    assert supported(ks, errors, 4) == 3  # all draws say so, whatever each of them is
    errors[1] = [0.5, 0.49]
    assert supported(ks, errors, 4) == 2
    assert supported(ks, errors[:, :1], 4) == 2
    assert supported(ks, errors[:, 1:], 4) == 3
    assert supported(ks, errors, 1) == 1
    assert supported(ks, errors, 0) == supported(ks, errors + 1, 4) == 0
    assert supported(ks, errors + np.array([0.3, 0.6]), 4) == 0  # 0.8 and 1.08


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_components": []}, "positive whole numbers; got"),
        ({"n_components": [0, 1]}, "positive whole numbers; got"),
        ({"held_out": 1.0}, "below 1; got 1.0"),
        ({"repeats": 0}, "repeats must be"),
        ({"n_components": [1, True]}, "positive whole numbers; got .1, True"),
        ({"repeats": True}, "repeats must be"),
        ({"restarts": 2.5}, "restarts must be 0, or a whole number from 2; got 2.5"),
        ({"restarts": 1}, "restarts must be 0, or at least 2"),
    ],
)
def test_bad_questions_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        snmf.select_n_components(planted(2), **{"n_components": [1, 2], **given})


def test_auto_has_its_limits():
    X = planted(2)
    with pytest.raises(ValueError, match="no meaning with locality"):
        SNMF("auto", locality=1.0).fit(X)
    with pytest.raises(ValueError, match="cannot use a custom start"):
        SNMF("auto", init="custom").fit(X, W=np.ones((200, 2)))
    with pytest.raises(ValueError, match="n_components"):
        snmf.factorize(X, "auto")
    assert SNMF("auto").fit(np.ones((1, 1))).n_components_ == 1
    assert SNMF("auto").fit(np.zeros((6, 4))).n_components_ == 1


class Store:
    shape, dtype = (60, 4), np.dtype("float64")

    def __getitem__(self, rows):
        return np.ones(self.shape)[rows]


def test_its_data_are_checked_as_those_of_a_fit():
    X = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(ValueError, match="X must not be masked"):
        snmf.select_n_components(np.ma.masked_array(X, np.abs(X) > 2), [1, 2])
    with pytest.raises(ValueError, match="in memory, on the host, or a sparse matrix; got a Store"):
        snmf.select_n_components(Store(), [1, 2])
    with pytest.raises(ValueError, match="timedelta"):
        snmf.select_n_components(X.astype("timedelta64[s]"), [1, 2])


class SparseStore:
    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, rows):
        return self.X[rows]


@pytest.mark.parametrize("holes", [False, True])
def test_sparse_data_are_as_dense_ones_in_memory_and_on_disk(holes):
    X = np.where(np.abs(X := planted(3, n=300)) < 0.5, 0, X)
    if holes:
        X[(np.random.default_rng(0).random(X.shape) < 0.1) & (X != 0)] = np.nan
    options = {"random_state": 0, "repeats": 2}
    expected = snmf.select_n_components(X, [1, 3], restarts=2, **options)
    sparse = sp.csr_array(X)
    for data in (sparse, SparseStore(sparse)):
        found = snmf.select_n_components(data, [1, 3], restarts=2, **options)
        np.testing.assert_allclose(found.errors, expected.errors, rtol=1e-3)
        assert found.best == expected.best == 3
    given = {"random_state": 0, "progress_bar": False}
    given["missing_values"] = np.nan if holes else None
    numbers = [SNMF("auto", **given).fit(A).n_components_ for A in (X, sparse, SparseStore(sparse))]
    assert len(set(numbers)) == 1


def test_weights_and_an_intercept_count_in_the_error_of_sparse_data():
    X = np.where(np.abs(X := planted(3, n=300)) < 0.5, 0, X)
    D = np.random.default_rng(0).integers(1, 4, size=300).astype("float64")
    for settings in ({"fit_intercept": True}, {}):
        settings = {"solver": "hals", "progress_bar": False, **settings}
        dense, sparse = (held_out_error(A, 3, 0.2, 0, settings, D) for A in (X, sp.csr_array(X)))
        assert sparse == pytest.approx(dense, rel=1e-3)
        assert 0.1 < dense < 0.9


def test_with_an_intercept_the_mean_does_not_matter():
    X = planted(4, n=300)
    moved = X + 7
    for data in (X, moved):
        model = snmf.SNMF("auto", fit_intercept=True, random_state=0, progress_bar=False).fit(data)
        assert abs(model.n_components_ - 4) <= 1
    options = {"fit_intercept": True, "random_state": 0}
    one, other = (snmf.select_n_components(A, [2, 4], **options) for A in (X, moved))
    np.testing.assert_allclose(one.errors, other.errors, rtol=0.05)
    assert one.best == other.best == 4
