"""X is recognised once: along a call its library is asked for one time, at the boundary."""

import sys

import numpy as np
import pytest

import snmf
from snmf import ConvexNMF, HierarchicalSNMF, MiniBatchSNMF, backends
from snmf._data import Data

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 6)), columns=list("abcdef"))
SETTINGS = {"random_state": 0, "progress_bar": False, "max_iter": 2}
MODELS = {
    "SNMF": snmf.SNMF(3, **SETTINGS),
    "SNMF, auto": snmf.SNMF("auto", **SETTINGS),
    "MiniBatchSNMF": MiniBatchSNMF(3, **SETTINGS),
    "ConvexNMF": ConvexNMF(3, **SETTINGS),
    "ConvexNMF, rbf": ConvexNMF(3, kernel="rbf", **SETTINGS),
    "HierarchicalSNMF": HierarchicalSNMF((4, 2), snmf.SNMF(**SETTINGS), random_state=0),
}
FUNCTIONS = {
    "factorize": lambda: snmf.factorize(X, 3, **SETTINGS),
    "select_n_components": lambda: snmf.select_n_components(X, [2, 3], progress_bar=False),
    "stability": lambda: snmf.stability(X, 2, n_fits=2, progress_bar=False),
    "consensus": lambda: snmf.consensus(X, 2, n_runs=3, progress_bar=False),
}


@pytest.fixture
def times(monkeypatch):
    """A function that says how often the library of X is asked for in a call."""
    owner, asked = backends.owner, []

    def counting(A):
        asked.append(A is X)
        return owner(A)

    for name, module in list(sys.modules.items()):
        if name.startswith("snmf") and getattr(module, "owner", None) is owner:
            monkeypatch.setattr(module, "owner", counting)

    def times(call):
        asked.clear()
        call()
        return sum(asked)

    return times


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_method_asks_once(model, times):
    methods = "fit", "fit_transform", "partial_fit", "transform", "score", "bic", "diagnostics"
    asked = {
        name: times(lambda name=name: getattr(model, name)(X))
        for name in methods
        if hasattr(model, name) and not ("rbf" in str(model) and name in ("bic", "diagnostics"))
    }
    assert asked == dict.fromkeys(asked, 1)
    assert {"fit", "fit_transform", "transform"} <= {*asked}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_asks_once(function, times):
    assert times(function) == 1


def test_a_fit_that_goes_on_asks_once(times):
    model = snmf.SNMF(3, warm_start=True, **SETTINGS).fit(X)
    assert times(lambda: model.fit(X)) == 1
    assert times(lambda: model.add_components(X)) == 1


def test_data_stay_as_they_are():
    data = Data.of(X)
    assert Data.of(data) is data
