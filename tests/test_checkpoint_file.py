"""The file of a checkpoint: what is refused, and stays, and when it is written."""

import errno
import functools
import os
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from checkpoints import assert_same, factorize, header_of, planted, stopped

import snmf
from snmf import _checkpoint
from snmf.backends import adapter
from snmf.storage import rows as _rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))


# Not the same fit


@pytest.fixture
def path(tmp_path):
    """Of a fit that was stopped."""
    fit = functools.partial(factorize, planted(), random_state=0, max_iter=12)
    assert stopped(fit, tmp_path / "fit.npz", 5)
    return tmp_path / "fit.npz"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sparsity": 0.1}, "another sparsity: '0.01', and here '0.1'"),
        ({"solver": "hals"}, "another solver: 'mu', and here 'hals'"),
        ({"n_components": 5}, "another n_components: 4, and here 5"),
        ({"random_state": 1}, "another random_state: 0, and here 1"),
        ({"random_state": np.random.RandomState(0)}, "another random_state: 0, and here 'a gen"),
        ({"max_iter": 13}, "another max_iter: 12, and here 13"),
        ({"tol": 1e-3}, "another tol"),
        ({"accelerate": False}, "another accelerate: True, and here False"),
        ({"init": "random"}, "another init"),
        ({"n_init": 2}, "another n_init"),
        ({"locality": 0.1}, "another locality"),
        ({"missing_values": np.nan}, "another missing_values: None, and here 'nan'"),
        ({"H": np.eye(4, 12), "init": "custom"}, "another H: None, and here 'an array, "),
        ({"H": np.eye(2, 12), "fixed": 2}, "another H: None, and here 'an array, "),
        ({"sample_weight": np.ones(207)}, "another sample_weight: None"),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused_and_stays(path, parameters, words):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words) as refused:
        factorize(planted(), **{"random_state": 0, "max_iter": 12, **parameters}, checkpoint=path)
    assert str(path) in str(refused.value)
    assert "Delete it to start anew, or name another." in str(refused.value)
    assert path.read_bytes() == before


def test_the_solver_that_auto_chooses_is_the_same_fit(path):
    ours = factorize(planted(), random_state=0, max_iter=12, solver="mu", checkpoint=path)
    assert_same(ours, factorize(planted(), random_state=0, max_iter=12))
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda X: X[:200], r"another shape of X: \[207, 12\], and here \[200, 12\]"),
        (lambda X: X.astype("float32"), "another precision: 'float64', and here 'float32'"),
        (lambda X: X[::-1], "other data, of the same shape"),
        (lambda X: 2 * X, "other data, of the same shape"),
        (lambda X: -X, "other data, of the same shape"),
        (lambda X: X * 2.0**700, "other data, of the same shape"),
        (lambda X: sp.csr_array(np.where(X > 0, X, 0)), "other data, of the same shape"),
    ],
)
def test_so_is_one_of_other_data(path, make, words):
    with pytest.raises(ValueError, match=words):
        factorize(make(planted()), random_state=0, max_iter=12, checkpoint=path)


def test_the_same_data_may_lie_elsewhere(path, tmp_path):
    np.save(tmp_path / "X.npy", planted())
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    result = factorize(X, random_state=0, max_iter=12, checkpoint=path)
    assert_same(result, factorize(planted(), random_state=0, max_iter=12))


