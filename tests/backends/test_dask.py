"""Rows on a Dask cluster: the fit is that of the array in memory, and outlives its workers."""

import functools
import importlib
import os
import signal
import sys
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import snmf
from snmf import SNMF
from snmf.backends import adapter
from snmf.storage import rows as _rows

dask = pytest.importorskip("dask", reason="the extra 'dask' is not installed")
da = pytest.importorskip("dask.array", reason="the extra 'dask' is not installed")

# workers cannot import this file: what of it they run is sent whole
importlib.import_module("cloudpickle").register_pickle_by_value(sys.modules[__name__])

dask_rows = importlib.import_module("snmf.storage.dask_rows")
dask_cluster = importlib.import_module("snmf.storage.dask_cluster")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, random_state=0, progress_bar=False)
UNEVEN = (70, 0, 128, 42)


def planted(n=240, p=30, k=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, k)) @ rng.standard_normal((k, p)) + 0.5 * rng.standard_normal((n, p))


def chunked(X, rows=UNEVEN):
    return da.from_array(X, chunks=(rows, X.shape[1]))


def same(ours, theirs, rtol=1e-11):
    both = slice(min(len(ours.loss_curve), len(theirs.loss_curve)))  # where rounding is reached
    curves = ours.loss_curve[both], theirs.loss_curve[both]
    np.testing.assert_allclose(*curves, rtol=rtol, atol=1e-20)
    assert ours.error == pytest.approx(theirs.error, rel=rtol, abs=1e-9)
    np.testing.assert_allclose(ours.H, theirs.H, atol=1e-7)
    W = np.asarray(ours.W)
    np.testing.assert_allclose(W, theirs.W, atol=1e-6 * np.abs(theirs.W).max())


# The local scheduler


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
def test_a_fit_is_that_of_the_array_in_memory(solver, sparsity, init):
    X = planted()
    options = dict(solver=solver, sparsity=sparsity, init=init, max_iter=8, tol=0)
    ours = factorize(chunked(X), 5, **options)
    same(ours, factorize(X, 5, **options))
    assert isinstance(ours.W, da.Array)
    assert isinstance(ours.H, np.ndarray)
    assert ours.W.chunks == (UNEVEN, (5,))
    assert ours.W.dtype == "float64"


OTHERWISE = {
    "weights": lambda X, rng: dict(sample_weight=rng.random(len(X)), init="svd"),
    "a start": lambda X, rng: dict(W=rng.random((len(X), 5)), H=X[:5], init="custom"),
    "an H": lambda X, rng: dict(H=X[:5], init="custom"),
    "fixed rows": lambda X, rng: dict(H=X[:2], fixed=2),
    "a fixed W": lambda X, rng: dict(W=rng.random((len(X), 5)), fixed="W"),
    "locality": lambda X, rng: dict(locality=0.1),
    "restarts": lambda X, rng: dict(n_init=2, init="random"),
    "threads": lambda X, rng: dict(n_jobs=2),
    "limits": lambda X, rng: dict(n_nonzero_features=5, positive_components=True),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_so_is_what_else_a_fit_can_do(what):
    X = planted()
    options = OTHERWISE[what](X, np.random.default_rng(1))
    options = dict(n_components=5, max_iter=4, tol=0) | options
    same(factorize(chunked(X), **options), factorize(X, **options), rtol=1e-9)


def test_entries_may_be_missing():
    X = planted()
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    options = dict(n_components=3, max_iter=4, missing_values=np.nan, init="svd")
    weights = np.random.default_rng(1).random(len(X))
    for more in ({}, {"sample_weight": weights}):
        same(factorize(chunked(X), **options, **more), factorize(X, **options, **more), rtol=1e-9)


def test_a_row_of_weight_two_is_two_rows_where_entries_are_missing():
    X, rng = planted() + 2, np.random.default_rng(0)
    X[rng.random(X.shape) < 0.3] = np.nan
    counts, W = rng.integers(0, 3, len(X)), rng.random((len(X), 3))
    again = np.repeat(np.arange(len(X)), counts)
    options = dict(n_components=3, max_iter=3, tol=0, missing_values=np.nan, init="custom")
    weighted = factorize(chunked(X), W=W, sample_weight=counts, **options)
    repeated = factorize(X[again], W=W[again], **options)
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=1e-9)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=1e-7)


