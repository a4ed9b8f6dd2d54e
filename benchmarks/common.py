"""What the benchmarks share: options, data, one pass, timing, fresh processes, tables."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np  # and no more: a fresh process imports this before it is timed

QUIET = {"random_state": 0, "progress_bar": False}
Call = Callable[[], Any]


def parser(description: str, *, data: bool = True) -> argparse.ArgumentParser:
    """The options that benchmarks have in common; ``data`` for those that take a file."""
    words = argparse.ArgumentParser(description=description.splitlines()[0])
    words.add_argument("--tiny", action="store_true", help="a tiny size, to see that it runs")
    if data:
        words.add_argument(
            "--data",
            type=Path,
            help="an .npz with embeddings (n, p) and, if there are any, labels (n,)",
        )
        words.add_argument(
            "--smallest-class", type=int, default=500, help="leave out classes up to this size"
        )
    return words


def choice(words: argparse.ArgumentParser, option: str, names: Iterable[str]) -> None:
    """Add an option that takes some of the names; by default all."""
    names = list(names)
    words.add_argument(
        option, nargs="+", choices=names, default=names, metavar="NAME",
        help=f"some of {', '.join(map(repr, names))}",
    )  # fmt: skip


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray | None]:
    """The embeddings of the file in float32, or generated ones, and their classes."""
    if arguments.data is None:
        return generated(*((300, 64, 3) if arguments.tiny else (20_000, 384, 13)))
    with np.load(arguments.data) as file:
        X, labels = file["embeddings"].astype("float32"), file.get("labels")
    if labels is None:
        return X, None
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts > arguments.smallest_class])
    return X[kept], labels[kept]


def components(labels: np.ndarray | None) -> int:
    """As many as there are classes, or 20."""
    return 20 if labels is None else len(np.unique(labels))


def generated(n: int, p: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around class centres, with a spectrum that falls as that of embeddings."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    spectrum = np.arange(1, p + 1) ** -0.4
    turn = np.linalg.qr(rng.standard_normal((p, p)))[0]
    X = (0.7 * rng.standard_normal((classes, p))[labels] + rng.standard_normal((n, p))) * spectrum
    X = X @ turn
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X.astype("float32"), labels


def spectrum(X: np.ndarray) -> np.ndarray:
    """The squared singular values of X, falling."""
    wide = X.astype("float64")
    return np.linalg.eigvalsh(wide.T @ wide)[::-1].clip(0)


def bound(squares: np.ndarray, k: int) -> float:
    """The relative error of the best approximation of rank k."""
    return float(np.sqrt(squares[k:].sum() / squares.sum()))


def relative_error(X: np.ndarray, W: Any, H: Any) -> float:
    """‖X − W H‖ / ‖X‖ in float64, whoever made W and H."""
    X, W, H = (np.asarray(A, dtype="float64") for A in (X, W, H))
    return float(np.linalg.norm(X - W @ H) / np.linalg.norm(X))


def largest(W: Any, H: Any) -> np.ndarray:
    """The component of the largest weight in every row, with components at unit norm."""
    return np.argmax(np.asarray(W) * np.linalg.norm(np.asarray(H), axis=1), axis=1)


def agreement(labels: np.ndarray | None, groups: np.ndarray) -> float | None:
    """The normalised mutual information of the classes and these groups."""
    from sklearn.metrics import normalized_mutual_info_score

    return None if labels is None else float(normalized_mutual_info_score(labels, groups))


@contextmanager
def a_pass(
    X: Any,
    k: int,
    solver: str,
    *,
    accelerate: bool = False,
    n_jobs: int | None = 1,
    backend: Any = None,
    weighted: bool = False,
    divided: bool = False,
    holes: bool = False,
    limits: Any = None,
) -> Iterator[Call]:
    """A call that makes one pass over X, from the same point every time.

    It is on one thread, and so are NumPy's products while the context lasts. ``divided`` is as with
    a scale. With ``holes`` the NaN of X are not observed. ``limits`` are those of the rows of H. No
    benchmark uses what is private to snmf, but by this function and the next.
    """
    from snmf.backends import adapter, owner
    from snmf.core.limits import NO_LIMITS
    from snmf.core.missing import Incomplete, observed
    from snmf.core.options import UPDATES
    from snmf.core.solve import Alternation, steps_per_pass
    from snmf.storage.rows import measure

    ops, source = backend or adapter("numpy"), owner(X)
    data = ops.bring(source.check(X), source)
    with ops.active(), ops.rows(data).threads(n_jobs) as rows:
        update = UPDATES[solver]
        rows = rows.divided(np.linspace(0.5, 2, X.shape[1])) if divided else rows
        steps = steps_per_pass(update, X.shape[1], k) if accelerate else 1
        rng = np.random.default_rng(0)
        square = measure(rows, missing=holes).square
        weights = rows.split(0.5 + rng.random((X.shape[0], 1))) if weighted else None
        limits = limits or NO_LIMITS
        alternation = Alternation(rows, square, 0.0, update, steps, weights, limits=limits)
        if holes:
            alternation = Incomplete(**vars(alternation), means=observed(rows).means)
        W = rng.random((X.shape[0], k))
        point = alternation.start(rows.split(W), None)
        yield lambda: alternation.advance(point, point.H)


@contextmanager
def small_blocks(rows: int = 4) -> Iterator[None]:
    """Blocks of at most so many rows, so that small data have several."""
    from snmf.storage import rows as _rows

    before, _rows.BLOCK_ROWS = _rows.BLOCK_ROWS, (1, rows)
    try:
        yield
    finally:
        _rows.BLOCK_ROWS = before


def timed(call: Call) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def interleaved(*calls: Call, repeats: int = 7) -> list[float]:
    """Median seconds of every call, in turn, so that a noisy spell hits each; a first is free."""
    for call in calls:
        call()
    seconds = [[timed(call)[1] for call in calls] for _ in range(repeats)]
    return [float(value) for value in np.median(seconds, axis=0)]


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module gives in a process that has imported that module only."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory() -> int:
    """The most bytes of memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0])
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on macOS


def table(
    title: str, heads: Iterable[str], lines: Iterable[Iterable[Any]], first: int = 26
) -> None:
    """Print lines as they come, under their heads: name, then numbers; None is a dash."""
    print(f"\n{title}\n{'':{first}}" + "".join(f"{head:>{_width(head)}}" for head in heads))
    for name, *cells in lines:
        shown = (f"{_shown(c):>{_width(h)}}" for h, c in zip(heads, cells, strict=False))
        print(f"{name:{first}}" + "".join(shown), flush=True)


def _width(head: str) -> int:
    return max(8, len(head)) + 2


def _shown(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:#.3g}"
    return str(cell)
