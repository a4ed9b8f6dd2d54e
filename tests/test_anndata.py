"""AnnData: what is written where, backed files, other cells, genes and usage."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import snmf

anndata = pytest.importorskip("anndata", reason="the extra 'anndata' is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Writing zarr v2"),
    pytest.mark.filterwarnings("ignore:The '.*' option is deprecated"),  # of pandas, by anndata
]
mpl.use("Agg")
FIT = {"random_state": 0, "progress_bar": False, "solver": "hals", "sparsity": 0.03}
GENES = [f"g{j}" for j in range(12)]
KINDS = np.array(["B", "T", "NK"])


def cells(make=np.asarray, n=90):
    """Three kinds of cells, each with a programme of its own."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, n)
    W = 0.1 * rng.exponential(size=(n, 3)) + 2 * np.eye(3)[kind]
    H = np.repeat(np.eye(3), 4, axis=1) - 0.2
    X = W @ H + 0.05 * rng.standard_normal((n, 12))
    obs = pd.DataFrame({"kind": pd.Categorical(KINDS[kind])}, index=[f"c{i}" for i in range(n)])
    return anndata.AnnData(make(X), obs=obs, var=pd.DataFrame(index=GENES))


def test_it_writes_what_the_estimator_finds():
    adata = cells()
    model = snmf.SNMF(3, **FIT)
    W = model.fit_transform(adata.X)
    assert snmf.anndata.factorize(adata, 3, **FIT) is None
    np.testing.assert_array_equal(adata.obsm["X_snmf"], W)
    np.testing.assert_array_equal(adata.varm["snmf"], model.components_.T)
    found = adata.uns["snmf"]
    assert found["error"] == model.reconstruction_err_
    assert found["n_iter"] == model.n_iter_
    assert found["score"] == pytest.approx(model.score(adata.X))
    np.testing.assert_allclose(found["variance_ratio"], model.diagnostics(adata.X).share)
    assert found["params"]["sparsity"] == 0.03
    assert found["params"]["use_highly_variable"] is False
    assert "snmf_intercept" not in adata.var


def test_nothing_is_left_of_an_earlier_fit_with_the_same_key():
    adata = cells()
    snmf.anndata.factorize(adata, 3, fit_intercept=True, scale=True, **FIT)
    snmf.anndata.factorize(adata, 3, **FIT)
    assert [*adata.var] == ["snmf_used"]
    found = snmf.anndata.transform(adata, adata, copy=True)
    np.testing.assert_allclose(found.obsm["X_snmf"], adata.obsm["X_snmf"], atol=1e-10)


def test_a_scale_has_an_entry_for_every_gene_and_numbers_of_numpy_are_kept():
    adata = cells()
    mask, scale = np.arange(12) % 3 > 0, np.arange(1.0, 13.0)
    adata.var["highly_variable"] = mask
    snmf.anndata.factorize(adata, np.int64(3), scale=scale, **FIT)
    expected = snmf.factorize(adata.X[:, mask], 3, scale=scale[mask], **FIT)
    np.testing.assert_array_equal(adata.obsm["X_snmf"], expected.W)
    np.testing.assert_array_equal(adata.var["snmf_scale"], np.where(mask, scale, 1))
    assert adata.uns["snmf"]["params"]["n_components"] == 3
    with pytest.raises(ValueError, match=r"array of shape \(12,\); got the shape \(8,\)"):
        snmf.anndata.factorize(adata, 3, scale=scale[mask], **FIT)


