"""The benchmarks run, on tiny data: no time is asserted."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quality", "snmf, svd start"),
        ("cost", "peak memory of a fit"),
        ("minibatch", "MiniBatchSNMF, until it stops"),
        ("backends", "over X Hᵀ and Wᵀ X there"),
    ],
)
def test_a_benchmark_runs(name, words):
    extra = ["--rows", "600"] if name == "backends" else []
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", *extra],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert words in done.stdout
