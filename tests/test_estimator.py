"""The scikit-learn face, as its users meet it."""

import inspect
import pickle
import warnings
from dataclasses import fields
from typing import get_args, get_type_hints

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import snmf
from snmf import SNMF, MiniBatchSNMF, _arguments
from snmf._arguments import OfOneFit
from snmf.backends import adapter
from snmf.core import quadratic
from snmf.core.options import UPDATES, Init, Options, Solver
from snmf.core.start import STARTS

RNG = np.random.default_rng(0)
X = RNG.random((60, 3)) @ RNG.standard_normal((3, 8)) + 0.2 * RNG.standard_normal((60, 8))
BAD = [np.nan, np.inf, -np.inf]


def model(n_components=3, **parameters):
    return SNMF(n_components, progress_bar=False, random_state=0, **parameters)


EXCUSED = {  # as scikit-learn excuses its own KMeans: rows are drawn, whatever their weight
    f"check_sample_weight_equivalence_on_{kind}_data": "k-means draws rows, None counts them"
    for kind in ("dense", "sparse")
}


def excused(estimator):
    return EXCUSED if estimator.init == "kmeans" or estimator.n_components is None else {}


@parametrize_with_checks(
    [
        SNMF(n_components, solver=solver, sparsity=sparsity, init=init, random_state=0)
        for solver in ("mu", "hals")
        for sparsity in (0, 0.05)
        for n_components, init in ((None, "kmeans"), (3, "svd"), (3, "varimax"))
    ]
    + [SNMF(2, random_state=0), SNMF(random_state=0), SNMF(missing_values=np.nan, random_state=0)],
    expected_failed_checks=excused,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# The public face


def test_the_first_seven_parameters_are_nolooxs():
    names = list(inspect.signature(SNMF).parameters)
    assert names[:7] == [
        "n_components", "tol", "max_iter", "progress_bar", "random_state", "sparsity", "verbose"
    ]  # fmt: skip
    positional = SNMF(4, 1e-4, 10, False, 1, 0.2, True)
    assert positional.get_params()["sparsity"] == 0.2
    with pytest.raises(TypeError):
        SNMF(4, 1e-4, 10, False, 1, 0.2, True, "hals")


def test_types_of_parameters_stand_in_three_places_and_agree():
    of_options = get_type_hints(Options)
    of_functions, of_snmf = get_type_hints(OfOneFit), get_type_hints(SNMF.__init__)
    for elsewhere in ("n_components", "warm_start"):
        del of_options[elsewhere]
    assert of_functions == of_options | {"backend": of_functions["backend"]}
    assert of_functions == {name: of_snmf[name] for name in of_functions}
    ours = get_type_hints(MiniBatchSNMF.__init__)
    shared = ours.keys() & of_functions.keys()
    assert {name: ours[name] for name in shared} == {name: of_functions[name] for name in shared}
    assert set(get_args(Solver)) == set(UPDATES)
    assert set(get_args(Init)) == {*STARTS, "custom"}


@pytest.mark.parametrize("estimator", [SNMF, MiniBatchSNMF])
def test_every_fitted_attribute_has_a_type(estimator):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=list("abcd"))
    model = estimator(2, random_state=0, max_iter=5, tol=0).fit(X)
    fitted = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    types = get_type_hints(estimator)
    assert fitted == {name for name in types if not name.startswith("_")} - {"missing_values"}
    for name in fitted:
        assert isinstance(getattr(model, name), types[name]), name


def test_defaults_stand_in_two_signatures_and_agree():
    ours = {name: p.default for name, p in inspect.signature(SNMF).parameters.items()}
    assert ours == {f.name: f.default for f in fields(Options)}
    assert set(ours) == set(_arguments.PARAMETERS)


