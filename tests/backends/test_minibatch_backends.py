"""Mini-batches on every backend."""

import importlib
import pickle
from contextlib import nullcontext

import array_api_strict
import numpy as np
import pytest
from array_api import lines_of
from streams import SOLVERS, X, after, in_parts, model, quiet

from snmf.backends import ADAPTERS, Backend, adapter, owner

OTHERS = {
    "array_api_strict": None,
    "array_api_strict, device1": array_api_strict.Device("device1"),
}


@pytest.fixture(params=[*ADAPTERS, "jax, x64", *OTHERS])
def backend(request):
    """Every backend that can run here; the others skip with their reason."""
    if request.param in OTHERS:
        yield Backend("array_api_strict", OTHERS[request.param])
        return
    library, _, variant = request.param.partition(", ")
    try:
        found = adapter(library)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    with importlib.import_module("jax").enable_x64(True) if variant else nullcontext():
        yield found


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_backend_is_numpys(backend, solver, sparsity, dtype):
    if dtype > backend.widest:
        pytest.skip(f"{backend.name} has no {dtype} here")
    options = dict(solver=solver, sparsity=sparsity, max_iter=2, tol=0, max_no_improvement=None)
    data, slack = X[:192].astype(dtype), {"float32": 5e-3, "float64": 1e-7}[dtype]
    there = backend.asarray(data, dtype)

    def close(ours, theirs):
        np.testing.assert_allclose(ours, theirs, atol=slack * np.abs(theirs).max())

    theirs, ours = model(**options).fit(data), model(**options).fit(there)
    assert owner(ours.components_) == owner(there)
    assert ours.components_.dtype == there.dtype
    close(backend.to_host(ours.components_), theirs.components_)
    named = model(backend=backend, **options).fit(data)  # NumPy in, NumPy out
    assert isinstance(named.components_, np.ndarray)
    close(named.components_, theirs.components_)
    theirs = after(in_parts(data, 64), **options)
    ours = after([there[i : i + 64, :] for i in (0, 64, 128)], **options)
    close(backend.to_host(ours.components_), theirs.components_)
    W = ours.transform(there)
    assert owner(W) == owner(there)
    close(backend.to_host(W), theirs.transform(data))
    assert ours.score(there) == pytest.approx(theirs.score(data), abs=slack)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=slack)


@quiet
@pytest.mark.parametrize("init", ["auto", "varimax", "kmeans", "svd", "random", "custom"])
def test_every_backend_starts_from_few_rows(backend, init):
    data, there = X[:64].astype("float32"), backend.asarray(X[:64], "float32")
    given = [{"H": make(np.eye(4, 12), "float32")} if init == "custom" else {}
             for make in (np.asarray, backend.asarray)]  # fmt: skip
    theirs = model(init=init).partial_fit(data[:30], **given[0]).partial_fit(data[30:])
    ours = model(init=init).partial_fit(there[:30, :], **given[1]).partial_fit(there[30:, :])
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)
    try:
        pickle.loads(pickle.dumps(there))
    except TypeError:
        return  # an array-api-strict whose arrays cannot be pickled
    revived = pickle.loads(pickle.dumps(ours.set_params(backend=backend)))
    assert isinstance(revived.partial_fit(data).components_, np.ndarray)


def test_scikit_learns_array_api_checks_pass():
    code = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
from snmf import MiniBatchSNMF
warnings.simplefilter("ignore")
model = MiniBatchSNMF(3, init="svd", random_state=0)
for check in check_estimator(model, on_skip=None, on_fail=None):
    if "array_api" in check["check_name"] or check["status"] == "failed":
        print(check["status"], check["check_name"], check["exception"])
"""
    lines = lines_of(code)
    assert not [line for line in lines if line.startswith("failed")]
    assert [line for line in lines if line.startswith("passed")]


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_backend_takes_weights(backend, solver):
    data, D = X[:192].astype("float32"), np.random.default_rng(0).integers(0, 3, 192)
    there, options = backend.asarray(data, "float32"), dict(solver=solver, max_iter=2, tol=0)
    weights = backend.asarray(D.astype("float32"))
    theirs = model(**options).fit(data, sample_weight=D)
    ours = model(**options).fit(there, sample_weight=weights)
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)
    theirs = model(**options).partial_fit(data, sample_weight=D)
    ours = model(**options).partial_fit(there, sample_weight=weights)
    np.testing.assert_allclose(backend.to_host(ours.components_), theirs.components_, atol=5e-3)