def test_a_copy_leaves_the_original_and_a_layer_and_a_key_are_taken():
    adata = cells()
    adata.layers["scaled"] = adata.X * 2 + 1
    options = {"fit_intercept": True, "scale": True, **FIT}
    found = snmf.anndata.factorize(adata, 3, layer="scaled", key_added="nmf", copy=True, **options)
    assert "nmf" not in adata.uns
    expected = snmf.factorize(adata.layers["scaled"], 3, **options)
    np.testing.assert_array_equal(found.obsm["X_nmf"], expected.W)
    np.testing.assert_array_equal(found.var["nmf_intercept"], expected.intercept)
    np.testing.assert_array_equal(found.var["nmf_scale"], expected.scale)
    assert found.uns["nmf"]["params"]["layer"] == "scaled"
    ours = snmf.anndata.transform(found, found, layer="scaled", key="nmf", copy=True)
    np.testing.assert_allclose(ours.obsm["X_nmf"], expected.W, atol=1e-10)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_highly_variable_genes_only(make):
    adata = cells(make)
    mask = np.arange(12) % 3 > 0
    adata.var["highly_variable"] = mask
    snmf.anndata.factorize(adata, 3, **FIT)
    dense = cells().X
    expected = snmf.factorize(dense[:, mask], 3, **FIT)
    np.testing.assert_allclose(adata.obsm["X_snmf"], expected.W, atol=1e-7)
    np.testing.assert_allclose(adata.varm["snmf"][mask], expected.H.T, atol=1e-7)
    assert not adata.varm["snmf"][~mask].any()
    snmf.anndata.factorize(adata, 3, use_highly_variable=False, **FIT)
    assert np.all(adata.varm["snmf"] != 0)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_backed_files_are_read_by_rows_and_results_can_be_written(make, tmp_path):
    whole = cells(make)
    whole.var["highly_variable"] = np.arange(12) < 8
    fit = {**FIT, "max_iter": np.int64(50)}
    whole.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for given in ({}, {"use_highly_variable": False}):
        snmf.anndata.factorize(whole, 3, **given, **fit)
        snmf.anndata.factorize(backed, 3, **given, **fit)
        np.testing.assert_allclose(backed.obsm["X_snmf"], whole.obsm["X_snmf"], atol=1e-8)
    snmf.anndata.transform(backed, whole)
    np.testing.assert_allclose(backed.obsm["X_snmf"], whole.obsm["X_snmf"], atol=1e-8)
    backed.file.close()
    whole.write_h5ad(tmp_path / "results.h5ad")
    again = anndata.read_h5ad(tmp_path / "results.h5ad")
    np.testing.assert_array_equal(again.varm["snmf"], whole.varm["snmf"])
    assert again.uns["snmf"]["params"]["solver"] == "hals"
    assert again.uns["snmf"]["params"]["max_iter"] == 50
    ours = snmf.anndata.transform(whole, again, copy=True)
    np.testing.assert_allclose(ours.obsm["X_snmf"], whole.obsm["X_snmf"], atol=1e-8)


def test_other_cells_are_matched_by_the_names_of_genes():
    reference = cells()
    snmf.anndata.factorize(reference, 3, **FIT)
    other = cells(n=40)
    snmf.anndata.transform(other, reference)
    expected = other.obsm["X_snmf"]
    exact = snmf.factorize(other.X, 3, H=reference.varm["snmf"].T, fixed=3, **FIT).W
    np.testing.assert_allclose(expected, exact, atol=0.02)  # its λ is that of the other rms
    order = np.random.default_rng(1).permutation(12)
    turned = other[:, order].copy()
    with pytest.raises(ValueError, match=r"in another order. Set align='order'"):
        snmf.anndata.transform(turned, reference)
    for align in ("order", "shared"):
        snmf.anndata.transform(turned, reference, align=align)
        np.testing.assert_allclose(turned.obsm["X_snmf"], expected, atol=1e-10)
    fewer = turned[:, turned.var_names != "g3"].copy()
    for align in (None, "order"):
        with pytest.raises(ValueError, match=r"lacks 1 of the 12 genes of reference: g3\."):
            snmf.anndata.transform(fewer, reference, align=align)
    snmf.anndata.transform(fewer, reference, align="shared")
    X = other.X.copy()
    X[:, 3] = np.nan
    model = snmf.SNMF(3, missing_values=np.nan, **FIT).fit(reference.X)
    np.testing.assert_allclose(model.components_, reference.varm["snmf"].T, atol=1e-8)
    np.testing.assert_allclose(fewer.obsm["X_snmf"], model.transform(X), atol=1e-7)
    none = anndata.AnnData(other.X, var=pd.DataFrame(index=[f"x{j}" for j in range(12)]))
    with pytest.raises(ValueError, match=r"lacks 12 of the 12 genes of reference: g0, .*g4, …"):
        snmf.anndata.transform(none, reference, align="shared")


def test_genes_that_were_not_used_may_be_missing():
    reference = cells()
    reference.var["highly_variable"] = np.arange(12) != 5
    snmf.anndata.factorize(reference, 3, **FIT)
    other = reference[:, reference.var_names != "g5"].copy()
    snmf.anndata.transform(other, reference, align="order")
    np.testing.assert_allclose(other.obsm["X_snmf"], reference.obsm["X_snmf"], atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"locality": 0.5, "sparsity": 0}])
