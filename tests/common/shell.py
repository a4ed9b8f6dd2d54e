"""Commands, as tests call them: in this process, or in one of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import snmf
from snmf import __main__

posix = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and pseudo-terminals")
X = np.random.default_rng(0).standard_normal((60, 5)).astype("float32")
FIT = ("-k", "2", "--max-iter", "20", "--tol", "0")


def run(*arguments):
    """The exit code, in this process: what is printed goes to capsys."""
    return __main__.main([str(argument) for argument in arguments])


def process(*arguments, **options):
    """As a shell calls it: a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [sys.executable, "-m", "snmf", *map(str, arguments)], env=environment, text=True, **options
    )


def refused(capsys, *arguments, code=1):
    """The one line that is said of a failure."""
    assert run(*arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("snmf: ")
    assert said.err.count("\n") == 1
    return said.err


def csv(text, name="table.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return name
