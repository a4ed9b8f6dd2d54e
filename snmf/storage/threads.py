"""Threads: what is the process's, as BLAS's number of them, and is shared by calls that overlap."""

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
    """A context that the first thread enters and the last one leaves: for what is the process's.

    An interrupt (Ctrl-C) while it is entered or left does not leave it entered. In the child of a
    fork only the thread that forked is still there, and only what it has entered counts.

    Parameters
    ----------
    context : callable
        Makes the context, and changes nothing before that is entered. Whether it is left by an
        exception is not told to it; it may be left twice.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.context, self.lock = context, Lock()
        self.entered: AbstractContextManager[Any] | None = None
        self.counts: dict[int, int] = {}  # how often each thread has entered, and has not left
        _ALL.add(self)

    @property
    def inside(self) -> bool:
        """Whether a thread is inside; one may leave for another."""
        return sum(self.counts.values()) > 0

    def __enter__(self) -> None:
        me, counted = get_ident(), False
        try:
            with self.lock:
                if not self.inside:
                    self.entered = self.context()
                    self.entered.__enter__()
                count = self.counts.get(me, 0) + 1
                self.counts[me] = count  # an interrupt comes after a call, so not between these
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
        except BaseException:  # an interrupt: it waits until the rest is done
            with self.lock:
                self.counts[me] = self.counts.get(me, 0) - counted
                self._restore()
            raise

    def _restore(self) -> None:
        """Leave the context, if no thread is inside."""
        if not self.inside:
            self.counts.clear()
            if self.entered is not None:
                self.entered.__exit__(None, None, None)
                self.entered = None

    def after_fork(self) -> None:
        """In the child: threads that are not there hold no lock and are not inside."""
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
    """The libraries with threads of their own that are loaded.

    To look for them takes milliseconds, as long as a small fit; it is done again when a module has
    been imported, which may have brought one.
    """

    def __init__(self) -> None:
        self._found: tuple[int, ThreadpoolController] | None = None

    def of(self, user_api: str) -> ThreadpoolController:
        """Those of that kind."""
        modules, found = len(sys.modules), self._found
        if found is None or found[0] != modules:
            self._found = found = modules, ThreadpoolController()
        return found[1].select(user_api=user_api)


LOADED = Loaded()


class Limited(AbstractContextManager[None]):
    """Libraries on one thread, and then on as many as they had.

    Parameters
    ----------
    libraries : ThreadpoolController

    Attributes
    ----------
    before : int
        The most threads that one of them had; 1 if there is none.
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
    """Libraries of that kind on one thread; threads of this library take the place of theirs.

    Parameters
    ----------
    user_api : {"blas", "openmp"}
        As threadpoolctl calls it.
    """

    def __init__(self, user_api: str) -> None:
        super().__init__(lambda: Limited(LOADED.of(user_api)))
        self.user_api = user_api

    @property
    def threads(self) -> int:
        """How many they would take outside of this."""
        with self.lock:
            if isinstance(self.entered, Limited):
                return self.entered.before
            return Limited(LOADED.of(self.user_api)).before


# Threads of BLAS wait for each other in a loop: beside another program they wait for long.
BLAS = OneThread("blas")


def openmp_on_one_thread() -> AbstractContextManager[Any]:
    """OpenMP in this thread of the process: how many it takes belongs to a thread, not to all.

    On one, the k-means of scikit-learn gives the same bits every time.
    """
    limited: AbstractContextManager[Any] = LOADED.of("openmp").limit(limits=1)
    return limited
