"""Blocks on threads, BLAS on one thread meanwhile, and what interrupts and forks leave."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from fits import NumPy, factorize
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import snmf
from snmf.backends import adapter
from snmf.storage import threads as _threads
from snmf.storage.threads import BLAS, openmp_on_one_thread

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def threads_of_a_pass(blocks, at_a_time):
    """The threads that blocks are computed on, waiting until so many are computed at a time."""
    taken, gate = set(), threading.Barrier(at_a_time)

    def step(X):
        gate.wait(timeout=30)
        taken.add(threading.get_ident())
        return None, ()

    rows = adapter("numpy").rows(np.zeros((4096 * blocks, 10), "float32"))
    with rows.threads(None) as threaded:
        threaded.map_sum(step)
    return taken


def test_blocks_take_the_threads_of_products(monkeypatch):
    here = {threading.get_ident()}
    monkeypatch.setattr(NumPy, "threads_of_products", lambda self: 3)
    many = threads_of_a_pass(blocks=6, at_a_time=3)
    assert len(many) == 3
    assert here.isdisjoint(many)
    assert len(threads_of_a_pass(blocks=2, at_a_time=2)) == 2
    assert threads_of_a_pass(blocks=1, at_a_time=1) == here
    monkeypatch.setattr(NumPy, "threads_of_products", lambda self: 1)
    assert threads_of_a_pass(blocks=6, at_a_time=1) == here


def threads_of_blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_products_take_the_threads_of_blas():
    outside = adapter("numpy").threads_of_products()
    assert outside == max(threads_of_blas())
    with threadpool_limits(1):
        assert adapter("numpy").threads_of_products() == 1
    with BLAS:
        assert max(threads_of_blas()) == 1
        assert adapter("numpy").threads_of_products() == outside


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_blas_is_on_one_thread_in_every_call_and_then_as_it_was(n_jobs):
    seen = []

    class Watching(NumPy):
        def matmul(self, A, B):
            seen.append(max(threads_of_blas()))
            return super().matmul(A, B)

    X = np.random.default_rng(0).normal(size=(60, 8))
    model = snmf.SNMF(3, n_jobs=n_jobs, backend=Watching(), progress_bar=False, max_iter=3, tol=0)
    with threadpool_limits(3):
        before = threads_of_blas()
        model.fit(X).transform(X)
        assert threads_of_blas() == before
    assert set(seen) == {1}


def test_calls_that_overlap_leave_the_threads_of_blas_as_they_were():
    entered, leave = threading.Event(), threading.Event()

    def first():
        with BLAS:
            entered.set()
            leave.wait(timeout=30)

    before = threads_of_blas()
    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(timeout=30)
    with BLAS:  # entered while the first is inside, and left after it
        leave.set()
        thread.join()
        assert max(threads_of_blas()) == 1
    assert threads_of_blas() == before


FORKS = """
    import os, signal, threading
    import numpy as np
    from threadpoolctl import threadpool_info, threadpool_limits
    from snmf import SNMF
    from snmf.storage.threads import BLAS

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    def in_child(check):
        if not (child := os.fork()):
            signal.alarm(60)  # a lock that nobody opens
            os._exit(0 if check() else 1)
        assert os.waitpid(child, 0)[1] == 0, check

    def fits():
        SNMF(2, random_state=0, progress_bar=False, max_iter=2).fit(np.eye(5))
        return threads() == before

    def stays_and_leaves():
        with BLAS:
            pass
        stayed = set(threads()) == {1}
        BLAS.__exit__()
        return stayed and threads() == before

    def inside(lock):
        with BLAS.lock if lock else BLAS:
            entered.set()
            leave.wait()

    threadpool_limits(2)
    before = threads()
    for lock in (False, True):
        entered, leave = threading.Event(), threading.Event()
        thread = threading.Thread(target=inside, args=(lock,), daemon=True)
        thread.start()
        entered.wait()
        in_child(lambda: threads() == before)
        in_child(fits)
        leave.set()
        thread.join()
    BLAS.__enter__()
    in_child(stays_and_leaves)
    assert set(threads()) == {1}
    BLAS.__exit__()
    assert threads() == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_beside_a_thread_that_computes_leaves_the_child_free():
    code = textwrap.dedent(FORKS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class Interrupting:
    """A lock that an interrupt comes to at its n-th call."""

    def __init__(self, at):
        self.lock, self.left = threading.Lock(), at

    def _call(self):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def __enter__(self):
        self._call()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()
        self._call()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interrupt_leaves_the_threads_of_blas_as_they_were(at, monkeypatch):
    before = threads_of_blas()
    monkeypatch.setattr(BLAS, "lock", Interrupting(at))
    with pytest.raises(KeyboardInterrupt), BLAS:
        pass
    assert threads_of_blas() == before
    assert not BLAS.inside


@pytest.mark.parametrize("when", ["__enter__", "__exit__"])
def test_so_does_an_interrupt_while_they_are_set(when, monkeypatch):
    calls = []

    def interrupted(limited, *given):
        calls.append(1)
        if when == "__enter__" or len(calls) > 1:
            whole(limited, *given)
        if len(calls) == 1:
            raise KeyboardInterrupt

    before, whole = threads_of_blas(), getattr(_threads.Limited, when)
    monkeypatch.setattr(_threads.Limited, when, interrupted)
    with pytest.raises(KeyboardInterrupt), BLAS:
        pass
    assert threads_of_blas() == before
    assert not BLAS.inside


def test_starts_that_overlap_leave_the_threads_of_openmp_as_they_were():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"]

    X = np.random.default_rng(0).normal(size=(600, 20))
    factorize(X, 3)
    entered, leave = threading.Event(), threading.Event()

    def second():
        with openmp_on_one_thread():
            entered.set()
            leave.wait(timeout=30)

    with threadpool_limits(2, user_api="openmp"):
        before = threads()
        with openmp_on_one_thread():
            thread = threading.Thread(target=second)
            thread.start()
            entered.wait(timeout=30)
        assert threads() == before
        leave.set()
        thread.join()
        assert threads() == before


def test_libraries_are_looked_for_again_after_an_import_alone(monkeypatch):
    looked = []
    monkeypatch.setattr(
        _threads, "ThreadpoolController", lambda: looked.append(1) or ThreadpoolController()
    )
    X = np.random.default_rng(0).normal(size=(60, 8))
    factorize(X, 3)
    looked.clear()
    factorize(X, 3)
    assert not looked
    monkeypatch.setitem(sys.modules, "a library that was imported", sys)
    factorize(X, 3)
    assert len(looked) == 1


def test_the_bits_are_the_same_for_any_number_of_threads_that_blas_has():
    X = np.random.default_rng(0).normal(size=(1500, 300))
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.append(factorize(X, 7, solver="hals", max_iter=20))
    for other in found[1:]:
        np.testing.assert_array_equal(other.W, found[0].W)
        np.testing.assert_array_equal(other.H, found[0].H)


def test_weights_of_many_blocks_lie_in_one_array_in_the_layout_of_the_first():
    rows = adapter("numpy").rows(np.zeros((10_000, 500)))
    assert len(rows.slices) > 1
    parts = rows.each(lambda part: part.T.copy().T, rows.uniform(np.random.RandomState(0), 3, 0.0))
    whole = rows.join(parts)
    assert whole.shape == (10_000, 3)
    assert whole.flags.f_contiguous
    assert all(np.shares_memory(part, whole) for part in parts)
    np.testing.assert_array_equal(whole, np.concatenate(list(parts)))
