"""Sparse data: left as they were, never made dense, and in blocks that are no copies."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import snmf
from snmf import _rows
from snmf.backends import adapter

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
factorize = functools.partial(snmf.factorize, random_state=0, progress_bar=False)


def csr(order, dtype, index, exponent):
    """Sparse rows that are sorted, unsorted, or hold entries twice; every seventh is empty."""
    rng = np.random.default_rng(0)
    n, p, each = 400, 12, 5
    columns = np.array([rng.permutation(p)[:each] for _ in range(n)])
    if order == "duplicates":
        columns[:, 1] = columns[:, 0]
    elif order == "sorted":
        columns.sort(axis=1)
    pointers = np.concatenate([[0], np.cumsum(np.where(np.arange(n) % 7, each, 0))])
    filled = columns[np.arange(n) % 7 > 0].ravel()
    X = sp.csr_array((n, p))
    X.data = (10.0**exponent * rng.standard_normal(len(filled))).astype(dtype)
    X.indices, X.indptr = filled.astype(index), pointers.astype(index)
    for part in (X.data, X.indices, X.indptr):
        part.setflags(write=False)
    return X


@pytest.mark.parametrize("order", ["sorted", "unsorted", "duplicates"])
@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [("float32", 0), ("float32", -30), ("float64", 0), ("float64", -80), (">f8", 0), ("int16", 2)],
)
def test_sparse_data_is_left_as_it_was_and_taken_as_it_is(
    order, index, dtype, exponent, monkeypatch
):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 2**10)  # many blocks, which share its arrays
    monkeypatch.setattr(_rows, "BLOCK_ROWS", (64, 64))
    X = csr(order, dtype, index, exponent)
    before = [part.copy() for part in (X.data, X.indices, X.indptr)]
    dense = np.zeros(X.shape)
    np.add.at(dense, (np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices), X.data)
    H = np.random.default_rng(1).standard_normal((3, X.shape[1])) * [[1], [1], [0]]
    for init, solver in (("kmeans", "mu"), ("svd", "hals"), ("custom", "hals")):
        model = snmf.SNMF(3, init=init, solver=solver, max_iter=3, random_state=0)
        W = model.fit_transform(X, H=H if init == "custom" else None)
        np.testing.assert_array_equal(W, model.transform(X))
        np.testing.assert_allclose(W, model.transform(dense), rtol=0, atol=1e-5 * W.max())
        residual = np.linalg.norm(dense - W.astype("float64") @ model.components_)
        assert model.reconstruction_err_ == pytest.approx(residual, rel=1e-5)
    for part, was in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(part, was)


def test_sparse_data_is_never_made_dense(monkeypatch):
    X = sp.random_array((300, 10**6), density=1e-6, rng=np.random.default_rng(0), format="csr")

    def guarded(method):
        def call(self, *args, **kwargs):
            assert np.prod(self.shape) < 10**7, "made dense"
            return method(self, *args, **kwargs)

        return call

    for make in (sp.csr_array, sp.csc_array, sp.coo_array):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(make, method, guarded(getattr(make, method)))
    result = factorize(X, 2, solver="hals", init="random", max_iter=3)
    assert result.H.shape == (2, 10**6)
    factorize(X, 2, max_iter=2, sparsity=0.1)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
def test_blocks_of_sparse_data_are_no_copies_nor_are_their_products_made_with_one(make):
    X = make(sp.random_array((20000, 100), density=0.5, rng=np.random.default_rng(0)))
    ops = adapter("numpy")
    block, dense = ops.slice(X, slice(50, 4000)), X[50:4000].toarray()
    np.testing.assert_array_equal(block.toarray(), dense)
    assert np.shares_memory(block.data, X.data)
    assert np.shares_memory(block.indices, X.indices)
    W = np.random.default_rng(1).random((block.shape[0], 3))
    ops.matmul(W.T, block)
    tracemalloc.start()
    S = ops.matmul(W.T, block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < block.data.nbytes / 10
    np.testing.assert_allclose(S, W.T @ dense, rtol=1e-12)


def test_wide_sparse_data_comes_in_few_blocks():
    X = sp.random_array((20000, 50000), density=1e-4, rng=np.random.default_rng(0), format="csr")
    assert len(adapter("numpy").rows(X).slices) < 10
