"""Columns that are divided by their standard deviations, without a copy of X."""

import json
import tracemalloc
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import snmf
from snmf import SNMF, factorize, plots
from snmf.__main__ import main
from snmf.backends import adapter, owner
from snmf.core.deviations import deviations
from snmf.storage import rows
from snmf.storage.csr import by_column

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
QUIET = {"progress_bar": False, "random_state": 0}
few = partial(factorize, tol=0, max_iter=12, **QUIET)


def measured(n=150, p=9, k=3, seed=0):
    """Columns of very different units; many entries are zero, and one column is constant."""
    rng = np.random.default_rng(seed)
    X = rng.gamma(2, 0.5, (n, k)) @ rng.standard_normal((k, p)) + 0.2 * rng.standard_normal((n, p))
    X[np.abs(X) < 0.4] = 0
    X = X * np.logspace(-3, 3, p)
    X[:, 4] = 0.1
    return X


def spread_of(X, weights=None):
    """The weighted standard deviation of the entries of a column that are not NaN."""
    D = np.ones(len(X)) if weights is None else weights
    columns = [(column[~np.isnan(column)], D[~np.isnan(column)]) for column in X.T]
    means = [np.average(x, weights=d) for x, d in columns]
    found = [np.average((x - m) ** 2, weights=d) ** 0.5
             for (x, d), m in zip(columns, means, strict=True)]  # fmt: skip
    return np.where(np.ptp(X, axis=0) == 0, 1, found)


def of_kind(kind, X, folder):
    if kind == "sparse":
        return sp.csr_array(X)
    if kind == "dask":
        return pytest.importorskip("dask.array").from_array(X, chunks=(40, -1))
    if kind == "mapped":
        np.save(folder / "X.npy", X)
        return np.load(folder / "X.npy", mmap_mode="r")
    return X


@pytest.mark.parametrize("kind", ["dense", "sparse", "dask", "mapped"])
@pytest.mark.parametrize("case", ["plain", "weights", "missing", "intercept", "locality"])
def test_it_is_the_fit_of_a_scaled_copy(kind, case, tmp_path):
    X, options = measured(), {"sparsity": 0.05}
    D = None
    if case == "weights":
        D = np.random.default_rng(1).random(len(X)) * (np.arange(len(X)) > 4)
        options["sample_weight"] = D
    elif case == "missing":
        X[np.random.default_rng(2).random(X.shape) < 0.1] = np.nan
        X[:, 4] = 0.1
        options["missing_values"] = np.nan
    elif case == "intercept":
        options["fit_intercept"] = True
    elif case == "locality":
        options.update(locality=0.2, sparsity=0)
    expected_scale = spread_of(X, D)
    expected = few(X / expected_scale, 3, **options)
    found = few(of_kind(kind, X, tmp_path), 3, scale=True, **options)
    np.testing.assert_allclose(found.scale, expected_scale, rtol=1e-12)
    atol = 1e-8 * expected.W.max()
    np.testing.assert_allclose(np.asarray(found.W), expected.W, atol=atol)
    np.testing.assert_allclose(found.H, expected.H, atol=1e-8)
    np.testing.assert_allclose(found.loss_curve, expected.loss_curve, rtol=1e-8)
    assert found.error == pytest.approx(expected.error, rel=1e-8)
    assert found.penalty == pytest.approx(expected.penalty, rel=1e-8)
    if case == "intercept":
        np.testing.assert_allclose(found.intercept, expected.intercept, atol=atol)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_pass_does_not_divide_x(make, intercept, monkeypatch):
    calls = []

    def counted(function, A, row):
        calls.append(A.shape)
        return by_column(function, A, row)

    monkeypatch.setattr(rows, "by_column", counted)
    for max_iter in (3, 8):
        factorize(make(measured()), 3, scale=True, fit_intercept=intercept, tol=0,
                  max_iter=max_iter, **QUIET)  # fmt: skip
        calls.append(None)
    once, twice = calls.index(None), len(calls) - 1
    assert twice == 2 * once + 1 > 3


