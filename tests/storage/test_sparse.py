"""Sparse data: left as they were, never made dense, and in blocks that are no copies."""

import functools
import subprocess
import sys
import textwrap
import tracemalloc

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

import snmf
from snmf.backends import Backend, adapter
from snmf.storage import rows as _rows
from snmf.storage import sparse_group, stored

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, random_state=0, progress_bar=False)


def csr(order, dtype, index, exponent):
    """Sparse rows that are sorted, unsorted, or hold entries twice; every seventh is empty."""
    rng = np.random.default_rng(0)
    n, p, each = 400, 12, 5
    columns = np.array([rng.permutation(p)[:each] for _ in range(n)])
    if order == "duplicates":
        columns[:, 1] = columns[:, 0]
    elif order == "sorted":
        columns.sort(axis=1)
    pointers = np.concatenate([[0], np.cumsum(np.where(np.arange(n) % 7, each, 0))])
    filled = columns[np.arange(n) % 7 > 0].ravel()
    X = sp.csr_array((n, p))
    X.data = (10.0**exponent * rng.standard_normal(len(filled))).astype(dtype)
    X.indices, X.indptr = filled.astype(index), pointers.astype(index)
    for part in (X.data, X.indices, X.indptr):
        part.setflags(write=False)
    return X


@pytest.mark.parametrize("order", ["sorted", "unsorted", "duplicates"])
@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [("float32", 0), ("float32", -30), ("float64", 0), ("float64", -80), (">f8", 0), ("int16", 2)],
)
def test_sparse_data_is_left_as_it_was_and_taken_as_it_is(
    order, index, dtype, exponent, monkeypatch
):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 2**10)  # many blocks, which share its arrays
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (64, 64))
    X = csr(order, dtype, index, exponent)
    before = [part.copy() for part in (X.data, X.indices, X.indptr)]
    dense = np.zeros(X.shape)
    np.add.at(dense, (np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices), X.data)
    H = np.random.default_rng(1).standard_normal((3, X.shape[1])) * [[1], [1], [0]]
    for init, solver in (
        ("varimax", "mu"), ("kmeans", "mu"), ("svd", "hals"), ("custom", "hals"),
    ):  # fmt: skip
        model = snmf.SNMF(3, init=init, solver=solver, max_iter=3, random_state=0)
        W = model.fit_transform(X, H=H if init == "custom" else None)
        np.testing.assert_array_equal(W, model.transform(X))
        np.testing.assert_allclose(W, model.transform(dense), rtol=0, atol=1e-5 * W.max())
        residual = np.linalg.norm(dense - W.astype("float64") @ model.components_)
        assert model.reconstruction_err_ == pytest.approx(residual, rel=1e-5)
    for part, was in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, was)


def test_sparse_data_is_never_made_dense(monkeypatch):
    X = sp.random_array((300, 10**6), density=1e-6, rng=np.random.default_rng(0), format="csr")

    def guarded(method):
        def call(self, *args, **kwargs):
            assert np.prod(self.shape) < 10**7, "made dense"
            return method(self, *args, **kwargs)

        return call

    for make in (sp.csr_array, sp.csc_array, sp.coo_array):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(make, method, guarded(getattr(make, method)))
    result = factorize(X, 2, solver="hals", init="random", max_iter=3)
    assert result.H.shape == (2, 10**6)
    for init in ("varimax", "kmeans"):
        factorize(X, 2, init=init, max_iter=2, sparsity=0.1)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
