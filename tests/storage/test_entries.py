"""What entries come as: numbers are taken as scikit-learn takes them, and what is none is named."""

import decimal
import fractions

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

import snmf
from snmf import SNMF, MiniBatchSNMF
from snmf.backends import adapter

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse columns"),
]
X = np.round(np.random.default_rng(0).standard_normal((40, 3)), 2)
HOLES = np.where(np.arange(120).reshape(40, 3) == 10, np.nan, X)  # in row 3, column 1
HALF = np.round(2 * X) / 2
NAMES = ["a", "b", "c"]


def frame(data=X):
    return pd.DataFrame(data, columns=NAMES)


def words(data):
    """As text, where it is not missing."""
    text = np.array([[f"{x:.2f}" for x in row] for row in data], dtype=object)
    return pd.DataFrame(np.where(np.isnan(data), None, text), columns=NAMES)


def decimals(data):
    return words(data).map(decimal.Decimal, na_action="ignore")


def signaling(data):
    """With a decimal that may not even be compared."""
    places = getattr(data, "iloc", data)
    if places is not data:
        data["b"] = data["b"].astype(object)
    places[7, 1] = decimal.Decimal("sNaN")
    return data


def arrow(name, *given):
    pa = pytest.importorskip("pyarrow")
    return pd.ArrowDtype(getattr(pa, name)(*given))


def polars():
    return pytest.importorskip("polars")


def sparse_with(A, dtype):
    """A sparse matrix whose data is of a dtype that SciPy's constructors may refuse."""
    A.data = A.data.astype(dtype)
    return A


COMPLETE = {  # of the numbers of X
    "Arrow decimals": lambda: words(X).astype(arrow("decimal128", 9, 2)),
    "Arrow numbers": lambda: frame().astype(arrow("float64")),
    "Float64": lambda: frame().astype("Float64"),
    "objects": lambda: frame().astype(object),
    "decimals": lambda: decimals(X),
    "fractions": lambda: words(X).map(fractions.Fraction),
    "words": lambda: words(X),
    "categories": lambda: frame().astype("category"),
    "decimals beside numbers": lambda: frame().assign(b=decimals(X)["b"]),
    "Float64 beside numbers": lambda: frame().assign(b=frame()["b"].astype("Float64")),
    "sparse columns": lambda: frame().astype(pd.SparseDtype(float, 0)),
    "a sparse column": lambda: frame().assign(b=pd.arrays.SparseArray(X[:, 1], fill_value=0)),
    "polars": lambda: polars().DataFrame(X),
    "polars decimals": lambda: polars().DataFrame(X).cast(polars().Decimal(9, 2)),
    "an Arrow table": lambda: pytest.importorskip("pyarrow").table(
        dict(zip(NAMES, X.T, strict=True))
    ),
    "an array of objects": lambda: X.astype(object),
    "an array of decimals": lambda: decimals(X).to_numpy(),
    "a list of decimals": lambda: decimals(X).to_numpy().tolist(),
    "a memoryview": lambda: memoryview(X),
    "longdouble": lambda: X.astype("longdouble"),
    "big-endian": lambda: X.astype(">f8"),
    "sparse longdouble": lambda: sp.csr_array(X.astype("longdouble")),
    "sparse, big-endian": lambda: sparse_with(sp.csr_array(X), ">f8"),
    "sparse, big-endian, by columns": lambda: sparse_with(sp.csc_array(X), ">f8"),
    "sparse, by columns": lambda: sp.csc_array(X),
    "sparse, a dictionary": lambda: sp.dok_array(X),
}
ROUNDED = {  # of those of HALF, or of their signs
    "Int64": (lambda: frame(2 * HALF).astype("Int64"), 2 * HALF),
    "integers beside numbers": (lambda: frame(2 * HALF).astype({"a": "int8"}), 2 * HALF),
    "boolean": (lambda: frame(X > 0).astype("boolean"), X > 0),
    "Arrow bool": (lambda: frame(X > 0).astype(arrow("bool_")), X > 0),
    "bool": (lambda: frame(X > 0), X > 0),
    "polars integers": (lambda: polars().DataFrame((2 * HALF).astype(int)), 2 * HALF),
    "float16": (lambda: HALF.astype("float16"), HALF.astype("float32")),
    "sparse float16": (lambda: sparse_with(sp.csr_array(HALF), "float16"), HALF.astype("float32")),
    "sparse float16, by columns": (
        lambda: sparse_with(sp.csc_array(HALF), "float16"), HALF.astype("float32"),
    ),
    "sparse bool": (lambda: sp.csr_array(X > 0), X > 0),
    "sparse int8": (lambda: sp.csr_array((2 * HALF).astype("int8")), 2 * HALF),
    "sparse columns of float32": (
        lambda: frame(HALF).astype(pd.SparseDtype("float32", 0)), HALF.astype("float32"),
    ),
    "sparse columns of bool": (lambda: frame(X > 0).astype(pd.SparseDtype(bool, False)), X > 0),
}  # fmt: skip
TAKEN = {name: (make, X) for name, make in COMPLETE.items()} | ROUNDED
MISSING = {  # of those of HOLES
    "Arrow decimals": lambda: words(HOLES).astype(arrow("decimal128", 9, 2)),
    "Arrow numbers": lambda: frame(HOLES).astype(arrow("float64")),
    "Float64": lambda: frame(HOLES).astype("Float64"),
    "Float64 beside numbers": lambda: frame(HOLES).assign(b=pd.array(HOLES[:, 1], "Float64")),
    "objects, NA": lambda: frame(HOLES).astype(object).where(frame(HOLES).notna(), pd.NA),
    "objects, None": lambda: words(HOLES),
    "decimals, None": lambda: decimals(HOLES),
    "an array with NA": lambda: np.where(np.isnan(HOLES), pd.NA, HOLES.astype(object)),
    "an array with None": lambda: np.where(np.isnan(HOLES), None, HOLES.astype(object)),
    "an array with a decimal's NaN": lambda: np.where(
        np.isnan(HOLES), decimal.Decimal("NaN"), HOLES.astype(object)
    ),
    "a list with None": lambda: np.where(np.isnan(HOLES), None, HOLES.astype(object)).tolist(),
    "polars": lambda: polars().DataFrame(HOLES).fill_nan(None),
    "polars decimals": lambda: (
        polars().DataFrame(HOLES).fill_nan(None).cast(polars().Decimal(9, 2))
    ),
}


