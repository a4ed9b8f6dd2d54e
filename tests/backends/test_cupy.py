"""CuPy where no device is: kernels on the host, NVRTC, and a stand-in for the whole adapter."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import snmf
from snmf.backends import adapter, owner
from snmf.core import updates
from snmf.storage import rows as _rows

ROOT = Path(__file__).parents[2]
FOLDER = Path(importlib.import_module("snmf.backends._numpy").__file__).parent
SOURCE = (FOLDER / "_kernels.cu").read_text(encoding="utf-8")
SPEC = importlib.util.spec_from_file_location(
    "cupy_stand_in", Path(__file__).with_name("cupy_stand_in.py")
)
stand_in = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stand_in)

needs_compiler = pytest.mark.skipif(stand_in.COMPILER is None, reason="no C++ compiler is here")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def cupy(monkeypatch):
    """The adapter, over the stand-in."""
    stand_in.install(monkeypatch)
    yield adapter("cupy")
    for name in ("_cupy", "_kernels"):
        importlib.sys.modules.pop(f"snmf.backends.{name}", None)


def planted(dtype="float64"):
    rng = np.random.default_rng(0)
    X = rng.random((150, 4)) @ rng.standard_normal((4, 24)) + 0.5 * rng.standard_normal((150, 24))
    return X.astype(dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", ["multiplicative", "hals"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (127, 3), (128, 8), (301, 40), (130, 70)])
@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_the_kernels_on_the_host_are_the_definition(cupy, dtype, update, n, k, l1):
    rng = np.random.default_rng(k)
    H = rng.standard_normal((k, 30))
    H[k // 2 :: 5] = 0 if k > 1 else H[k // 2 :: 5]
    A = (rng.standard_normal((n, 30)) @ H.T).astype(dtype)
    B, W = (H @ H.T).astype(dtype), rng.random((n, k)).astype(dtype)
    W[::3] *= rng.random(k) < 0.7
    definition = getattr(updates, update)(adapter("numpy"), A, B, W, l1, 2)
    given = [cupy.asarray(M) for M in (A, B, W)]
    ours = getattr(cupy, update)(*given, l1, 2).get()
    tolerance = (1e-4 if dtype == "float32" else 1e-12) * definition.max()
    np.testing.assert_allclose(ours, definition, atol=tolerance)
    np.testing.assert_array_equal(given[2].get(), W)


@needs_compiler
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_a_whole_fit_through_the_adapter(cupy, solver, sparsity, init, make):
    X = planted()
    X[np.abs(X) < 0.5] = 0
    options = dict(solver=solver, sparsity=sparsity, init=init, random_state=0,
                   progress_bar=False, max_iter=8, tol=0)  # fmt: skip
    theirs = snmf.factorize(X, 4, **options)
    ours = snmf.factorize(make(X), 4, backend="cupy", **options)
    assert isinstance(ours.W, np.ndarray)
    np.testing.assert_allclose(ours.W, theirs.W, atol=1e-6)
    there = snmf.factorize(cupy.asarray(make(X)), 4, **options)
    assert owner(there.W) == owner(there.H) == cupy
    np.testing.assert_allclose(there.W.get(), theirs.W, atol=1e-6)
    np.testing.assert_allclose(there.H.get(), theirs.H, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("scale", [False, True])
def test_an_intercept_and_a_scale_through_the_adapter(cupy, solver, make, scale):
    X = planted()
    X[np.abs(X) < 0.5] = 0
    options = {"solver": solver, "fit_intercept": True, "scale": scale, "random_state": 0,
               "progress_bar": False, "max_iter": 8, "tol": 0, "init": "random"}  # fmt: skip
    theirs = snmf.factorize(X, 4, **options)
    ours = snmf.factorize(cupy.asarray(make(X)), 4, **options)
    for A, B in ((ours.W, theirs.W), (ours.H, theirs.H), (ours.intercept, theirs.intercept)):
        assert owner(A) == cupy
        np.testing.assert_allclose(A.get(), B, atol=1e-6)


@needs_compiler
def test_the_estimator_through_the_adapter(cupy):
    X = planted("float32")
    model = snmf.SNMF(4, random_state=0, progress_bar=False)
    W = model.fit_transform(cupy.asarray(X))
    theirs = snmf.SNMF(4, random_state=0, progress_bar=False).fit(X)
    assert model.score(cupy.asarray(X)) == pytest.approx(theirs.score(X), rel=1e-4)
    assert owner(model.inverse_transform(W)) == cupy
    np.testing.assert_allclose(model.transform(X), W.get(), atol=1e-3)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="got NaN in row 3, column 1"):
        model.fit(cupy.asarray(X))


@needs_compiler
@pytest.mark.parametrize("make", ["caller's own", "from the host"])
def test_whether_there_are_duplicates_is_asked_once(cupy, make):
    X = np.vstack([planted()] * 30)  # several blocks
    X[np.abs(X) < 1] = 0
    csr, waits = stand_in.csr_matrix, []
    for max_iter in (2, 6):
        given = sp.csr_array(X) if make == "from the host" else csr(X)
        before = csr.waits
        snmf.factorize(given, 3, backend="cupy", max_iter=max_iter, init="random", random_state=0,
                       tol=0, progress_bar=False)  # fmt: skip
        waits.append(csr.waits - before)
    assert waits == [1, 1]


@needs_compiler
def test_duplicates_are_summed_up_in_a_copy(cupy):
    X = planted()
    twice = sp.csr_array(X)
    twice = sp.csr_array(
        (np.repeat(twice.data / 2, 2), np.repeat(twice.indices, 2), 2 * twice.indptr), X.shape
    )
    assert not twice.has_canonical_format
    theirs = snmf.factorize(X, 3, random_state=0, progress_bar=False)
    given = stand_in.csr_matrix(twice.copy())
    for ours in (given, twice):
        result = snmf.factorize(ours, 3, backend="cupy", random_state=0, progress_bar=False)
        np.testing.assert_allclose(cupy.bring(result.W, owner(result.W)).get(), theirs.W, atol=1e-6)
    assert given.raw.nnz == twice.nnz == 2 * X.size


@needs_compiler
def test_a_kernel_is_made_once(cupy):
    begun, made = stand_in.RawKernel.made, []
    for _ in range(2):
        snmf.factorize(planted(), 3, backend="cupy", random_state=0, progress_bar=False)
        made.append(stand_in.RawKernel.made - begun)
    assert made[0] == made[1] <= 2  # one for each W-step, for this number of components


@needs_compiler
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("parameters", [{}, {"fit_intercept": True}], ids=["plain", "intercept"])
def test_a_pass_starts_few_kernels_and_waits_once(cupy, solver, parameters, monkeypatch):
    monkeypatch.setattr(_rows, "DEVICE_BYTES", 2**13)
    X = cupy.asarray(np.vstack([planted("float32")] * 2))
    blocks, counted = len(cupy.rows(X).slices), []
    assert blocks > 3
    snmf.factorize(X, 4, solver=solver, max_iter=6, tol=0, accelerate=False, random_state=0,
                   progress_bar=False, callback=lambda _: counted.append(stand_in.counts.copy()),
                   **parameters)  # fmt: skip
    passes = len(counted) - 1
    kernels, waits = (counted[-1][name] - counted[0][name] for name in ("kernels", "waits"))
    assert 6 * blocks * passes < kernels <= 12 * blocks * passes
    assert waits == passes > 3


@pytest.mark.parametrize("k", [256, 300])
def test_systems_that_cupy_would_solve_one_by_one_go_to_the_host(cupy, k):
    rng = np.random.default_rng(0)
    G = rng.standard_normal((k, 2 * k))
    A, B, passive = rng.standard_normal((5, k)), G @ G.T, np.ones((5, k), dtype=bool)
    solved = cupy.eliminate(*map(cupy.asarray, (A, B, passive)))
    assert owner(solved) == cupy
    expected = adapter("numpy").eliminate(A, B, passive)
    np.testing.assert_allclose(solved.get(), expected, atol=1e-10)


@pytest.mark.parametrize("odd", [">f8", ">f4", ">i4", "longdouble"])
def test_dtypes_that_numpy_alone_knows(cupy, odd):
    X = np.round(10 * planted())
    forms = [np.asarray, sp.csr_array] if odd == "longdouble" else [np.asarray]
    for given in (form(X.astype(odd)) for form in forms):
        there = cupy.asarray(given)
        assert there.raw.dtype.char == "d"
        assert there.raw.dtype.isnative
        np.testing.assert_array_equal(cupy.to_dense(there).get(), X)


def test_the_stand_in_refuses_what_cupy_refuses(cupy):
    A = cupy.asarray(planted())
    for mix in (lambda: np.asarray(A), lambda: A + planted(), lambda: planted() @ A):
        with pytest.raises(TypeError):
            mix()


def test_devices_by_name_and_number(cupy):
    for device in (None, 0, "cuda", "cuda:0"):
        assert adapter("cupy", device) == cupy
    for device in (3, "cuda:3", -1):
        with pytest.raises(ValueError, match=r"is not there for cupy; it sees 1 device"):
            adapter("cupy", device)
    with pytest.raises(ValueError, match="device must be 'cuda' or 'cuda:N' for cupy"):
        adapter("cupy", "mps")
    for device in (1.5, object()):
        with pytest.raises(ValueError, match="device must be None, a number, 'cuda', 'cuda:N' or"):
            adapter("cupy", device)


def test_without_a_device_the_refusal_says_so(cupy):
    runtime = importlib.import_module("cupy").cuda.runtime

    def none_here():
        raise runtime.CUDARuntimeError("cudaErrorInsufficientDriver")

    runtime.getDeviceCount = none_here
    with pytest.raises(RuntimeError, match="backend='cupy' needs a CUDA device") as refusal:
        snmf.factorize(planted(), 3, backend="cupy")
    assert isinstance(refusal.value.__cause__, runtime.CUDARuntimeError)


# With CuPy installed, and still no device

real = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="cupy is not installed")


def chains(path, root):
    """Every dotted name in a file that begins with root."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if names and isinstance(node, ast.Name) and node.id == root:
            yield tuple(names)


