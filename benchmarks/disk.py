"""Data on disk: a pass over reading once and the bare products, and the memory of a fit.

tox -e benchmark -- disk [--rows N] [--sparse] [--folder FOLDER]
"""

from __future__ import annotations

import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from common import QUIET, a_pass, in_fresh_process, interleaved, parser, table, timed

P, K = 400, 20
STEP = 4096  # rows that the bare products take at a time
AT_ONCE = 16  # blocks that they take in turn: more than a cache holds
SOLVERS = ("mu", "hals")
GENES, FILLED = 20_000, 10  # columns of sparse data, and entries in each row: 0.05 %


def write(path: Path, n: int) -> None:
    """Float32 rows around nonnegative combinations of components, part by part."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((K, P), dtype="float32")
    file = np.lib.format.open_memmap(path, "w+", "float32", (n, P))
    for start in range(0, n, 20_000):
        count = min(20_000, n - start)
        noise = rng.standard_normal((count, P), dtype="float32")
        file[start : start + count] = rng.random((count, K), dtype="float32") @ H + noise


def write_sparse(path: Path, n: int) -> None:
    """Logarithms of counts, in cells of 20 kinds, in the layout of AnnData; part by part."""
    import h5py

    rng = np.random.default_rng(0)
    kinds = rng.permuted(np.tile(np.arange(GENES), (K, 1)), axis=1)  # genes by how often, by kind
    options = {"chunks": (min(2**17, n * FILLED),), "compression": "gzip", "compression_opts": 4}
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        shape = np.array([n, GENES])
        group.attrs.update({"encoding-type": "csr_matrix", "shape": shape})
        data = group.create_dataset("data", (n * FILLED,), "float32", **options)
        indices = group.create_dataset("indices", (n * FILLED,), "int32", **options)
        group["indptr"] = FILLED * np.arange(n + 1)
        for start in range(0, n, 20_000):
            count = min(20_000, n - start)
            low = np.sort((GENES - FILLED) * rng.random((count, FILLED)) ** 4, axis=1)  # mostly
            ranks = low.astype(int) + np.arange(FILLED)  # no gene twice
            drawn = kinds[rng.integers(0, K, (count, 1)), ranks]
            some = slice(start * FILLED, (start + count) * FILLED)
            indices[some] = np.sort(drawn, axis=1).ravel()
            counts = rng.geometric(0.5, (count, FILLED)) * rng.uniform(0.5, 2, (count, 1))
            data[some] = np.log1p(counts).ravel()


class Watched:
    """The most anonymous memory of this process while it is watched, in bytes."""

    def __enter__(self) -> Watched:
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.exists() and not self._over.wait(0.01):  # elsewhere than on Linux it stays 0
            found = re.findall(r"RssAnon:\s*(\d+)", status.read_text())
            self.most = max(self.most, 1024 * int(found[0]))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def fit(path: Path, parameters: dict[str, Any]) -> tuple[float, int, int]:
    """Seconds, iterations, and the most anonymous memory of a fit in this process."""
    import snmf

    warnings.simplefilter("ignore")
    with ExitStack() as stack:
        if path.suffix == ".npy":
            X = np.load(path, mmap_mode="r")
        else:
            import h5py

            X = stack.enter_context(h5py.File(path))["X"]
        memory = stack.enter_context(Watched())
        result, seconds = timed(lambda: snmf.factorize(X, K, **QUIET, **parameters))
    return seconds, result.n_iter, memory.most


def fits(path: Path, max_iter: int, n_jobs: int | None) -> Iterator[tuple[Any, ...]]:
    for solver in SOLVERS:
        for out in (None, path.with_name("W.npy")):
            parameters = {"solver": solver, "out": out, "max_iter": max_iter, "n_jobs": n_jobs}
            seconds, count, memory = in_fresh_process(fit, path, parameters)
            yield f"{solver}, {'W on disk' if out else 'W'}", count, seconds, memory / 2**20


def passes(path: Path, repeats: int) -> Iterator[tuple[Any, ...]]:
    """On one thread, and one more that reads ahead."""
    X = np.load(path, mmap_mode="r")
    rng = np.random.default_rng(0)
    H, W = rng.standard_normal((K, P)).astype("float32"), rng.random((STEP, K), dtype="float32")
    blocks = [np.array(X[start : start + STEP]) for start in range(0, len(X), STEP)[:AT_ONCE]]
    buffer = np.empty_like(blocks[0])

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def products() -> None:
        for number in range(-(-len(X) // STEP)):
            block = blocks[number % len(blocks)]
            _ = block @ H.T, W[: len(block)].T @ block

    with ExitStack() as stack:
        calls = [
            stack.enter_context(a_pass(X, K, solver, accelerate=fast))
            for solver in SOLVERS
            for fast in (False, True)
        ]
        once, two, *seconds = interleaved(read, products, *calls, repeats=repeats)
    for solver, plain, fast in zip(SOLVERS, seconds[::2], seconds[1::2], strict=True):
        whole = once + two
        yield f"{solver}, a pass", plain, plain / whole, fast / whole, once / two


def of_sparse(path: Path, n: int, max_iter: int) -> None:
    write_sparse(path, n)
    mib = [size / 2**20 for size in (path.stat().st_size, 8 * n * FILLED, 4 * n * K)]
    table(
        f"a fit of {n} x {GENES} with {FILLED} entries a row, k = {K}, in a fresh process; MiB: "
        f"the file {mib[0]:.0f}, X in memory {mib[1]:.0f}, W {mib[2]:.0f}, 2 W + 128 "
        f"{2 * mib[2] + 128:.0f}",
        ["passes", "seconds", "anonymous MiB at most"],
        fits(path, max_iter, 2),
    )


def main() -> None:
    words = parser(__doc__, data=False)
    words.add_argument(
        "--rows", type=int, help=f"5,000,000 of {4 * P} bytes each; sparse ones 1,000,000"
    )
    words.add_argument("--sparse", action="store_true", help="sparse data in an .h5ad instead")
    words.add_argument("--max-iter", type=int, default=10, help="iterations of a fit")
    words.add_argument("--folder", type=Path, help="where the file is made; the temporary one")
    arguments = words.parse_args()
    n = arguments.rows or (1_000_000 if arguments.sparse else 5_000_000)
    n, repeats = (500 if arguments.sparse else 10_000, 1) if arguments.tiny else (n, 5)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.sparse:
            of_sparse(Path(folder) / "X.h5ad", n, arguments.max_iter)
            return
        path = Path(folder) / "X.npy"
        write(path, n)
        heads = ["seconds", "÷ (reading + X Hᵀ + WᵀX)", "accelerated ÷", "reading ÷ products"]
        title = f"{n} x {P}, k = {K}, float32 on disk: a pass"
        table(title, heads, passes(path, repeats))
        mib = (4 * n * P / 2**20, 4 * n * K / 2**20)
        title = f"a fit in a fresh process; X is {mib[0]:.0f} MiB and W {mib[1]:.0f} MiB"
        heads = ["passes", "seconds", "anonymous MiB at most"]
        table(title, heads, fits(path, arguments.max_iter, 2))


if __name__ == "__main__":
    main()
