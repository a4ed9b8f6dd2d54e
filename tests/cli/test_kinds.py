"""Commands for models of other kinds: convex NMF and hierarchies."""

import json

import numpy as np
import pandas as pd
import pytest
from shell import FIT, X, refused, run

import snmf
from snmf.cli.arguments import KINDS


def test_a_convex_model(folder, capsys):
    pd.DataFrame(X, columns=[*"abcde"]).to_csv("X.csv", index=False)
    fit = ("fit", "X.csv", *FIT, "--convex", "--candidates", "20", "-o", "m.npz")
    assert run(*fit, "--weights", "W.npy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["candidates"] == 20
    table = pd.read_csv("X.csv").to_numpy()
    expected = snmf.ConvexNMF(2, candidates=20, max_iter=20, tol=0, random_state=0).fit(table)
    again = snmf.load("m.npz")
    np.testing.assert_allclose(again.components_, expected.components_, rtol=1e-6)
    assert run("transform", "m.npz", "X.csv", "-o", "again.npy") == 0
    np.testing.assert_array_equal(np.load("again.npy"), np.load("W.npy"))
    assert run("components", "m.npz", "-o", "H.csv") == 0
    np.testing.assert_allclose(pd.read_csv("H.csv", index_col=0), again.components_)
    for kind in KINDS:
        data = () if kind == "components" else ("--data", "X.csv")
        assert run("plot", "m.npz", "--kind", kind, *data, "-o", f"{kind}.png") == 0
    capsys.readouterr()
    for command in ("top", "info"):
        assert run(command, "m.npz") == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("convexnmf1", "ConvexNMF", "kernel='linear'"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--candidates", "5"), "--candidates is only for --convex"),
        (("--convex", "--scale", "--missing"), "--convex does not go with --missing, --scale"),
        (("--convex", "-k", "auto"), "--convex needs a number of components"),
    ],
)
def test_what_does_not_go_with_convex_is_bad_usage(options, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run("fit", "X.csv", *FIT, "-o", "m.npz", *options)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_a_hierarchy_is_described_and_its_levels_are_asked_for(folder, capsys):
    estimator = snmf.SNMF(max_iter=5, tol=0, progress_bar=False)
    snmf.save(snmf.HierarchicalSNMF((3, 2), estimator, random_state=0).fit(X), "m.npz")
    np.save("X.npy", X)
    assert run("info", "m.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["class"], report["components"]) == ("HierarchicalSNMF", [3, 2])
    assert report["parameters"]["max_iter"] == 5
    commands = {"transform": ("X.npy", "-o", "W.npy"), "top": (), "plot": ("-o", "p.png")}
    for command, more in commands.items():
        assert "expected a model of one level" in refused(capsys, command, "m.npz", *more)


def test_parameters_that_are_no_plain_values_are_named(folder, capsys):
    given = {"candidates": X[:9], "random_state": np.random.RandomState(0), "tol": 0}
    snmf.save(snmf.ConvexNMF(2, max_iter=2, **given).fit(X), "m.npz")
    assert run("info", "m.npz", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["parameters"]
    assert shown["candidates"] == "array of shape (9, 5)"
    assert "RandomState" in shown["random_state"]
    assert shown["n_init"] == 1
