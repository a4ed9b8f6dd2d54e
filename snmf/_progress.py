"""What a person sees of a fit while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm


@contextmanager
def progress(
    max_iter: int, progress_bar: bool, verbose: bool
) -> Iterator[Callable[[int, float], None]]:
    """Give a function of the iteration and its loss, which shows them.

    Parameters
    ----------
    max_iter : int
        The length of the bar.
    progress_bar : bool
        Show a bar, on a terminal and in a notebook; nothing where the output is not looked at.
    verbose : bool
        Print a line for every iteration.
    """
    hidden = None if progress_bar else True  # None: unless this is a terminal or a notebook
    with tqdm(total=max_iter, desc="SNMF", unit="pass", leave=False, disable=hidden) as bar:

        def watch(iteration: int, loss: float) -> None:
            bar.update(iteration - bar.n)  # the first may be a later one
            bar.set_postfix(loss=f"{loss:.6f}", refresh=False)
            if verbose:
                tqdm.write(f"iteration {iteration}: loss {loss:.8f}")

        yield watch
