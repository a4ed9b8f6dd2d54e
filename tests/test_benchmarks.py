"""The benchmarks run, on tiny data: no time is asserted."""

import importlib
import importlib.util
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def lines(name, *options, **environment):
    """What a benchmark prints, by the first words of a line: the rest of it, in words."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *map(str, options)],
        capture_output=True, text=True, check=True, timeout=300, env={**os.environ, **environment},
    )  # fmt: skip
    split = (line.strip().partition("  ") for line in done.stdout.splitlines())
    return {first: rest.split() for first, _, rest in split}


def test_quality():
    found = lines("quality", "--tiny")
    assert all(float(found[name][1]) >= 0 for name in ("default", "hals", "svd start"))  # the bound
    zeros = [float(found[sparsity][0]) for sparsity in ("0", "0.05", "0.1", "0.2")]
    assert zeros == sorted(zeros)
    assert "mu, k = 3" in found


def test_floor():
    found = lines("floor", "--tiny")
    for name in ("float32, k = 3, mu", "float64, k = 3, hals", "mu, n_jobs=None", "k = 3, hals"):
        assert all(float(value) > 0 for value in found[name])


def test_busy():
    found = lines("busy", "--tiny", "--before", FOLDER.parent)
    for name in ("mu, 100 rows, n_jobs=None", "hals, 300 rows, n_jobs=1"):
        idle, busy, ratio, before, to_before = map(float, found[name])
        assert ratio == pytest.approx(busy / idle, rel=0.02)
        assert to_before == pytest.approx(idle / before, rel=0.02)


def test_laststep():
    found = lines("laststep", "--tiny")
    for name in ("embeddings, k = 10, mu", "rank 5 + noise, k = 3, hals", "white noise, k = 3, mu"):
        passes, exact, ratio = map(float, found[name])
        assert ratio == pytest.approx(exact / passes, rel=0.02)


def test_backends():
    found = lines("backends", "--tiny", "--rows", 600)
    assert "a plain pass of 600 x 64, k = 50, over X Hᵀ and Wᵀ X; over Σ X" in found


def test_minibatch():
    found = lines("minibatch", "--tiny")
    for name in ("mu, sparsity 0.0", "hals, sparsity 0.1"):
        first, loss, above, _, _ = map(float, found[f"{name}, until it stops"])
        assert 0 < loss < first
        assert above < 10


def test_disk():
    found = lines("disk", "--tiny")
    assert all(float(value) > 0 for value in found["mu, a pass"])
    assert 0 < float(found["hals, W on disk"][2]) < 1000


def test_cluster():
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    found = lines("cluster", "--tiny")
    assert float(found["mu"][0]) > 0
    assert 0 < float(found["bytes"][-1]) < 1
    assert float(found["loss"][0]) < 1e-8


def test_classes():
    found = lines("classes", "--tiny")
    assert float(found["locality 2"][0]) > float(found["sparsity 0"][0])


def test_incomplete():
    found = lines("incomplete", "--tiny")
    assert 1 < float(found["hals"][0]) < 2
    assert all(float(value) > 0 for value in found["mu, k = 3"])


def test_scaling(tmp_path):
    draws = importlib.util.find_spec("matplotlib") is not None
    file = tmp_path / "picture.png"
    found = lines("scaling", "--tiny", *(("--picture", file) if draws else ()))
    assert float(found["n = 1200"][2]) > 0
    assert len(found["n from 300 to 1200"]) == 3
    assert file.exists() == draws


def test_fuzz():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "fuzz.py"), "--tiny", "--jobs", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.split()[:2] == ["60", "cases"]


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("fuzz")
    for name in ("fuzz", "common"):
        del sys.modules[name]


def raising(result):
    raise RuntimeError("of no parameter")


def warning(result):
    warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)
    return result


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("shape", lambda r: replace(r, W=r.W[1:])),
        ("dtype", lambda r: replace(r, H=r.H.astype("longdouble"))),
        ("not finite", lambda r: replace(r, H=r.H * np.nan)),
        ("negative weight", lambda r: replace(r, W=-r.W - 1)),
        ("norm of components", lambda r: replace(r, H=1.001 * r.H)),
        ("objective rises", lambda r: replace(r, loss_curve=np.arange(r.n_iter + 1.0))),
        ("result above the curve", lambda r: replace(r, loss_curve=0.1 * r.loss_curve)),
        ("length of the curve", lambda r: replace(r, n_iter=r.n_iter + 1)),
        ("error", lambda r: replace(r, error=1.001 * r.error + 1)),
        ("W not optimal", lambda r: replace(r, W=r.W + 1)),
        ("RuntimeError in", raising),
        ("RuntimeWarning in", warning),
    ],
)
def test_fuzz_sees_what_is_wrong(kind, wrong, fuzz, monkeypatch):
    """In one of the first cases whose data are those that a person would give."""
    right = fuzz.snmf.factorize
    monkeypatch.setattr(fuzz.snmf, "factorize", lambda *a, **k: wrong(right(*a, **k)))
    plain = [n for n in range(60) if fuzz.drawn(0, n).kind in ("Gaussian", "planted")]
    found = {found for number in plain[:5] for found, _ in fuzz.run(0, number)}
    assert any(name.startswith(kind) for name in found), found


def test_peers(tmp_path):
    """Also on a file without labels, and with a peer that cannot be imported."""
    (tmp_path / "noloox.py").write_text("raise ImportError('not here')")
    X = np.random.default_rng(0).standard_normal((60, 30))
    np.savez(tmp_path / "rows.npz", embeddings=X)
    first = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    systems = ("--systems", "noloox", "snmf mu", "k-means")
    found = lines("peers", "--tiny", "--data", tmp_path / "rows.npz", *systems, PYTHONPATH=first)
    assert found["noloox"] == ["missing:", "not", "here"]
    assert found["k-means: hals"][0].isdigit()


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("peers")
    for name in ("peers", "common"):
        del sys.modules[name]


def test_the_fewest_passes_that_reach_an_error(peers):
    for least in (0, 1, 2, 3, 7, 8, 100, 1023, 1024):
        assert peers.fewest(lambda count, least=least: count >= least) == least
    assert peers.fewest(lambda count: False) is None
