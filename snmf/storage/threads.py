"""Settings of the process that overlapping calls share, such as the number of threads of BLAS.

`Shared` is a context that many threads may be in at once. `BLAS` is such a context, which holds
BLAS to one thread. `openmp_on_one_thread` does so for OpenMP.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock, get_ident
from typing import Any
from weakref import WeakSet

from threadpoolctl import ThreadpoolController


class Shared:
    """A context for a setting of the process: the first thread enters it, the last one leaves it.

    An interrupt (Ctrl-C) during enter or exit does not leave the context entered. After a fork the
    child has only the thread that forked, so only the entries of that thread count there.

    Parameters
    ----------
    context : callable
        Returns the inner context manager, and changes nothing itself. ``__exit__`` of the inner
        context gets no exception, and may be called twice.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.context, self.lock = context, Lock()
        self.entered: AbstractContextManager[Any] | None = None
        self.counts: dict[int, int] = {}  # how often each thread has entered, and has not left
        _ALL.add(self)

    @property
    def inside(self) -> bool:
        """Whether any thread is inside; one thread may leave in place of another."""
        return sum(self.counts.values()) > 0

    def __enter__(self) -> None:
        me, counted = get_ident(), False
        try:
            with self.lock:
                if not self.inside:
                    self.entered = self.context()
                    self.entered.__enter__()
                count = self.counts.get(me, 0) + 1
                self.counts[me] = count  # no interrupt comes between this line and the next
                counted = True
        except BaseException:
            self._leave(me, counted)
            raise

    def __exit__(self, *_: object) -> None:
        self._leave(get_ident(), True)

    def _leave(self, me: int, counted: bool) -> None:
        try:
            with self.lock:
                count = self.counts.get(me, 0) - counted
                self.counts[me] = count
                counted = False
                self._restore()
        except BaseException:  # an interrupt: finish, then raise it again
            with self.lock:
                self.counts[me] = self.counts.get(me, 0) - counted
                self._restore()
            raise

    def _restore(self) -> None:
        """Leave the inner context, if no thread is inside."""
        if not self.inside:
            self.counts.clear()
            if self.entered is not None:
                self.entered.__exit__(None, None, None)
                self.entered = None

    def after_fork(self) -> None:
        """In the child of a fork, forget the other threads: they hold no lock, and are outside."""
        self.lock, me = Lock(), get_ident()
        self.counts = {me: self.counts.get(me, 0)}
        self._restore()


_ALL: WeakSet[Shared] = WeakSet()


def _after_fork() -> None:
    for shared in _ALL:
        shared.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Loaded:
    """The loaded libraries that have their own threads, such as BLAS and OpenMP.

    A search for them takes milliseconds, as long as a small fit. So the result is kept until the
    next import of a module, which may load another library.
    """

    def __init__(self) -> None:
        self._found: tuple[int, ThreadpoolController] | None = None

    def of(self, user_api: str) -> ThreadpoolController:
        """Return the controller of the libraries of this kind, "blas" or "openmp"."""
        modules, found = len(sys.modules), self._found
        if found is None or found[0] != modules:
            self._found = found = modules, ThreadpoolController()
        return found[1].select(user_api=user_api)


LOADED = Loaded()


class Limited(AbstractContextManager[None]):
    """A context that holds libraries to one thread, and restores their numbers at its end.

    Parameters
    ----------
    libraries : ThreadpoolController
        The libraries.

    Attributes
    ----------
    before : int
        The largest number of threads of a library before; 1 if there is no library.
    """

    def __init__(self, libraries: ThreadpoolController) -> None:
        self._counts = [(one, one.num_threads) for one in libraries.lib_controllers]
        self.before = max((count for _, count in self._counts if count), default=1)

    def __enter__(self) -> None:
        for library, _ in self._counts:
            library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        for library, count in self._counts:
            if count is not None:
                library.set_num_threads(count)


class OneThread(Shared):
    """A shared context that holds libraries to one thread, while snmf uses its own threads.

    Parameters
    ----------
    user_api : {"blas", "openmp"}
        The kind of library, as threadpoolctl calls it.
    """

    def __init__(self, user_api: str) -> None:
        super().__init__(lambda: Limited(LOADED.of(user_api)))
        self.user_api = user_api

    @property
    def threads(self) -> int:
        """The number of threads that the libraries take outside of this context."""
        with self.lock:
            if isinstance(self.entered, Limited):
                return self.entered.before
            return Limited(LOADED.of(self.user_api)).before


# Threads of BLAS wait for each other in a busy loop, which is slow if another program runs too.
BLAS = OneThread("blas")


def openmp_on_one_thread() -> AbstractContextManager[Any]:
    """Return a context that holds OpenMP to one thread, for calls from this thread only.

    With one thread, the k-means of scikit-learn gives the same bits every time.
    """
    limited: AbstractContextManager[Any] = LOADED.of("openmp").limit(limits=1)
    return limited
