"""The progress bar and the lines of `verbose`.

`bars_named` sets what the bars of a fit are called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

_NAME = ContextVar("_NAME", default="SNMF")


@contextmanager
def bars_named(name: str) -> Iterator[None]:
    """Give this name to the bars that appear within; others are called SNMF."""
    token = _NAME.set(name)
    try:
        yield
    finally:
        _NAME.reset(token)


class Output:
    """Standard output or standard error, without errors: a fit must not fail because of them.

    If the stream is missing (as in a service or a windowed program), closed or broken, nothing
    is written and nothing is raised.

    Parameters
    ----------
    stream : file-like or None
        `sys.stdout` or `sys.stderr`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:  # tqdm asks which bars share a stream with a line
        return bool(self._stream == getattr(other, "_stream", other))

    def __hash__(self) -> int:
        return hash(self._stream)

    def write(self, text: str) -> None:
        """Write the text, if that can be done."""
        with suppress(Exception):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream, if that can be done."""
        with suppress(Exception):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal that can be written to."""
        with suppress(Exception):
            self._stream.write("")
            self._stream.flush()  # tqdm does so too, past `flush`
            return bool(self._stream.isatty())
        return False


@contextmanager
def progress(
    max_iter: int, progress_bar: bool, verbose: bool
) -> Iterator[Callable[[int, float], None]]:
    """Yield a function of the iteration and its loss, which shows them.

    Parameters
    ----------
    max_iter : int
        The length of the bar.
    progress_bar : bool
        Shows a bar on a terminal and in a notebook, and nothing elsewhere.
    verbose : bool
        Prints a line for every iteration.
    """
    hidden = None if progress_bar else True  # None: unless this is a terminal or a notebook
    where, lines = Output(sys.stderr), Output(sys.stdout)
    with tqdm(
        total=max_iter, desc=_NAME.get(), unit="pass", leave=False, disable=hidden, file=where
    ) as bar:

        def watch(iteration: int, loss: float) -> None:
            bar.update(iteration - bar.n)  # a fit from a checkpoint does not begin at 1
            bar.set_postfix(loss=f"{loss:.6f}", refresh=False)
            if verbose:
                tqdm.write(f"iteration {iteration}: loss {loss:.8f}", file=lines)

        yield watch