def test_attributes_are_those_of_factorize():
    fitted, result = model().fit(X), snmf.factorize(X, 3, random_state=0, progress_bar=False)
    np.testing.assert_array_equal(fitted.components_, result.H)
    np.testing.assert_array_equal(fitted.loss_curve_, result.loss_curve)
    assert fitted.reconstruction_err_ == result.error
    assert fitted.penalty_ == result.penalty
    assert fitted.n_iter_ == result.n_iter == len(result.loss_curve) - 1
    assert fitted.n_components_ == 3
    assert fitted.n_features_in_ == 8
    assert model(None, tol=1e-3).fit(X).n_components_ == 8


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("k", [3, 12])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, lambda X: X.astype("float32")])
def test_fit_transform_is_fit_then_transform(solver, sparsity, k, make):
    fitted = model(k, solver=solver, sparsity=sparsity, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = fitted.fit_transform(make(X))
    again = fitted.transform(make(X))
    assert again.dtype == W.dtype == fitted.components_.dtype
    np.testing.assert_allclose(again, W, rtol=1e-6, atol=1e-6 * W.max())


DEFICIENT = {
    "wide": RNG.standard_normal((5, 200)),
    "more components than features": RNG.standard_normal((60, 12)),
    "duplicate rows": np.repeat(RNG.standard_normal((3, 9)), 4, axis=0),
    "rank 2": RNG.random((40, 2)) @ RNG.standard_normal((2, 9)),
    "constant": np.ones((7, 5)),
    "one-hot": np.eye(6)[[0, 1, 1, 3]] * [[1], [2], [3], [4]],
    "far from zero": RNG.standard_normal((60, 12)) + 1e4,
}


@pytest.mark.parametrize("name", DEFICIENT)
@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("init", ["svd", "kmeans"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_so_it_is_where_the_components_are_not_independent(name, solver, init, sparsity, dtype):
    data = DEFICIENT[name].astype(dtype)
    fitted = model(16, solver=solver, init=init, sparsity=sparsity, max_iter=15)
    W = fitted.fit_transform(data)
    H = fitted.components_.astype("float64")
    assert not np.any(W[:, ~np.any(H, axis=1)])
    # beside other rows x Hᵀ may be rounded otherwise, by u: then W is known to u × condition of
    # B + ridge, and to the ridge that chooses one of several minimisers; W H is known to u of
    # its terms, and to the last proximal step
    s = np.linalg.svd(H, compute_uv=False)
    s = s[s > len(s) * 2.0**-52 * s[0]]
    condition = s[0] ** 2 / max(s[-1] ** 2, quadratic.RIDGE)
    known = quadratic.LEAST + 4 * 2.0**-53 * condition
    exact = (np.finfo(dtype).eps + quadratic.NEGLIGIBLE[0]) * W.sum(axis=1).max()
    exact += quadratic.NEGLIGIBLE[1] * np.linalg.norm(data, axis=1).max()
    # where components are more than their rank, a penalty tells minimisers apart by as little as
    # rounding: then what W comes to is known, and not W
    several = sparsity and len(s) < np.count_nonzero(np.any(H, axis=1))
    for rows in (slice(None), slice(1, 2), slice(None, None, -1)):
        again = fitted.transform(data[rows])
        ours, theirs = (A.sum(axis=1) if several else A for A in (again, W[rows]))
        np.testing.assert_allclose(ours, theirs, atol=known * max(W.max(), 1e-300))
        np.testing.assert_allclose(again @ H, W[rows] @ H, rtol=0, atol=exact)


def test_transform_takes_any_precision_and_one_row():
    fitted = model(sparsity=0.1).fit(X.astype("float32"))
    W = fitted.transform(X)
    assert W.dtype == "float64"
    np.testing.assert_allclose(fitted.transform(X[4:5]), W[4:5], atol=1e-10)
    np.testing.assert_allclose(fitted.transform(1e-300 * X[:5]), 0)
    for n_jobs in (1, 3):
        fitted.n_jobs = n_jobs
        np.testing.assert_allclose(fitted.transform(X), W, atol=1e-10)


def test_inverse_transform_and_score():
    fitted = model(sparsity=0).fit(X)  # a penalty has the scale of X
    W = fitted.transform(X)
    np.testing.assert_allclose(fitted.inverse_transform(W), W @ fitted.components_)
    share = 1 - np.sum((X - W @ fitted.components_) ** 2) / np.sum(X**2)
    assert fitted.score(X) == pytest.approx(share)
    assert fitted.score(0 * X) == 1
    assert fitted.score(1e200 * X) == pytest.approx(share)
    assert fitted.score(1e-200 * X) == pytest.approx(share)
    single = model(sparsity=0).fit(X.astype("float32"))
    assert single.score(X) == pytest.approx(share, rel=1e-3)
    with pytest.raises(ValueError, match="X must have 3 columns, one for every component; got 8"):
        fitted.inverse_transform(X)


def test_score_is_exact_where_sums_in_float32_would_not_be():
    L = (RNG.random((500, 3)) @ RNG.standard_normal((3, 8))).astype("float32")
    L += 0.01 * RNG.standard_normal(L.shape).astype("float32")
    fitted = model(solver="hals", tol=1e-9, max_iter=2000).fit(L)
    W = fitted.transform(L).astype("float64")
    residual = np.sum((L - W @ fitted.components_.astype("float64")) ** 2)
    assert 1 - fitted.score(L) == pytest.approx(residual / np.sum(L.astype("float64") ** 2), 1e-4)


def test_data_frames_names_and_output():
    frame = pd.DataFrame(X, columns=[f"gene {j}" for j in range(8)])
    fitted = model().fit(frame)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert list(fitted.get_feature_names_out()) == ["snmf0", "snmf1", "snmf2"]
    out = fitted.set_output(transform="pandas").transform(frame)
    assert list(out.columns) == ["snmf0", "snmf1", "snmf2"]
    np.testing.assert_allclose(out, model().fit(X).transform(X))
    assert type(fitted.set_output(transform="polars").transform(frame)).__module__.startswith(
        "polars"
    )
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(frame.rename(columns={"gene 0": "other"}))
    fitted.fit(X)
    assert not hasattr(fitted, "feature_names_in_")


@pytest.mark.parametrize("module", [pickle, joblib])
def test_survives_pickle_and_clone(module, tmp_path):
    fitted = model(backend=adapter("numpy")).fit(X)
    if module is joblib:
        joblib.dump(fitted, tmp_path / "model")
        again = joblib.load(tmp_path / "model")
    else:
        again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(clone(fitted).fit(X).components_, fitted.components_)


@pytest.mark.filterwarnings("ignore:.*L-BFGS-B:DeprecationWarning")  # of scikit-learn 1.6
@pytest.mark.filterwarnings("ignore:X is centred")
def test_works_in_pipelines_searches_and_joblib():
    data, labels = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), model(tol=1e-3), LogisticRegression(max_iter=1000))
    grid = {"snmf__n_components": [2, 3], "snmf__solver": ["mu", "hals"]}
    search = GridSearchCV(pipeline, grid, n_jobs=2).fit(data, labels)
    assert search.best_score_ > 2 / 3  # what telling one of three classes apart gives
    search = GridSearchCV(model(tol=1e-3), {"n_components": [1, 2, 4]}).fit(data)
    assert search.best_params_ == {"n_components": 4}
    both = joblib.Parallel(n_jobs=2)(joblib.delayed(model().fit)(X) for _ in range(2))
    np.testing.assert_array_equal(both[0].components_, both[1].components_)


def test_a_fit_that_is_interrupted_leaves_the_estimator_as_it_was(monkeypatch):
    fresh, fitted = model(), model().fit(X)
    before = dict(vars(fitted))
    calls = iter(range(100))

    def interrupt(*_):
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.std.tqdm.set_postfix", lambda *_, **__: interrupt())
    for estimator in (fresh, fitted):
        calls = iter(range(100))
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X[:, :5])
    with pytest.raises(NotFittedError):
        fresh.transform(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert vars(fitted) == before
    with pytest.raises(ValueError, match="X has 5 features, but SNMF is expecting 8"):
        fitted.transform(X[:, :5])


def test_progress_and_verbose(capsys, monkeypatch):
    fitted = SNMF(3, random_state=0).fit(X)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")  # nobody looks at it
    fitted.set_params(verbose=True).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == fitted.n_iter_
    assert lines[0] == f"iteration 1: loss {fitted.loss_curve_[1]:.8f}"
    fitted.set_params(verbose=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fitted.fit(X)
    assert "SNMF" in capsys.readouterr().err
    fitted.set_params(progress_bar=False).fit(X)
    assert capsys.readouterr().err == ""


# Bad input


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("n_components", k) for k in (0, -1, 2.5, "many", True, np.array([2, 3]))],
        *[("tol", v) for v in (-1e-3, np.nan, "small")],
        *[("sparsity", v) for v in (-0.1, np.nan, np.inf)],
        *[("max_iter", v) for v in (-1, 1.5, np.nan, True)],
        *[("n_init", v) for v in (0, -3, 1.5, True)],
        *[(name, "nope") for name in ("solver", "init", "backend", "accelerate", "progress_bar")],
        ("random_state", "seed"),
        ("n_jobs", 0),
        ("n_jobs", True),
        ("device", "cuda:0"),
    ],
)
def test_a_bad_parameter_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        model().set_params(**{name: value}).fit(X)
    with pytest.raises(ValueError, match=name):
        snmf.factorize(X, **{"n_components": 3, name: value})


