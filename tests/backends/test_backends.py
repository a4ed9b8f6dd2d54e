"""One contract for every backend: each method, and whole fits, held to NumPy's."""

import functools
import importlib
import os
import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest
import scipy.sparse as sp
from array_api import lines_of
from sklearn.base import clone

import snmf
from snmf.backends import ADAPTERS, Backend, adapter, choose, owner
from snmf.core import updates
from snmf.core.quadratic import System
from snmf.storage import rows as _rows

OTHERS = {
    "array_api_strict": lambda: Backend("array_api_strict"),
    "array_api_strict, device1": lambda: Backend(
        "array_api_strict", array_api_strict.Device("device1")
    ),
}
VARIANTS = ["torch, as on a GPU", "jax, x64"]
NUMPY = adapter("numpy")
SOLVERS = ["mu", "hals"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class OnGPU(Backend):
    on_host = False

    @property
    def precise(self):
        return self


@pytest.fixture(params=[*ADAPTERS, *VARIANTS, *OTHERS])
def backend(request):
    """Every backend that can run here; the others skip with their reason."""
    if request.param in OTHERS:
        yield OTHERS[request.param]()
        return
    library, _, variant = request.param.partition(", ")
    try:
        found = adapter(library)
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    if variant == "as on a GPU":  # where its float64 is not left to NumPy
        OnGPU.__bases__ = (type(found),)
        found = OnGPU()
    with importlib.import_module("jax").enable_x64(True) if variant == "x64" else nullcontext():
        yield found


@pytest.fixture(params=["float32", "float64"])
def dtype(request, backend):
    if request.param > backend.widest:
        pytest.skip(f"{backend.name} has no {request.param} here")
    return request.param


def tolerance(dtype):
    return {"float32": 2e-5, "float64": 1e-11}[dtype]


def planted(dtype="float64", n=150, p=24, k=4):
    rng = np.random.default_rng(0)
    X = rng.random((n, k)) @ rng.standard_normal((k, p)) + 0.5 * rng.standard_normal((n, p))
    return X.astype(dtype)


def factors(dtype, k=4):
    rng = np.random.default_rng(1)
    X, H = planted(dtype), rng.standard_normal((k, 24)).astype(dtype)
    H[1] = 0
    W = rng.random((len(X), k)).astype(dtype)
    W[::3, 2] = 0
    return X, W, H


def close(ours, theirs, dtype):
    np.testing.assert_allclose(ours, theirs, atol=tolerance(dtype) * np.abs(theirs).max())


factorize = functools.partial(snmf.factorize, random_state=0, progress_bar=False)


# Methods


def test_arrays_go_there_and_back(backend, dtype):
    X = planted(dtype)
    for given in (X, np.asfortranarray(X), X[::-1, ::2]):
        there = backend.asarray(given, dtype)
        assert owner(there).name == backend.name
        np.testing.assert_array_equal(backend.to_host(there), given)
    X.setflags(write=False)
    there = backend.asarray(X)
    assert backend.bring(there, backend) is there
    assert backend.precise.to_host(backend.to_precise(there)).dtype == "float64"
    wide = backend.to_precise(there)
    sums = backend.to_algebra([wide, backend.precise.xp.sum(wide), wide[:2, :]])
    for ours, theirs in zip(sums, (X, np.asarray(X.sum(dtype="float64")), X[:2]), strict=True):
        assert type(ours) is np.ndarray
        assert ours.dtype == "float64"
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    indices = np.array([3, 70, 4])
    np.testing.assert_array_equal(backend.to_host(backend.take(there, indices)), X[indices])


@pytest.mark.parametrize("odd", [">f8", ">f4", ">i4", "longdouble"])
def test_dtypes_that_numpy_alone_knows(backend, odd):
    X = (10 * planted()).astype(odd)
    there = backend.to_host(backend.asarray(X))
    assert there.dtype == backend.widest or backend.name == "numpy"
    np.testing.assert_allclose(there, X.astype("float64"), rtol=1e-7)
    dtype = factorize(X, 3, backend=backend, max_iter=3, tol=0).W.dtype
    assert dtype == ("float32" if odd == ">f4" else "float64")


def test_an_array_of_the_same_library_is_brought_without_the_host(backend, monkeypatch):
    X = planted("float32")
    there = backend.asarray(X)
    elsewhere = pickle.loads(pickle.dumps(backend))
    elsewhere.of_its_own = True  # another backend, then, though of the same library
    monkeypatch.setattr(type(backend), "to_host", None)
    brought = elsewhere.bring(there, backend)
    monkeypatch.undo()
    np.testing.assert_array_equal(backend.to_host(brought), X)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "kind",
    [
        "weights",
        "holes",
        "holes and sparsity",
        "W stays",
        "two of H stay",
        "all",
        "locality",
        "H",
        "H and locality",
    ],
)
def test_weights_holes_and_fixed_parts_are_numpys(backend, dtype, solver, kind):
    X, W, H = factors(dtype)
    D = np.random.default_rng(2).random(len(X))
    D[::5] = 0  # such rows take no part
    holes = np.where(np.random.default_rng(3).random(X.shape) < 0.2, X.dtype.type(np.nan), X)
    parameters = {"solver": solver, "max_iter": 4, "tol": 0, "init": "custom", "accelerate": False}
    given = {
        "weights": {"W": W, "sample_weight": D},
        "holes": {"W": W, "missing_values": np.nan},
        "holes and sparsity": {"W": W, "missing_values": np.nan, "sparsity": 0.05},
        "W stays": {"W": W, "fixed": "W", "sample_weight": D},
        "two of H stay": {"H": H[[0, 2, 3, 1]], "fixed": 2},
        "locality": {"W": W, "locality": 0.5, "sparsity": 0.05, "sample_weight": D},
        "H": {"H": H, "sample_weight": D, "missing_values": np.nan, "sparsity": 0.05},
        "H and locality": {"H": H, "locality": 0.5, "sample_weight": D},
        "all": {"H": H, "fixed": 1, "sample_weight": D, "missing_values": np.nan},
    }[kind]
    data = holes if "missing_values" in given else X
    ours = factorize(data, 4, backend=backend, **parameters, **given)
    theirs = factorize(data, 4, **parameters, **given)
    slack = {"float32": 2e-3, "float64": 1e-8}[dtype]
    np.testing.assert_allclose(ours.W @ ours.H, theirs.W @ theirs.H, atol=slack)
    np.testing.assert_allclose(ours.loss_curve[-1], theirs.loss_curve[-1], rtol=slack)


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(backend, dtype, n_jobs):
    X = planted(dtype, n=9000)
    alone, together = (
        factorize(X, 3, backend=backend, max_iter=3, tol=0, n_jobs=n) for n in (1, n_jobs)
    )
    np.testing.assert_array_equal(together.W, alone.W)
    np.testing.assert_array_equal(together.loss_curve, alone.loss_curve)
    theirs = factorize(X, 3, max_iter=3, tol=0)
    slack = {"float32": 2e-3, "float64": 1e-7}[dtype]
    np.testing.assert_allclose(together.loss_curve, theirs.loss_curve, rtol=slack)


