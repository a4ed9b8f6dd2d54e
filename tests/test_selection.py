"""How many components."""

import numpy as np
import pytest
import scipy.sparse as sp

import snmf
from snmf import SNMF
from snmf._selection import held_out_error, smallest_within_one_error

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def planted(k, seed=0, n=200, p=30, noise=0.2):
    rng = np.random.default_rng(seed)
    clean = np.maximum(0, rng.standard_normal((n, k))) @ rng.standard_normal((k, p))
    return clean + noise * clean.std() * rng.standard_normal((n, p))


@pytest.mark.parametrize("k", [3, 5, 8])
def test_the_planted_number_is_found(k):
    X = planted(k, seed=k)
    result = snmf.select_n_components(X, range(1, 11), random_state=0)
    assert result.best == k
    assert result.errors.shape == (10, 3)
    assert np.all(result.errors[k - 1].mean() < result.errors[k - 2].mean())
    assert SNMF("auto", solver="hals", random_state=0).fit(X).n_components_ == k


def test_what_is_held_out_is_not_seen():
    """Held-out entries a million times as large would draw the fit to them."""
    X = planted(3)
    drawn = np.random.default_rng(7).random(X.shape) < 0.1
    wild = np.where(drawn, 1e6, X)
    assert held_out_error(wild, 3, 0.1, 7, {"solver": "hals"}) == pytest.approx(1, abs=1e-4)
    assert held_out_error(X, 3, 0.1, 7, {"solver": "hals"}) < 0.4


def test_the_error_is_that_of_the_held_out_entries():
    rng = np.random.default_rng(0)
    X = rng.random((300, 2)) @ rng.standard_normal((2, 20))
    exact = {"solver": "hals", "sparsity": 0, "tol": 1e-13, "max_iter": 3000}
    assert held_out_error(X, 2, 0.2, 0, exact) < 1e-2
    assert held_out_error(np.zeros((5, 4)), 1, 0.2, 0, {}) == 0


def test_missing_values_stay_missing():
    X = planted(3)
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    result = snmf.select_n_components(X, [2, 3, 4], random_state=0, restarts=2)
    assert result.best == 3
    assert np.isfinite(result.stability).all()


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


def test_the_smallest_within_one_standard_error_of_the_best():
    errors = np.array([[0.9, 0.9], [0.52, 0.5], [0.5, 0.48], [0.7, 0.7]])
    assert smallest_within_one_error(errors) == 2
    errors[1] = [0.5, 0.49]
    assert smallest_within_one_error(errors) == 1
    assert smallest_within_one_error(errors[:, :1]) in (1, 2)


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
    with pytest.raises(ValueError, match="got a sparse one"):
        SNMF("auto").fit(sp.csr_array(X))
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
    with pytest.raises(ValueError, match="in memory, on the host; got a Store"):
        snmf.select_n_components(Store(), [1, 2])
    with pytest.raises(ValueError, match="timedelta"):
        snmf.select_n_components(X.astype("timedelta64[s]"), [1, 2])