def test_an_unknown_parameter_is_named():
    with pytest.raises(TypeError, match=r"unknown parameters \['sparsty'\]; those of SNMF are"):
        snmf.fit_transform(X, 3, sparsty=0.1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "Expected 2D array|minimum of 1 is required"),
        (np.empty((0, 3)), "0 sample"),
        (np.empty((3, 0)), "0 feature"),
        (X[0], "Expected 2D array"),
        (X[None], "Found array with dim 3"),
        (X * 1j, "Complex data not supported"),
        (X.astype(str).astype("U"), "numeric"),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), "could not convert"),
        ("text", "Expected 2D array"),
        (X.astype("datetime64[s]"), "X must hold real numbers; got dtype datetime64"),
        (np.ma.masked_greater(X, 0.1), "X must not be masked"),
        (None, "Expected 2D array"),
        (sp.csr_array(X * 1j), "Complex data not supported"),
    ],
)
def test_data_that_is_not_a_matrix_of_numbers_is_refused(data, words):
    for call in (model().fit, model().fit(X).transform, lambda A: snmf.factorize(A, 2)):
        with pytest.raises(ValueError, match=words):
            call(data)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("make", [np.asarray, np.float32, sp.csr_array, sp.csc_array])
def test_an_entry_that_is_not_finite_is_named(value, make):
    A = np.where(np.abs(X) > 0.5, X, 0)
    A[40, 3] = A[51, 1] = value
    word = "NaN" if np.isnan(value) else "infinity"
    message = rf"X must be finite; got {word} in row 40, column 3\. Drop or impute"
    for call in (model().fit, model().fit(X).transform, model().fit(X).score):
        with pytest.raises(ValueError, match=message) as caught:
            call(make(A))
        assert ("SNMF(missing_values=np.nan)" in str(caught.value)) == (word == "NaN")


