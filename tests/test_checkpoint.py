"""Fits that are stopped go on as if they had not been; and fits that go on from the last."""

import dataclasses
import errno
import functools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

import snmf
from snmf import SNMF, ConvexNMF, _checkpoint
from snmf.backends import Backend, adapter
from snmf.storage import rows as _rows
from snmf.storage import stored

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, n_components=4, progress_bar=False, tol=0)


def planted(seed=0, n=207, p=12, k=4, noise=0.6, dtype="float64"):
    rng = np.random.default_rng(seed)
    X = rng.random((n, k)) @ rng.standard_normal((k, p)) + noise * rng.standard_normal((n, p))
    return (X - X.mean(axis=0)).astype(dtype)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))


class Stop(BaseException):
    """No library catches it."""


def stopped(fit, path, after):
    """Stop a fit when its checkpoint has been written so often; whether it came to that."""
    keep, count = _checkpoint.Checkpoint.keep, iter(range(1, after + 1))

    def counted(self, *given):
        keep(self, *given)
        if next(count) == after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoint.Checkpoint, "keep", counted)
        try:
            fit(checkpoint=path, checkpoint_interval=0)
        except Stop:
            return True
    return False


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours.W, theirs.W)
    np.testing.assert_array_equal(ours.H, theirs.H)
    np.testing.assert_array_equal(ours.loss_curve, theirs.loss_curve)
    assert (ours.error, ours.n_iter, ours.reason) == (theirs.error, theirs.n_iter, theirs.reason)


# The same bits


RNG = np.random.default_rng(1)
HOLES = np.where(RNG.random((207, 12)) < 0.2, np.nan, planted())
FITS = {
    "default": (planted(), {}),
    "float32": (planted(dtype="float32"), {}),
    "plain": (planted(), {"accelerate": False}),
    "hals": (planted(), {"solver": "hals", "sparsity": 0.1}),
    "svd": (planted(), {"init": "svd", "solver": "hals"}),
    "restarts": (planted(), {"init": "random", "n_init": 3}),
    "k-means restarts": (planted(), {"n_init": 3, "tol": 1e-4}),
    "custom": (planted(), {"init": "custom", "H": RNG.standard_normal((4, 12))}),
    "fixed W": (planted(), {"W": RNG.random((207, 4)), "fixed": "W"}),
    "fixed rows": (planted(), {"H": RNG.standard_normal((2, 12)), "fixed": 2}),
    "locality": (planted(), {"locality": 0.3}),
    "missing": (HOLES, {"missing_values": np.nan}),
    "weights": (planted(), {"sample_weight": RNG.random(207)}),
    "sparse": (sp.csr_array(np.where(planted() > 0.5, planted(), 0)), {}),
    "wide": (planted(n=40, p=300), {"init": "random"}),
    "huge": (1e200 * planted(), {"n_jobs": 2}),
    "a generator": (planted(), {"random_state": lambda: np.random.RandomState(5), "n_init": 2}),
    "another generator": (
        planted(),
        {"random_state": lambda: np.random.RandomState(np.random.PCG64(5)), "n_init": 2},
    ),
    "a new generator": (planted(), {"random_state": lambda: np.random.default_rng(5), "n_init": 2}),
    "strict": (planted(), {"backend": Backend("array_api_strict")}),
    "torch": (planted(), {"backend": "torch"}),
    "jax": (planted(dtype="float32"), {"backend": "jax"}),
}


KERNEL = np.exp(-0.1 * np.sum((planted()[:, None] - planted()) ** 2, axis=2))
CONVEX = {
    "default": (planted(), {}),
    "restarts": (planted(), {"init": "random", "n_init": 3, "solver": "mu"}),
    "sampled": (planted(), {"candidates": 20}),
    "others": (planted(), {"candidates": sp.csr_array(planted(seed=1)[:30])}),
    "kernel": (planted(), {"kernel": "rbf"}),
    "function": (planted()[:40], {"kernel": lambda a, b: float(a @ b)}),
    "precomputed": (KERNEL, {"kernel": "precomputed"}),
    "float32": (planted(dtype="float32"), {"backend": Backend("array_api_strict")}),
}