@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random", "H"])
@pytest.mark.parametrize("missing", [False, True])
def test_rows_of_weight_zero_take_no_part(init, missing):
    X, rng = planted(), np.random.default_rng(0)
    member = (rng.random(len(X)) < 0.7) & (np.arange(len(X)) < 198)  # of the last chunk none
    X[~member] *= 1e6
    options = dict(n_components=4, max_iter=4, tol=0, init=init)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
        options["missing_values"] = np.nan
    if init == "H":
        options |= dict(init="custom", H=rng.standard_normal((4, 30)))
    ours = factorize(chunked(X), **options, sample_weight=member)
    same(ours, factorize(X, **options, sample_weight=member), rtol=1e-9)
    assert ours.W.chunks == (UNEVEN, (4,))
    model = SNMF(4, random_state=0, max_iter=3, tol=0, missing_values=options.get("missing_values"))
    model.fit(chunked(X), sample_weight=member)
    both = [model.score(A, sample_weight=member) for A in (chunked(X), X)]
    assert both[0] == pytest.approx(both[1], rel=1e-9)
    row = int(np.flatnonzero(~member)[-1])
    X[row, 3] = np.inf
    with pytest.raises(ValueError, match=f"got infinity in row {row}, column 3"):
        factorize(chunked(X), **options, sample_weight=member)
    X[row, 3], X[100, 3], member[100] = 1, np.inf, True
    with pytest.raises(ValueError, match="got infinity in row 100, column 3"):
        factorize(chunked(X), **options, sample_weight=member)


def test_there_may_be_more_components_than_rank():
    options = dict(init="svd", sparsity=0, max_iter=2)
    assert factorize(chunked(planted()), 35, **options).error < 1e-6


def test_wide_data_too():
    X = planted(40, 200)
    for weights in (None, np.arange(40.0)):
        options = dict(max_iter=6, tol=0, sample_weight=weights)
        same(factorize(chunked(X, (15, 25)), 3, **options), factorize(X, 3, **options), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales_too(scale):
    X = planted() * scale
    same(factorize(chunked(X), 3, max_iter=4), factorize(X, 3, max_iter=4))


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_the_estimator_gives_dask_arrays_for_rows(dtype):
    X = (100 * planted()).astype(dtype)
    D = chunked(X)
    options = dict(n_components=4, random_state=0, progress_bar=False, max_iter=20)
    ours, theirs = SNMF(**options), SNMF(**options)
    W, expected = ours.fit_transform(D), theirs.fit_transform(X)
    assert isinstance(ours.components_, np.ndarray)
    assert W.dtype == expected.dtype == ours.components_.dtype
    tolerance = 1e-3 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(W, expected, atol=tolerance * expected.max())
    np.testing.assert_allclose(W, ours.transform(D), rtol=1e-5, atol=1e-6 * expected.max())
    assert ours.score(D) == pytest.approx(theirs.score(X), rel=1e-4)
    back = ours.inverse_transform(W)
    assert isinstance(back, da.Array)
    assert back.chunks == (UNEVEN, (30,))
    np.testing.assert_allclose(back, W.compute() @ ours.components_, rtol=1e-5, atol=1e-3)
    assert SNMF("auto", random_state=0, max_iter=5, progress_bar=False).fit(D).n_components_ >= 1


def test_transform_is_lazy_and_keeps_what_was_fitted():
    X, read = planted(), []

    def load(block):
        read.append(block.shape)
        return block

    model = SNMF(4, random_state=0, progress_bar=False).fit(X)
    D = chunked(X).map_blocks(load, dtype=X.dtype, meta=np.empty((0, 0)))
    expected, W = model.transform(X), model.transform(D)
    assert not read
    assert W.chunks == (UNEVEN, (4,))
    model.fit(X[::-1])
    np.testing.assert_array_equal(W, expected)
    assert len(read) == len(UNEVEN)
    with pytest.raises(ValueError, match="backend must be one of"):
        model.set_params(backend="dask").transform(D)
    with pytest.raises(ValueError, match="to_zarr"):
        model.set_params(backend="auto").transform(D, out="W.npy")


def test_features_in_several_chunks_are_put_together():
    X = planted()
    D = da.from_array(X, chunks=(100, 7))
    ours = factorize(D, 3, max_iter=4)
    same(ours, factorize(X, 3, max_iter=4))
    assert ours.W.chunks == ((100, 100, 40), (3,))


def test_chunks_of_unknown_size_are_counted():
    X = planted()
    D = chunked(X)
    unknown = D[D[:, 0] > 0]
    known = X[X[:, 0] > 0]
    ours = factorize(unknown, 3, max_iter=4)
    same(ours, factorize(known, 3, max_iter=4))
    assert np.isnan(unknown.shape[0])  # the caller's array is as it was
    model = SNMF(3, random_state=0, progress_bar=False).fit(unknown)
    assert np.isnan(model.transform(unknown).shape[0])
    np.testing.assert_array_equal(model.transform(unknown), model.transform(known))


def test_data_frames_are_taken_by_partition():
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    X = planted()
    frame = dd.from_pandas(pd.DataFrame(X, columns=[f"f{j}" for j in range(30)]), npartitions=3)
    model = SNMF(3, random_state=0, progress_bar=False, max_iter=5).fit(frame)
    expected = SNMF(3, random_state=0, progress_bar=False, max_iter=5).fit(X)
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-8)
    np.testing.assert_allclose(model.transform(frame), expected.transform(X), atol=1e-7)


