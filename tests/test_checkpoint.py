"""Fits that are stopped go on as if they had not been."""

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

import numpy as np
import pytest
import scipy.sparse as sp
from checkpoints import Stop, assert_same, factorize, header_of, planted, stopped
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

import snmf
from snmf import SNMF, ConvexNMF, _checkpoint
from snmf.backends import Backend
from snmf.storage import rows as _rows
from snmf.storage import stored

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (1, 20))


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
        curve = header_of(file)["curve"]
    result = fit(checkpoint=tmp_path / "fit.npz")
    np.testing.assert_array_equal(result.loss_curve[:3], curve)


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
        assert len(header_of(file)["curve"]) > at / 2 - 1
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
        assert len(header_of(file)["curve"]) == 5
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
                header = header_of(file)
                seen.add((header["restart"], len(header["curve"])))
                assert file["W"].shape == (3000, 5)
    assert process.returncode == 0
    assert kills > 3
    assert len(seen) > 2
    with np.load(tmp_path / "result.npz") as file:
        for name in ("W", "H", "loss_curve", "error"):
            np.testing.assert_array_equal(file[name], whole[name])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["X.npy", "result.npz"]
