"""README.rst: its Python runs, and its commands are those that CI and tox know."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def blocks():
    return [
        textwrap.dedent(block)
        for block in re.findall(r"\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", README)
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_its_python_runs_from_top_to_bottom():
    assert len(blocks()) == README.count("code-block:: python") >= 3
    names = {}
    for block in blocks():
        exec(compile(block, "README.rst", "exec"), names)
    assert names["W"].shape == (1797, 16)
    assert names["result"].H.shape == (16, 64)
    assert 0 < names["Timed"].seconds < 60


def test_its_test_command_is_what_ci_runs():
    command = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"
    assert command in README
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for step in ("python3 -m venv .venv", ".venv/bin/pip install", ".venv/bin/tox"):
        assert step in script


def test_the_files_it_names_are_there():
    named = re.findall(r"(?:docs|benchmarks|snmf)/[\w./]+\.\w+", README)
    assert len(named) > 3
    for name in named:
        assert (ROOT / name).exists(), name