def test_names_of_columns_are_those_of_the_features():
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame(planted(p=5), columns=list("abcde"))
    frame = dd.from_pandas(data, npartitions=3)
    options = dict(random_state=0, progress_bar=False, max_iter=5)
    for model in (SNMF(2, **options).fit(frame), snmf.MiniBatchSNMF(2, **options).fit(data)):
        assert list(model.feature_names_in_) == list("abcde")
        assert model.n_features_in_ == 5
        assert model.transform(frame).compute().shape == (240, 2)
        for call in (model.transform, model.score):
            with pytest.raises(ValueError, match="feature names should match"):
                call(frame.rename(columns={"a": "other"}))
            with pytest.raises(ValueError, match="must be in the same order"):
                call(frame[list("bacde")])
    numbered = dd.from_pandas(pd.DataFrame(planted(p=5)), npartitions=3)
    assert not hasattr(SNMF(2, **options).fit(numbered), "feature_names_in_")
    assert not hasattr(SNMF(2, **options).fit(chunked(planted())), "feature_names_in_")


@pytest.mark.parametrize("kind", ["Float64", "Int64", "object", "boolean"])
def test_columns_of_a_frame_are_numbers_whatever_they_come_as(kind):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame(np.round(planted(p=5)), columns=list("abcde"))
    data = (data > 0 if kind == "boolean" else data).astype(kind)
    options = dict(random_state=0, progress_bar=False, max_iter=5)
    theirs = SNMF(2, **options).fit(data)
    ours = SNMF(2, **options).fit(dd.from_pandas(data, npartitions=3))
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-8)
    if kind == "boolean":
        return
    data.iloc[200, 1] = pd.NA if kind != "object" else None
    frame = dd.from_pandas(data, npartitions=3)
    with pytest.raises(ValueError, match="got NaN in row 200, column 1"):
        SNMF(2, **options).fit(frame)
    options["missing_values"] = np.nan
    np.testing.assert_allclose(
        SNMF(2, **options).fit(frame).components_, SNMF(2, **options).fit(data).components_,
        atol=1e-8,
    )  # fmt: skip


def test_objects_that_are_no_numbers_are_named():
    X = planted().astype(object)
    X[205, 7] = "x"
    with pytest.raises(ValueError, match="got 'x' in row 205, column 7"):
        factorize(chunked(X), 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(value):
    X = planted()
    X[205, 7] = X[220, 3] = value
    word = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=f"{word} in row 205, column 7"):
        factorize(chunked(X), 3)
    model = SNMF(3, random_state=0, progress_bar=False).fit(X[:200])
    with pytest.raises(ValueError, match=f"{word} in row 205, column 7"):
        model.transform(chunked(X)).compute()


