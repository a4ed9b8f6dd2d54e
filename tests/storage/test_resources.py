"""Fits of data on disk where memory or the disk is limited, in processes of their own."""

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from fits import centred


def run(code, *arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, check=False, **kwargs,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
@pytest.mark.parametrize("scratch", [False, True])
def test_a_disk_that_fills_is_told_with_the_rows_and_leaves_nothing(scratch, tmp_path):
    X = centred(n=30_000, p=2, k=1, dtype="float32")
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "W.npy").write_text("what was there")
    (tmp_path / "temporary").mkdir()
    done = run(
        """
        import resource, sys, tempfile
        sys.dont_write_bytecode = True  # half of which would stay
        import numpy as np, snmf
        from snmf.storage import stored as _stored
        folder, scratch = sys.argv[1:]
        tempfile.tempdir = folder + "/temporary"
        _stored.SCRATCH = 0 if scratch == "True" else 2**60
        X = np.load(folder + "/X.npy", mmap_mode="r")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        snmf.factorize(X, 2, max_iter=2, progress_bar=False, out=folder + "/W.npy")
        """,
        tmp_path, scratch, cwd=os.getcwd(),
    )  # fmt: skip
    assert done.returncode == 1
    what = r"kept in .*; set TMPDIR to a folder" if scratch else r"written: .*W\.npy'"
    assert re.search(what, done.stderr)
    assert "OSError: [Errno 27] rows 12288 to 16383 of W cannot be " in done.stderr
    assert (tmp_path / "W.npy").read_text() == "what was there"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["W.npy", "X.npy", "temporary"]
    assert not list((tmp_path / "temporary").iterdir())


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_DATA and /proc")
def test_a_fit_takes_far_less_memory_than_x(tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", "float32", (400_000, 160))
    rng = np.random.default_rng(0)
    for start in range(0, len(X), 20_000):
        X[start : start + 20_000] = rng.standard_normal((20_000, 160), dtype="float32")
    del X
    done = run(
        """
        import resource, sys
        sys.dont_write_bytecode = True  # half of which would stay
        import numpy as np, snmf
        from snmf.storage import stored as _stored
        _stored.SCRATCH = 2**20
        X = np.load(sys.argv[1] + "/X.npy", mmap_mode="r")
        fit = dict(progress_bar=False, random_state=0, max_iter=2, n_jobs=2)
        snmf.factorize(X[:20_000], 3, **fit)  # what is allocated once
        lines = open("/proc/self/status").read().splitlines()
        (data,) = (int(line.split()[1]) for line in lines if line.startswith("VmData"))
        blocks_and_stacks = 2**27  # of threads, 8 MiB each, which count as data
        resource.setrlimit(resource.RLIMIT_DATA, (2**10 * data + blocks_and_stacks, -1))
        result = snmf.factorize(X, 3, out=sys.argv[1] + "/W.npy", **fit)
        print(result.W.shape, X.nbytes // 2**20)
        np.array(X)
        """,
        tmp_path, cwd=os.getcwd(),
    )  # fmt: skip
    assert done.stdout == "(400000, 3) 244\n", done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("numpy._core._exceptions._ArrayMemory")
