"""The command line, as a person and a script call it."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.image import imread
from scipy import sparse
from shell import FIT, X, csv, refused, run
from sklearn.base import clone
from sklearn.datasets import load_digits

import snmf
from snmf import __main__, _checkpoint
from snmf._arguments import PARAMETERS
from snmf.backends import ADAPTERS
from snmf.cli import arguments as _command_line
from snmf.cli import commands
from snmf.cli.files import read


def test_demo_prints_what_a_person_wants_to_see_and_saves_the_model(folder, capsys):
    output = folder / "demo model.npz"
    assert __main__.main(["demo", "-o", str(output)]) == 0
    shown = capsys.readouterr().out
    for words in ("1797 images of 64 pixels", "SVD bound", "iterations", "W (1797, 16) ≥ 0"):
        assert words in shown
    X = load_digits().data
    X = X - X.mean(axis=0)
    model = snmf.load(output)
    error = np.linalg.norm(X - model.inverse_transform(model.transform(X))) / np.linalg.norm(X)
    assert f"relative error   {error:.4f}" in shown
    bound = np.linalg.norm(np.linalg.svd(X, compute_uv=False)[16:]) / np.linalg.norm(X)
    assert f"SVD bound        {bound:.4f}" in shown
    command = shlex.split(re.search(r"to see it: snmf (.*)\)", shown)[1])
    assert __main__.main(command) == 0
    assert imread("parts.png").std() > 0
    assert __main__.main(["info", str(output)]) == 0
    assert "components       16" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert __main__.main(["demo", "-k", "2", "-o", str(tmp_path / "no" / "such.npz")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("snmf: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["demo", "-k", "0"], ["demo", "-k", "x"], [], ["nope"]])
def test_wrong_words_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        __main__.main(arguments)
    assert stop.value.code == 2
    assert "usage: snmf" in capsys.readouterr().err


# The whole way


def test_from_a_table_to_a_model_weights_and_pictures(folder, capsys):
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    lines = [",".join([f"row {i}", *map(str, x)]) for i, x in enumerate(X.tolist())]
    csv("\n".join([",".join(["", *names]), *lines]))
    assert run("fit", "table.csv", *FIT, "-o", "model.npz", "--weights", "W.csv") == 0
    said = capsys.readouterr()
    assert said.err == ""
    for words in ("60 (row 0, row 1,", "5 (alpha, beta,", "iterations       20", "explained"):
        assert words in said.out
    model = snmf.load("model.npz")
    assert list(model.feature_names_in_) == names
    wanted = snmf.SNMF(2, max_iter=20, tol=0, random_state=0).fit(X.astype("float64"))
    np.testing.assert_array_equal(model.components_, wanted.components_)
    weights = read(Path("W.csv"))
    assert weights.columns == ["snmf0", "snmf1"]
    assert weights.rows == [f"row {i}" for i in range(60)]
    np.testing.assert_allclose(weights.X, wanted.transform(X.astype("float64")), atol=1e-6)

    assert run("transform", "model.npz", "table.csv", "-o", "again.npy") == 0
    np.testing.assert_array_equal(np.load("again.npy"), wanted.transform(X.astype("float64")))
    for kind in _command_line.KINDS:
        data = [] if kind == "components" else ["--data", "table.csv"]
        assert run("plot", "model.npz", "--kind", kind, *data, "-o", f"{kind}.png") == 0
        assert imread(f"{kind}.png").std() > 0
    assert run("plot", "model.npz", "--kind", "convergence", "-o", "c.svg") == 0
    assert "<svg" in Path("c.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("info", "model.npz") == 0
    assert "5 (alpha, beta," in capsys.readouterr().out
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_one_json_object_for_programs(folder, capsys):
    np.save("X.npy", X)
    assert run("fit", "X.npy", "-k", 2, "--max-iter", 3, "-o", "m.npz", "--json") == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == ""
    assert (report["command"], report["samples"], report["features"]) == ("fit", 60, 5)
    model = snmf.load("m.npz")
    assert report["error"] == model.reconstruction_err_
    assert report["relative_error"] == pytest.approx(model.reconstruction_err_ / np.linalg.norm(X))
    assert "has not converged" in report["notes"][0]
    for arguments in (["info", "m.npz"], ["info", "X.npy"], ["plot", "m.npz", "-o", "p.png"]):
        assert run(*arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out)["command"] == arguments[0]
    assert run("demo", "-k", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["components"] == 2


def test_warnings_are_notes_of_one_line(folder, capsys):
    np.save("X.npy", X)
    assert run("fit", "X.npy", "-k", 2, "--max-iter", 3, "-o", "m.npz") == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("note: The fit has not converged")


def test_the_options_of_a_fit_reach_it(folder, capsys):
    np.save("X.npy", X)
    given = {
        "solver": "hals", "sparsity": 0.1, "init": "random", "n_init": 2, "tol": 0.001,
        "max_iter": 7, "random_state": 3, "backend": "numpy", "device": "cpu", "n_jobs": 1,
    }  # fmt: skip
    words = {"random_state": "seed"}
    options = [
        word
        for name, value in given.items()
        for word in (f"--{words.get(name, name).replace('_', '-')}", value)
    ]
    assert run("fit", "X.npy", "-k", 2, *options, "-o", "m.npz") == 0
    parameters = snmf.load("m.npz").get_params()
    assert parameters == {**parameters, **given, "n_components": 2}
    assert run("transform", "m.npz", "X.npy", "-o", "W.npy", "--n-jobs", 2) == 0
    capsys.readouterr()
    # what the fit was done by need not be where the weights are computed
    snmf.save(snmf.load("m.npz").set_params(backend="cupy"), "gpu.npz")
    assert run("transform", "gpu.npz", "X.npy", "-o", "V.npy", "--backend", "numpy") == 0
    np.testing.assert_array_equal(np.load("V.npy"), np.load("W.npy"))


def test_a_fit_that_was_stopped_goes_on(folder, monkeypatch):
    np.save("X.npy", X)
    command = ("fit", "X.npy", "-k", 3, "--seed", 0, "--tol", 0, "--max-iter", 30)
    assert run(*command, "-o", "whole.npz") == 0
    begin, keep, kept = _checkpoint.Checkpoint.__init__, _checkpoint.Checkpoint.keep, []

    def keep_and_stop(self, *given):
        keep(self, *given)
        kept.append(given)
        if len(kept) == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            _checkpoint.Checkpoint, "__init__",
            lambda self, path, interval, *given: begin(self, path, 0, *given),
        )  # fmt: skip
        patch.setattr(_checkpoint.Checkpoint, "keep", keep_and_stop)
        assert run(*command, "-o", "m.npz", "--checkpoint", "fit.checkpoint") == 130
        assert Path("fit.checkpoint").exists()
        kept.extend([None] * 100)
        assert run(*command, "-o", "m.npz", "--checkpoint", "fit.checkpoint") == 0
    assert len(kept) < 100 + 10 + 30 - 5  # passes: it did not begin anew
    assert not Path("fit.checkpoint").exists()
    ours, theirs = snmf.load("m.npz"), snmf.load("whole.npz")
    np.testing.assert_array_equal(ours.components_, theirs.components_)


def test_the_choices_are_those_of_the_library():
    choices = {"solver": _command_line.SOLVERS, "init": (*_command_line.STARTS, "custom")}
    for name, known in choices.items():
        assert {*known} == PARAMETERS[name][0].options
    assert ("auto", *ADAPTERS) == _command_line.BACKENDS
    assert {*commands.DRAWN} == {*_command_line.KINDS}


# What goes wrong


def test_models_and_data_that_do_not_fit_are_refused(files, capsys):
    csv("a,b,c,d,e\n1,2,3,4,5\n6,7,8,9,1\n", "named.csv")
    csv("b,a,c,d,e\n1,2,3,4,5\n", "turned.csv")
    csv("a,b,c,d,f\n1,2,3,4,5\n", "other.csv")
    csv("a,b,c,d,e,f\n1,2,3,4,5,6\n", "more.csv")
    csv("1,9,3,4,5\n6,7,8,9,1\n", "bare.csv")
    csv("1,2\n3,4\n", "narrow.csv")
    assert run("fit", "named.csv", "-k", "1", "-o", "m.npz") == 0
    capsys.readouterr()
    go = ("transform", "m.npz")
    assert "order of the fit: a, b, c" in refused(capsys, *go, "turned.csv", "-o", "W.csv")
    assert "lacks columns of the fit: e" in refused(capsys, *go, "other.csv", "-o", "W.csv")
    assert "Leave them out: --drop f" in refused(capsys, *go, "more.csv", "-o", "W.csv")
    assert run(*go, "more.csv", "--drop", "f", "-o", "W.csv") == 0
    assert run(*go, "bare.csv", "-o", "V.csv") == 0
    assert capsys.readouterr().err == ""
    assert "expecting 5 features" in refused(capsys, *go, "narrow.csv", "-o", "U.csv")
    assert "expected data; got a model" in refused(capsys, *go, "m.npz", "-o", "U.csv")
    assert "expected a model file" in refused(capsys, "transform", "a.npz", "a.npy", "-o", "U.csv")
    assert "of 5 pixels" in refused(capsys, "plot", "m.npz", "-o", "p.png", "--image-shape", "2x3")
    X[3, 2], kept = np.nan, X[3, 2]
    np.save("nan.npy", X)
    X[3, 2] = kept
    assert "NaN in row 3, column 2" in refused(capsys, "fit", "nan.npy", *FIT, "-o", "n.npz")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "X.npy", "-o", "m.npz"],
        ["fit", "X.npy", "-k", "2"],
        ["fit", "X.npy", "-k", "-2", "-o", "m.npz"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--sparsity", "-1"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--tol", "nan"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--max-iter", "1.5"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--seed", "-1"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--n-jobs", "0"],
        ["fit", "X.npy", "-k", "2", "-o", "m.npz", "--solver", "x"],
        ["plot", "m.npz", "-o", "p.png", "--kind", "weights"],
        ["plot", "m.npz", "-o", "p.png", "--data", "X.npy"],
        ["plot", "m.npz", "-o", "p.png", "--kind", "convergence", "--image-shape", "2x2"],
        ["plot", "m.npz", "-o", "p.png", "--image-shape", "2"],
        ["plot", "m.npz", "-o", "p.png", "--image-shape", "0x2"],
    ],
)
def test_bad_usage_is_a_two(folder, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith(f"snmf {arguments[0]}: error: ")
    assert not any(folder.iterdir())


def test_an_error_that_nobody_thought_of_is_one_line_too(capsys, monkeypatch):
    def broken(options):
        raise ZeroDivisionError("over\nzero")

    monkeypatch.setattr(commands, "info", broken)
    assert "ZeroDivisionError: over zero (python -X dev" in refused(capsys, "info", "x")
    monkeypatch.setattr(commands, "info", lambda options: [][1] if options else MemoryError)
    assert "IndexError" in refused(capsys, "info", "x")


def test_the_house_of_the_command_line_is_light():
    code = (
        "import sys\n"
        "from snmf.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "print({'numpy', 'scipy', 'sklearn', 'tqdm', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: snmf" in done.stdout
    assert done.stdout.endswith("set()\n")


def test_numbers_of_components_are_compared(tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = rng.random((150, 3)) @ rng.standard_normal((3, 20)) + 0.1 * rng.standard_normal((150, 20))
    data, picture = tmp_path / "X.npy", tmp_path / "selection.png"
    np.save(data, X)
    options = ["-k", "1-4,6", "--repeats", "2", "--restarts", "2", "--plot", str(picture)]
    assert __main__.main(["select", str(data), *options]) == 0
    shown = capsys.readouterr().out
    assert "best 3" in shown
    assert "held-out error" in shown
    assert imread(picture).ndim == 3
    assert __main__.main(["select", str(data), "-k", "2,3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_components"] == [2, 3]
    assert report["best"] == 3
    expected = snmf.select_n_components(X, [2, 3], random_state=0)
    np.testing.assert_allclose(report["errors"], expected.errors)
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["select", str(data), "-k", "3-2"])
    fit = ["fit", str(data), "-k", "auto", "-o", str(tmp_path / "m.npz")]
    assert __main__.main(fit) == 0
    assert snmf.load(tmp_path / "m.npz").n_components_ == 3
    assert "components       3 (auto: " in capsys.readouterr().out
    assert __main__.main([*fit, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["components"] == 3


def test_sparse_data_hold_entries_out_too(folder, capsys):
    A = np.random.default_rng(0).poisson(0.5, (40, 6)).astype(float)
    np.save("a.npy", A)
    sparse.save_npz("s.npz", sparse.csc_array(A))
    with h5py.File("s.h5ad", "w") as file:
        group, rows = file.create_group("X"), sparse.csr_array(A)
        group.attrs.update({"encoding-type": "csr_matrix", "shape": A.shape})
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(rows, part)
    errors = []
    for name in ("a.npy", "s.npz", "s.h5ad"):
        assert run("select", name, "-k", "1,2", "--intercept", "--json") == 0
        errors.append(json.loads(capsys.readouterr().out)["errors"])
    np.testing.assert_allclose(errors[1:], [errors[0]] * 2, rtol=1e-6)
    A[3, 4] = np.nan
    sparse.save_npz("n.npz", sparse.csr_array(A))
    assert "n.npz: got NaN in row 3, column 4" in refused(capsys, "select", "n.npz", "-k", "1,2")
    assert run("select", "n.npz", "-k", "1,2", "--missing") == 0


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (("--intercept",), {"fit_intercept": True}),
        (("--nonzero-features", 2), {"n_nonzero_features": 2}),
        (("--positive",), {"positive_components": True}),
    ],
)
def test_the_model_that_select_compares_is_that_of_fit(folder, capsys, options, given):
    np.save("X.npy", X + 1)
    assert run("select", "X.npy", "-k", "1,2", "--repeats", 1, *options, "--json") == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    expected = snmf.select_n_components(X + 1, [1, 2], repeats=1, random_state=0, **given).errors
    np.testing.assert_allclose(errors, expected)
    plain = snmf.select_n_components(X + 1, [1, 2], repeats=1, random_state=0).errors
    assert not np.allclose(errors, plain)


def test_locality_reaches_the_fit(folder):
    np.save("X.npy", X)
    assert run("fit", "X.npy", "-k", "2", "-o", "m.npz", "--locality", "2") == 0
    assert snmf.load("m.npz").locality == 2


@pytest.mark.parametrize(("words", "value"), [("3", 3), ("0.5", 0.5), ("1", 1), ("6e-1", 0.6)])
def test_limits_of_components_reach_the_fit(folder, capsys, words, value):
    np.save("X.npy", X)
    fit = ("fit", "X.npy", "-k", "2", "-o", "m.npz", "--seed", "0")
    assert run(*fit, "--nonzero-features", words, "--positive") == 0
    model = snmf.load("m.npz")
    assert model.n_nonzero_features == value
    assert type(model.n_nonzero_features) is type(value)
    assert model.positive_components
    H = clone(model).set_params(progress_bar=False).fit(X).components_
    np.testing.assert_array_equal(model.components_, H)
    assert 0 < np.count_nonzero(H, axis=1).max() <= (value if value >= 1 else round(value * 5))
    assert H.min() >= 0


@pytest.mark.parametrize("wrong", ["0", "1.5", "few", "0.0", "2e0", "nan", "-1"])
def test_what_is_no_number_or_share_of_features_is_refused(folder, capsys, wrong):
    np.save("X.npy", X)
    with pytest.raises(SystemExit):
        run("fit", "X.npy", "-k", "2", "-o", "m.npz", "--nonzero-features", wrong)
    assert "argument --nonzero-features: must be a" in capsys.readouterr().err


def test_more_components_than_can_be_told_apart_are_noted(folder, capsys):
    np.save("X.npy", np.random.default_rng(0).standard_normal((200, 7)))
    note = "note: 9 components are too many for 200 rows and 7 columns: least squares determines"
    fit = ("fit", "X.npy", "-o", "m.npz", "-k")
    assert run(*fit, 9) == 0
    assert note in capsys.readouterr().err
    assert run(*fit, 7) == 0
    assert "too many" not in capsys.readouterr().err
    assert run("select", "X.npy", "-k", "2,9", "--repeats", 1) == 0
    assert note in capsys.readouterr().err
    assert run(*fit, 9, "--json") == 0
    assert note.removeprefix("note: ") in json.loads(capsys.readouterr().out)["notes"][0]


def test_models_of_streams_are_read_too(folder, capsys):
    model = snmf.MiniBatchSNMF(2, random_state=0).partial_fit(X)
    snmf.save(model, "m.npz")
    np.save("X.npy", X)
    assert run("info", "m.npz") == 0
    shown = capsys.readouterr().out
    assert "class            MiniBatchSNMF" in shown
    assert "batches          1" in shown
    assert run("transform", "m.npz", "X.npy", "-o", "W.npy") == 0
    np.testing.assert_array_equal(np.load("W.npy"), model.transform(X))
    assert run("plot", "m.npz", "-o", "p.png") == 0
    capsys.readouterr()
    convergence = ("plot", "m.npz", "--kind", "convergence", "-o", "c.png")
    assert "MiniBatchSNMF keeps no loss curve" in refused(capsys, *convergence)


def test_advice_on_a_fit_names_options(folder, capsys):
    A = np.random.default_rng(0).standard_normal((50, 4))
    np.save("X.npy", A - A.mean(axis=0))
    assert run("fit", "X.npy", "-k", 3, "--max-iter", 1, "-o", "m.npz") == 0
    notes = capsys.readouterr().err
    assert "without an intercept: pass --intercept, or do not centre X." in notes
    assert "Raise --max-iter, or --tol." in notes
    np.save("X.npy", A)
    assert run("fit", "X.npy", "-k", "auto", "-o", "m.npz") == 0
    words = "--n-components auto takes 1. Set --n-components to a number."
    assert words in capsys.readouterr().err
