"""What each component does: shares, usage, mass and cosines."""

import builtins

import array_api_strict as strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError

import snmf
from snmf import SNMF, MiniBatchSNMF
from snmf._diagnostics import nearest_of
from snmf.backends import adapter
from snmf.core.contributions import contributions
from snmf.storage import rows as storage

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.exponential(size=(300, 4)) @ RNG.standard_normal((4, 12)) + RNG.standard_normal((300, 12))
D = RNG.exponential(size=300) * RNG.integers(0, 3, size=300)
HOLES = np.where(RNG.random(X.shape) < 0.2, np.nan, X)


def fitted(data=X, n_components=4, cls=SNMF, **parameters):
    parameters = {"random_state": 0, "progress_bar": False, "max_iter": 20, **parameters}
    return cls(n_components, **parameters).fit(data)


def directly(X, W, H, D=None):
    """Share, usage and mass of every component, by leaving it out of the residual."""
    D = np.ones(len(X)) if D is None else D
    error = np.nansum(D[:, None] * (X - W @ H) ** 2)
    square = np.nansum(D[:, None] * X**2)
    share, usage, mass = [], [], []
    for j in range(len(H)):
        others = np.arange(len(H)) != j
        without = np.nansum(D[:, None] * (X - W[:, others] @ H[others]) ** 2)
        share.append((without - error) / square)
        usage.append(D @ (W[:, j] > 0) / D.sum())
        lengths = np.sqrt(np.nansum(X**2, axis=1))
        mass.append(D @ W[:, j] * np.linalg.norm(H[j]) / (D @ lengths))
    return share, usage, mass, 1 - error / square


def assert_is_direct(found, X, W, H, D=None, rtol=1e-9):
    share, usage, mass, score = directly(*(np.asarray(A, "float64") for A in (X, W, H)), D)
    np.testing.assert_allclose(found.share, share, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.usage, usage, rtol=1e-12)
    np.testing.assert_allclose(found.mass, mass, rtol=rtol)
    assert found.total_mass == pytest.approx(sum(mass), rel=rtol)
    assert found.score == pytest.approx(score, rel=rtol)


@pytest.mark.parametrize("weights", [None, D])
@pytest.mark.parametrize(
    "parameters",
    [
        {"sparsity": 0},
        {"sparsity": 0.1, "solver": "hals"},
        {"locality": 0.5},
        {"missing_values": np.nan, "sparsity": 0.02},
    ],
)
def test_columns_are_those_of_the_residual(parameters, weights):
    data = HOLES if "missing_values" in parameters else X
    model = fitted(data, **parameters)
    found = model.diagnostics(data, sample_weight=weights)
    assert_is_direct(found, data, model.transform(data), model.components_, weights)
    assert found.score == model.score(data, sample_weight=weights)


def test_new_rows_and_mini_batches():
    new = RNG.standard_normal((50, 12))
    for model in (fitted(), fitted(cls=MiniBatchSNMF, sparsity=0.05)):
        assert_is_direct(model.diagnostics(new), new, model.transform(new), model.components_)


@pytest.mark.parametrize("block", [64, 4096])
@pytest.mark.parametrize("holes", [False, True])
def test_sparse_data(monkeypatch, block, holes):
    monkeypatch.setattr(storage, "BLOCK_ROWS", (block, block))
    dense = np.where(RNG.random(X.shape) < 0.6, 0, HOLES if holes else X)
    model = fitted(sp.csr_array(dense), missing_values=np.nan if holes else None, sparsity=0.01)
    W = model.transform(dense)
    assert_is_direct(model.diagnostics(sp.csr_array(dense)), dense, W, model.components_)


def test_rows_on_disk_and_of_other_libraries(tmp_path):
    model = fitted(sparsity=0.01)
    np.save(tmp_path / "X.npy", X)
    for data in (
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        pd.DataFrame(X),
        strict.asarray(X),
        X.tolist(),
    ):
        found = model.diagnostics(data, sample_weight=D)
        assert_is_direct(found, X, model.transform(X), model.components_, D)


def test_rows_of_dask():
    da = pytest.importorskip("dask.array")
    model = fitted(sparsity=0.01)
    found = model.diagnostics(da.from_array(X, chunks=(70, -1)), sample_weight=D)
    assert_is_direct(found, X, model.transform(X), model.components_, D)


def test_single_precision():
    data = X.astype("float32")
    model = fitted(data, sparsity=0.01)
    W = model.transform(data)
    assert_is_direct(model.diagnostics(data), data, W, model.components_, rtol=1e-5)


