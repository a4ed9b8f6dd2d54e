"""What commands make of a model: filled tables, components, features, converted tables."""

import json
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shell import FIT, X, refused, run

import snmf
from snmf.cli.files import Reading, read


@pytest.fixture
def model(folder, capsys):
    """A model of a table with missing values, in m.npz."""
    rng = np.random.default_rng(0)
    A = rng.random((40, 2)) @ rng.standard_normal((2, 5))
    rows, columns = [f"s{i}" for i in range(40)], ["alpha", "beta", "gamma", "delta", "eps"]
    frame = pd.DataFrame(A.copy(), rows, columns)
    frame.iloc[3, 1] = frame.iloc[7, 4] = np.nan
    frame.to_csv("holes.csv")
    assert run("fit", "holes.csv", "-k", 2, "--missing", "-o", "m.npz") == 0
    capsys.readouterr()
    return A, frame


@pytest.mark.parametrize(
    "name", ["X.csv", "X.tsv.gz", "X.txt.zst", "X.parquet", "X.feather", "X.xlsx", "X.h5", "X.npy"]
)
def test_missing_values_are_filled(model, capsys, name):
    if name == "X.xlsx":
        pytest.importorskip("openpyxl", reason="openpyxl, of the extra 'files', is missing")
    A, frame = model
    assert run("impute", "m.npz", "holes.csv", "-o", name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["filled"] == 2
    filled = read(Path(name))
    there = ~np.isnan(frame.to_numpy())
    exact = 1e-15 if name == "X.xlsx" else 0  # where openpyxl writes 16 digits
    np.testing.assert_allclose(filled.X[:][there], frame.to_numpy()[there], rtol=exact)
    fitted = snmf.load("m.npz")
    expected = fitted.inverse_transform(fitted.transform(frame))
    np.testing.assert_allclose(filled.X[:][~there], expected[~there], rtol=1e-12)
    assert np.all(np.abs(filled.X[:] - A)[~there] < np.abs(np.mean(A, axis=0) - A)[~there])
    if name != "X.npy":
        assert filled.columns == [*frame.columns]
        assert filled.rows == [*frame.index]


def test_arrays_are_filled_with_the_names_of_the_fit(model, capsys):
    np.save("X.npy", model[1].to_numpy())
    assert run("impute", "m.npz", "X.npy", "-o", "filled.csv") == 0
    filled = read(Path("filled.csv"))
    assert filled.columns == [*model[1].columns]
    assert np.isfinite(filled.X).all()


def test_only_a_model_of_missing_values_fills_them(model, capsys):
    assert run("impute", "m.npz", "holes.csv", "-o", "X.csv") == 0
    assert run("fit", "X.csv", "-k", 2, "-o", "whole.npz") == 0
    capsys.readouterr()
    words = "whole.npz: was fitted without --missing. Fit it with --missing."
    assert words in refused(capsys, "impute", "whole.npz", "holes.csv", "-o", "Y.csv")


def test_components_come_with_the_names_of_features(model, capsys):
    assert run("impute", "m.npz", "holes.csv", "-o", "X.csv") == 0
    assert run("fit", "X.csv", "-k", 2, "--intercept", "-o", "i.npz") == 0
    assert run("components", "i.npz", "-o", "H.csv") == 0
    found, fitted = read(Path("H.csv")), snmf.load("i.npz")
    assert found.columns == [*model[1].columns]
    assert found.rows == ["snmf0", "snmf1", "intercept"]
    np.testing.assert_array_equal(found.X, np.vstack([fitted.components_, fitted.intercept_]))


def test_components_of_scaled_columns_come_with_the_scale(folder):
    np.save("X.npy", X * [1, 10, 100, 1000, 1])
    assert run("fit", "X.npy", *FIT, "--scale", "--intercept", "-o", "m.npz") == 0
    assert run("components", "m.npz", "-o", "H.csv") == 0
    found, fitted = read(Path("H.csv")), snmf.load("m.npz")
    assert found.rows == ["snmf0", "snmf1", "intercept", "scale"]
    np.testing.assert_array_equal(found.X[2:], [fitted.intercept_, fitted.scale_])


def test_the_top_features_are_those_of_the_largest_values(model, capsys):
    H, names = snmf.load("m.npz").components_, np.array(model[1].columns)
    best = np.argsort(-np.abs(H[1]))[:3]
    assert run("top", "m.npz", "-n", 3, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["snmf1"]
    assert listed == [[names[j], H[1, j]] for j in best]
    assert run("top", "m.npz", "-n", 3) == 0
    words = ", ".join(f"{names[j]} {H[1, j]:+.3g}" for j in best)
    assert f"snmf1            {words}\n" in capsys.readouterr().out
    assert run("top", "m.npz", "-n", 3, "-o", "top.csv") == 0
    table = pd.read_csv("top.csv")
    assert [*table.columns] == ["component", "rank", "feature", "value"]
    assert table.feature[3:].tolist() == [*names[best]]
    assert table["rank"].tolist() == [1, 2, 3] * 2
    capsys.readouterr()
    assert "words have no room in this format" in refused(capsys, "top", "m.npz", "-o", "top.npy")


def test_features_that_are_zero_are_no_top_features(folder, capsys):
    fitted = snmf.SNMF(2, n_nonzero_features=2, random_state=0).fit(X)
    fitted.components_[1] = 0
    snmf.save(fitted, "m.npz")
    assert run("top", "m.npz", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [len(listed[name]) for name in ("snmf0", "snmf1")] == [2, 0]
    assert all(value for _, value in listed["snmf0"])
    assert run("top", "m.npz", "-o", "top.csv") == 0
    assert len(pd.read_csv("top.csv")) == 2
    fitted.components_[0] = 0
    snmf.save(fitted, "m.npz")
    assert run("top", "m.npz", "-o", "top.csv", "--force") == 0
    assert len(pd.read_csv("top.csv")) == 0


def test_a_model_with_a_kernel_has_no_components_to_show(folder, capsys):
    fitted = snmf.ConvexNMF(2, kernel="rbf", max_iter=2, tol=0, random_state=0).fit(X)
    snmf.save(fitted, "m.npz")
    for command in (("top", "m.npz"), ("components", "m.npz", "-o", "H.csv")):
        words = (
            "m.npz: expected a model with components in the space of X; got one with kernel='rbf'"
        )
        assert words in refused(capsys, *command)
    assert run("info", "m.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["components"], report["features"]) == (2, 5)
    np.save("X.npy", X)
    assert run("transform", "m.npz", "X.npy", "-o", "W.npy") == 0
    np.testing.assert_allclose(np.load("W.npy"), fitted.transform(X))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "‖X‖²"),
        (("--intercept",), "‖X less its mean‖²"),
        (("--scale",), "‖X / scale‖²"),
        (("--scale", "--intercept"), "‖X / scale less its mean‖²"),
    ],
)
def test_what_is_explained_is_said_with_its_norm(folder, capsys, options, words):
    A = (X + 1) * [1, 2, 3, 4, 5]
    np.save("A.npy", A)
    assert run("fit", "A.npy", *FIT, *options, "-o", "m.npz") == 0
    fitted = snmf.load("m.npz")
    A = A if fitted.scale_ is None else A / fitted.scale_
    A = A if fitted.intercept_ is None else A - A.mean(axis=0)
    share = 1 - fitted.reconstruction_err_**2 / np.linalg.norm(A) ** 2
    assert f"({share:.1%} of {words} is explained)" in capsys.readouterr().out


def test_a_table_is_converted_once(model, capsys):
    assert run("convert", "holes.csv", "-o", "X.h5") == 0
    whole, found = read(Path("holes.csv"), Reading(missing=True)), read(Path("X.h5"))
    np.testing.assert_array_equal(found.X[:], whole.X)
    assert (found.columns, found.rows) == (whole.columns, whole.rows)
    assert run("fit", "X.h5", "-k", 2, "--missing", "-o", "again.npz") == 0
    ours, theirs = snmf.load("again.npz"), snmf.load("m.npz")
    np.testing.assert_array_equal(ours.components_, theirs.components_)
    assert [*ours.feature_names_in_] == [*theirs.feature_names_in_]


def piped(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))


