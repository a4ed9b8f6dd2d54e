"""Mini-batches and what is compared of their estimators."""

import numpy as np
import pytest

from snmf import MiniBatchSNMF

SOLVERS = ["mu", "hals"]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def planted(n=600, p=12, k=4, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((k, p))
    return rng.random((n, k)) ** 3 @ H + noise * rng.standard_normal((n, p))


X = planted()


def model(n_components=4, **parameters):
    parameters = {"batch_size": 64, "progress_bar": False, "random_state": 0, **parameters}
    return MiniBatchSNMF(n_components, **parameters)


def one_epoch(**parameters):
    return model(max_iter=1, tol=0, max_no_improvement=None, **parameters)


def in_parts(A, size):
    return [A[i : i + size] for i in range(0, len(A), size)]


def after(batches, **parameters):
    fitted = model(**parameters)
    for batch in batches:
        fitted.partial_fit(batch)
    return fitted


def state(estimator):
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def assert_same(ours, theirs):
    assert state(ours).keys() == state(theirs).keys()
    for name, value in state(ours).items():
        np.testing.assert_array_equal(value, state(theirs)[name], err_msg=name)
