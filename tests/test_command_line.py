"""The command line, as a person and a script call it."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from snmf import __main__


def test_demo_prints_what_a_person_wants_to_see_and_saves_the_factors(tmp_path, capsys):
    output = tmp_path / "factors.npz"
    assert __main__.main(["demo", "-o", str(output)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "1797 images of 64 pixels",
        "SVD bound",
        "iterations",
        "stopped because",
        "saved",
    ):
        assert words in shown
    X = load_digits().data
    X = X - X.mean(axis=0)
    with np.load(output, allow_pickle=False) as saved:
        W, H = saved["W"], saved["H"]
    assert W.shape == (1797, 16)
    assert W.min() >= 0
    error = np.linalg.norm(X - W @ H) / np.linalg.norm(X)
    assert f"relative error   {error:.4f}" in shown
    bound = np.linalg.norm(np.linalg.svd(X, compute_uv=False)[16:]) / np.linalg.norm(X)
    assert f"SVD bound        {bound:.4f}" in shown


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert __main__.main(["demo", "-k", "2", "-o", str(tmp_path / "no" / "such.npz")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("snmf: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["demo", "-k", "0"], ["demo", "-k", "x"], [], ["nope"]])
def test_wrong_words_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(arguments)
    assert stop.value.code == 2
    assert "usage: snmf" in capsys.readouterr().err


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "snmf", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("snmf ")