def test_columns_of_units_whose_products_overflow():
    X = (measured() / np.logspace(-3, 3, 9)).astype("float32")[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    units = np.ldexp(np.float32(1), np.resize([121, 0], 8))
    for options in ({}, {"fit_intercept": True}):
        one, other = (few(A, 3, scale=True, **options) for A in (X, X * units))
        np.testing.assert_allclose(other.scale, one.scale * units, rtol=1e-6)
        np.testing.assert_allclose(other.H, one.H, atol=1e-3)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("kind", ["dense", "sparse", "dask", "mapped"])
def test_a_model_does_what_a_pipeline_with_a_scaler_does(kind, intercept, tmp_path):
    X, new = measured(), measured(seed=1)[:40]
    options = {"fit_intercept": intercept, "max_iter": 12, "tol": 0, **QUIET}
    pipeline = make_pipeline(StandardScaler(with_mean=False), SNMF(3, **options))
    expected = pipeline.fit(X).transform(new)
    model = SNMF(3, scale=True, **options).fit(of_kind(kind, X, tmp_path))
    given = of_kind(kind, new, tmp_path)
    W = np.asarray(model.transform(given))
    atol = 1e-8 * expected.max()
    np.testing.assert_allclose(W, expected, atol=atol)
    back = model.inverse_transform(W)
    np.testing.assert_allclose(back, pipeline.inverse_transform(expected), rtol=1e-7)
    assert model.score(given) == pytest.approx(pipeline.score(new))
    divided = new / model.scale_
    left = np.linalg.norm((new - back) / model.scale_) ** 2
    assert model.score(given) == pytest.approx(1 - left / np.linalg.norm(divided) ** 2)
    assert model.bic(given) == pytest.approx(pipeline[-1].bic(divided))
    shares = pipeline[-1].diagnostics(divided).share
    np.testing.assert_allclose(model.diagnostics(given).share, shares, atol=1e-9)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_deviations_where_the_mean_is_a_million_times_as_large(make, dtype, weighted, missing):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 6)) * [1, 10, 1e-3, 1e5, 0, 0]
    X = (X + np.array([0, 1e7, 0, 0, 0.1, 0])).astype(dtype)
    X[rng.random(3000) < 0.8, 3] = 0
    if missing:
        X[rng.random(X.shape) < 0.2] = np.nan
    D = rng.random((3000, 1)) + 0.1 if weighted else None
    source = owner(X)
    rows = source.rows(source.check(make(X)))
    found = deviations(rows, None if D is None else rows.split(D), missing)
    expected = spread_of(X.astype("float64"), None if D is None else D[:, 0])
    expected[4:] = 1  # constant columns stay as they are
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("power", [-500, 0, 500])
def test_deviations_of_any_scale(power):
    X = np.ldexp(measured(), power)
    scale = few(X, 3, scale=True).scale
    np.testing.assert_array_equal(np.delete(scale, 4), np.ldexp(np.delete(
        few(measured(), 3, scale=True).scale, 4), power))  # fmt: skip


def test_an_entry_that_a_sparse_matrix_stores_in_two_parts():
    X = sp.csr_array((4, 2))
    X.data, X.indices = np.array([1.0, 2.0, 1.0, 5.0]), np.array([0, 0, 1, 0])
    X.indptr = np.array([0, 3, 4, 4, 4])
    rows = adapter("numpy").rows(X)
    np.testing.assert_allclose(deviations(rows), X.toarray().std(axis=0))
    assert sp.issparse(rows.divided(np.ones(2)).block(slice(0, 4)))


def test_x_is_read_and_never_changed():
    X = measured()
    X.setflags(write=False)
    S = sp.csr_array(measured())
    for part in (S.data, S.indices, S.indptr):
        part.setflags(write=False)
    for given in (X, S):
        SNMF(3, scale=True, max_iter=3, **QUIET).fit(given).transform(given)


def test_no_scaled_copy_is_made():
    X = np.random.default_rng(0).standard_normal((8000, 300))
    few(X[:500], 3, scale=True)  # imports what it needs
    tracemalloc.start()
    few(X, 3, scale=True, max_iter=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.9 * X.nbytes


def test_a_given_scale():
    X, scale = measured(), np.linspace(1, 2, 9)
    for given in (scale, list(scale), scale.astype("float32")):
        model = SNMF(3, scale=given, max_iter=5, **QUIET).fit(X)
        np.testing.assert_allclose(model.scale_, scale, rtol=1e-7)
    np.testing.assert_allclose(model.components_, few(X / model.scale_, 3, tol=1e-5, max_iter=5).H)
    assert SNMF(3, max_iter=5, **QUIET).fit(X).scale_ is None
    single = few(X.astype("float32"), 3, scale=True)
    assert single.scale.dtype == np.float32


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (np.ones(3), r"array of shape \(9,\); got the shape \(3,\)"),
        (np.zeros(9), "above zero for every column"),
        (np.full(9, np.nan), "NaN"),
        ("yes", "scale"),
    ],
)
def test_a_scale_that_is_none(scale, words):
    with pytest.raises(ValueError, match=words):
        few(measured(), 3, scale=scale)