@pytest.mark.parametrize(
    ("X", "word"),
    [
        (da.ones(5), "Expected 2D array"),
        (da.ones((5, 3), dtype=complex), "Complex data"),
        (da.from_array(np.full((5, 3), "a")), "real numbers"),
        (da.ones((0, 3)), "0 sample"),
        (da.ones((5, 0)), "0 feature"),
        (dask.delayed(3), "Dask array or DataFrame; got Delayed"),
    ],
)
def test_what_is_no_matrix_is_refused(X, word):
    with pytest.raises(ValueError, match=word):
        factorize(X, 2)


def test_a_start_may_be_a_dask_array_and_components_are_numpys():
    X, rng = planted(), np.random.default_rng(0)
    W = rng.random((len(X), 4))
    options = dict(n_components=4, init="custom", max_iter=3)
    same(factorize(chunked(X), W=chunked(W), **options), factorize(X, W=W, **options))
    W[3, 2] = -1
    with pytest.raises(ValueError, match="nonnegative"):
        factorize(chunked(X), W=chunked(W), **options)


def test_blas_has_one_thread_while_chunks_are_computed_side_by_side():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    counts, before = [], threads()

    def load(block):
        counts.extend(threads())
        return block

    D = chunked(planted()).map_blocks(load, dtype="float64", meta=np.empty((0, 0)))
    factorize(D, 3, max_iter=2)
    assert set(counts) == {1}
    assert threads() == before


@pytest.mark.parametrize(("n_jobs", "most"), [(None, 1), (2, 2)])
def test_a_task_has_one_thread_unless_it_is_told_of_more(n_jobs, most, monkeypatch):
    counts = []

    def threads(rows, n_jobs):
        counts.append(rows._threads(n_jobs))
        return before(rows, n_jobs)

    before = _rows.Rows.threads
    monkeypatch.setattr(_rows.Rows, "threads", threads)
    monkeypatch.setattr(type(adapter("numpy")), "threads_of_products", lambda _: 8)
    model = SNMF(3, n_jobs=n_jobs, max_iter=2, random_state=0)
    model.fit(chunked(planted()))
    model.transform(chunked(planted())).compute()
    assert len(counts) > 6
    assert set(counts) == {most}


def test_every_backend_computes_on_chunks():
    torch = pytest.importorskip("torch")
    X = planted()
    ours = factorize(chunked(X), 3, max_iter=6, backend="torch")
    same(ours, factorize(X, 3, max_iter=6), rtol=1e-9)
    assert isinstance(ours.W.compute(), np.ndarray)
    assert torch is not None


# A cluster of processes


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as made,
    ):  # fmt: skip
        yield made


@pytest.fixture
def client(cluster):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with importlib.import_module("distributed").Client(cluster) as made:
            made.wait_for_workers(2, timeout=60)
            yield made


def on_cluster(chunks=4):
    """An array that is loaded by tasks, and lies on the workers."""

    def made_there(block_id=None):
        return planted(100, seed=block_id[0])

    D = da.map_blocks(
        made_there, chunks=((100,) * chunks, (30,)), dtype="float64", meta=np.empty((0, 0))
    )
    return D.persist(), np.concatenate([planted(100, seed=i) for i in range(chunks)])


@pytest.fixture
def at_pass(monkeypatch):
    """Give a function that has another one called before a pass of that number."""
    calls = []

    def arrange(number, function):
        original = dask_rows.ChunkedRows.map_sum

        def map_sum(self, *given):
            calls.append(1)
            if number in (len(calls), None):
                function()
            return original(self, *given)

        monkeypatch.setattr(dask_rows.ChunkedRows, "map_sum", map_sum)

    return arrange


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("number", "lost", "sparsity"),
    [(3, False, 0.01), (21, True, 0.01), (38, True, 0.01), (38, True, 0.0)],
)
def test_a_fit_outlives_a_worker(client, at_pass, monkeypatch, number, lost, sparsity):
    """Early, while Dask knows all tasks; when it has just forgotten them; and late."""
    (D, X), killed, replays = on_cluster(), [], []
    original = dask_rows.ChunkedRows._replay

    def replay(self, step, names, row_wise, some):
        replays.append(some)
        return original(self, step, names, row_wise, some)

    def kill():
        killed.append(min(client.run(os.getpid).values()))
        os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(dask_rows.ChunkedRows, "_replay", replay)
    at_pass(number, kill)
    options = dict(init="random", sparsity=sparsity, tol=0, max_iter=40)
    ours = factorize(D, 4, **options)
    same(ours, factorize(X, 4, **options))
    assert set(killed).isdisjoint(client.run(os.getpid).values())
    assert lost == bool(replays)
    assert len(replays) <= 1


