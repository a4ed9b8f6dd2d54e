"""README.rst: its Python runs, and its commands are those that CI and tox know."""

import re
import shlex
import textwrap
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from snmf.__main__ import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def blocks():
    return [
        textwrap.dedent(block)
        for block in re.findall(r"\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", README)
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_its_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    assert len(blocks()) == README.count("code-block:: python") >= 2
    names = {}
    for block in blocks():
        exec(compile(block, "README.rst", "exec"), names)
    assert names["W"].shape == (1797, 16)
    assert names["result"].H.shape == (16, 64)
    plt.close("all")


def test_its_commands_run_on_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).standard_normal((40, 8))
    np.savetxt("table.csv", X, delimiter=",", header=",".join("abcdefgh"), comments="")
    np.save("FILE.npy", np.random.default_rng(0).standard_normal((60, 12)))
    commands = re.findall(r"^    (?:\.venv/bin/)?snmf (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(shlex.split(command.replace("FILE", "FILE.npy"))) == 0, command
    assert {"parts.png", "model.npz", "weights.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_from_a_clone_to_a_picture_in_four_commands():
    block = re.search(r"a picture of its parts::\n\n((?:    .*\n)+)", README)[1]
    assert len(block.splitlines()) <= 4


def test_its_test_command_is_what_ci_runs():
    command = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"
    assert command in README
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for step in ("python3 -m venv .venv", ".venv/bin/pip install", ".venv/bin/tox"):
        assert step in script


def test_it_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 140


def test_the_files_it_names_are_there():
    named = re.findall(r"(?<![\w/])(?:docs|benchmarks|snmf)/[\w./]+\.\w+", README)
    assert len(named) > 3
    for name in named:
        assert (ROOT / name).exists(), name