@pytest.mark.parametrize("name", ["X.csv", "X.csv.gz", "X.parquet", "X.xlsx", "X.npy", "X.h5"])
def test_tables_go_through_standard_streams(model, capsys, monkeypatch, name):
    if name == "X.xlsx":
        pytest.importorskip("openpyxl", reason="openpyxl, of the extra 'files', is missing")
    assert run("impute", "m.npz", "holes.csv", "-o", name) == 0
    assert run("transform", "m.npz", name, "-o", "W.csv") == 0
    capsys.readouterr()
    piped(monkeypatch, Path(name).read_bytes())
    assert run("transform", "m.npz", "-", "-o", "-") == 0
    said = capsys.readouterr()
    assert said.out == Path("W.csv").read_text(encoding="utf-8")
    assert "samples          40" in said.err


def test_what_is_wrong_with_a_stream_is_said(model, capsys, monkeypatch):
    piped(monkeypatch, b"a,b\n1,2\n3,x\n")
    words = "snmf: standard input: row 2, column 2 ('b'): expected a number; got 'x'"
    assert words in refused(capsys, "info", "-")
    fit = ("fit", "holes.csv", "-k", 2, "--missing", "-o", "n.npz", "--weights", "-")
    assert run(*fit) == 0
    assert capsys.readouterr().out.startswith(",snmf0,snmf1\n")
