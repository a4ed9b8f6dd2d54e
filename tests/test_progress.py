"""The bar and the lines of a fit: seen where someone looks, and never in the way of it."""

import io
import subprocess
import sys

import numpy as np
import pytest

from snmf import SNMF, ConvexNMF, HierarchicalSNMF, MiniBatchSNMF

X = np.random.default_rng(0).standard_normal((60, 8))
CLASSES = [SNMF, MiniBatchSNMF]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(Terminal):
    """Fails as a terminal does that was closed, or a redirection of someone's own."""

    def __init__(self, error, writes=0):
        super().__init__()
        self.error, self.writes = error, writes

    def write(self, text):
        if self.writes <= 0:
            raise self.error
        self.writes -= bool(text)
        return len(text)

    def flush(self):
        self.write("")


def closed():
    stream = Terminal()
    stream.close()
    return stream


NOT_THERE = {
    "none": lambda: None,
    "closed": closed,
    "no stream": object,
    "fails at once": lambda: Broken(OSError(9, "Bad file descriptor")),
    "fails otherwise": lambda: Broken(RuntimeError("no")),
    "fails later": lambda: Broken(OSError(28, "No space left on device"), writes=3),
}


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("make", NOT_THERE.values(), ids=NOT_THERE)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_fit_needs_no_output(cls, make, name, verbose, monkeypatch):
    options = dict(n_components=3, random_state=0, max_iter=5, verbose=verbose)
    expected = cls(**options).fit(X).components_
    stream = make()
    with monkeypatch.context() as patch:
        patch.setattr(sys, name, stream)
        fitted = cls(**options).fit(X)
    np.testing.assert_array_equal(fitted.components_, expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_terminal_shows_a_bar_and_a_file_does_not(cls, monkeypatch, capsys):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            cls(3, random_state=0, max_iter=5).fit(X)
            cls(3, random_state=0, max_iter=5, progress_bar=False).fit(X)
        assert stream.getvalue().count("SNMF:   0%") == shown
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (SNMF(3), ["SNMF"]),
        (MiniBatchSNMF(3), ["MiniBatchSNMF"]),
        (ConvexNMF(3), ["ConvexNMF"]),
        (
            HierarchicalSNMF((3, 2), SNMF(max_iter=5)),
            ["HierarchicalSNMF, level 0", "HierarchicalSNMF, level 1"],
        ),
    ],
)
def test_the_bar_names_the_estimator(estimator, names, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    estimator.set_params(random_state=0).fit(X)
    bars = [line.strip() for line in screen.getvalue().split("\r")]
    assert [bar.split(":")[0] for bar in bars if ":   0%" in bar] == names


@pytest.mark.parametrize("cls", CLASSES)
def test_a_line_for_every_iteration_stands_clear_of_the_bar(cls, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    fitted = cls(3, random_state=0, max_iter=4, tol=0, verbose=True).fit(X)
    lines = [line for line in screen.getvalue().splitlines() if line.startswith("iteration")]
    assert [line.split(":")[0] for line in lines] == [
        f"iteration {number}" for number in range(1, fitted.n_iter_ + 1)
    ]


def test_a_program_without_output_imports_and_fits():
    code = """
import sys
sys.stdout = sys.stderr = None
import numpy as np, snmf
model = snmf.SNMF(2, random_state=0, verbose=True).fit(np.eye(5) - 0.3)
snmf.MiniBatchSNMF(2, random_state=0, verbose=True).fit(np.eye(5) - 0.3)
sys.exit(7 + model.n_components_)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