def fit_of(name):
    X, parameters = FITS[name]
    if parameters.get("backend") in ("torch", "jax"):
        pytest.importorskip(parameters["backend"])
    parameters = {"random_state": 0, "max_iter": 12, **parameters}

    def fit(**more):
        made = {n: v() if callable(v) else v for n, v in parameters.items()}
        return factorize(X, **{**made, **more})

    return fit


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("after", [1, 2, 7, 15])
def test_a_fit_that_is_stopped_goes_on_to_the_same_bits(name, after, tmp_path):
    fit, path = fit_of(name), tmp_path / "fit.checkpoint"
    whole = fit()
    if not stopped(fit, path, after):
        assert not path.exists()
        return
    assert path.exists()
    assert_same(fit(checkpoint=path, checkpoint_interval=0), whole)
    assert not list(tmp_path.iterdir())


@given(
    afters=st.lists(st.integers(1, 9), max_size=6),
    solver=st.sampled_from(["mu", "hals"]),
    n_init=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_so_it_does_when_stopped_again_and_again(tmp_path_factory, afters, solver, n_init, seed):
    path = tmp_path_factory.mktemp("again") / "fit.npz"
    fit = functools.partial(
        factorize, planted(n=60, p=6), solver=solver, n_init=n_init, init="random",
        random_state=seed, max_iter=8,
    )  # fmt: skip
    for after in afters:
        stopped(fit, path, after)
    assert_same(fit(checkpoint=path), fit())


@pytest.mark.parametrize("solver", ["mu", "hals"])
def test_so_it_does_from_disk_with_w_in_files(solver, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "SCRATCH", 1)
    np.save(tmp_path / "X.npy", planted())
    X, path = np.load(tmp_path / "X.npy", mmap_mode="r"), tmp_path / "fit.npz"
    fit = functools.partial(factorize, X, solver=solver, random_state=0, max_iter=12)
    whole = fit(out=tmp_path / "whole.npy")
    assert stopped(fit, path, 5)
    assert_same(fit(checkpoint=path, out=tmp_path / "W.npy", n_jobs=1), fit(n_jobs=1))
    np.testing.assert_allclose(np.load(tmp_path / "W.npy"), whole.W, atol=1e-10)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_generator_is_left_as_by_a_fit_in_one_piece(tmp_path, make):
    fit = functools.partial(factorize, planted(), n_init=3, init="random", max_iter=5)
    states = []
    for stop in (False, True):
        if stop:
            assert stopped(functools.partial(fit, random_state=make(3)),
                           tmp_path / "fit.npz", 7)  # fmt: skip
        rng = make(3)
        fit(random_state=rng, checkpoint=tmp_path / "fit.npz")
        states.append(rng.random())
    assert states[0] == states[1]


def test_what_was_drawn_without_a_seed_is_drawn_no_second_time(tmp_path):
    fit = functools.partial(factorize, planted(), init="random", max_iter=6)
    assert stopped(fit, tmp_path / "fit.npz", 2)
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as file:
        curve = _header(file)["curve"]
    result = fit(checkpoint=tmp_path / "fit.npz")
    np.testing.assert_array_equal(result.loss_curve[:3], curve)


def _header(file):
    return _checkpoint.json.loads(file[_checkpoint.HEADER].tobytes())


def test_another_backend_and_other_threads_may_go_on(tmp_path):
    fit = functools.partial(factorize, planted(), random_state=0, max_iter=12)
    assert stopped(fit, tmp_path / "fit.npz", 5)
    more = {"backend": Backend("array_api_strict"), "n_jobs": 2, "verbose": False}
    result = fit(checkpoint=str(tmp_path / "fit.npz"), checkpoint_interval=3, **more)
    np.testing.assert_allclose(result.loss_curve, fit().loss_curve, rtol=1e-10)


def test_the_estimator_goes_on_too(tmp_path):
    X, path = planted(), tmp_path / "fit.npz"
    model = SNMF(4, random_state=0, tol=0, max_iter=12)
    whole = clone(model).fit(X)
    model.set_params(checkpoint=path, checkpoint_interval=0)

    def fit(**given):
        model.set_params(**given).fit(X)

    assert stopped(fit, path, 3)
    assert not hasattr(model, "components_")
    W = clone(model).fit_transform(X)
    np.testing.assert_array_equal(W, whole.transform(X))
    snmf.save(model.fit(X), tmp_path / "model.npz")
    np.testing.assert_array_equal(snmf.load(tmp_path / "model.npz").components_, whole.components_)
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("name", CONVEX)
def test_so_does_convex_nmf(name, tmp_path):
    X, parameters = CONVEX[name]
    whole = ConvexNMF(3, random_state=0, progress_bar=False, max_iter=20, tol=0, **parameters)
    W = whole.fit_transform(X)
    model = clone(whole)

    def fit(**given):
        model.set_params(**given)
        return model.fit_transform(X)

    path = tmp_path / "fit.npz"
    assert stopped(fit, path, after=3)
    assert not hasattr(model, "n_iter_")
    with pytest.raises(ValueError, match="is of a fit with another candidates"):
        clone(model).set_params(candidates=[0, 1, 2, 3]).fit(X)
    np.testing.assert_array_equal(fit(), W)
    np.testing.assert_array_equal(model.combination_, whole.combination_)
    np.testing.assert_array_equal(model.loss_curve_, whole.loss_curve_)
    assert not path.exists()


def test_candidates_that_are_sampled_need_a_seed(tmp_path):
    model = ConvexNMF(3, progress_bar=False, candidates=20, checkpoint=tmp_path / "fit.npz")
    with pytest.raises(ValueError, match="checkpoint needs a random_state if candidates are samp"):
        model.fit(planted())
    model.set_params(candidates=None).fit(planted())


# Interrupted


def _before_every_pass(patch, hook):
    solve = snmf._factorize.solve

    def watched(state, advance, **given):
        return solve(state, lambda *point: hook() or advance(*point), **given)

    patch.setattr(snmf._factorize, "solve", watched)


def interrupted(fit, path, at, what=None, error=KeyboardInterrupt):
    """Raise before the pass, or the call of a function, of that number."""
    count = iter(range(1, 10_000))

    def stop_there():
        if next(count) == at:
            raise error

    with pytest.MonkeyPatch.context() as patch:
        if what is None:
            _before_every_pass(patch, stop_there)
        else:
            call = getattr(*what)
            patch.setattr(*what, lambda *given, **named: stop_there() or call(*given, **named))
        with pytest.raises(error):
            fit(checkpoint=path)


def passes(fit, **given):
    """The result, and how many passes it took."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        _before_every_pass(patch, lambda: made.append(1))
        return fit(**given), len(made)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("at", [1, 6])
def test_a_fit_that_is_interrupted_writes_where_it_stands(name, at, tmp_path):
    fit, path = fit_of(name), tmp_path / "fit.checkpoint"
    whole, in_all = passes(fit)
    interrupted(fit, path, at)
    with np.load(path) as file:
        assert len(_header(file)["curve"]) > at / 2 - 1
    result, rest = passes(fit, checkpoint=path)
    assert_same(result, whole)
    assert rest <= in_all - at + 2  # the pass in which it was, and one made again at H itself
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, Stop])
@pytest.mark.parametrize(
    ("what", "at"),
    [
        ((Backend, "pass_over_block"), 45),  # in the middle of a pass
        ((snmf.core.problem.Problem, "canonical"), 1),  # in the last step
        ((snmf.core.problem.Problem, "begin"), 2),  # between two restarts
        ((_checkpoint.Checkpoint, "keep"), 4),
        ((snmf.storage.parts, "_write"), 1),  # of W
    ],
)
def test_whatever_stops_it_and_wherever(error, what, at, tmp_path):
    def fit(**given):
        return factorize(
            planted(), random_state=0, init="random", n_init=2, max_iter=12,
            out=tmp_path / "W.npy", **given,
        )  # fmt: skip

    whole = fit()
    whole = dataclasses.replace(whole, W=np.array(whole.W))
    path = tmp_path / "fit.checkpoint"
    interrupted(fit, path, at, what, error)
    assert path.exists()
    assert_same(fit(checkpoint=path), whole)
    assert [file.name for file in tmp_path.iterdir()] == ["W.npy"]


def test_one_that_is_interrupted_while_it_is_written_is_written_again(tmp_path):
    fit = functools.partial(factorize, planted(), random_state=0, max_iter=12)
    path = tmp_path / "fit.checkpoint"
    timed = functools.partial(fit, checkpoint_interval=0)
    interrupted(timed, path, 14, (_checkpoint, "_put"))  # of four a time: the second of the fourth
    with np.load(path) as file:
        assert len(_header(file)["curve"]) == 5
    assert_same(fit(checkpoint=path), fit())
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_does_not_hide_what_stopped_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_checkpoint, "_put", full)
    fit = functools.partial(factorize, planted(), random_state=0, max_iter=12)
    with pytest.warns(RuntimeWarning, match="The checkpoint cannot be written: .*No space left"):
        interrupted(fit, tmp_path / "fit.checkpoint", 5)
    assert not list(tmp_path.iterdir())


def test_what_fails_before_the_first_pass_writes_nothing(tmp_path):
    path = tmp_path / "fit.checkpoint"
    with pytest.raises(ValueError, match="NaN in row 1"):
        factorize(np.array([[1.0, 2.0], [np.nan, 1.0]]), checkpoint=path)
    assert not path.exists()


def test_the_checkpoint_is_no_file_of_weights(tmp_path):
    path = tmp_path / "W.npy"
    with pytest.raises(ValueError, match="out and checkpoint must be two files"):
        factorize(planted(), out=path, checkpoint=tmp_path / "." / "W.npy")
    assert not path.exists()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_a_signal_at_any_moment(tmp_path):
    np.save(tmp_path / "X.npy", planted(n=2000, p=30))
    code = """
        import dataclasses, functools, random, signal, sys, time
        from contextlib import suppress
        from pathlib import Path
        import numpy as np, snmf
        from snmf.storage import rows as _rows
        _rows.BLOCK_ROWS = 1, 20
        folder = Path(sys.argv[1])
        fit = functools.partial(
            snmf.factorize, np.load(folder / "X.npy"), 4, random_state=0, init="random", n_init=2,
            max_iter=15, tol=0, n_jobs=1, progress_bar=False,
        )
        fit()  # what is imported late is there
        began = time.perf_counter()
        whole = dataclasses.asdict(fit())
        took, dice = time.perf_counter() - began, random.Random(0)

        def stop(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, stop)
        for number in range(20):
            path = folder / f"{number}.checkpoint"
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.1, 0.9) * took)
                fit(checkpoint=path, checkpoint_interval=number % 2 * 3600)
            signal.setitimer(signal.ITIMER_REAL, 0)
            saved = path.exists()
            again = dataclasses.asdict(fit(checkpoint=path))
            same = all(np.array_equal(again[name], whole[name]) for name in whole)
            print(saved, same, path.exists(), flush=True)
        """
    # in a process of its own, and not measured: a signal may come while coverage holds its lock
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=300, env=unmeasured,
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 20
    assert sum(saved == "True" for saved, _, _ in lines) > 10
    assert all(line[1:] == ["True", "False"] for line in lines)  # the same, and then removed
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


# Killed


def run(*arguments):
    code = """
        import sys
        import numpy as np, snmf
        folder, checkpoint = sys.argv[1:]
        X = np.load(folder + "/X.npy", mmap_mode="r")
        print("begin", flush=True)
        result = snmf.factorize(
            X, 5, random_state=0, tol=0, max_iter=400, n_init=2, n_jobs=1, progress_bar=False,
            checkpoint=checkpoint or None, checkpoint_interval=0,
        )
        numbers = {name: value for name, value in vars(result).items() if value is not None}
        np.savez(folder + "/result.npz", **numbers)
        """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _written(path):
    return path.exists() and path.stat().st_mtime_ns


def test_a_fit_that_is_killed_at_any_moment_goes_on(tmp_path):
    np.save(tmp_path / "X.npy", planted(n=3000, p=30, k=6))
    with run(tmp_path, "") as process:
        process.wait()
    with np.load(tmp_path / "result.npz") as file:
        whole = dict(file)
    (tmp_path / "result.npz").unlink()
    dice, path, kills, seen = random.Random(0), tmp_path / "fit.npz", 0, set()
    while not (tmp_path / "result.npz").exists():
        with run(tmp_path, path) as process:
            assert process.stdout.readline() == "begin\n"
            if kills % 3:  # a time after it has gone on; else, after it has begun
                before = _written(path)
                while process.poll() is None and _written(path) == before:
                    time.sleep(0.003)
            time.sleep(dice.uniform(0, 0.15))
            if process.poll() is None and kills < 6:
                process.kill()
                kills += 1
        if path.exists():  # whole, whenever the process was killed
            with np.load(path, allow_pickle=False) as file:
                header = _header(file)
                seen.add((header["restart"], len(header["curve"])))
                assert file["W"].shape == (3000, 5)
    assert process.returncode == 0
    assert kills > 3
    assert len(seen) > 2
    with np.load(tmp_path / "result.npz") as file:
        for name in ("W", "H", "loss_curve", "error"):
            np.testing.assert_array_equal(file[name], whole[name])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["X.npy", "result.npz"]


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
        contents, header = dict(file), _header(file)
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
        assert len(_header(file)["curve"]) == 7
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


# Warm starts


def test_a_warm_start_goes_on_from_the_last_components():
    X = planted()
    model = SNMF(4, random_state=0, warm_start=True, max_iter=3, tol=0, solver="hals")
    first = model.fit(X).reconstruction_err_
    H = model.components_
    assert model.fit(X).reconstruction_err_ < first
    same = SNMF(4, init="custom", max_iter=3, tol=0, solver="hals").fit(X, H=H)
    np.testing.assert_array_equal(model.components_, same.components_)
    cold = SNMF(4, random_state=0, max_iter=3, tol=0, solver="hals").fit(X)
    np.testing.assert_array_equal(cold.fit(X).components_, H)
    other = planted(seed=1, n=50)
    assert model.fit_transform(other).shape == (50, 4)
    given = np.random.default_rng(0).random((207, 4))
    model.set_params(init="custom").fit(X, W=given)
    same = SNMF(4, init="custom", max_iter=3, tol=0, solver="hals").fit(X, W=given)
    np.testing.assert_array_equal(model.components_, same.components_)


def test_a_warm_start_of_another_shape_is_refused():
    X = planted()
    model = SNMF(4, random_state=0, warm_start=True, max_iter=3).fit(X)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="from 4 components of 12 features; X has 5 features"):
        model.fit(X[:, :5])
    assert vars(model) == before
    with pytest.raises(ValueError, match=r"n_components=5\. Set warm_start=False to begin anew"):
        model.set_params(n_components=5).fit(X)
    assert model.set_params(n_components=None).fit(X).n_components_ == 4
    assert model.set_params(n_components="auto").fit(X).n_components_ == 4
    assert clone(model).set_params(n_components=5).fit(X).n_components_ == 5
    with pytest.raises(ValueError, match="warm_start is for SNMF; give an H"):
        snmf.factorize(X, 4, warm_start=True)


@pytest.mark.parametrize("name", ["W", "H"])
def test_a_warm_start_keeps_the_number_of_components_of_a_given_start(name):
    rng, X = np.random.default_rng(0), planted()
    given = {"W": rng.random((207, 4)), "H": rng.standard_normal((4, 12))}[name]
    options = {"max_iter": 3, "tol": 0, "init": "custom"}
    model = SNMF(warm_start=True, **options).fit(X, **{name: given})
    H = model.components_
    np.testing.assert_array_equal(
        model.fit(X).components_, SNMF(4, **options).fit(X, H=H).components_
    )
    assert model.fit(planted(n=3)).n_components_ == 4


def test_a_warm_start_and_a_checkpoint_go_together(tmp_path):
    X, path = planted(), tmp_path / "fit.npz"
    model = SNMF(4, random_state=0, warm_start=True, max_iter=6, tol=0).fit(X)
    whole = SNMF(4, init="custom", max_iter=6, tol=0).fit(X, H=model.components_)

    def fit(**given):
        model.set_params(**given).fit(X)

    assert stopped(fit, path, 2)
    fit()
    np.testing.assert_array_equal(model.components_, whole.components_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not path.exists()