def reaches(module, names):
    for name in names:
        module = getattr(module, name)
    return module is not None


@real
def test_every_name_that_the_adapter_uses_is_there():
    cupy = importlib.import_module("cupy")
    used = {*chains(FOLDER / "_cupy.py", "cupy"), *chains(FOLDER / "_kernels.py", "cupy")}
    assert ("RawKernel",) in used
    for names in used:
        assert reaches(cupy, names), names
    xp = importlib.import_module("array_api_compat.cupy")
    snmf_folder = Path(snmf.__file__).parent
    used = {
        names
        for name in (
            "backends.py",
            "core/updates.py",
            "core/nnls.py",
            "core/quadratic.py",
            "core/start.py",
            "core/solve.py",
            "core/svd.py",
        )
        for names in [
            *chains(snmf_folder / name, "xp"),
            *(chain[1:] for chain in chains(snmf_folder / name, "ops") if chain[0] == "xp"),
            *(chain[1:] for chain in chains(snmf_folder / name, "self") if chain[0] == "xp"),
        ]
        if names
    }
    assert ("where",) in used
    for names in used:
        assert reaches(xp, names), names
    cublas = Path(cupy.__file__).with_name("cublas.py")  # to import it takes its library
    limit = f"_batched_gesv_limit = {stand_in.BATCHED}"
    assert limit in cublas.read_text(encoding="utf-8").splitlines()
    sparse = importlib.import_module("cupyx.scipy.sparse")
    for name in (
        "tocsr",
        "has_canonical_format",
        "sum_duplicates",
        "astype",
        "multiply",
        "sum",
        "max",
        "toarray",
        "get",
        "__getitem__",
    ):
        assert hasattr(sparse.csr_matrix, name), name
    for name in ("get", "copy", "astype", "__matmul__", "T"):
        assert hasattr(cupy.ndarray, name), name


