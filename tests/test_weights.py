"""Sample weights: the objective is summed over rows with them."""

import functools
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import snmf
from snmf import SNMF
from snmf.storage import rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_a_weight_of_two_is_the_row_twice_and_of_zero_its_absence(solver, sparsity):
    rng = np.random.default_rng(0)
    X = rng.random((40, 3)) @ rng.standard_normal((3, 9)) + 0.3 * rng.standard_normal((40, 9))
    W = rng.random((40, 3)) + 0.1
    counts = rng.integers(0, 4, size=40)
    parameters = {"solver": solver, "sparsity": sparsity, "init": "custom", "max_iter": 8, "tol": 0}
    weighted = snmf.factorize(X, 3, W=W, sample_weight=3e200 * counts, **parameters)
    again = np.repeat(np.arange(40), counts)
    repeated = snmf.factorize(X[again], 3, W=W[again], **parameters)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=1e-12)
    np.testing.assert_allclose(weighted.W[again], repeated.W, atol=1e-11)
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=1e-12)
    np.testing.assert_allclose(weighted.error, (3e200) ** 0.5 * repeated.error, rtol=1e-12)
    np.testing.assert_allclose(weighted.penalty, repeated.penalty, rtol=1e-12)


@pytest.mark.parametrize("solver", ["mu", "hals"])
@pytest.mark.parametrize("place", [np.asarray, sp.csr_array])
def test_so_it_is_with_the_start_by_default(place, solver):
    rng = np.random.default_rng(0)
    X, counts = planted(), rng.integers(0, 4, size=70)
    options = {"solver": solver, "max_iter": 8, "tol": 0}
    weighted = factorize(place(X), sample_weight=counts, **options)
    again = np.repeat(np.arange(70), counts)
    repeated = factorize(place(X[again]), **options)
    np.testing.assert_allclose(weighted.H, repeated.H, atol=1e-9)
    np.testing.assert_allclose(weighted.W[again], repeated.W, atol=1e-8)
    np.testing.assert_allclose(weighted.loss_curve, repeated.loss_curve, rtol=1e-9)


@pytest.mark.parametrize("init", ["varimax", "kmeans", "svd", "random"])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_weighted_objective_never_rises(init, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20, 6))
    D = rng.exponential(size=20) * rng.integers(0, 2, size=20) + 1e-3
    for solver in ("mu", "hals"):
        for sparsity in (0.0, 0.1):
            result = snmf.factorize(
                X, 3, solver=solver, sparsity=sparsity, init=init, random_state=0, max_iter=15,
                tol=0, sample_weight=D,
            )  # fmt: skip
            assert np.all(np.diff(result.loss_curve) <= 1e-12)
            residual = np.sum((X - result.W @ result.H) ** 2, axis=1)
            np.testing.assert_allclose(result.error**2, np.sum(D * residual), rtol=1e-9)
            end = result.error**2 + 2 * result.penalty * np.sum(D[:, None] * result.W)
            assert end <= result.loss_curve[-1] * np.sum(D * np.sum(X**2, axis=1)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(3), r"shape \(4,\); got \(3,\)"),
        (np.ones((4, 1)), "shape"),
        ([1, -1, 1, 1], "nonnegative; its smallest entry is -1"),
        (np.zeros(4), "zero for every row"),
        ([1, np.nan, 1, 1], "sample_weight contains NaN"),
    ],
)
def test_bad_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        snmf.factorize(np.eye(4) - 0.3, 2, sample_weight=weights)


def test_the_estimator_and_the_function_take_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 5)).astype("float32")
    D = rng.random(30)
    model = SNMF(3, random_state=0)
    W = model.fit_transform(X, sample_weight=D)
    np.testing.assert_array_equal(W, snmf.fit_transform(X, 3, sample_weight=D, random_state=0))
    np.testing.assert_array_equal(W, model.transform(X))
    assert W.dtype == "float32"
    squares, errors = X**2, (X - W @ model.components_) ** 2
    share = 1 - np.sum(D[:, None] * errors) / np.sum(D[:, None] * squares)
    assert model.score(X, sample_weight=D) == pytest.approx(share, rel=1e-5)
    assert model.reconstruction_err_ == pytest.approx(
        np.sqrt(np.sum(D[:, None] * errors)), rel=1e-5
    )
    again = SNMF(3, random_state=0).fit(X, sample_weight=4 * D)
    np.testing.assert_array_equal(model.components_, again.components_)


