"""The command line as a process among others: exit codes, signals, pipes, full disks."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from shell import csv, posix, process, run

import snmf
from snmf import _checkpoint


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "snmf", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("snmf ")


def test_exit_codes_of_the_process(files):
    for arguments, code in (
        (["info", "a.npy"], 0), (["info", "none.npy"], 1), (["info"], 2), (["--help"], 0),
    ):  # fmt: skip
        done = process(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = done.communicate()
        assert done.returncode == code
        assert bool(out) == (code == 0)
        assert "Traceback" not in err


@pytest.fixture
def _interruptible():
    """Where the tests run in the background, SIGINT is ignored, in children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.usefixtures("_interruptible")
def test_a_terminal_shows_progress_and_control_c_is_a_130(folder):
    import pty
    import termios

    np.save("X.npy", np.random.default_rng(0).standard_normal((20_000, 50)))
    fit = ("fit", "X.npy", "-k", "10", "--tol", "0", "--max-iter", "10000000", "-o", "m.npz")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with process(*fit, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        try:
            seen = b""
            while b"loss=" not in seen:
                seen += os.read(ours, 4096)
            running.send_signal(signal.SIGINT)
            with suppress(OSError):  # how a pseudo-terminal ends
                while more := os.read(ours, 4096):
                    seen += more
            assert running.wait() == 130
            assert running.stdout.read() == ""
        finally:
            running.kill()
    os.close(ours)
    assert b"snmf: interrupted" in seen
    assert b"Traceback" not in seen
    assert [path.name for path in folder.iterdir()] == ["X.npy"]


@posix
@pytest.mark.parametrize("arguments", [["info", "a.npy"], ["--help"], ["info", "a.npy", "--json"]])
def test_a_broken_pipe_is_one_line(files, arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = process(*arguments, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    _, err = done.communicate()
    assert done.returncode == 1
    assert err == "snmf: nobody reads the output (broken pipe)\n"


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_one_line(files):
    with open("/dev/full", "w") as full:
        done = process("info", "a.npy", stdout=full, stderr=subprocess.PIPE)
        _, err = done.communicate()
    assert (done.returncode, err) == (1, "snmf: No space left on device\n")


LIMITED = """
import resource, sys
sys.dont_write_bytecode = True  # half of which would stay
from snmf.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.exit(main(sys.argv[1:]))
"""


@posix
@pytest.mark.parametrize("name", ["W.npy", "W.csv", "W.h5", "W.zarr"])
def test_a_full_disk_leaves_no_half_of_a_file(folder, name):
    np.save("X.npy", 1 + np.random.default_rng(0).standard_normal((4000, 3)))
    snmf.save(snmf.SNMF(2, random_state=0, max_iter=2, tol=0).fit(np.load("X.npy")), "m.npz")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "transform", "m.npz", "X.npy", "-o", name],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"snmf: {name}: ")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {"X.npy", "m.npz"}


@posix
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
def test_a_fit_that_is_ended_within_the_first_minute_goes_on(folder, number, code, word):
    np.save("X.npy", np.random.default_rng(0).standard_normal((20_000, 50)))
    fit = ("fit", "X.npy", "-k", "10", "--tol", "0", "--max-iter", "100000", "-o", "m.npz")
    checkpoint = ("--checkpoint", "fit.checkpoint")
    code_of_it = (
        "import sys, snmf.core.solve as s\nadvance = s.Alternation.advance\n"
        "def told(*a): print('pass', file=sys.stderr, flush=True); return advance(*a)\n"
        "s.Alternation.advance = told\nfrom snmf.__main__ import main\nsys.exit(main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])}
    command = [sys.executable, "-c", code_of_it, *fit, *checkpoint]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        for _ in range(5):
            assert running.stderr.readline() == "pass\n"
        running.send_signal(number)
        _, err = running.communicate()
        assert running.returncode == code
    assert err.splitlines()[-1] == f"snmf: {word}: the same command continues from fit.checkpoint"
    assert {path.name for path in folder.iterdir()} == {"X.npy", "fit.checkpoint"}
    with np.load("fit.checkpoint") as file:
        header = json.loads(file[_checkpoint.HEADER].tobytes())
    assert len(header["curve"]) >= 4


def test_a_pipe_that_cannot_encode_what_is_said_is_no_error(folder, capsys, monkeypatch):
    """On Windows a pipe has the code page of the machine, which lacks these names."""
    fit = ("fit", csv("β,日本\n1,2\n3,5\n7,1\n2,8\n"), "-k", "1", "-o", "日本.npz")
    assert run(*fit, "--json") == 0
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said)["model"] == "日本.npz"
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "cp1252"}
    done = process(*fit, **both)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert "??.npz" in out
    assert "Error" not in err
