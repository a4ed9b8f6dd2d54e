"""Data that lies on disk: the same numbers as in memory, block by block, and never the whole."""

import functools
import gc
import os
import tempfile
import threading
import weakref

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from fits import centred as planted
from fits import factorize
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import snmf
from snmf import SNMF
from snmf.backends import Backend, adapter, owner
from snmf.storage import parts as _parts
from snmf.storage import rows as _rows
from snmf.storage import stored as _stored

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))


class Slices:
    """A store that knows slices of rows only, and counts which rows are read.

    It does not count a look at the first row that comes after an empty slice: such a look only
    asks whether rows are sparse.
    """

    def __init__(self, X, chunks=None):
        self._X, self.shape, self.dtype, self.chunks = X, X.shape, X.dtype, chunks
        self.counts = np.zeros(len(X), dtype=int)
        self.last = None
        self.longest, self.alive, self.most_alive = 0, weakref.WeakValueDictionary(), 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        last, self.last = self.last, rows
        if (last, rows) == (slice(0, 0), slice(0, 1)):
            return self._X[rows].copy()
        self.counts[rows] += 1
        block = self._X[rows].copy()
        self.longest = max(self.longest, len(block))
        self.alive[id(block)] = block
        self.most_alive = max(self.most_alive, len(self.alive))
        return block