def test_equal_weights_are_none():
    X = np.random.default_rng(0).standard_normal((30, 5))
    one, none = (
        snmf.factorize(X, 3, random_state=0, sample_weight=D) for D in (np.full(30, 7.0), None)
    )
    np.testing.assert_allclose(one.W, none.W, atol=1e-9)


# Rows of weight zero are as good as absent

RNG = np.random.default_rng(0)
SOLVERS, INITS = ["mu", "hals"], ["varimax", "kmeans", "svd", "random"]
factorize = functools.partial(snmf.factorize, n_components=3, random_state=0, progress_bar=False)


def planted(dtype="float64", centred=False):
    rng = np.random.default_rng(1)
    X = rng.random((70, 3)) @ rng.standard_normal((3, 9)) + 0.3 * rng.standard_normal((70, 9))
    return (X - X.mean(axis=0) if centred else X).astype(dtype)


def among_others(X, other, seed=2):
    """X between rows of another kind, and which rows are its own."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.r_[np.ones(len(X), bool), np.zeros(30, bool)])
    whole = np.empty((len(member), X.shape[1]), X.dtype)
    whole[~member] = other if np.isscalar(other) else other(rng, (30, X.shape[1]))
    whole[member] = X
    return whole, member


def gaussian(rng, shape):
    return 1e6 * rng.standard_normal(shape)


OTHERS = {  # the last two are what files of weather and of maps hold where nothing was measured
    "wild": gaussian,
    "zeros": 0.0,
    "of netCDF": 9.969209968386869e36,
    "of ESRI": -3.4028234663852886e38,
}
KINDS = {
    "plain": {},
    "sparsity": {"sparsity": 0.05},
    "locality": {"locality": 0.5},
    "missing values": {"missing_values": np.nan},
    "both": {"missing_values": np.nan, "sparsity": 0.05},
}


def with_holes(X, kind):
    if "missing_values" not in KINDS[kind]:
        return X
    return np.where(np.random.default_rng(3).random(X.shape) < 0.2, np.nan, X).astype(X.dtype)


def same_fit(ours, theirs, member, seen=None):
    """Bit by bit, since it looks at the same rows; W is then found beside other rows."""
    np.testing.assert_array_equal(ours.H, theirs.H)
    np.testing.assert_array_equal(ours.loss_curve, theirs.loss_curve)
    assert (ours.error, ours.rms, ours.penalty) == (theirs.error, theirs.rms, theirs.penalty)
    H = theirs.H.astype("float64")
    known = np.ones((1, H.shape[1]), bool) if seen is None else seen
    condition = max(np.linalg.cond(H[:, of_row]) for of_row in known) ** 2
    rounding = H.size * condition * np.finfo("float64").eps + np.finfo(theirs.W.dtype).eps
    np.testing.assert_allclose(ours.W[member], theirs.W, rtol=0, atol=rounding * theirs.W.max())
    assert np.isfinite(ours.W).all()


@pytest.mark.parametrize(
    ("other", "dtype"),
    [("wild", "float64"), ("zeros", "float32"), ("of netCDF", "float32"), ("of ESRI", "float32")],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", [*INITS, "W", "H", "W and H"])
def test_the_fit_is_that_of_the_rows_that_take_part(other, kind, init, dtype):
    X = with_holes(planted(dtype), kind)
    whole, member = among_others(X, OTHERS[other])
    D = np.where(member, RNG.random(len(member)) + 0.5, 0)
    for solver in SOLVERS:
        options = {"solver": solver, "max_iter": 6, "tol": 0, "init": init, **KINDS[kind]}
        mine, theirs = {}, {}
        if init not in INITS:
            options["init"] = "custom"
        if "W" in init:
            mine["W"] = np.random.default_rng(4).random((len(whole), 3))
            theirs["W"] = mine["W"][member]
        if "H" in init:
            mine["H"] = theirs["H"] = np.random.default_rng(5).standard_normal((3, 9))
        ours = factorize(whole, sample_weight=D, **mine, **options)
        alone = factorize(X, sample_weight=D[member], **theirs, **options)
        same_fit(ours, alone, member, ~np.isnan(X))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_weight_have_their_exact_weights_all_the_same(kind):
    X = with_holes(planted(), kind)
    whole, member = among_others(X, lambda rng, shape: rng.standard_normal(shape))
    model = SNMF(3, random_state=0, **KINDS[kind])
    W = model.fit_transform(whole, sample_weight=member)
    np.testing.assert_array_equal(W, model.transform(whole))
    assert W[~member].any()
    alone = SNMF(3, random_state=0, **KINDS[kind]).fit(X, sample_weight=np.ones(len(X)))
    assert model.rms_ == alone.rms_
    np.testing.assert_array_equal(model.components_, alone.components_)
    assert model.score(whole, sample_weight=member) == alone.score(X, sample_weight=np.ones(70))


@pytest.mark.parametrize("given", ["W", 1, 3])
def test_so_it_is_with_parts_that_stay(given):
    X = planted()
    whole, member = among_others(X, 1e30)
    start, H = RNG.random((len(whole), 3)), RNG.standard_normal((3, 9))
    mine, theirs = {"H": H[:1]}, {"H": H[:1]}
    if given == "W":
        start[~member] *= 1e30  # of no account for the scale of the others
        mine, theirs = {"W": start}, {"W": start[member]}
    elif given == 3:
        mine = theirs = {"H": H}
    ours = factorize(whole, sample_weight=member, fixed=given, **mine)
    alone = factorize(X, sample_weight=np.ones(70), fixed=given, **theirs)
    same_fit(ours, alone, member)
    if given == "W":
        norms = alone.W[0] / start[member][0]
        np.testing.assert_allclose(ours.W[~member], start[~member] * norms, rtol=1e-13)


@pytest.mark.parametrize("make", ["csr", "csc", "zarr", "memory map", "Fortran"])
@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_wherever_rows_lie(make, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ROWS", (1, 16))
    X = with_holes(planted(centred=True), kind)
    whole, member = among_others(X, 7.0)
    member[:20], member[60:] = True, False  # blocks of all rows, and of none
    if make in ("csr", "csc"):
        A = {"csr": sp.csr_array, "csc": sp.csc_array}[make](whole)
    elif make == "zarr":
        A = zarr.create_array(tmp_path / "X.zarr", data=whole, chunks=(9, 9))
    elif make == "memory map":
        np.save(tmp_path / "X.npy", whole)
        A = np.load(tmp_path / "X.npy", mmap_mode="r")
    else:
        A = np.asfortranarray(whole)
    options = {"max_iter": 4, "tol": 0, "solver": "hals", **KINDS[kind]}
    for init in INITS:
        ours = factorize(A, sample_weight=member, init=init, **options)
        alone = factorize(whole[member], init=init, **options)
        np.testing.assert_allclose(ours.loss_curve, alone.loss_curve, rtol=1e-9)
        np.testing.assert_allclose(ours.H, alone.H, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(ours.W[member], alone.W, rtol=1e-6, atol=1e-7)
        assert ours.W.shape == (100, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [np.asarray, np.float32, sp.csr_array])
def test_what_is_not_finite_is_an_error_there_too(value, make):
    """As for scikit-learn's estimators; and W of that row would not be finite either."""
    whole, member = among_others(planted(), 1.0)
    row = np.flatnonzero(~member)[3]
    whole[row, 5] = value
    word = "NaN" if np.isnan(value) else "infinity"
    fitted = SNMF(3, random_state=0).fit(planted())
    for call in (SNMF(3).fit, fitted.score):
        with pytest.raises(ValueError, match=f"got {word} in row {row}, column 5"):
            call(make(whole), sample_weight=member)
    member[row] = True
    with pytest.raises(ValueError, match=f"got {word} in row {row}, column 5"):
        SNMF(3).fit(make(whole), sample_weight=member)