def test_blocks_of_sparse_data_are_no_copies_nor_are_their_products_made_with_one(make):
    X = make(sp.random_array((20000, 100), density=0.5, rng=np.random.default_rng(0)))
    ops = adapter("numpy")
    block, dense = ops.slice(X, slice(50, 4000)), X[50:4000].toarray()
    np.testing.assert_array_equal(block.toarray(), dense)
    assert np.shares_memory(block.data, X.data)
    assert np.shares_memory(block.indices, X.indices)
    W = np.random.default_rng(1).random((block.shape[0], 3))
    ops.matmul(W.T, block)
    tracemalloc.start()
    S = ops.matmul(W.T, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < block.data.nbytes / 10
    np.testing.assert_allclose(S, W.T @ dense, rtol=1e-12)


def test_wide_sparse_data_comes_in_few_blocks():
    X = sp.random_array((20000, 50000), density=1e-4, rng=np.random.default_rng(0), format="csr")
    assert len(adapter("numpy").rows(X).slices) < 10


# On disk: stores whose slices are sparse


class Sliced:
    """Sparse rows that are read by slices, as AnnData leaves them on disk, and how many at most."""

    def __init__(self, A, make=sp.csr_matrix, **known):
        self._A, self._make, self.shape, self.dtype = sp.csr_array(A), make, A.shape, A.dtype
        self.most, self.reads = 0, 0
        vars(self).update(known)

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        found = self._make(self._A[rows])
        self.most, self.reads = max(self.most, rows.stop - rows.start), self.reads + 1
        return found


def unsorted(A):
    """Its entries in another order, and the first of every row twice, at half of its value."""
    A = A.tocoo()
    order = np.random.default_rng(0).permutation(A.nnz)
    twice = np.concatenate([order, order])
    data = np.concatenate([A.data[order] / 2] * 2)
    rows, columns = (part[twice] for part in A.coords)
    by_row = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[by_row], np.arange(A.shape[0] + 1))
    return sp.csr_array((data[by_row], columns[by_row], indptr), shape=A.shape)


def big_endian(A):
    A = A.copy()
    A.data = A.data.astype(">f8")
    return A


def not_empty(A):
    if not A.shape[0]:
        raise IndexError("no rows")
    return A


def dense_if_empty(A):
    return A if A.shape[0] else np.empty(A.shape)


SLICES = {  # what slices come as, and what else the store says of itself
    "CSR": (sp.csr_matrix, {}),
    "CSR of arrays, with a count": (sp.csr_array, {"nnz": 743}),
    "CSC": (sp.csc_matrix, {}),
    "COO": (sp.coo_array, {}),
    "not in order, and twice": (unsorted, {}),
    "never empty": (not_empty, {}),
    "dense where it is empty": (dense_if_empty, {}),
    "big-endian": (big_endian, {}),
    "with chunks": (sp.csr_matrix, {"chunks": (50, 12)}),
}
KINDS = pytest.mark.parametrize("kind", SLICES)


def positive_entries(n=300, p=12, k=4, dtype="float64"):
    rng = np.random.default_rng(0)
    X = rng.random((n, k)) @ rng.standard_normal((k, p)) + 0.3 * rng.standard_normal((n, p))
    return sp.csr_array(np.where(X > 0.8, X, 0).astype(dtype))


def sliced(kind, X):
    make, known = SLICES[kind]
    return Sliced(X, make, **known)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))
    monkeypatch.setattr(stored, "GATHERED", 1)


def close(ours, theirs):
    both = slice(min(len(ours.loss_curve), len(theirs.loss_curve)))  # where rounding is reached
    np.testing.assert_allclose(ours.loss_curve[both], theirs.loss_curve[both], rtol=1e-9)
    np.testing.assert_allclose(ours.W, theirs.W, atol=1e-7)
    np.testing.assert_allclose(ours.H, theirs.H, atol=1e-7)
    assert ours.error == pytest.approx(theirs.error, rel=1e-9)


@KINDS
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random", "custom"])
@pytest.mark.usefixtures("small_blocks")
def test_a_fit_of_sparse_slices_is_that_of_memory(kind, solver, init, monkeypatch):
    monkeypatch.setattr("snmf.core.start.SAMPLE", (70, 1))
    X, options = positive_entries(), dict(solver=solver, init=init, tol=0, max_iter=8)
    if init == "custom":
        options["H"] = np.random.default_rng(1).standard_normal((4, 12))
    store = sliced(kind, X)
    ours = factorize(store, 4, **options)
    close(ours, factorize(X, 4, **options))
    assert store.most <= (50 if kind == "with chunks" else 20)


MORE = {
    "a penalty": lambda rng: dict(sparsity=0.1, solver="hals"),
    "weights": lambda rng: dict(sample_weight=rng.integers(0, 3, 300), init="svd"),
    "threads": lambda rng: dict(n_jobs=3),
    "fixed rows": lambda rng: dict(H=rng.standard_normal((2, 12)), fixed=2),
    "a fixed W": lambda rng: dict(W=rng.random((300, 4)), fixed="W"),
    "locality": lambda rng: dict(locality=0.1, solver="hals"),
    "restarts": lambda rng: dict(init="random", n_init=2),
}