def saved(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def in_hdf5(X, folder, **how):
    with h5py.File(folder / "X.h5", "w") as file:
        file.create_dataset("X", data=X, **how)
    return h5py.File(folder / "X.h5")["X"]


def in_zarr(X, folder, **how):
    Z = zarr.create_array(store=str(folder / "X.zarr"), shape=X.shape, dtype=X.dtype, **how)
    Z[:] = X
    return zarr.open_array(str(folder / "X.zarr"), mode="r")


def inside(X, folder):
    wide = np.zeros((len(X) + 9, 2 * X.shape[1] + 1), dtype=X.dtype)
    wide[5:-4, 1::2] = X
    return saved(wide, folder)[5:-4, 1::2]


STORES = {  # and whether the blocks, and so the bits, are those of memory
    "memmap": (saved, True),
    "memmap, Fortran order": (lambda X, f: saved(np.asfortranarray(X), f), False),
    "memmap, big-endian": (lambda X, f: saved(X.astype(X.dtype.newbyteorder(">")), f), True),
    "memmap, a view": (inside, True),
    "slices": (lambda X, f: Slices(X), True),
    "HDF5": (in_hdf5, True),
    "HDF5, chunks": (functools.partial(in_hdf5, chunks=(9, 5), compression="lzf"), False),
    "HDF5, long chunks": (functools.partial(in_hdf5, chunks=(64, 3)), False),
    "Zarr": (functools.partial(in_zarr, chunks=(11, 12)), False),
    "Zarr, shards": (functools.partial(in_zarr, chunks=(26, 4), shards=(52, 12)), False),
}


@pytest.fixture(params=STORES)
def stored(request, tmp_path):
    make, same_bits = STORES[request.param]
    return lambda X: make(X, tmp_path), same_bits


# The same numbers


def assert_same(ours, theirs, same_bits):
    assert ours.W.dtype == theirs.W.dtype
    if same_bits:
        np.testing.assert_array_equal(ours.W, theirs.W)
        np.testing.assert_array_equal(ours.H, theirs.H)
        np.testing.assert_array_equal(ours.loss_curve, theirs.loss_curve)
        return
    rtol, atol = (1e-4, 5e-3) if theirs.W.dtype == "float32" else (1e-9, 1e-7)
    np.testing.assert_allclose(ours.loss_curve, theirs.loss_curve, rtol=rtol)
    np.testing.assert_allclose(ours.W, theirs.W, atol=atol)
    np.testing.assert_allclose(ours.H, theirs.H, atol=atol)
    assert ours.error == pytest.approx(theirs.error, rel=rtol)


@pytest.mark.parametrize(("dtype", "sparsity"), [("float32", 0.0), ("float64", 0.1)])
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
def test_a_fit_is_that_of_memory(stored, dtype, solver, init, sparsity):
    make, same_bits = stored
    X = planted(dtype=dtype)
    fit = functools.partial(
        factorize, n_components=4, solver=solver, init=init, sparsity=sparsity, tol=0, max_iter=8
    )
    ours = fit(make(X))
    assert type(ours.W) is type(ours.H) is np.ndarray
    assert_same(ours, fit(X), same_bits)


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_so_it_is_on_threads(stored, n_jobs):
    make, same_bits = stored
    X = planted()
    ours = factorize(make(X), 4, n_jobs=n_jobs, max_iter=8)
    assert_same(ours, factorize(X, 4, n_jobs=n_jobs, max_iter=8), same_bits)


@pytest.mark.parametrize("backend", ["array_api_strict", "torch", "jax"])
@pytest.mark.parametrize("solver", ["mu", "hals"])
def test_so_it_is_through_another_library(stored, backend, solver, monkeypatch):
    pytest.importorskip(backend)
    make, _ = stored
    X = planted(dtype="float32")
    ops = Backend(backend) if backend == "array_api_strict" else adapter(backend)
    data, most, asarray = make(X), [], type(ops).asarray
    monkeypatch.setattr(
        type(ops), "asarray", lambda self, A, *a: most.append([*A.shape, 0]) or asarray(self, A, *a)
    )
    fit = functools.partial(
        factorize, n_components=4, solver=solver, init="random", tol=0, max_iter=8
    )
    ours = fit(data, backend=ops)
    assert type(ours.W) is np.ndarray
    assert max(most)[0] <= 64
    assert_same(ours, fit(X, backend=ops), False)


@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd"])
def test_so_it_is_with_wide_data(stored, init):
    make, _ = stored
    X = planted(n=70, p=300)
    assert_same(factorize(make(X), 3, init=init), factorize(X, 3, init=init), False)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_so_it_is_at_any_scale_and_with_weights(stored, scale):
    make, _ = stored
    X, D = planted(), np.random.default_rng(1).integers(1, 4, 207)
    fit = functools.partial(factorize, n_components=3, sample_weight=D, max_iter=5, init="svd")
    ours, theirs = fit(make(scale * X)), fit(scale * X)
    np.testing.assert_allclose(ours.W / scale, theirs.W / scale, atol=1e-7)
    np.testing.assert_allclose(ours.loss_curve, theirs.loss_curve, rtol=1e-9)


def test_the_estimator_takes_it_everywhere(stored):
    make, _ = stored
    X = planted()
    data = make(X)
    ours, theirs = (SNMF(3, random_state=0, max_iter=10) for _ in range(2))
    W = ours.fit_transform(data)
    np.testing.assert_allclose(W, theirs.fit_transform(X), atol=1e-7)
    assert type(W) is type(ours.components_) is np.ndarray
    np.testing.assert_allclose(ours.transform(data), W, atol=1e-10)
    assert ours.score(data) == pytest.approx(theirs.score(X), abs=1e-9)
    assert ours.fit(data).n_features_in_ == 12
    with pytest.raises(ValueError, match="X has 5 features, but SNMF is expecting 12"):
        ours.transform(X[:, :5])


@functools.cache
def number_found():
    return SNMF("auto", random_state=0, max_iter=5).fit(planted()[:80]).n_components_


def test_the_number_of_components_may_be_found_on_it(stored):
    model = SNMF("auto", random_state=0, max_iter=5).fit(stored[0](planted()[:80]))
    assert model.n_components_ == number_found()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
def test_dtypes(stored, dtype):
    X = (10 * planted()).clip(0, 100).astype(dtype)
    make, same_bits = stored
    ours, theirs = factorize(make(X), 3, max_iter=5), factorize(X, 3, max_iter=5)
    assert ours.W.dtype == ("float32" if dtype in ("float16", "float32") else "float64")
    assert_same(ours, theirs, same_bits)


# What is taken for stored, and what not


def test_memory_maps_and_what_slices_are_stored_and_nothing_else(tmp_path):
    X = planted()
    for make, _ in STORES.values():
        (folder := tmp_path / f"{len(list(tmp_path.iterdir()))}").mkdir()
        data = make(X, folder)
        assert isinstance(owner(data).check(data), _stored.Store)
    frame = pd.DataFrame(X)
    for data in (X, frame, X.tolist(), sp.csr_array(X), sp.csr_matrix(X)):
        assert not isinstance(owner(data).check(data), _stored.Store)
    for data in (frame, frame[0], np.float64(3), "text", None, np.ma.masked_array(X), X.tolist()):
        assert not _stored.is_stored(data) or data.ndim != 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.array([["a", 1], [2, 3]], dtype=object), "real numbers; got dtype object"),
        (np.array([["a", "b"]]), "real numbers; got dtype <U1"),
        (np.eye(3) * 1j, "Complex data not supported"),
        (np.eye(3)[0], "Expected 2D array"),
        (np.eye(3)[None], "Expected 2D array"),
        (np.empty((0, 3)), "0 sample"),
        (np.empty((3, 0)), "0 feature"),
    ],
)
def test_what_is_no_matrix_of_real_numbers_is_refused_unread(data, words):
    store = Slices(data)
    for call in (SNMF(2).fit, SNMF(2).fit(planted()).transform, lambda A: factorize(A, 2)):
        with pytest.raises(ValueError, match=words):
            call(store)
    assert not store.longest