def test_of_missing_values_only_rows_that_take_part_are_told_of():
    X = with_holes(planted(), "missing values")
    whole, member = among_others(X, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = factorize(whole, sample_weight=member, missing_values=np.nan, max_iter=3, tol=0)
    assert not result.W[~member].any()
    whole, member = among_others(np.where(np.arange(9) == 4, np.nan, X), 1.0)
    with pytest.warns(ConvergenceWarning, match="1 columns of X have no observed entry"):
        result = factorize(whole, sample_weight=member, missing_values=np.nan)
    assert not result.H[:, 4].any()


def test_the_advice_on_sparsity_is_for_rows_that_take_part():
    X = planted() / np.linalg.norm(planted(), axis=1, keepdims=True)
    whole, member = among_others(X, 100.0)
    with pytest.warns(ConvergenceWarning, match=r"any value from 1 on does that"):
        factorize(whole, sample_weight=member, sparsity=1.5)


@pytest.mark.parametrize("init", ["varimax", "kmeans"])
def test_a_sample_for_a_start_is_drawn_from_rows_that_take_part(init, monkeypatch):
    monkeypatch.setattr("snmf.core.start.SAMPLE", (12, 1))
    whole, member = among_others(planted(), 1e6)
    for seed in range(5):
        options = {"init": init, "random_state": seed, "max_iter": 3, "tol": 0}
        ours = factorize(whole, sample_weight=member, **options)
        alone = factorize(whole[member], sample_weight=np.ones(70), **options)
        same_fit(ours, alone, member)


@pytest.mark.parametrize("missing", [False, True])
def test_the_number_of_components_is_that_of_rows_that_take_part(missing):
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(120, 4)) @ rng.standard_normal((4, 20))
    X = X + 0.1 * rng.standard_normal(X.shape)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    other = 5 * rng.exponential(size=(90, 9)) @ rng.standard_normal((9, 20))
    whole, D = np.vstack([X, other]), np.r_[np.full(120, 3.0), np.zeros(90)]
    parameters = {"solver": "hals", "random_state": 0}
    if missing:
        parameters["missing_values"] = np.nan
    ours = SNMF("auto", **parameters).fit(whole, sample_weight=D)
    assert ours.n_components_ == SNMF("auto", **parameters).fit(X).n_components_ == 4
    few = D * (np.arange(210) < 7)
    assert SNMF(**parameters, max_iter=2, tol=0).fit(whole, sample_weight=few).n_components_ == 7