def test_nan_and_infinity_are_named_as_ever():
    for value, words in ((np.nan, "NaN"), (np.inf, "infinity")):
        X = measured()
        X[7, 2] = value
        with pytest.raises(ValueError, match=f"got {words} in row 7, column 2"):
            few(X, 3, scale=True)


def test_the_scale_is_kept_with_the_components():
    X, more = measured(), measured(seed=1) * 3
    model = SNMF(3, scale=True, warm_start=True, **QUIET).fit(X)
    scale, old = model.scale_, model.components_
    model.add_components(more)
    np.testing.assert_array_equal(model.scale_, scale)
    np.testing.assert_allclose(model.components_[:3], old, atol=1e-12)
    end = model.loss_curve_[-1]
    model.set_params(n_components=4).fit(more)
    np.testing.assert_array_equal(model.scale_, scale)
    assert model.loss_curve_[0] == pytest.approx(end, rel=0.01)
    model.set_params(scale=False, warm_start=False).fit(more)
    assert model.scale_ is None


def test_it_is_saved_and_goes_on_from_a_checkpoint(tmp_path):
    X = measured()
    model = SNMF(3, scale=True, **QUIET).fit(X)
    snmf.save(model, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.scale_, model.scale_)
    arrays = dict(np.load(tmp_path / "model.npz"))
    np.savez(tmp_path / "bad.npz", **{**arrays, "scale_": arrays["scale_"][:-1]})
    with pytest.raises(ValueError, match="scale_ must be of shape"):
        snmf.load(tmp_path / "bad.npz")

    def stop(iteration):
        raise KeyboardInterrupt

    options = {"scale": True, "checkpoint": tmp_path / "c.npz"}
    whole = few(X, 3, **options)
    with pytest.raises(KeyboardInterrupt):
        few(X, 3, callback=stop, **options)
    with pytest.raises(ValueError, match="another scale"):
        few(X, 3, **{**options, "scale": np.ones(9)})
    np.testing.assert_array_equal(few(X, 3, **options).W, whole.W)


def test_the_number_of_components_is_that_of_the_scaled_data():
    X = measured(n=200, p=12)
    divided = X / few(X, 3, scale=True).scale
    options = {"random_state": 0, "repeats": 2, "max_iter": 20}
    found = snmf.select_n_components(X, [1, 3], scale=True, **options)
    # each fit has the scale of the rows that it sees
    expected = snmf.select_n_components(divided, [1, 3], **options)
    np.testing.assert_allclose(found.errors, expected.errors, rtol=0.1)
    plain = snmf.select_n_components(X, [1, 3], **options)
    assert not np.allclose(plain.errors, expected.errors, rtol=0.1)
    given = few(X, 3, scale=True).scale
    same = snmf.select_n_components(X, [1, 3], scale=given, **options)
    np.testing.assert_allclose(same.errors, expected.errors, rtol=1e-6)
    assert SNMF("auto", scale=True, **QUIET).fit(X).n_components_ == 3


@pytest.mark.parametrize("intercept", [False, True])
def test_the_svd_bound_of_a_plot_is_that_of_the_scaled_data(intercept):
    pytest.importorskip("matplotlib")
    X = measured()
    model = SNMF(3, scale=True, fit_intercept=intercept, **QUIET).fit(X)
    divided = X / model.scale_
    expected = plots.svd_bound(divided, 3, centred=intercept)
    for given in (X, sp.csr_array(X)):
        display = plots.ConvergenceDisplay.from_estimator(model, given)
        assert display.bound == pytest.approx(expected, rel=1e-6)


def test_the_command_line(tmp_path, capsys):
    X = measured()
    np.save(tmp_path / "X.npy", X)
    data, saved = str(tmp_path / "X.npy"), str(tmp_path / "m.npz")
    assert main(["fit", data, "-k", "3", "--scale", "-o", saved, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    model = snmf.load(saved)
    np.testing.assert_allclose(model.scale_, spread_of(X))
    norm = np.linalg.norm(X / model.scale_)
    assert report["relative_error"] == pytest.approx(model.reconstruction_err_ / norm)
    assert main(["select", data, "-k", "1,3", "--scale", "--repeats", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == 3