@KINDS
@pytest.mark.parametrize("what", MORE)
@pytest.mark.usefixtures("small_blocks")
def test_so_is_what_else_a_fit_can_do(kind, what):
    X, options = positive_entries(), MORE[what](np.random.default_rng(2))
    options = dict(n_components=4, max_iter=5, tol=0) | options
    close(factorize(sliced(kind, X), **options), factorize(X, **options))


@KINDS
@pytest.mark.usefixtures("small_blocks")
def test_what_sparse_slices_store_may_be_missing(kind):
    X = positive_entries()
    X.data[::7] = np.nan
    options = dict(missing_values=np.nan, solver="hals", max_iter=5, tol=0)
    store = sliced(kind, X)
    close(factorize(store, 3, **options), factorize(X, 3, **options))
    row = np.flatnonzero(np.diff(X.indptr))[0]
    with pytest.raises(ValueError, match=f"got NaN in row {row}, column {X.indices[0]}"):
        factorize(store, 3)


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
@pytest.mark.usefixtures("small_blocks")
def test_the_estimators_take_sparse_slices_everywhere(kind, dtype, tmp_path):
    X = positive_entries(dtype="float32")
    X.data = (10 * X.data).astype(dtype)
    if kind in ("big-endian", "not in order, and twice"):
        X = X.astype("float64")  # as they make of them
    store, options = sliced(kind, X), dict(random_state=0, progress_bar=False)
    atol = 1e-3 if X.dtype == "float32" else 1e-7
    ours, theirs = (snmf.SNMF(3, max_iter=10, **options) for _ in range(2))
    W, path = theirs.fit_transform(X), tmp_path / "W.npy"
    np.testing.assert_allclose(ours.fit_transform(store, out=path), W, atol=atol * W.max())
    np.testing.assert_allclose(ours.transform(store), np.load(path), atol=1e-6 * W.max())
    assert ours.score(store) == pytest.approx(theirs.score(X), rel=atol)
    np.testing.assert_allclose(
        ours.inverse_transform(Sliced(sp.csr_array(W), *SLICES[kind][:1])), W @ ours.components_,
        rtol=1e-6, atol=1e-6,
    )  # fmt: skip
    assert ours.bic(store) == pytest.approx(theirs.bic(X), rel=atol)
    streamed = snmf.MiniBatchSNMF(3, batch_size=50, max_iter=3, **options).fit(store)
    memory = snmf.MiniBatchSNMF(3, batch_size=50, max_iter=3, **options).fit(X)
    assert streamed.score(store) == pytest.approx(memory.score(X), abs=0.05)  # other batches
    begun = snmf.MiniBatchSNMF(3, **options).partial_fit(sliced(kind, X[:20])).partial_fit(store)
    assert begun.partial_fit(store).n_steps_ == 2


@pytest.mark.usefixtures("small_blocks")
def test_a_checkpoint_of_sparse_slices_goes_on(tmp_path, monkeypatch):
    X, path = positive_entries(), tmp_path / "fit.npz"
    options = dict(max_iter=6, tol=0, checkpoint=path, checkpoint_interval=0)
    whole = factorize(sliced("CSR", X), 3, **options)

    def stop(iteration):
        if iteration.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factorize(sliced("CSR", X), 3, callback=stop, **options)
    assert path.exists()
    other = X.copy()
    other.data *= 2
    with pytest.raises(ValueError, match="is of other data"):
        factorize(sliced("CSR", other), 3, **options)
    np.testing.assert_array_equal(factorize(sliced("CSC", X), 3, **options).W, whole.W)