def test_a_damaged_file_is_refused_and_stays(path):
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inside_w = archive.getinfo("W.npy").header_offset + 500
    other = _saved_elsewhere(path)
    for bad in (
        b"",
        b"not a checkpoint",
        good[: len(good) // 2],
        good[:-30],
        good[:inside_w] + bytes([good[inside_w] ^ 1]) + good[inside_w + 1 :],
        other,
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"fit.npz' cannot be read: .* delete it to start"):
            factorize(planted(), random_state=0, max_iter=12, checkpoint=path)
        assert path.read_bytes() == bad


def _saved_elsewhere(path):
    np.savez(path.with_name("other.npz"), W=np.ones(3), X=np.array([{}], dtype=object))
    return path.with_name("other.npz").read_bytes()


def _rewritten(path, change, arrays):
    with np.load(path) as file:
        contents, header = dict(file), header_of(file)
    change(header)
    text = np.frombuffer(_checkpoint.json.dumps(header).encode(), np.uint8)
    W = contents.pop("W")
    contents |= {_checkpoint.HEADER: text, **arrays, "W": arrays.get("W", W)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in contents.items():
            _checkpoint._put(archive, name, len(array), [array])


BAD = {
    "H": [{"H": np.full((4, 12), np.nan)}, "H must be finite"],
    "before": [{"before": np.full((4, 12), np.inf)}, "before must be finite"],
    "W": [{"W": np.full((207, 4), np.nan)}, "W must be finite and nonnegative"],
    "negative": [{"W": -np.ones((207, 4))}, "W must be finite and nonnegative"],
    "short": [{"W": np.ones((206, 4))}, r"W must be of shape \(207, 4\).*got \(206, 4\)"],
    "narrow": [{"W": np.ones((207, 3))}, r"W must be of shape \(207, 4\)"],
    "whole": [{"W": np.ones((207, 4), int)}, "of floats; got .* int64"],
    "few": [
        {"H": np.ones((3, 12)), "before": np.ones((3, 12)), "W": np.ones((207, 3))},
        r"must be of shape \(4, 12\).*got \(3, 12\)",
    ],
    "wide": [{"H": np.ones((4, 13)), "before": np.ones((4, 13))}, r"must be of shape \(4, 12\)"],
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_no_fit_gives_are_refused(path, name):
    arrays, words = BAD[name]
    _rewritten(path, lambda header: None, arrays)
    with pytest.raises(ValueError, match=f"fit.npz' cannot be read: .*{words}"):
        factorize(planted(), random_state=0, max_iter=12, checkpoint=path)


def test_an_error_of_others_is_not_taken_for_damage(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room for W")

    monkeypatch.setattr(_rows.Rows, "made", full)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no room for W"):
        factorize(planted(), random_state=0, max_iter=12, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(curve=[]), "objectives must be finite"),
        (lambda h: h.update(curve=[1.0, float("nan")]), "objectives must be finite"),
        (lambda h: h.update(beta=float("nan")), "beta"),
        (lambda h: h.update(restart="0"), "restart"),
        (lambda h: h.update(curve=1.0), "objectives must be finite"),
        (lambda h: h.update(curve=["1"]), "objectives must be finite"),
        (lambda h: h.update(curve=[[1.0, 0.5]]), "objectives must be finite"),
        (lambda h: h.update(curve=[1.0] * 99), "98 iterations, and max_iter=12"),
        (lambda h: h.update(beta=-0.5), "beta must be a number from 0 to 1"),
        (lambda h: h.update(beta=2), "beta must be a number from 0 to 1"),
        (lambda h: h.update(beta="1"), "beta must be a number from 0 to 1"),
        (lambda h: h.update(restart=-1), "restart must be a whole number from 0 to 0"),
        (lambda h: h.update(restart=1), "restart must be a whole number from 0 to 0"),
        (lambda h: h.update(restart=True), "restart must be a whole number from 0 to 0"),
        (lambda h: h.update(best={"loss_curve": [1.0]}), "restart is 0, and the best before it is"),
        (lambda h: h["data"].update(square="1"), "data have the square '1'"),
        *(
            (lambda h, name=name: h.pop(name), f"its header has no '{name}'")
            for name in _checkpoint.NAMES
        ),
        (lambda h: h.update(random_state={"state": 1}), "state dictionary"),
        (lambda h: h.update(data=None), "its data is None"),
        (lambda h: h.update(random_state=3), "its random_state is 3"),
        (lambda h: h.update(format=7), "its format must be 1; got 7"),
    ],
)
def test_so_are_headers(path, change, words):
    _rewritten(path, change, {})
    with pytest.raises(ValueError, match=f"fit.npz' cannot be read: .*{words}"):
        factorize(planted(), random_state=0, max_iter=12, checkpoint=path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(best=None), "restart is 1, and the best before it is None"),
        (lambda h: h["best"].pop("reason"), "missing"),
        (lambda h: h["best"].update(loss_curve=[]), "objectives must be finite"),
        (lambda h: h["best"].update(loss_curve=None), "objectives must be finite"),
        (lambda h: h["best"].update(converged="no"), "its best restart is"),
        (lambda h: h.update(restart=3), "restart must be a whole number from 0 to 2"),
    ],
)
def test_so_is_the_best_restart(tmp_path, change, words):
    path, calls = tmp_path / "fit.npz", iter(range(8))
    options = {"random_state": 0, "max_iter": 6, "tol": 0, "n_init": 3, "init": "random"}

    def stop(_):
        if next(calls) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factorize(planted(), checkpoint=path, callback=stop, **options)
    _rewritten(path, change, {})
    with pytest.raises(ValueError, match=f"fit.npz' cannot be read: .*{words}"):
        factorize(planted(), checkpoint=path, **options)