METHODS = {
    "matmul": lambda X, W, H: (X, H.T),
    "positive_part": lambda X, W, H: (X,),
    "negative_part": lambda X, W, H: (X,),
    "row_squares": lambda X, W, H: (X,),
    "row_maxima": lambda X, W, H: (X,),
    "scale_rows": lambda X, W, H: (X, W[:, 0]),
    "row_errors": lambda X, W, H: (X, W, H),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_numpys(backend, dtype, method):
    given = METHODS[method](*factors(dtype))
    expected = getattr(NUMPY, method)(*given)
    ours = getattr(backend, method)(*(backend.asarray(A, dtype) for A in given))
    assert ours.dtype == getattr(backend.xp, dtype)
    close(backend.to_host(ours), expected, dtype)


@pytest.mark.parametrize("update", ["multiplicative", "hals"])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("l1", [0.0, 0.4])
@pytest.mark.parametrize("k", [1, 4, 33])
def test_a_w_step_is_the_definition(backend, dtype, update, repeats, l1, k):
    X, W, H = factors(dtype, k) if k > 2 else (A[..., :k] for A in factors(dtype))
    H = H if k > 2 else factors(dtype)[2][:1, :1]
    A, B = X @ H.T, H @ H.T
    definition = getattr(updates, update)(Backend("array_api_strict"), *(
        array_api_strict.asarray(M) for M in (A, B, W)), l1, repeats)  # fmt: skip
    given = [backend.asarray(M, dtype) for M in (A, B, W)]
    ours = getattr(backend, update)(*given, l1, repeats)
    close(backend.to_host(ours), np.from_dlpack(definition), dtype)
    np.testing.assert_array_equal(backend.to_host(given[2]), W)  # left as it was
    block = [backend.asarray(M, dtype) for M in (X, W, H, B)]
    new, (S, T, total) = backend.pass_over_block(update, *block, l1, repeats)
    new = backend.to_host(new)
    close(new, np.from_dlpack(definition), dtype)
    close(backend.to_host(S), new.T @ X, dtype)
    close(backend.to_host(T), new.T @ new, dtype)
    close(backend.to_host(total), new.sum(axis=0), dtype)


def test_the_precise_backend_has_what_the_exact_weights_ask_of_it(backend):
    precise = backend.precise
    rng = np.random.default_rng(0)
    G = rng.standard_normal((5, 9))
    B, A = G @ G.T, rng.standard_normal((40, 5))
    passive = rng.random((40, 5)) < 0.5
    there = [precise.asarray(M) for M in (A, B, passive)]
    expected = NUMPY.eliminate(A, B, passive)
    np.testing.assert_allclose(precise.to_host(precise.eliminate(*there)), expected, atol=1e-11)
    each = precise.asarray(np.stack([B] * 40))
    solved = precise.to_host(precise.eliminate(there[0], each, there[2]))
    np.testing.assert_allclose(solved, expected, atol=1e-11)
    system = System(precise, there[1], delicate=False)
    solved = precise.to_host(precise.solve_passive(there[0], system, there[2]))
    np.testing.assert_allclose(solved, expected, atol=1e-11)
    singular = np.outer(B[0], B[0])
    inverse = precise.to_host(precise.pinv(precise.asarray(singular), 1e-10))
    np.testing.assert_allclose(inverse, np.linalg.pinv(singular, rcond=1e-10), atol=1e-12)
    assert precise.to_host(precise.asarray(B)).dtype == "float64"


# Whole fits


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
def test_a_fit_is_numpys(backend, dtype, solver, sparsity, init):
    X = planted(dtype)
    X = X - X.mean(axis=0)
    options = dict(solver=solver, sparsity=sparsity, init=init, max_iter=8, tol=0)
    theirs = factorize(X, 4, **options)
    ours = factorize(X, 4, backend=backend, **options)  # NumPy in, NumPy out
    slack = {"float32": 2e-3, "float64": 1e-7}[dtype]
    assert isinstance(ours.W, np.ndarray)
    assert isinstance(ours.H, np.ndarray)
    assert ours.W.dtype == ours.H.dtype == dtype
    np.testing.assert_allclose(ours.loss_curve, theirs.loss_curve, rtol=slack)
    np.testing.assert_allclose(ours.W, theirs.W, atol=slack * theirs.W.max())
    np.testing.assert_allclose(ours.H, theirs.H, atol=slack)
    assert ours.error == pytest.approx(theirs.error, rel=slack)
    given = backend.asarray(X, dtype)
    there = factorize(given, 4, **options)  # its own arrays in and out, with backend="auto"
    for A in (there.W, there.H):
        assert owner(A) == owner(given)
        assert A.dtype == given.dtype
    np.testing.assert_allclose(backend.to_host(there.W), theirs.W, atol=slack * theirs.W.max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_estimator_on_arrays_of_the_library(backend, dtype, solver):
    X = planted(dtype)
    given = backend.asarray(X, dtype)
    model = snmf.SNMF(4, solver=solver, random_state=0, progress_bar=False)
    W = model.fit_transform(given)
    assert owner(model.components_) == owner(given)
    again = model.transform(given)
    np.testing.assert_allclose(backend.to_host(again), backend.to_host(W), atol=1e-5)
    theirs = snmf.SNMF(4, solver=solver, random_state=0, progress_bar=False).fit(X)
    assert model.score(given) == pytest.approx(theirs.score(X), rel=1e-3)
    back = model.inverse_transform(W)
    assert owner(back) == owner(given)
    product = backend.to_host(W) @ backend.to_host(model.components_)
    np.testing.assert_allclose(backend.to_host(back), product, atol=1e-4)
    assert model.n_features_in_ == 24
    on_host = model.transform(X)  # a model of one library transforms the data of another
    assert isinstance(on_host, np.ndarray)
    np.testing.assert_allclose(on_host, backend.to_host(W), atol=1e-4)
    revived = pickle.loads(pickle.dumps(clone(model.set_params(backend=backend)).fit(X)))
    assert isinstance(revived.components_, np.ndarray)
    revived.set_params(backend="numpy").transform(X)


@pytest.mark.parametrize("sparsity", [0.0, 0.05])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_with_an_intercept(backend, dtype, solver, sparsity):
    X = planted(dtype) + np.linspace(0, 3, 24).astype(dtype)
    options = {"fit_intercept": True, "solver": solver, "sparsity": sparsity, "init": "random",
               "random_state": 0, "progress_bar": False, "max_iter": 8, "tol": 0}  # fmt: skip
    model, theirs = snmf.SNMF(4, **options), factorize(X, 4, **options)
    given = backend.asarray(X, dtype)
    W = model.fit_transform(given)
    slack = 2e-3 if dtype == "float32" or backend.widest == "float32" else 1e-7
    for ours, expected in ((W, theirs.W), (model.components_, theirs.H),
                           (model.intercept_, theirs.intercept)):  # fmt: skip
        assert owner(ours) == owner(given)
        np.testing.assert_allclose(backend.to_host(ours), expected, atol=slack * theirs.W.max())
    again = backend.to_host(model.transform(given))
    np.testing.assert_allclose(again, backend.to_host(W), atol=1e-5)
    back = backend.to_host(model.inverse_transform(W))
    assert np.linalg.norm(X - back) == pytest.approx(model.reconstruction_err_, rel=1e-3)
    found, expected = model.diagnostics(given), snmf.SNMF(4, **options).fit(X).diagnostics(X)
    np.testing.assert_allclose(found.share, expected.share, atol=slack)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "limit", [{"n_nonzero_features": 6}, {"positive_components": True, "sparsity": 0}]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_within_limits(backend, dtype, solver, limit):
    X = planted(dtype)
    options = {"solver": solver, "init": "random", "random_state": 0, "max_iter": 8, "tol": 0}
    ours, theirs = (factorize(A, 4, **options, **limit) for A in (backend.asarray(X, dtype), X))
    slack = 2e-3 if dtype == "float32" or backend.widest == "float32" else 1e-7
    np.testing.assert_allclose(backend.to_host(ours.H), theirs.H, atol=slack)
    np.testing.assert_allclose(backend.to_host(ours.W), theirs.W, atol=slack * theirs.W.max())


def test_a_fit_with_a_scale(backend, dtype):
    X = planted(dtype) * np.logspace(-2, 2, 24).astype(dtype) + 1
    options = {"scale": True, "fit_intercept": True, "init": "random", "random_state": 0,
               "progress_bar": False, "max_iter": 8, "tol": 0}  # fmt: skip
    model, given = snmf.SNMF(4, **options), backend.asarray(X, dtype)
    W, theirs = (
        model.fit_transform(given),
        factorize(X / X.std(axis=0), 4, **{**options, "scale": False}),
    )
    single = dtype == "float32" or backend.widest == "float32"
    assert owner(model.scale_) == owner(given)
    np.testing.assert_allclose(backend.to_host(model.scale_), X.std(axis=0), rtol=1e-4)
    slack = (2e-3 if single else 1e-7) * theirs.W.max()
    np.testing.assert_allclose(backend.to_host(W), theirs.W, atol=slack)
    np.testing.assert_allclose(backend.to_host(model.components_), theirs.H, atol=slack)
    np.testing.assert_allclose(
        backend.to_host(model.transform(given)), backend.to_host(W), atol=1e-5 * theirs.W.max()
    )
    left = (X - backend.to_host(model.inverse_transform(W))) / X.std(axis=0)
    assert np.linalg.norm(left) == pytest.approx(model.reconstruction_err_, rel=1e-3)


@pytest.mark.parametrize("start", [("W",), ("H",), ("W", "H")])
def test_a_start_of_the_libraries_arrays(backend, start):
    X, W, H = factors("float32")
    H[1] = 1
    given = {"W": np.abs(W) + 0.1, "H": H}
    options = dict(init="custom", max_iter=5, tol=0)
    theirs = factorize(X, 4, **{name: given[name] for name in start}, **options)
    there = {name: backend.asarray(given[name]) for name in start}
    ours = factorize(backend.asarray(X), 4, **there, **options)
    np.testing.assert_allclose(ours.loss_curve, theirs.loss_curve, rtol=1e-4)


@pytest.mark.parametrize("X", [np.zeros((6, 4)), np.ones((6, 4)), 1e30 * planted()[:6, :4]])
@pytest.mark.parametrize("solver", SOLVERS)
def test_awkward_data(backend, X, solver):
    for sparsity in (0.0, 0.1):
        result = factorize(backend.asarray(X.astype("float32")), 3, solver=solver, max_iter=9,
                           sparsity=sparsity)  # fmt: skip
        W, H = backend.to_host(result.W), backend.to_host(result.H)
        assert np.isfinite(W).all()
        assert W.min() >= 0
        assert np.isfinite(H).all()
        assert result.error <= np.linalg.norm(X) * (1 + 1e-6)


def test_bad_data_is_refused(backend):
    make = backend.asarray
    X = planted("float32")
    for value, word in ((np.nan, "NaN"), (-np.inf, "infinity")):
        Y = X.copy()
        Y[20, 3] = value
        with pytest.raises(ValueError, match=rf"got {word} in row 20, column 3"):
            factorize(make(Y), 2)
    with pytest.raises(ValueError, match="Expected 2D array"):
        factorize(make(X[0]), 2)
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        factorize(make(X[:0]), 2)
    with pytest.raises(ValueError, match="Complex data not supported"):
        factorize(make(X.astype("complex64")), 2)
    with pytest.raises(ValueError, match="X has 5 features, but SNMF is expecting 24"):
        snmf.SNMF(2, progress_bar=False).fit(make(X)).transform(make(X[:, :5]))


def test_sparse_data_is_computed_or_refused(backend):
    X = planted()
    X[np.abs(X) < 1] = 0
    if hasattr(backend, "issparse"):
        ours, theirs = (factorize(sp.csr_array(X), 3, backend=b) for b in (backend, "numpy"))
        np.testing.assert_allclose(ours.W, theirs.W, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="X must be dense for the backend"):
            factorize(sp.csr_array(X), 3, backend=backend)


def test_arrays_of_two_libraries_are_refused(backend):
    X, W, _ = factors("float32")
    if backend.name != "numpy":
        with pytest.raises(ValueError, match="W must be an array of the library and the device"):
            factorize(backend.asarray(X), 4, W=W, init="custom")
        with pytest.raises(ValueError, match=r"of X, numpy; got one of"):
            factorize(X, 4, W=backend.asarray(W), init="custom")


def test_survives_pickle(backend):
    again = pickle.loads(pickle.dumps(backend))
    assert again.name == backend.name
    X = planted("float32")
    np.testing.assert_array_equal(again.to_host(again.asarray(X)), X)


# Selection


def test_auto_follows_the_array_and_a_name_overrides_it():
    X = planted()
    strict = array_api_strict.asarray(X)
    assert choose("auto", owner(X)) == NUMPY
    assert choose("auto", owner(strict)).namespace == "array_api_strict"
    assert choose("numpy", owner(strict)) == NUMPY
    assert owner([[1.0]]) == owner(sp.csr_array(X)) == NUMPY
    result = factorize(strict, 3, backend="numpy")
    assert isinstance(result.W, type(strict))


def test_a_second_device_is_kept():
    device = array_api_strict.Device("device1")
    X = array_api_strict.asarray(planted(), device=device)
    result = factorize(X, 3, init="svd")
    assert result.W.device == result.H.device == device
    there = factorize(array_api_strict.asarray(planted()), 3, device=device)
    assert there.W.device == array_api_strict.Device("CPU_DEVICE")
    with pytest.raises(ValueError, match="H must be an array of the library and the device of X"):
        factorize(X, 3, H=array_api_strict.ones((3, 24)), init="custom")


def test_a_backend_of_ones_own(backend):
    class Counting(type(backend)):
        products = 0

        def matmul(self, A, B):
            type(self).products += 1
            return super().matmul(A, B)

    mine = Counting("array_api_strict") if type(backend) is Backend else Counting()
    X = planted("float32")
    model = clone(snmf.SNMF(3, backend=mine, random_state=0, progress_bar=False))
    ours = model.fit(X)
    theirs = snmf.SNMF(3, backend=backend, random_state=0, progress_bar=False).fit(X)
    assert Counting.products > 5
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-5)


@pytest.mark.parametrize("library", [name for name in ADAPTERS if name != "numpy"])
def test_what_is_not_installed_names_its_extra(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # import raises ImportError
    monkeypatch.delitem(sys.modules, f"snmf.backends._{library}", raising=False)
    extra = r"snmf\[cuda12\]" if library == "cupy" else rf"snmf\[{library}\]"
    with pytest.raises(ImportError, match=rf"backend='{library}' needs its library: .*{extra}"):
        factorize(planted(), 2, backend=library)


def test_scikit_learns_array_api_checks_pass():
    code = """
import warnings
from sklearn.utils.estimator_checks import check_estimator
from snmf import SNMF
warnings.simplefilter("ignore")
for parameters in ({}, {"solver": "hals"}, {"n_components": 3, "sparsity": 0.05, "init": "svd"}):
    for check in check_estimator(SNMF(random_state=0, **parameters), on_skip=None, on_fail=None):
        drawn = "weight_equivalence" in check["check_name"] and "init" not in parameters
        if not drawn and ("array_api" in check["check_name"] or check["status"] == "failed"):
            print(check["status"], check["check_name"], check["exception"])
"""
    lines = lines_of(code)
    assert not [line for line in lines if line.startswith("failed")]
    assert len([line for line in lines if line.startswith("passed")]) >= 3


def test_nothing_of_another_library_is_imported():
    code = (
        "import sys, numpy, snmf; snmf.fit_transform(numpy.eye(5), 2, progress_bar=False);"
        "print(sorted({'cupy', 'torch', 'jax', 'dask'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


@needs_torch
def test_torch_keeps_no_graph_and_its_settings():
    import torch

    X = torch.tensor(planted("float32"), requires_grad=True)
    torch.set_float32_matmul_precision("high")
    try:
        result = factorize(X, 3)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert not result.W.requires_grad
    assert result.H.grad_fn is None
    assert X.grad is None
    with pytest.raises(ValueError, match="device='cuda:99' is not there for torch"):
        factorize(X, 3, device="cuda:99")
    half = factorize(torch.tensor(planted("float32")).to(torch.bfloat16), 3)
    assert half.W.dtype == torch.float32


TF32 = {
    "legacy, high": lambda torch: torch.set_float32_matmul_precision("high"),
    "legacy, medium": lambda torch: torch.set_float32_matmul_precision("medium"),
    "legacy, CUDA": lambda torch: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "CUDA": lambda torch: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "oneDNN": lambda torch: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "all": lambda torch: setattr(torch.backends, "fp32_precision", "tf32"),
    "none": lambda torch: None,
}


def precisions(torch):
    """What torch says of products of float32, in the words of 2.9 or of before."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return (torch.get_float32_matmul_precision(),)
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


FULL = [("ieee", "ieee"), ("highest",)]


@pytest.fixture(params=TF32)
def tf32(request):
    """torch, with TF32 or bfloat16 set in one of the ways."""
    torch = pytest.importorskip("torch")
    newer = hasattr(torch.backends.cuda.matmul, "fp32_precision")
    if not newer and request.param in ("CUDA", "oneDNN", "all"):
        pytest.skip("this torch has only the legacy setting")
    TF32[request.param](torch)
    yield torch
    torch.set_float32_matmul_precision("highest")
    if newer:
        torch.backends.fp32_precision = "none"
        for product in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
            product.fp32_precision = "none"


class Watched:
    """What the products of a fit were made with."""

    seen: set = set()  # noqa: RUF012

    def matmul(self, A, B):
        self.seen.add((threading.get_ident(), precisions(sys.modules["torch"])))
        return super().matmul(A, B)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_torch_computes_without_tf32_and_leaves_it_as_it_was(tf32, n_jobs):
    before = precisions(tf32)
    watched = type("Watched", (Watched, type(adapter("torch"))), {"seen": set()})()
    factorize(planted("float32", n=9000), 3, backend=watched, n_jobs=n_jobs, max_iter=3, tol=0)
    threads, seen = map(set, zip(*watched.seen, strict=True))
    assert len(seen) == 1
    assert seen <= {*FULL}
    assert len(threads) > 1 or n_jobs is None
    assert precisions(tf32) == before


def test_the_last_thread_out_of_torch_restores_tf32(tf32):
    before, there = precisions(tf32), adapter("torch")
    steps = threading.Barrier(2, timeout=30)
    seen = {}

    def first():
        with there.active():
            steps.wait()  # both are inside
        steps.wait()  # one is out

    def second():
        with there.active():
            steps.wait()
            steps.wait()
            seen["inside"] = precisions(tf32)

    workers = [threading.Thread(target=work) for work in (first, second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen["inside"] in FULL
    assert precisions(tf32) == before


@needs_torch
def test_what_torch_inherits_is_inherited_again():
    import torch

    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has only the legacy setting")
    torch.backends.fp32_precision = "tf32"
    try:
        with adapter("torch").active():
            assert precisions(torch) == ("ieee", "ieee")
        assert precisions(torch) == ("tf32", "tf32")
    finally:
        torch.backends.fp32_precision = "none"
    assert precisions(torch) == ("none", "none")


@needs_torch
@pytest.mark.parametrize("legacy", ["highest", "high", "medium"])
def test_a_torch_with_the_legacy_setting_alone(monkeypatch, legacy):
    import torch

    try:
        torch.set_float32_matmul_precision(legacy)
        monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace())
        with adapter("torch").active():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == legacy
    finally:
        torch.set_float32_matmul_precision("highest")


@needs_torch
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_torch_takes_no_notice_of_autocast(n_jobs):
    import torch

    X = planted("float32", n=9000)
    options = dict(backend="torch", max_iter=5, tol=0, n_jobs=n_jobs)
    theirs = factorize(X, 3, **options)
    with torch.autocast("cpu"):
        ours = factorize(X, 3, **options)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    np.testing.assert_array_equal(ours.W, theirs.W)


@needs_torch
@pytest.mark.parametrize("device", ["cuda:99", "quux", "hpu", "xla", -1, 2**70, 1.5, object()])
def test_a_torch_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=r"device=.* is not there for torch: .") as refusal:
        factorize(planted(), 3, backend="torch", device=device)
    assert refusal.value.__cause__ is not None


@needs_torch
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "sparse_csc"])
def test_sparse_tensors_are_refused(layout):
    import torch

    X = torch.tensor(planted()).to_sparse(layout=getattr(torch, layout))
    with pytest.raises(ValueError, match=rf"X must be dense for .* 'torch'; got torch.{layout}"):
        factorize(X, 3)
    with pytest.raises(ValueError, match="Make it dense, or give a SciPy sparse matrix"):
        snmf.SNMF(3).fit(X)


@needs_torch
def test_a_tensor_is_brought_to_another_device_without_the_host(monkeypatch):
    import torch

    there = adapter("torch")
    there.device = "meta"  # to compute there is refused, but tensors can be moved to it
    monkeypatch.setattr(type(there), "to_host", None)
    X = torch.tensor(planted(), requires_grad=True)
    brought = there.bring(X, adapter("torch"))
    assert brought.device.type == "meta"
    assert brought.dtype == torch.float64
    assert not brought.requires_grad
    monkeypatch.setattr(type(there), "widest", property(lambda self: "float32"))
    assert there.bring(X, adapter("torch")).dtype == torch.float32


@needs_torch
@pytest.mark.parametrize("has_fp64", [True, False])
def test_an_xpu_has_float64_or_has_not(monkeypatch, has_fp64):
    import torch

    asked = []

    def properties(device):
        asked.append(device)
        return SimpleNamespace(has_fp64=has_fp64)

    monkeypatch.setattr(torch.xpu, "get_device_properties", properties)
    there = adapter("torch")
    there.device = "xpu:1"
    assert there.widest == ("float64" if has_fp64 else "float32")
    assert (there.precise is there) == has_fp64
    assert there.algebra == NUMPY
    assert set(asked) == {"xpu:1"}
    there.device = "mps:0"
    assert there.widest == "float32"


@needs_torch
def test_a_torch_device_without_float64(monkeypatch):
    """MPS stands in for itself: the CPU, with float64 taken away."""
    import torch

    from snmf.backends import _torch

    monkeypatch.setattr(_torch.Adapter, "widest", property(lambda self: "float32"))
    refuse = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda self: refuse(None))
    X = planted()
    ours, theirs = factorize(X, 4, backend="torch"), factorize(X.astype("float32"), 4)
    assert ours.W.dtype == "float64"
    np.testing.assert_allclose(ours.W, theirs.W, atol=2e-3 * theirs.W.max())


needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed"
)


@needs_jax
def test_jax_without_x64_is_float32_inside_and_the_callers_precision_outside():
    import jax

    X = planted()
    assert not jax.config.jax_enable_x64
    ours, theirs = factorize(X, 4, backend="jax"), factorize(X, 4)
    assert ours.W.dtype == "float64"
    assert ours.error == pytest.approx(theirs.error, rel=1e-4)
    with jax.enable_x64(True):
        wide = factorize(X, 4, backend="jax")
    np.testing.assert_allclose(wide.W, theirs.W, atol=1e-7)
    with pytest.raises(ValueError, match="device='gpu:9' is not there for jax"):
        factorize(X, 3, backend="jax", device="gpu:9")
    with jax.enable_x64(True):  # which holds for this thread alone
        Y = planted(n=9000)
        wide = factorize(Y, 4, backend="jax", n_jobs=2, max_iter=3, tol=0)
    theirs = factorize(Y, 4, max_iter=3, tol=0)
    np.testing.assert_allclose(wide.loss_curve, theirs.loss_curve, rtol=1e-11)


@needs_jax
def test_a_jax_device_is_kept_by_its_name():
    import jax

    device = jax.devices()[0]
    ours, name = adapter("jax", device), device.platform
    assert ours == adapter("jax") == adapter("jax", name) == adapter("jax", f"{name}:0")
    assert ours.device is device
    assert pickle.loads(pickle.dumps(ours)) == ours
    model = clone(snmf.SNMF(3, backend=ours, random_state=0, progress_bar=False))
    assert pickle.loads(pickle.dumps(model.fit(planted()))).backend == ours


@needs_jax
def test_a_jax_device_that_is_none():
    import jax

    for device in (0, object(), jax.sharding.SingleDeviceSharding(jax.devices()[0])):
        with pytest.raises(ValueError, match=r"device must be None, a jax\.Device or its name"):
            factorize(planted(), 3, backend="jax", device=device)
    for device in ("cpu:9", "cpu:x", "quux", "gpu:9"):
        with pytest.raises(ValueError, match=f"device='{device}' is not there for jax"):
            factorize(planted(), 3, backend="jax", device=device)


@needs_jax
def test_sparse_arrays_of_jax_are_refused():
    from jax.experimental.sparse import BCOO

    X = BCOO.fromdense(planted("float32"))
    for fit in (lambda: factorize(X, 3), lambda: snmf.SNMF(3).fit(X)):
        with pytest.raises(ValueError, match="X must be dense for the backend 'jax'; got BCOO"):
            fit()


@needs_jax
def test_jax_with_several_devices():
    """In a process of its own, which makes two devices of the CPU."""
    code = """
import pickle, jax, numpy as np, snmf
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from snmf.backends import adapter, owner

first, second = jax.devices()
X = np.random.default_rng(0).standard_normal((60, 8)).astype("float32")
options = dict(n_components=3, random_state=0, progress_bar=False, tol=0, max_iter=5)
there = jax.device_put(X, second)
result = snmf.factorize(there, **options)
assert result.W.device == result.H.device == second
theirs = snmf.factorize(X, **options)
np.testing.assert_allclose(result.loss_curve, theirs.loss_curve, rtol=1e-4)
model = snmf.SNMF(backend="jax", device="cpu:1", **options).fit(X)
assert isinstance(model.components_, np.ndarray)
back = snmf.factorize(there, device="cpu:0", **options)
assert back.W.device == second

ours, other = adapter("jax"), adapter("jax", second)
assert ours != other == adapter("jax", "cpu:1") == owner(there)
assert other.device == pickle.loads(pickle.dumps(other)).device == second
type(ours).to_host = None
assert ours.bring(there, other).device == first
with jax.default_device(second):
    assert adapter("jax") == other

for axis in ("rows", None):
    spread = jax.device_put(X, NamedSharding(Mesh(jax.devices(), ("rows",)), PartitionSpec(axis)))
    for fit in (lambda: snmf.factorize(spread, 3), lambda: snmf.SNMF(3).fit(spread)):
        try:
            fit()
        except ValueError as error:
            assert "X be on one device; got NamedSharding" in str(error), error
        else:
            raise AssertionError("it was taken")
gathered = jax.device_put(spread, jax.devices()[0])
assert owner(gathered) == ours
print("seen")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu",
             "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    )  # fmt: skip
    assert done.stdout.strip() == "seen", done.stderr


def test_blocks_fit_the_caches_of_the_host_and_keep_a_device_busy(monkeypatch):
    X = np.broadcast_to(np.zeros((1, 384), "float32"), (10**6, 384))
    on_host = NUMPY.rows(X).slices
    assert on_host[0] == slice(0, _rows.BLOCK_BYTES // (4 * 384))
    monkeypatch.setattr(type(NUMPY), "on_host", False)
    assert NUMPY.rows(X).slices[0] == slice(0, _rows.DEVICE_BYTES // (4 * 384))