def test_genes_that_were_not_used_do_not_count(options):
    reference = cells()
    reference.var["highly_variable"] = np.arange(12) != 5
    snmf.anndata.factorize(reference, 3, **{**FIT, **options})
    other = cells()
    other.X[:, 5] = 1e3 if options else np.nan
    for align in (None, "shared"):
        snmf.anndata.transform(other, reference, align=align)
        np.testing.assert_allclose(other.obsm["X_snmf"], reference.obsm["X_snmf"], atol=1e-8)


def test_a_gene_of_zeros_that_was_used_may_not_be_missing_with_locality():
    reference = cells()
    reference.X[:, 5] = 0
    snmf.anndata.factorize(reference, 3, **{**FIT, "locality": 0.5, "sparsity": 0})
    assert not reference.varm["snmf"][5].any()
    fewer = reference[:, reference.var_names != "g5"].copy()
    with pytest.raises(ValueError, match=r"lacks 1 of the 12 genes of reference\. Locality needs"):
        snmf.anndata.transform(fewer, reference, align="shared")


def test_names_that_come_twice_cannot_be_matched():
    reference = cells()
    snmf.anndata.factorize(reference, 3, **FIT)
    twice = reference[:, ::-1].copy()
    twice.var.index = ["g0", *GENES[:11]]
    with pytest.raises(ValueError, match=r"adata.var_names must be unique .*names_make_unique"):
        snmf.anndata.transform(twice, reference, align="order")


def test_top_genes_and_usage():
    adata = cells()
    snmf.anndata.factorize(adata, 3, **FIT)
    table = snmf.anndata.top_genes(adata, 4)
    assert table.shape == (4, 3)
    of_each = {frozenset(table[j]) for j in table}
    assert of_each == {frozenset(GENES[i : i + 4]) for i in (0, 4, 8)}
    H = adata.varm["snmf"]
    assert table.loc[1, 0] == GENES[H[:, 0].argmax()]
    assert snmf.anndata.top_genes(adata, 2, negative=True).loc[1, 2] == GENES[H[:, 2].argmin()]
    adata.varm["snmf"] = np.where(np.arange(12)[:, None] < 3, [1.0, -1.0, 0.0], 0.0)
    expected = pd.DataFrame({0: [*GENES[:3], None], 1: None, 2: None}, dtype=object)
    np.testing.assert_array_equal(snmf.anndata.top_genes(adata, 4), expected)
    negative = snmf.anndata.top_genes(adata, 2, negative=True)
    assert negative[1].tolist() == GENES[:2]
    assert negative[[0, 2]].isna().all(axis=None)
    found = snmf.anndata.usage(adata, "kind")
    of_t = adata.obsm["X_snmf"][(adata.obs["kind"] == "T").to_numpy()]
    np.testing.assert_allclose(found.loc["T"], of_t.mean(axis=0))
    assert sorted(found.to_numpy().argmax(axis=1)) == [0, 1, 2]
    adata.obs["kind"] = adata.obs["kind"].where(np.arange(90) > 0)  # a cell without a kind
    display = snmf.anndata.plot_usage(adata, "kind")
    shown = np.asarray(display.image_.get_array())
    np.testing.assert_allclose(shown.max(axis=0), 1)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["B", "NK", "T"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda a: snmf.anndata.factorize(a.X, 3), TypeError, "an AnnData; got a ndarray"),
        (lambda a: snmf.anndata.factorize(a, 3, layer="raw"), ValueError, r"one of \[\], or None"),
        (
            lambda a: snmf.anndata.factorize(a, 3, use_highly_variable=True),
            ValueError,
            r"needs adata.var\['highly_variable'\]. Call scanpy",
        ),
        (lambda a: snmf.anndata.factorize(a, 3, colour=1), TypeError, "colour"),
        (lambda a: snmf.anndata.transform(a, a), KeyError, "lacks 'snmf' in varm or uns, .* Call"),
        (lambda a: snmf.anndata.top_genes(a), KeyError, "lacks 'snmf' in varm"),
        (lambda a: snmf.anndata.usage(a, "kind"), KeyError, "has no 'X_snmf'. Call snmf.anndata"),
    ],
)
def test_bad_questions_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(cells())


def test_bad_questions_of_results_are_refused():
    adata = cells()
    snmf.anndata.factorize(adata, 3, **FIT)
    with pytest.raises(ValueError, match=r"n must be from 1 to the number of genes, 12; got 13"):
        snmf.anndata.top_genes(adata, 13)
    with pytest.raises(KeyError, match=r"adata.obs has no column 'type'; it has .'kind'"):
        snmf.anndata.usage(adata, "type")
    with pytest.raises(ValueError, match=r"align must be one of .*; got 'names'"):
        snmf.anndata.transform(adata, adata, align="names")