def test_what_an_array_claims_is_checked_before_it_is_read(path):
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, shape in (("H", (4, 2**40)), ("W", (2**40, 4))):
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in contents.items():
                with archive.open(entry, "w") as stream:
                    if entry == f"{name}.npy":
                        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_2_0(stream, header)
                    else:
                        stream.write(content)
        with pytest.raises(ValueError, match=f"cannot be read: {name} says that it is of shape"):
            factorize(planted(), random_state=0, max_iter=12, checkpoint=path)


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"checkpoint": 3}, ValueError, "checkpoint"),
        ({"checkpoint_interval": -1}, ValueError, "checkpoint_interval"),
        ({"checkpoint": "no/such/folder/fit.npz"}, FileNotFoundError, "no such folder"),
    ],
)
def test_bad_parameters_are_named(parameters, error, words):
    with pytest.raises(error, match=words):
        factorize(planted(), **parameters)


# The file


def test_it_is_written_no_more_often_than_asked_for(tmp_path, monkeypatch):
    clock, written = iter(range(0, 1000, 7)), []
    real = _checkpoint.Checkpoint._write
    monkeypatch.setattr("snmf._checkpoint.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(
        _checkpoint.Checkpoint, "_write",
        lambda self, new, rows, rng, restart, best, state: (
            written.append(len(state.curve) - 1)
            or real(self, new, rows, rng, restart, best, state)
        ),
    )  # fmt: skip
    path = tmp_path / "fit.npz"
    factorize(planted(), random_state=0, max_iter=12, checkpoint=path, checkpoint_interval=20)
    # every look at the clock, one an iteration and one after writing, is 7 s later than the last
    assert written == [3, 6, 9, 12]
    assert not path.exists()


@pytest.mark.parametrize("at", [1, 3, 4, 9])
def test_a_full_disk_is_a_warning_and_the_last_checkpoint_stays(at, path, monkeypatch):
    before, put, count = path.read_bytes(), _checkpoint._put, iter(range(1, 1000))

    def full(archive, *given):
        if next(count) >= at:
            archive.fp.write(b"half a")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(archive, *given)

    monkeypatch.setattr(_checkpoint, "_put", full)
    monkeypatch.setattr(_checkpoint.Checkpoint, "_remove", lambda self: None)
    fit = functools.partial(factorize, planted(), random_state=0, max_iter=12)
    with pytest.warns(RuntimeWarning, match="The checkpoint cannot be written: .*No space left"):
        result = fit(checkpoint=path, checkpoint_interval=0)
    assert_same(result, fit())
    assert [file.name for file in path.parent.iterdir()] == ["fit.npz"]
    if at < 9:
        assert path.read_bytes() == before
    monkeypatch.undo()
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))
    assert_same(fit(checkpoint=path), fit())


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_so_it_is_where_the_system_says_so(tmp_path):
    code = """
        import resource, sys
        sys.dont_write_bytecode = True  # half of which would stay
        import numpy as np, snmf
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        X = np.random.default_rng(0).standard_normal((5000, 6))
        snmf.factorize(X, 3, max_iter=3, tol=0, n_jobs=1, progress_bar=False,
                       checkpoint=sys.argv[1], checkpoint_interval=0)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "fit.npz")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "RuntimeWarning: The checkpoint cannot be written: " in done.stderr
    assert "File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_fit_whose_end_fails_keeps_it(tmp_path, monkeypatch):
    path, X = tmp_path / "fit.npz", planted()
    fit = functools.partial(
        factorize, X, random_state=0, max_iter=6, checkpoint=path, checkpoint_interval=0
    )

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("snmf._transform.write_npy", full)
        with pytest.raises(OSError, match="No space left"):
            fit(out=tmp_path / "W.npy")
    with np.load(path) as file:
        assert len(header_of(file)["curve"]) == 7
    passes = []
    advance = snmf.core.solve.Alternation.advance
    monkeypatch.setattr(
        snmf.core.solve.Alternation, "advance", lambda *a: passes.append(1) or advance(*a)
    )
    assert fit(out=tmp_path / "W.npy").n_iter == 6
    assert not passes
    assert [file.name for file in tmp_path.iterdir()] == ["W.npy"]


def test_w_needs_no_second_copy(tmp_path):
    rows = adapter("numpy").rows(planted(n=20_000, p=12))
    W = np.random.default_rng(0).random((20_000, 40))
    point = snmf.core.solve.Point(rows.split(W), np.eye(40, 12), 0.5)
    fit = {"n_components": 40, "n_init": 1, "init": "kmeans", "max_iter": 0}
    checkpoint = _checkpoint.Checkpoint(tmp_path / "fit.npz", 0, rows, fit)
    tracemalloc.start()
    rng = np.random.RandomState(0)
    checkpoint.keep(rows, rng, 0, None, snmf.core.solve.State.of(point))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "fit.npz").stat().st_size > W.nbytes
    assert peak < W.nbytes / 4
    again = _checkpoint.Checkpoint(tmp_path / "fit.npz", 0, rows, fit).state(0, rows)
    np.testing.assert_array_equal(np.concatenate(again.point.W), W)
