"""What is drawn is drawn from the generator that is given, of whichever kind."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

import snmf
from snmf import SNMF

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).standard_normal((60, 8))
BITS = [np.random.MT19937, np.random.PCG64, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("cls", [SNMF, snmf.MiniBatchSNMF])
def test_what_is_drawn_may_be_drawn_from_a_generator(cls, bits):
    def rng(seed=0):
        return np.random.Generator(bits(seed))

    def fit(random_state, data=X):
        return cls(3, random_state=random_state, max_iter=3, tol=0, init="random").fit(data)

    ours, again, state = fit(rng()), fit(rng()), rng()
    np.testing.assert_array_equal(ours.components_, again.components_)
    first, second, copied = fit(state), fit(state), clone(first_of := cls(3, random_state=rng()))
    np.testing.assert_array_equal(first.components_, ours.components_)
    assert np.abs(second.components_ - ours.components_).max() > 1e-3  # it was drawn from
    assert np.abs(fit(rng(1)).components_ - ours.components_).max() > 1e-3
    assert isinstance(first.get_params()["random_state"], np.random.Generator)
    assert first.random_state is state
    assert copied.random_state is not first_of.random_state
    assert copied.random_state.random() == first_of.random_state.random()
    same = np.random.RandomState(bits(0))  # the one that scikit-learn takes
    np.testing.assert_array_equal(fit(same).components_, ours.components_)
    revived = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(revived.fit(X).components_, ours.fit(X).components_)


def test_functions_and_the_number_of_components_draw_from_a_generator_too():
    rng = np.random.default_rng
    one, other = (snmf.factorize(X, 3, random_state=rng(0), n_init=2).W for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert SNMF("auto", random_state=rng(0), max_iter=5).fit(X).n_components_ >= 1
    tables = [snmf.select_n_components(X, [1, 2], random_state=rng(0)).errors for _ in range(2)]
    np.testing.assert_array_equal(*tables)
    begun = [snmf.MiniBatchSNMF(2, random_state=rng(0)).partial_fit(X) for _ in range(2)]
    np.testing.assert_array_equal(*[stream.components_ for stream in begun])