@pytest.mark.parametrize(
    "shape", [None, (None, 12), (207.0, 12.0), (-1, 12), "no", lambda: (207, 12)]
)
def test_a_shape_that_is_none_is_refused_with_the_kind_of_the_store(shape):
    store = Slices(planted())
    store.shape = shape
    for call in (SNMF(2).fit, SNMF(2).fit(planted()).transform, snmf.MiniBatchSNMF(2).fit):
        with pytest.raises(ValueError, match=r"X.shape must be whole numbers.*test_disk\.Slices"):
            call(store)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [([207, 12], "float64"), (np.array([207, 12]), np.float64), ((207, 12), "nope")],
)
def test_a_shape_may_be_a_list_and_a_dtype_a_name_that_numpy_knows(shape, dtype):
    store = Slices(planted())
    store.shape, store.dtype = shape, dtype
    if dtype == "nope":
        with pytest.raises(ValueError, match="Expected 2D array"):
            factorize(store, 2)
    else:
        assert_same(factorize(store, 2), factorize(planted(), 2), True)


def test_what_knows_of_dask_and_is_no_collection_is_read_as_others_are():
    class Labelled(Slices):  # as a DataArray of xarray
        def __dask_graph__(self):
            return None

    for cls in (SNMF, snmf.MiniBatchSNMF):
        model = cls(3, random_state=0).fit(Labelled(planted()))
        np.testing.assert_array_equal(
            model.components_, cls(3, random_state=0).fit(Slices(planted())).components_
        )


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("make", [saved, in_hdf5, in_zarr, lambda X, folder: Slices(X)])
def test_few_rows_may_be_stored(make, n, tmp_path):
    X = planted(n=9)[:n]
    data = make(X, tmp_path)
    np.testing.assert_allclose(factorize(data, 1).W, factorize(X, 1).W, atol=1e-12)
    assert snmf.MiniBatchSNMF(1, random_state=0).partial_fit(data).transform(data).shape == (n, 1)


# What is read


@pytest.mark.parametrize("n_jobs", [None, 1, 3])
@pytest.mark.parametrize("chunks", [None, (6, 12), (50, 3)])
@pytest.mark.parametrize("scratch", [False, True])
def test_a_pass_reads_every_row_once_and_few_blocks_are_held(n_jobs, chunks, scratch, monkeypatch):
    monkeypatch.setattr(_stored, "SCRATCH", 0 if scratch else 2**60)
    gc.collect()
    store = Slices(planted(), chunks)
    with threadpool_limits(1):  # which without n_jobs are those that blocks have
        result = factorize(
            store, 4, init="random", sparsity=0, accelerate=False, max_iter=6, n_jobs=n_jobs
        )
    look, sums, last = 1, 1, 1
    np.testing.assert_array_equal(store.counts, look + sums + result.n_iter + last)
    assert store.longest == {None: 20, (6, 12): 18, (50, 3): 50}[chunks]
    assert store.most_alive <= 3 + 2 * (n_jobs or 0)
    before = store.counts.copy()
    SNMF(4, n_jobs=n_jobs).fit(planted()).transform(store)
    np.testing.assert_array_equal(store.counts, before + look + last)