def fitted(data, cls=SNMF, **parameters):
    same = dict(random_state=0, progress_bar=False, init="random", max_iter=3, tol=0)
    return cls(2, **same, **parameters).fit(data)


@pytest.mark.parametrize("cls", [SNMF, MiniBatchSNMF])
@pytest.mark.parametrize("name", TAKEN)
def test_numbers_are_taken_whatever_they_come_as(name, cls):
    make, data = TAKEN[name]
    ours, theirs = fitted(make(), cls), fitted(data, cls)
    assert ours.components_.dtype == theirs.components_.dtype
    atol = 1e-5 if ours.components_.dtype == "float32" else 1e-12
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=atol)
    np.testing.assert_allclose(ours.transform(make()), theirs.transform(data), atol=atol)
    assert ours.score(make()) == pytest.approx(theirs.score(data), abs=atol)
    if isinstance(make(), pd.DataFrame):
        assert list(ours.feature_names_in_) == list(make().columns)


@pytest.mark.parametrize("name", COMPLETE)
def test_so_are_they_by_pca(name):
    data = COMPLETE[name]()
    PCA(1, svd_solver="arpack" if sp.issparse(data) or "sparse" in name else "auto").fit(data)


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_not_observed_or_named(name):
    make = MISSING[name]
    ours = fitted(make(), missing_values=np.nan)
    np.testing.assert_array_equal(
        ours.components_, fitted(HOLES, missing_values=np.nan).components_
    )
    for cls in (SNMF, MiniBatchSNMF):
        with pytest.raises(ValueError, match=r"NaN in row 3, column 1( \('.*'\))?\. Drop"):
            fitted(make(), cls)
    with pytest.raises((ValueError, TypeError)):
        PCA(1).fit(make())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: frame().assign(b="x"), ValueError, "got 'x' in row 0, column 1: could not"),
        (lambda: np.where(X[7, 2] == X, "x", X.astype(object)), ValueError, "'x' in row 7, column"),
        (lambda: np.array([[1, {}]], dtype=object), TypeError, r"\{\} in row 0, column 1: float"),
        (lambda: np.array([[1, 10**400]], dtype=object), ValueError, "in row 0, column 1: int too"),
        (lambda: signaling(frame()), ValueError, "'sNaN'. in row 7, column 1: cannot convert sig"),
        (lambda: signaling(X.astype(object)), ValueError, "'sNaN'. in row 7, column 1: cannot"),
        (lambda: signaling(words(HOLES)), ValueError, "'sNaN'. in row 7, column 1: cannot conv"),
        (lambda: np.array([["1", "2"]]), ValueError, "real numbers; got dtype <U1. Convert it"),
        (lambda: frame().astype("datetime64[ns]"), ValueError, "real numbers; got dtype datetime"),
        (lambda: X * 1j, ValueError, "Complex data not supported"),
        (lambda: np.zeros((3, 2), "V4"), ValueError, r"real numbers; got dtype \|V4"),
        (lambda: np.zeros((3, 2), [("a", "f8")]), ValueError, "real numbers; got dtype"),
        (lambda: X.view(np.matrix), TypeError, "np.matrix is not supported"),
        (lambda: {"a": [1, 2]}, ValueError, "Expected 2D array"),
        (lambda: frame()["a"], ValueError, "Expected 2D array"),
        (lambda: [[1, 2], [3]], ValueError, "inhomogeneous"),
    ],
)
def test_what_is_no_number_is_named(make, error, words):
    for cls in (SNMF, MiniBatchSNMF):
        with pytest.raises(error, match=words):
            fitted(make(), cls)
    with pytest.raises(error, match=words):
        snmf.factorize(make(), 2)


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (lambda: frame().assign(b=pd.Timestamp("2020")), "datetime64.*, float64"),
        (lambda: frame().astype(pd.SparseDtype(float, 1)), r"Sparse\[float64, 1"),
    ],
)
def test_an_error_of_a_frame_says_of_what_its_columns_are(make, kinds):
    with pytest.raises((TypeError, ValueError)) as caught:
        fitted(make())
    assert pytest.importorskip("re").search(kinds, caught.value.__notes__[0])


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "int4"])
def test_dtypes_that_extend_numpy_are_numbers(kind, backend):
    small = pytest.importorskip("ml_dtypes")
    pytest.importorskip(backend)
    data = (2 * HALF).astype(getattr(small, kind))
    ours, theirs = fitted(data, backend=backend), fitted(data.astype("float64"))
    assert ours.components_.dtype == ("float32" if kind == "bfloat16" else "float64")
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-3)
    assert adapter("numpy").check(data) is data


def test_what_the_caller_gave_is_as_it_was():
    for name, (make, _) in TAKEN.items():
        data = make()
        if isinstance(data, np.ndarray):
            before = data.copy()
            fitted(data)
            np.testing.assert_array_equal(data, before, err_msg=name)