def test_few_sparse_rows_are_read_together_and_their_number_is_not_that_of_reads():
    X, rng = positive_entries(n=3000), np.random.default_rng(0)
    indices = rng.integers(0, 3000, 500)
    for known in ({}, {"nnz": X.nnz}):
        store = Sliced(X, **known)
        rows = adapter("numpy").rows(stored.Store(store))
        np.testing.assert_array_equal(rows.take(indices).toarray(), X[indices].toarray())
        assert store.reads < 50
        assert rows.stored == pytest.approx(X.nnz, rel=0.3)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda A: A * 1j, ValueError, "rows 0 to 19 of X must hold real numbers; .*complex128"),
        (lambda A: A.toarray().astype(object), ValueError, "rows 0 to 19 .*; .*dtype object"),
        (lambda A: A.toarray().astype(str), ValueError, "rows 0 to 19 .*real numbers; .*dtype <U"),
        (lambda A: A[:-1], OSError, r"must have shape \(20, 12\); reading gave \(19, 12\)"),
        (lambda A: A[:, 1:], OSError, r"must have shape \(20, 12\); reading gave \(20, 11\)"),
        (lambda A: A.toarray()[0], OSError, r"must have shape \(20, 12\); reading gave \(12,\)"),
        (lambda A: np.float64(3), OSError, r"must have shape \(20, 12\); reading gave \(\)"),
        (lambda A: A.toarray(), ValueError, "all dense, or all sparse; rows 0 to 19 .* are dense"),
        (lambda A: Sealed(), ValueError, "must come as NumPy .*; reading gave .*Sealed, .*: no"),
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_slices_that_are_no_rows_of_numbers_are_refused(make, error, words):
    def whole_blocks(A):
        return make(A) if A.shape[0] == 20 else A

    for call in (
        snmf.SNMF(2).fit,
        snmf.SNMF(2).fit(positive_entries()).transform,
        snmf.MiniBatchSNMF(2).fit,
    ):
        with pytest.raises(error, match=words):
            call(Sliced(positive_entries(), whole_blocks))


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(("part", "value"), [("indices", 999), ("indices", -1), ("indptr", 10**6)])
def test_entries_outside_of_the_matrix_are_refused_before_they_are_followed(kind, part, value):
    def damaged(A):
        A = A.asformat(kind, copy=True)
        getattr(A, part)[1] = value
        return A

    X = positive_entries()
    for fit in (snmf.SNMF(2).fit, snmf.MiniBatchSNMF(2).fit, snmf.SNMF(2).fit(X).transform):
        with pytest.raises(ValueError, match=r"of a sparse matrix of shape .300, 12. must"):
            fit(damaged(X))
    with pytest.raises(OSError, match=r"rows 0 to .* of X are damaged: the .* of a sparse matrix"):
        snmf.SNMF(2).fit(Sliced(X, lambda A: damaged(A) if A.shape[0] > 1 else A))


class Sealed:
    """An array that is not converted by itself, as those of a device."""

    shape = (20, 12)

    def __array__(self, *given, **named):
        raise TypeError("no")