def test_reading_goes_ahead_of_computing_by_a_block():
    started = [threading.Event() for _ in range(11)]

    class Told(Slices):
        def __getitem__(self, rows):
            started[rows.start // 20].set()
            return super().__getitem__(rows)

    rows = adapter("numpy").rows(_stored.Store(Told(planted())))
    before = {*threading.enumerate()}  # Dask keeps a pool of its own in the process

    def function(X, number):
        ahead = number + _stored.AHEAD
        assert number + _stored.AHEAD >= 11 or started[ahead].wait(60)
        assert not any(event.is_set() for event in started[ahead + 2 :])
        return None, (X.sum(),)

    _, (total,) = rows.map_sum(function, range(11))
    assert total == pytest.approx(planted().sum())
    assert {*threading.enumerate()} <= before


@given(
    indices=st.lists(st.integers(0, 206), min_size=1, max_size=40),
    chunk=st.sampled_from([None, 1, 7, 100, 1000]),
)
def test_some_rows_are_read_alone_or_with_their_chunk(indices, chunk):
    X = planted()
    store = Slices(X, chunk and (chunk, 12))
    indices = np.array(indices)
    taken = adapter("numpy").rows(_stored.Store(store)).take(indices)
    np.testing.assert_array_equal(taken, X[indices])
    assert store.counts.max() == 1
    read = np.flatnonzero(store.counts)
    if chunk is None:
        np.testing.assert_array_equal(read, np.unique(indices))
    assert set(read // (chunk or 1)) == set(indices // (chunk or 1))


@pytest.mark.parametrize(("init", "rank"), [("kmeans", 12), ("varimax", 12), ("varimax", 2)])
def test_a_sample_is_all_that_a_start_reads_beside_a_pass(init, rank, monkeypatch):
    monkeypatch.setattr("snmf.core.start.SAMPLE", (10, 1))
    X = planted()
    X[:, rank:] = 0  # varimax turns to k-means if principal components are missing
    store = Slices(X)
    result = factorize(store, 4, init=init, sparsity=0, accelerate=False, max_iter=3)
    passes = 4 + result.n_iter
    assert set(store.counts) == {passes, passes + 1}
    assert np.sum(store.counts > passes) == 10


def test_some_rows_of_every_store(stored):
    make, _ = stored
    X = planted()
    store = _stored.Store(make(X))
    indices = np.random.default_rng(0).integers(0, 207, 60)
    np.testing.assert_array_equal(store.take(indices), X[indices])


@given(
    n=st.integers(1, 500),
    most=st.integers(1, 60),
    chunk=st.integers(1, 700),
    bytes_=st.sampled_from([100, 3000, 2**20]),
)
def test_reads_are_whole_chunks_and_blocks_parts_of_them(n, most, chunk, bytes_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "BLOCK_ROWS", (1, most))
        patch.setattr(_stored, "MOST_READ", bytes_)
        X = planted(n=n, p=1)
        store = Slices(X, (chunk, 1))
        rows = adapter("numpy").rows(_stored.Store(store))
        parts, (total,) = rows.map_sum(lambda block: (block, (block.sum(),)))
    np.testing.assert_array_equal(np.concatenate(parts), X)
    assert total == pytest.approx(X.sum())
    assert [len(part) for part in parts] == [rows.stop - rows.start for rows in rows.slices]
    assert max(map(len, parts)) <= most
    assert store.longest <= max(most, bytes_ // 8)
    np.testing.assert_array_equal(store.counts, 1)
    if chunk <= max(most, bytes_ // 8):
        assert all(part.start % chunk == 0 for part in rows.slices if chunk <= most)


# W in files


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random", "custom"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("backend", ["numpy", "array_api_strict", "torch"])
def test_w_in_temporary_files_is_the_same(solver, init, sparsity, backend, monkeypatch, tmp_path):
    pytest.importorskip(backend)
    X = planted()
    ops = Backend(backend) if backend == "array_api_strict" else adapter(backend)
    start = {"H": np.random.default_rng(0).standard_normal((14, 12))} if init == "custom" else {}
    fit = functools.partial(
        factorize, Slices(X), 14, solver=solver, init=init, sparsity=sparsity, max_iter=5,
        backend=ops, **start,
    )  # fmt: skip
    memory = fit()
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(_stored, "SCRATCH", 0)
    written, real = [], _parts.scratch
    monkeypatch.setattr(
        _stored, "scratch", lambda *a: written.append(list(scratch.iterdir())) or real(*a)
    )
    ours = fit(out=tmp_path / "W.npy")
    assert len(written) > 5
    assert not list(scratch.iterdir())
    np.testing.assert_allclose(ours.W, memory.W, atol=1e-9)
    np.testing.assert_allclose(ours.H, memory.H, atol=1e-9)


@pytest.mark.parametrize("make", [np.asarray, Slices, sp.csr_array, lambda X: X.astype("float32")])
def test_out_is_a_file_of_the_weights(make, tmp_path):
    X = planted()
    data, path = make(X), tmp_path / "W.npy"
    plain = factorize(data, 3)
    result = factorize(data, 3, out=path)
    assert isinstance(result.W, np.memmap)
    assert not result.W.flags.writeable
    for W in (result.W, np.load(path)):
        np.testing.assert_array_equal(W, plain.W)
        assert W.dtype == plain.W.dtype
    model = SNMF(3, random_state=0)
    np.testing.assert_array_equal(model.fit_transform(data, out=str(path)), plain.W)
    np.testing.assert_allclose(model.transform(data, out=path), plain.W, atol=1e-5)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(data, out=path)), plain.W @ plain.H, atol=1e-4
    )
    np.testing.assert_array_equal(snmf.fit_transform(data, 3, random_state=0, out=path), plain.W)
    assert [file.name for file in tmp_path.iterdir()] == ["W.npy"]
    assert factorize(data, 3, out=False).W is None


def test_out_that_cannot_be_is_refused_before_the_fit(tmp_path, monkeypatch):
    X = saved(planted(), tmp_path)
    store = Slices(planted())
    for out, error, words in (
        (tmp_path / "W", ValueError, "out must be the path of a .npy file"),
        (np.empty((207, 3)), ValueError, "out must be the path of a .npy file"),
        (tmp_path / "no" / "W.npy", FileNotFoundError, "there is no such folder"),
    ):
        with pytest.raises(error, match=words):
            factorize(store, 3, out=out)
        with pytest.raises(error, match=words):
            SNMF(3).fit(planted()).transform(store, out=out)
    with pytest.raises(ValueError, match="out must not be the file of X"):
        factorize(X, 3, out=tmp_path / "X.npy")
    with pytest.raises(ValueError, match="out must not be the file of X"):
        factorize(X[3:], 3, out=str(tmp_path / "X.npy"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 4000}))
    with pytest.raises(OSError, match="W takes 4968 bytes, and only 4000 are free"):
        factorize(store, 3, out=tmp_path / "W.npy")
    assert not store.longest
    assert [file.name for file in tmp_path.iterdir()] == ["X.npy"]


@pytest.mark.parametrize("name", ["out", "checkpoint"])
def test_a_folder_is_refused_before_the_fit(name, tmp_path):
    folder, iterations = tmp_path / "W.npy", []
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match=r"is a folder, not a file: .*W\.npy"):
        factorize(planted(), 3, max_iter=1, callback=iterations.append, **{name: folder})
    assert not iterations