@pytest.mark.parametrize("locality", [0, 0.5])
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_the_data_changes_nothing(scale, locality):
    one = fitted(sparsity=0.01, locality=locality).diagnostics(X)
    other = fitted(X * scale, sparsity=0.01, locality=locality).diagnostics(X * scale)
    for name in ("share", "usage", "mass", "cosine"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6)
    np.testing.assert_array_equal(one.nearest, other.nearest)


def test_the_mass_of_a_fit_is_that_of_its_factors():
    result = snmf.factorize(HOLES, 4, missing_values=np.nan, random_state=0, progress_bar=False)
    rows = adapter("numpy").rows(HOLES)
    parts = rows.split(D[:, None])
    W, H = rows.split(result.W), result.H
    found = contributions(rows, W, H, parts, missing=True).mass
    np.testing.assert_allclose(found, directly(HOLES, result.W, result.H, D)[2], rtol=1e-12)
    scaled = contributions(rows.scaled(3), W, H, parts, 3, missing=True).mass
    np.testing.assert_allclose(scaled, found, rtol=1e-12)


def test_cosines_to_the_nearest_other():
    H = np.array([[1, 0, 0], [3, 4, 0], [-3, -4, 0.1], [0, 0, 0], [1e-200, 0, 0]])
    cosine, nearest = nearest_of(H)
    unit = H[:3] / np.linalg.norm(H[:3], axis=1)[:, None]
    expected = [1, unit[1] @ unit[2], unit[1] @ unit[2], 0, 1]
    np.testing.assert_allclose(cosine, expected, rtol=1e-12)
    np.testing.assert_array_equal(nearest, [4, 2, 1, -1, 0])
    cosine, nearest = nearest_of(H[:1])
    assert (cosine, nearest) == (0, -1)


def test_a_component_without_rows_is_dead():
    H = np.vstack([np.eye(3), -np.eye(3)[:1]])
    data = RNG.random((40, 3)) + 0.1
    model = SNMF(4, init="custom", sparsity=0.01, max_iter=0, progress_bar=False)
    model = model.fit(data, H=H)
    found = model.diagnostics(data)
    np.testing.assert_array_equal(found.dead, [False, False, False, True])
    assert (found.share[3], found.usage[3], found.mass[3]) == (0, 0, 0)
    assert str(found).splitlines()[4].endswith("dead")
    assert "dead" not in "".join(str(found).splitlines()[1:4])


def test_data_of_zeros():
    found = fitted().diagnostics(np.zeros((5, 12)))
    assert found.dead.all()
    assert found.score == 1
    assert (found.total_mass, found.share.sum()) == (0, 0)


def test_weights_that_cancel_show_in_the_mass():
    """Nearly opposite components, which the exact weights use to reach two directions."""
    H = np.array([[1, 0.01], [-1, 0.01]])
    data = np.abs(RNG.standard_normal((30, 1))) * np.array([[0.0, 1.0]])
    model = SNMF(2, sparsity=0, progress_bar=False).fit(data, H=H, fixed=2)
    found = model.diagnostics(data)
    assert found.total_mass == pytest.approx(100, rel=1e-3)
    assert found.share.min() > 1000
    np.testing.assert_array_equal(found.nearest, [1, 0])
    assert np.all(found.cosine < -0.999)


def test_the_table_in_text_in_a_notebook_and_in_pandas():
    found = fitted(sparsity=0.01).diagnostics(X)
    lines = str(found).splitlines()
    assert lines[0].split() == ["component", "share", "usage", "mass", "cosine", "nearest", "dead"]
    assert lines[2].split()[:3] == ["1", f"{found.share[1]:.4f}", f"{found.usage[1]:.3f}"]
    assert lines[-1] == f"score {found.score:.4f}, total mass {found.total_mass:.3f}"
    assert len(lines) == 6
    assert repr(found) == str(found)
    html = found._repr_html_()
    assert html.count("<tr>") == 5
    assert f"<td>{found.mass[3]:.3f}</td>" in html
    frame = found.to_frame()
    assert list(frame.columns) == lines[0].split()[1:]
    np.testing.assert_array_equal(frame["share"], found.share)
    assert frame["nearest"].dtype.kind == "i"


def test_a_frame_needs_pandas(monkeypatch):
    found, real = fitted().diagnostics(X), builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        found.to_frame()


def test_bad_questions_are_refused():
    with pytest.raises(NotFittedError):
        SNMF(2).diagnostics(X)
    with pytest.raises(ValueError, match="is expecting 12 features"):
        fitted().diagnostics(X[:, :5])
    with pytest.raises(ValueError, match="X must be finite; got NaN"):
        fitted().diagnostics(HOLES)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(300,\)"):
        fitted().diagnostics(X, sample_weight=np.ones(3))