@pytest.mark.parametrize("backend", ["torch", "jax", "array_api_strict"])
def test_a_library_without_sparse_blocks_says_so(backend):
    pytest.importorskip(backend)
    ops = Backend(backend) if backend == "array_api_strict" else backend
    with pytest.raises(ValueError, match=r"must be dense for the backend .*got csr_matrix.*numpy"):
        factorize(Sliced(positive_entries()), 3, backend=ops)


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA and /proc")
def test_a_fit_of_sparse_slices_takes_the_memory_of_a_few_blocks():
    """Of 6 GiB that they would be dense."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(
            """
            import resource
            import numpy as np, scipy.sparse as sp, snmf

            class Made:
                shape, dtype = (40_000, 40_000), np.dtype("float32")

                def __getitem__(self, rows):
                    return block[np.arange(rows.start, rows.stop) % 500]

            rng = np.random.default_rng(0)
            block = sp.random_array((500, 40_000), density=0.008, rng=rng, format="csr")
            block = sp.csr_matrix(block.astype("float32"))
            fit = dict(progress_bar=False, random_state=0, max_iter=1, init="random", n_jobs=2)
            snmf.factorize(block, 2, **fit)  # what is allocated once
            lines = open("/proc/self/status").read().splitlines()
            (data,) = (int(line.split()[1]) for line in lines if line.startswith("VmData"))
            resource.setrlimit(resource.RLIMIT_DATA, (2**10 * data + 2**28, -1))
            print(snmf.factorize(Made(), 2, **fit).W.shape)
            model = snmf.MiniBatchSNMF(2, max_iter=1, tol=0, random_state=0, progress_bar=False)
            print(model.fit(Made()).components_.shape)
            """
        )],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "(40000, 2)\n(2, 40000)\n", done.stderr


# In groups of HDF5 and Zarr, as AnnData writes them


@pytest.fixture(params=["HDF5", "Zarr"])
def group(request, tmp_path):
    """A group that holds the parts of a matrix, written by `fill`."""
    if request.param == "HDF5":
        with h5py.File(tmp_path / "X.h5ad", "w") as file:
            yield file.create_group("X")
    else:
        yield zarr.open_group(str(tmp_path / "X.zarr"), mode="w").create_group("X")


def fill(group, X, encoding="csr_matrix", **others):
    parts = {"data": X.data, "indices": X.indices, "indptr": X.indptr, **others}
    make = group.create_dataset if hasattr(group, "file") else group.create_array
    for name, part in parts.items():
        if part is not None:
            make(name, shape=part.shape, dtype=part.dtype)[:] = part
    group.attrs["encoding-type"] = encoding
    group.attrs["shape"] = np.array(X.shape) if hasattr(group, "file") else list(X.shape)
    return group


@pytest.mark.usefixtures("small_blocks")
def test_a_csr_matrix_in_a_group_is_that_in_memory(group):
    X = positive_entries()
    fill(group, X)
    close(factorize(group, 4, max_iter=5, tol=0), factorize(X, 4, max_iter=5, tol=0))
    model = snmf.SNMF(4, random_state=0, progress_bar=False).fit(group)
    assert model.n_features_in_ == 12
    assert model.score(group) == pytest.approx(model.score(X))
    streamed = snmf.MiniBatchSNMF(3, batch_size=50, max_iter=3, random_state=0).fit(group)
    assert streamed.score(group) > 0.5
    store = stored.Store(sparse_group.opened(group))
    assert (store.nnz, store.sparse, len(store)) == (X.nnz, True, 300)
    some = np.array([299, 4, 5, 4])
    np.testing.assert_array_equal(store.take(some).toarray(), X[some].toarray())


def test_a_group_is_opened_once_and_keeps_few_chunks_in_memory(group, monkeypatch):
    fill(group, positive_entries())
    if hasattr(group, "file"):  # HDF5
        entries = group["data"][:]
        del group["data"]
        group.create_dataset("data", data=entries, chunks=(64,))
    made, init = [], sparse_group.StoredCSR.__init__

    def counted(self, group):
        init(self, group)
        made.append(self)

    monkeypatch.setattr(sparse_group.StoredCSR, "__init__", counted)
    factorize(group, 2, max_iter=2)
    assert len(made) == 1
    if hasattr(group, "file"):
        assert made[0]._data.id.get_access_plist().get_chunk_cache()[1] <= 2**20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoding": "csc_matrix"}, r"stored by rows \(CSR\); got .* by columns .* by tocsr"),
        ({"encoding": "dataframe"}, r"got a group of .*Choose one of these, such as file\['X'\]"),
        ({"indptr": None}, "/X has no 'indptr': it is damaged"),
        ({"indptr": np.arange(300)}, "/X is damaged: its pointers must rise from 0"),
        ({"indptr": np.arange(301) % 7}, "/X is damaged"),
        ({"indptr": np.arange(301) * 1000}, "/X is damaged"),
        ({"indptr": np.append(np.arange(300), 2**32 + 299)}, "/X is damaged"),
        ({"indices": np.zeros(5, int)}, "/X is damaged"),
    ],
)
def test_a_group_that_is_no_matrix_by_rows_is_refused(group, change, words):
    fill(group, positive_entries(), **change)
    with pytest.raises(ValueError, match=words):
        factorize(group, 2)


def test_an_index_out_of_range_in_a_group_is_an_error_that_names_the_rows(group):
    X = positive_entries()
    fill(group, X, indices=np.where(np.arange(X.nnz) == X.nnz - 1, 12, X.indices))
    with pytest.raises(OSError, match="rows 0 to 299 of X are damaged"):
        factorize(group, 2)


def test_missing_values_of_many_columns_are_never_dense(monkeypatch):
    """Only rows with a hole are made dense, a few at a time."""
    X = sp.random_array((400, 3000), density=0.01, rng=np.random.default_rng(0), format="csr")
    X.data[::50] = np.nan
    made, plain = [], adapter("numpy").__class__.to_dense

    def watched(self, A):
        made.append(A.shape[0])
        return plain(self, A)

    monkeypatch.setattr(type(adapter("numpy")), "to_dense", watched)
    options = dict(missing_values=np.nan, max_iter=3, tol=0, solver="hals", init="random")
    found = factorize(X, 3, **options)
    assert 0 < sum(made) <= np.isnan(X.toarray()).any(axis=1).sum()
    assert max(made) <= 2**17 // (3 * 3000)
    np.testing.assert_allclose(found.W, factorize(X.toarray(), 3, **options).W, atol=1e-8)