# What goes wrong


def test_a_file_that_ends_early_is_an_error_with_the_rows(tmp_path):
    X = saved(planted(), tmp_path)
    fitted = SNMF(3).fit(X)
    before = dict(vars(fitted))
    os.truncate(tmp_path / "X.npy", 128 + 150 * 12 * 8)
    for call in (fitted.fit, fitted.transform, fitted.score, lambda A: factorize(A[3:], 3)):
        with pytest.raises(OSError, match=r"rows 0 to 19 of X cannot be read: its file ends early"):
            call(X)
    assert vars(fitted) == before


def test_a_damaged_chunk_is_an_error_with_the_rows(tmp_path):
    X = in_hdf5(planted(), tmp_path, chunks=(20, 12), compression="gzip")
    os.truncate(tmp_path / "X.h5", X.id.get_chunk_info(5).byte_offset + 10)
    with pytest.raises(OSError, match=r"rows 100 to 119 of X cannot be read: "):
        factorize(X, 3)
    Z = in_zarr(planted(), tmp_path, chunks=(20, 12))
    (tmp_path / "X.zarr" / "c" / "6" / "0").write_bytes(b"nonsense")
    with pytest.raises(OSError, match=r"rows 120 to 139 of X cannot be read: "):
        SNMF(3).fit(Z)


def test_a_store_that_gives_other_rows_than_asked_for_is_refused():
    class Short(Slices):
        def __getitem__(self, rows):
            return super().__getitem__(rows)[:-1]

    class Masked(Slices):
        def __getitem__(self, rows):
            return np.ma.masked_greater(super().__getitem__(rows), 1)

    with pytest.raises(
        OSError, match=r"rows 0 to 19 of X must have shape \(20, 12\); .*\(19, 12\)"
    ):
        factorize(Short(planted()), 3)
    with pytest.raises(ValueError, match="must not be masked: rows 0 to 19 of X have masked"):
        factorize(Masked(planted()), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_entry_that_is_not_finite_is_named(stored, value):
    make, _ = stored
    X = planted()
    X[131, 7] = value
    word = "NaN" if np.isnan(value) else "infinity"
    for data in (make(X), X):
        for call in (SNMF(3).fit, SNMF(3).fit(planted()).score):
            with pytest.raises(ValueError, match=f"got {word} in row 131, column 7"):
                call(data)


def test_an_error_while_computing_ends_the_reader(tmp_path):
    X, others = saved(planted(), tmp_path), set(threading.enumerate())  # Dask keeps its threads

    def fails(block):
        raise RuntimeError("no")

    for n_jobs in (None, 2):
        with (
            adapter("numpy").rows(_stored.Store(X)).threads(n_jobs) as rows,
            pytest.raises(RuntimeError, match="no"),
        ):
            rows.map_sum(fails)
    left = set(threading.enumerate()) - others
    assert not [t for t in left if "ThreadPoolExecutor" in t.name]