@real
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvrtc_compiles_the_kernels_without_spills(architecture, dtype):
    nvrtc = importlib.import_module("cupy").cuda.nvrtc
    module = importlib.import_module("snmf.backends._kernels")

    def log_of(source):
        program = nvrtc.createProgram(source, "kernels.cu", [], [])
        options = [f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
        nvrtc.compileProgram(program, options)
        return nvrtc.getProgramLog(program)

    most = module.FUSED[dtype]
    for columns in (1, 20, most):
        log = log_of(module.source(dtype, columns))
        assert set(re.findall(r"Compiling entry function '(\w+)'", log)) == {
            "multiplicative", "multiplicative_of_products", "hals",
        }  # fmt: skip
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
        registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
        assert max(registers) * module.THREADS <= 2**16  # of a multiprocessor
        shared = [int(size) for size in re.findall(r"(\d+) bytes smem", log)]
        assert max(shared) <= 48 * 1024
    with pytest.raises(nvrtc.NVRTCError):
        log_of(module.source(dtype, 1).replace("threadIdx.x", "threadIdx.nowhere"))
    with pytest.raises(nvrtc.NVRTCError):  # B and its negative part no longer fit
        log_of(module.source(dtype, 2 * most))


@real
def test_the_real_cupy_without_a_device_is_refused_in_words():
    runtime = importlib.import_module("cupy").cuda.runtime
    try:
        runtime.getDeviceCount()
    except runtime.CUDARuntimeError:
        pass
    else:
        pytest.skip("a device is here")
    with pytest.raises(RuntimeError, match="needs a CUDA device") as refusal:
        snmf.SNMF(3, backend="cupy").fit(planted())
    assert isinstance(refusal.value.__cause__, runtime.CUDARuntimeError)