def test_an_entry_that_is_missing_is_named_by_its_column():
    A = pd.DataFrame(X.copy(), columns=[f"gene {j}" for j in range(8)])
    good, message = model().fit(A), r"got NaN in row 40, column 3 \('gene 3'\)\. Drop"
    A.iloc[40, 3] = np.nan
    for call in (model().fit, good.transform, MiniBatchSNMF(2).fit, MiniBatchSNMF(2).partial_fit):
        with pytest.raises(ValueError, match=message):
            call(A)
    with pytest.raises(ValueError, match=r"column 3\. Drop"):
        model().fit(A.set_axis(range(8), axis=1))


def test_transform_wants_a_fit_and_its_features():
    for method in ("transform", "inverse_transform", "score", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(model(), method)(X)
    with pytest.raises(ValueError, match="X has 5 features, but SNMF is expecting 8"):
        model().fit(X).transform(X[:, :5])


W0, H0 = RNG.random((60, 3)), RNG.standard_normal((3, 8))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"W": -W0}, "W must be nonnegative; its smallest entry is -"),
        ({"W": W0[:, :2]}, r"W must have shape \(60, 3\); got \(60, 2\)"),
        ({"W": W0[:50], "H": H0}, r"W must have shape \(60, 3\); got \(50, 3\)"),
        ({"H": H0.T}, r"H must have shape \(3, 8\); got \(8, 3\)"),
        ({"W": W0 * np.nan}, "W contains NaN"),
        ({"H": np.where(H0.max() == H0, np.inf, H0), "W": W0}, "H contains infinity"),
        ({"H": H0[0]}, "Expected 2D array"),
        ({}, "init='custom' and a start go together: .* got init='custom' and no start"),
        ({"W": W0, "init": "svd"}, "go together: .* got init='svd' and a start"),
    ],
)
def test_a_bad_start_is_refused(start, words):
    options = {"init": "custom", **start}
    W, H = options.pop("W", None), options.pop("H", None)
    with pytest.raises(ValueError, match=words):
        model(**options).fit(X, W=W, H=H)
    with pytest.raises(ValueError, match=words):
        snmf.factorize(X, 3, W=W, H=H, **options)


