"""Threads: what is the process's, as BLAS's number of them, and is shared by calls that overlap."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController


class Shared:
    """A context that the first thread enters and the last one leaves: for what is the process's.

    Parameters
    ----------
    context : callable
        Makes the context. Whether it is left by an exception is not told to it.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.context, self.lock, self.inside = context, Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.entered = self.context()
                self.entered.__enter__()
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.entered.__exit__(None, None, None)


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


class OneThread(Shared):
    """Libraries of that kind on one thread; threads of this library take the place of theirs.

    Parameters
    ----------
    user_api : {"blas", "openmp"}
        As threadpoolctl calls it.
    """

    def __init__(self, user_api: str) -> None:
        super().__init__(self._limited)
        self.user_api, self._before = user_api, 1

    def _limited(self) -> AbstractContextManager[Any]:
        self._before = self._count()
        limited: AbstractContextManager[Any] = LOADED.of(self.user_api).limit(limits=1)
        return limited

    def _count(self) -> int:
        libraries = LOADED.of(self.user_api).info()
        return max((library["num_threads"] for library in libraries), default=1)

    @property
    def threads(self) -> int:
        """How many they would take outside of this."""
        with self.lock:
            return self._before if self.inside else self._count()


# Threads of BLAS wait for each other in a loop: beside another program they wait for long.
BLAS = OneThread("blas")


def openmp_on_one_thread() -> AbstractContextManager[Any]:
    """OpenMP in this thread of the process: how many it takes belongs to a thread, not to all.

    On one, the k-means of scikit-learn gives the same bits every time.
    """
    limited: AbstractContextManager[Any] = LOADED.of("openmp").limit(limits=1)
    return limited