def test_a_row_that_takes_no_part_may_be_as_large_as_a_number_can_be():
    X = 1e-30 * planted("float32")
    whole, member = among_others(X, np.float32(3e38))
    for parameters in ({}, {"locality": 0.5}, {"sparsity": 0.1}):
        result = factorize(whole, sample_weight=member, **parameters)
        alone = factorize(X, sample_weight=np.ones(70), **parameters)
        same_fit(result, alone, member)
        model = SNMF(3, random_state=0, **parameters).fit(whole, sample_weight=member)
        assert model.score(whole, sample_weight=member) == model.score(X)
    far = factorize(whole, sample_weight=member, locality=0.5).W[~member]
    assert not far.any()  # no prototype is anywhere near


def test_weights_beyond_the_largest_number_are_refused_in_rows_of_little_weight_too():
    X = planted("float32")
    X[0] = 3e38 / X.shape[1] ** 0.5
    H = np.abs(np.random.default_rng(0).standard_normal((3, X.shape[1])))
    H[1] = -H[0] + 0.1 * H[1]  # weights are larger than the row
    for weight in (1, 1e-30):
        D = np.r_[weight, np.ones(len(X) - 1)]
        with pytest.raises(ValueError, match="X is too large"):
            factorize(X, H=H, fixed=3, sample_weight=D)
