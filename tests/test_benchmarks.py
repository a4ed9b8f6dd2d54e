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


def imported(name, monkeypatch):
    """A benchmark as a module; what it imports beside it is forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module(name)
    for new in {file.stem for file in FOLDER.glob("*.py")} & set(sys.modules) - before:
        del sys.modules[new]


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
    assert float(found["dense, mu"][2]) > 0


def test_busy():
    found = lines("busy", "--tiny", "--before", FOLDER.parent)
    for name in ("mu, 100 rows, n_jobs=None", "hals, 300 rows, n_jobs=1"):
        idle, busy, ratio, before, to_before = map(float, found[name])
        assert ratio == pytest.approx(busy / idle, rel=0.02)
        assert to_before == pytest.approx(idle / before, rel=0.02)


def test_limits():
    found = lines("limits", "--tiny", "--noise", "0.2")
    assert [found[name][1] for name in ("mu", "hals")] == ["0", "0"]  # the objective never rises
    assert float(found["winners take all"][2]) > 0
    assert float(found["digits, k = 3, snmf, tol 1e-6"][0]) < 5  # % above NMF
    assert all(float(found[f"{name}, k = 3"][1]) > 0 for name in ("in the ball", "nonnegative"))


def test_concepts():
    found = lines("concepts", "--tiny", "--methods", "snmf", "multiplicative")
    assert found["snmf"][0] == "–"  # of the last table, of activations: nothing is planted
    assert 0 < float(found["snmf"][1]) < 1
    assert float(found["multiplicative"][-1]) > 0


def test_convex():
    found = lines("convex", "--tiny")
    assert found["the paper's example"][:3] == ["0.26536", "0.27559", "0.32164"]
    assert float(found["convex, 50 candidates"][1]) > 0


def test_laststep():
    found = lines("laststep", "--tiny")
    for name in ("embeddings, k = 10, mu", "rank 5 + noise, k = 3, hals", "white noise, k = 3, mu"):
        passes, exact, ratio = map(float, found[name])
        assert ratio == pytest.approx(exact / passes, rel=0.02)


def test_backends():
    found = lines("backends", "--tiny", "--rows", 600)
    assert any(words.startswith("a plain pass of 600 x 64, k = 5, over X Hᵀ") for words in found)
    assert float(found["numpy"][2]) > 0  # until snmf has the error of steps in use


def test_minibatch():
    found = lines("minibatch", "--tiny")
    for name in ("mu, sparsity 0.0", "hals, sparsity 0.1"):
        first, loss, above, _, _ = map(float, found[f"{name}, until it stops"])
        assert 0 < loss < first
        assert above < 10


def test_disk():
    found = lines("disk", "--tiny")
    assert all(float(value) > 0 for value in found["mu, a pass"])
    memory = float(found["hals, W on disk"][2])
    assert memory < 1000
    assert (memory > 0) == Path("/proc/self/status").exists()
    found = lines("disk", "--tiny", "--sparse")
    assert float(found["hals, W"][2]) < 1000


def test_cluster():
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    found = lines("cluster", "--tiny")
    assert float(found["mu"][0]) > 0
    assert 0 < float(found["bytes"][-1]) < 1
    assert float(found["loss"][0]) < 1e-8


def test_encode():
    pytest.importorskip("torch", reason="PyTorch is not installed: tox -e backends has it")
    found = lines("encode", "--tiny")
    seconds, residual, _ = found["exact, float64"]
    assert float(seconds) > 0
    assert float(residual) < 1e-12
    assert float(found["FISTA, as exact float32"][1]) <= float(found["exact, float32"][1])
    assert float(found["float64, λ = 0"][-1]) > 0


def test_classes():
    found = lines("classes", "--tiny")
    assert float(found["locality 2"][0]) > float(found["sparsity 0"][0])


@pytest.fixture
def recovery(monkeypatch):
    yield from imported("recovery", monkeypatch)


def test_recovery(tmp_path):
    """Also with a peer that cannot be imported."""
    (tmp_path / "noloox.py").write_text("raise ImportError('not here')")
    first = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    methods = ("--methods", "snmf", "hals, .03", "PCA + varimax", "FastICA", "noloox")
    found = lines("recovery", "--tiny", "--seeds", 1, "--noise", 0.3, *methods, PYTHONPATH=first)
    assert found["noloox"] == ["missing:", "not", "here"]
    for name in ("snmf", "hals, .03", "PCA + varimax", "FastICA"):
        assert len(found[name]) == 3  # the last table: cosines
        assert all(0 < float(value) <= 1 for value in found[name])


def test_the_share_that_is_found(recovery):
    """Whatever the order, sign and scale; a component counts once, and one too many is nothing."""
    H = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 5)))[0].T
    assert recovery.share(-3 * H[[2, 0, 1, 4, 3]], H) == 1
    assert recovery.share(np.vstack([H, np.ones(20)]), H) == 1
    assert recovery.share(H[[0, 0, 1, 2, 3]], H) == 0.8
    assert recovery.share(0 * H, H) == 0
    assert recovery.share(np.vstack([H[:4], np.nan * H[4:]]), H) == 0.8
    turned = H + np.tan(np.arccos([[0.91], [0.89], [0.91], [0.91], [0.89]])) * H[::-1]
    assert recovery.share(turned[:2], H) == 0.2


def test_planted_data_are_what_a_case_says(recovery):
    case = recovery.Case(k=10, filled=0.2, shared=True, noise=0.0, n=1000, p=500)
    X, H = recovery.planted(case, 0)
    cosines = np.corrcoef(H)[np.triu_indices(10, 1)]
    assert cosines.mean() == pytest.approx(0.5, abs=0.05)
    W = X @ np.linalg.pinv(H)
    assert np.mean(W > 1e-9) == pytest.approx(0.2, abs=0.02)
    assert W[W > 1e-9].mean() == pytest.approx(1, abs=0.05)
    for coloured in (False, True):
        noisy, _ = recovery.planted(case._replace(noise=0.3, coloured=coloured), 0)
        noise = noisy - X
        assert np.linalg.norm(noise) == pytest.approx(0.3 * np.linalg.norm(X))
        largest = np.linalg.norm(noise, 2) ** 2 / np.linalg.norm(noise) ** 2
        assert (largest > 0.1) == coloured
    centred, _ = recovery.planted(case._replace(centred=True), 0)
    np.testing.assert_allclose(centred, X - X.mean(axis=0), atol=1e-12)
    correlated = recovery.weights(case._replace(correlated=0.5), np.random.default_rng(0))
    assert np.corrcoef(correlated.T)[0, 1:].min() > 0.2


def test_varimax_finds_what_it_should(recovery):
    """Its rotation is one, and no turn of two columns makes the criterion larger."""
    case = recovery.Case(k=5, filled=0.2, n=1000, p=30)
    X, H = recovery.planted(case, 0)
    assert recovery.share(recovery.varimax(X, 5, 0)[1], H) == 1
    Z = np.random.default_rng(0).laplace(size=(500, 4))
    R = recovery.rotation(Z)
    np.testing.assert_allclose(R.T @ R, np.eye(4), atol=1e-12)

    def criterion(R):
        return np.var((Z @ R) ** 2, axis=0).sum()

    for turn in (-0.05, 0.05):
        G = np.eye(4)
        G[:2, :2] = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        assert criterion(R @ G) < criterion(R)


def test_selection():
    rules = ('"auto"', "select_n_components")
    found = lines("selection", "--tiny", "--seeds", 1, "--noise", 0.3, "--rules", *rules)
    assert len(found['"auto"']) == 3  # the last table: white noise, few columns, iris
    for name in rules:
        assert found[name][:2] == ["0", "0"]
        assert 1 <= int(found[name][2]) <= 3


@pytest.fixture
def selection(monkeypatch):
    yield from imported("selection", monkeypatch)


def test_rules_find_what_is_plain(selection):
    """Five components, above the noise; noise far below would hide what the penalty takes away."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(300, 5)) @ rng.standard_normal((5, 60))
    X += rng.standard_normal(X.shape)
    for name, rule in selection.RULES.items():
        assert rule(X, [1, 4, 5, 6]) == 5, name
    off, seconds = selection.measured(
        [selection.Case(k=3, n=100, p=20)], {"one": lambda X, ks: 1}, range(2)
    )["one"]
    np.testing.assert_array_equal(off, [[-2, -2]])
    assert np.all(seconds > 0)


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


def test_consensus():
    found = lines("consensus", "--tiny")
    mean, most, _, _, agree, *_ = map(float, found["20 % filled"])
    assert 0 <= mean <= most <= 1
    assert 0.5 < agree <= 1


def test_fuzz():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "fuzz.py"), "--tiny", "--jobs", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.split()[:2] == ["60", "cases"]


@pytest.fixture
def fuzz(monkeypatch):
    yield from imported("fuzz", monkeypatch)


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
    systems = ("--systems", "noloox", "snmf mu", "k-means", "multiplicative")
    found = lines("peers", "--tiny", "--data", tmp_path / "rows.npz", *systems, PYTHONPATH=first)
    assert found["noloox"] == ["missing:", "not", "here"]
    assert found["k-means: hals"][0].isdigit()
    assert found["multiplicative: hals"][0].isdigit()


@pytest.fixture
def peers(monkeypatch):
    yield from imported("peers", monkeypatch)


def test_the_fewest_passes_that_reach_an_error(peers):
    for least in (0, 1, 2, 3, 7, 8, 100, 1023, 1024):
        assert peers.fewest(lambda count, least=least: count >= least) == least
    assert peers.fewest(lambda count: False) is None