def test_a_worker_that_joins_gets_work(cluster, client, at_pass):
    (D, _), joined = on_cluster(), []

    def join():
        before = set(client.ncores())
        cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        joined.extend(set(client.ncores()) - before)

    at_pass(5, join)
    try:
        with importlib.import_module("distributed").get_task_stream(client) as ran:
            factorize(D, 4, init="random", tol=0, max_iter=30)
        of_passes = [task for task in ran.data if str(task["key"]).startswith("passed")]
        assert joined
        assert set(joined) <= {task["worker"] for task in of_passes}
    finally:
        cluster.scale(2)


def test_dask_keeps_few_tasks_however_many_passes_there_are(cluster, client, at_pass):
    D, _ = on_cluster()
    most = []
    at_pass(None, lambda: most.append(len(cluster.scheduler.tasks)))
    factorize(D, 4, init="random", tol=0, max_iter=100)
    of_a_pass = 4 + 1  # one of every chunk, and the function that they are given
    # it forgets when it comes to it, later on a busy machine; 100 passes would be 500 tasks
    assert max(most) <= 4 * dask_rows.CUT * of_a_pass


def test_sums_travel_and_rows_do_not(client, monkeypatch, at_pass):
    tcp = importlib.import_module("distributed.comm.tcp")
    D = da.random.default_rng(0).standard_normal((400, 128), chunks=(100, 128)).persist()
    sent, original = [], tcp.TCP.write

    async def write(self, *given, **named):
        sent.append(await original(self, *given, **named))
        return sent[-1]

    monkeypatch.setattr(tcp.TCP, "write", write)
    at = []
    at_pass(None, lambda: at.append(sum(sent)))
    k, p, blocks = 20, 128, 4
    factorize(D, k, init="random", tol=0, max_iter=30)
    each = np.diff(at)[5:-3]
    assert 0 < np.median(each) < 2 * blocks * (k * p + k * k) * 8


def test_without_workers_there_is_an_error(monkeypatch, client):
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as empty,
        distributed.Client(empty) as lonely,
        lonely.as_current(),
    ):
        monkeypatch.setattr(dask_cluster, "PATIENCE", 0.5)
        with pytest.raises(RuntimeError, match=r"has had no worker for 0\.5 seconds"):
            factorize(chunked(planted()), 3)


def test_mini_batches_are_of_this_process():
    with pytest.raises(ValueError, match="partial_fit"):
        snmf.MiniBatchSNMF(3).fit(chunked(planted()))
    D = chunked(planted(), (120, 120))
    model = snmf.MiniBatchSNMF(3, random_state=0, progress_bar=False)
    for block in D.blocks:
        model.partial_fit(block.compute())
    assert model.transform(D).chunks == ((120, 120), (3,))


def test_a_checkpoint_is_of_the_rows_and_not_of_where_they_lie(tmp_path, monkeypatch):
    X, file = planted(), tmp_path / "fit.npz"
    options = dict(max_iter=6, tol=0, init="random", checkpoint=file, checkpoint_interval=0)
    whole = factorize(X, 3, **options)
    calls = []

    def stop(self, *given):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, *given)

    original = dask_rows.ChunkedRows.map_sum
    with monkeypatch.context() as patch:
        patch.setattr(dask_rows.ChunkedRows, "map_sum", stop)
        with pytest.raises(KeyboardInterrupt):
            factorize(chunked(X), 3, **options)
    assert file.exists()
    same(factorize(chunked(X), 3, **options), whole)