def test_numbers_of_numpy_are_numbers():
    parameters = {"sparsity": np.float32(0.1), "tol": np.float32(1e-4), "n_components": np.int32(2)}
    assert model().set_params(**parameters).fit(X).components_.shape == (2, 8)


def test_a_custom_start_through_the_estimator():
    ended = model().fit(X)
    again = model(init="custom", max_iter=500).fit(X, H=ended.components_)
    assert again.reconstruction_err_ <= ended.reconstruction_err_ * 1.01
    assert again.fit_transform(X, W=W0).shape == (60, 3)


# The number of components


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_bic_is_its_formula_and_knows_the_number_of_components(scale):
    rng = np.random.default_rng(0)
    data = rng.random((200, 4)) @ rng.standard_normal((4, 30))
    data = data + 0.2 * rng.standard_normal(data.shape)
    fitted = [model(k, solver="hals").fit(scale * data) for k in range(2, 7)]
    values = [one.bic(scale * data) for one in fitted]
    assert np.argmin(values) == 2
    W, H = fitted[2].transform(scale * data), fitted[2].components_
    left = np.log(np.sum((data - W / scale @ H) ** 2) / data.size) + 2 * np.log(scale)
    expected = data.size * left + 4 * (200 + 30) * np.log(data.size / (200 + 30))
    assert values[2] == pytest.approx(expected, rel=1e-9)


def test_bic_finds_components_that_share_a_direction():
    """With ln N in place of ln(np / (n + p)) it would take one."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((6, 60)) + rng.standard_normal(60)
    data = rng.gamma(2, 0.5, (400, 6)) @ H
    data = data + 0.3 * np.sqrt(np.mean(data**2)) * rng.standard_normal(data.shape)
    fitted = [model(k, solver="hals").fit(data) for k in (1, 4, 5, 6, 7, 8)]
    assert np.argmin([one.bic(data) for one in fitted]) == 3
    change = 460 * np.log(460)  # of the penalty of a component
    assert np.argmin([one.bic(data) + one.n_components_ * change for one in fitted]) == 0


def test_bic_counts_observed_entries_and_is_minus_infinity_for_an_exact_fit():
    rng = np.random.default_rng(0)
    data = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    fitted = model(missing_values=np.nan).fit(data)
    left = np.nansum((data - fitted.transform(data) @ fitted.components_) ** 2)
    count = np.sum(~np.isnan(data))
    expected = count * np.log(left / count) + 3 * (60 + 8) * np.log(count / (60 + 8))
    assert fitted.bic(data) == pytest.approx(expected, rel=1e-9)
    assert model(1).fit(np.zeros((4, 3))).bic(np.zeros((4, 3))) == -np.inf


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_rms_is_that_of_the_rows(scale):
    fitted = model().fit(scale * X)
    assert fitted.rms_ == pytest.approx(scale * np.mean(np.sum(X**2, axis=1)) ** 0.5, rel=1e-12)
    sparse = model(sparsity=0.1).fit(sp.csr_array(scale * X))
    assert sparse.penalty_ == pytest.approx(0.1 * sparse.rms_, rel=1e-12)


@pytest.mark.parametrize("call", ["fit", "fit_transform", "transform", "score"])
def test_x_is_recognised_once(call, monkeypatch):
    table = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
    fitted, seen, check = model().fit(table), [], type(adapter("numpy")).check

    def counted(self, data):
        seen.append(data)
        return check(self, data)

    monkeypatch.setattr(type(adapter("numpy")), "check", counted)
    getattr(fitted, call)(table)
    assert len(seen) == 1
    assert seen[0] is table
