"""Awkward data: of any scale, dtype and layout, of zeros, duplicates and few rows."""

import warnings

import numpy as np
import pytest
from fits import INITS, SOLVERS, factorize, planted

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

AWKWARD = {
    "zeros": np.zeros((9, 4)),
    "constant": np.full((9, 4), -3.0),
    "duplicate rows": np.repeat(planted(n=2, p=4), 5, axis=0),
    "zero row": np.vstack([planted(n=9, p=4), np.zeros((1, 4))]),
    "zero column": np.column_stack([planted(n=9, p=4), np.zeros(9)]),
    "one row": planted(n=1, p=4),
    "huge": 1e200 * planted(n=9, p=4),
    "minute": 1e-200 * planted(n=9, p=4),
    "subnormal": np.ldexp(np.random.default_rng(0).integers(-9, 9, (9, 4)).astype(float), -1074),
    "of every scale": planted(n=9, p=4) * np.logspace(-300, 300, 9)[:, None],
    "huge float32": (1e30 * planted(n=9, p=4)).astype("float32"),
    "minute float32": (1e-30 * planted(n=9, p=4)).astype("float32"),
    "subnormal float32": (1e-43 * planted(n=9, p=4)).astype("float32"),
    "float16": planted(n=9, p=4).astype("float16"),
    "long double": planted(n=9, p=4).astype("longdouble"),
    "Fortran order": np.asfortranarray(planted(n=9, p=4)),
    "a view": planted(n=18, p=8)[::2, ::-2],
    "integers": np.arange(-18, 18).reshape(9, 4),
    "bytes": np.arange(36, dtype="uint8").reshape(9, 4),
    "bool": planted(n=9, p=4) > 0,
    "lists": planted(n=9, p=4).tolist(),
    "objects": planted(n=9, p=4).astype(object),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1])
def test_awkward_data(name, solver, init, sparsity):
    X = AWKWARD[name]
    k = 3
    for max_iter in (0, 1, 50):
        options = dict(solver=solver, init=init, sparsity=sparsity, max_iter=max_iter)
        result = factorize(X, k, **options)
        dtype = "float32" if "float32" in name or name == "float16" else "float64"
        assert result.W.dtype == result.H.dtype == dtype
        for A in (result.W, result.H, result.loss_curve, result.error, result.penalty):
            assert np.isfinite(A).all()
        assert np.all(np.diff(result.loss_curve) <= 0)
        plain = np.asarray(X, dtype="float64")
        scale = np.abs(plain).max() or 1.0
        W, H = result.W.astype("float64"), result.H.astype("float64")
        if scale < np.finfo(dtype).smallest_normal:
            continue  # W itself is rounded to a few steps
        residual = np.linalg.norm(plain / scale - (W / scale) @ H)
        assert result.error / scale == pytest.approx(residual, rel=1e-4, abs=1e-6)
        assert residual < 0.9 * np.linalg.norm(plain / scale) or name == "zeros" or sparsity


def test_zeros_are_factorised_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = factorize(np.zeros((5, 4)), 2)
    assert result.error == 0
    np.testing.assert_array_equal(result.loss_curve, 0)
    np.testing.assert_array_equal(result.W, 0)


def test_data_is_left_as_it_was():
    X = planted()
    before = X.copy()
    X.setflags(write=False)
    for options in ({}, {"solver": "hals"}, {"init": "svd"}, {"sparsity": 0.1}):
        factorize(X, 3, **options)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_exceeds_the_largest_number_is_refused(dtype):
    largest = np.finfo(dtype).max
    with pytest.raises(ValueError, match=rf"X is too large.*{dtype}.*Divide X"):
        factorize(np.full((9, 5), 0.5 * largest, dtype=dtype), 2)
    h, d = np.random.default_rng(0).standard_normal((2, 2, 8))
    H = np.vstack([h, -h + 1e-5 * d])  # weights are 10⁵ times as large as X
    X = (1e-3 * largest * np.tanh(planted(p=8))).astype(dtype)
    with pytest.raises(ValueError, match=rf"X is too large.*{dtype}.*Divide X"):
        factorize(X, 4, H=H, init="custom", sparsity=0, max_iter=0)


def test_weights_that_leave_the_range_of_the_dtype_end_the_fit_where_it_was():
    rng = np.random.default_rng(0)
    X = np.float32([-8.8e29, 4.5e28, 3e8, 1.6e-30, 4.4e-21, -1.9e-12, -8.6e9])[:, None]
    W = np.zeros((7, 6))
    W[[1, 2, 2, 3, 4, 5, 5, 5, 5, 6], [4, 0, 2, 2, 2, 0, 2, 3, 5, 5]] = 5e29
    for order in (rng.permutation(7) for _ in range(30)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            result = factorize(X[order], 6, W=W[order], init="custom", solver="hals", tol=1e-2)
        assert np.all(np.diff(result.loss_curve) <= 0)
        assert np.isfinite(result.W).all()


def test_an_error_that_exceeds_the_largest_number_is_refused_at_once():
    X = 1e200 * planted()
    with pytest.raises(ValueError, match=r"X is too large.*float64"):
        factorize(X, 3, sample_weight=np.full(len(X), 1e300))


@pytest.mark.parametrize("scale", [1e300, 1e100])
def test_a_start_far_from_the_data_is_refused(scale):
    rng = np.random.default_rng(0)
    W, H = rng.random((120, 3)), rng.standard_normal((3, 30))
    for start in (
        {"W": W * scale, "H": H},
        {"W": W, "H": H * scale},
        {"W": W * scale, "H": H * scale},
    ):
        with pytest.raises(ValueError, match="W and H are too large a start for X"):
            factorize(planted(), 3, init="custom", **start)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_rows_beside_rows_of_zeros(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    X = np.array([[5 * tiny, 0], [0, 0], [3 * tiny, 7 * tiny]], dtype=dtype)
    result = factorize(X, 2)
    assert np.isfinite(result.W).all()
    assert result.error <= np.linalg.norm(X.astype("float64"))
    assert not result.W[1].any()
