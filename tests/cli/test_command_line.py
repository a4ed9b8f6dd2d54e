"""The command line, as a person and a script call it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from matplotlib.image import imread
from scipy import sparse
from sklearn.datasets import load_digits

import snmf
from snmf import __main__, _checkpoint
from snmf._arguments import PARAMETERS
from snmf.backends import ADAPTERS
from snmf.cli import arguments as _command_line
from snmf.cli import commands, tables
from snmf.cli.files import Reading, read

posix = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and pseudo-terminals")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


X = np.random.default_rng(0).standard_normal((60, 5)).astype("float32")
FIT = ("-k", "2", "--max-iter", "20", "--tol", "0")


def run(*arguments):
    """The exit code, in this process: what is printed goes to capsys."""
    return __main__.main([str(argument) for argument in arguments])


def process(*arguments, **options):
    """As a shell calls it: a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [sys.executable, "-m", "snmf", *map(str, arguments)], env=environment, text=True, **options
    )


def refused(capsys, *arguments, code=1):
    """The one line that is said of a failure."""
    assert run(*arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("snmf: ")
    assert said.err.count("\n") == 1
    return said.err


def csv(text, name="table.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return name


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


# Reading


@pytest.fixture
def files(folder):
    np.save("a.npy", X)
    np.savez("a.npz", anything=X)
    np.savez("many.npz", other=X[:3], X=X)
    sparse.save_npz("sparse.npz", sparse.csc_array(X * (X > 0)))
    with h5py.File("a.h5", "w") as file:
        file["group/X"], file["vector"] = X, X[0]
    with h5py.File("many.hdf5", "w") as file:
        file["X"], file["Y"] = X, X
    zarr.save_array("a.zarr", X)
    zarr.save_group("many.zarr", X=X, Y=X)
    np.savetxt("a.csv", X, delimiter=",", fmt="%.9g")
    np.savetxt("a.tsv", X, delimiter="\t", fmt="%.9g")
    return folder


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.npy", None), ("a.npz", None), ("many.npz", "X"), ("a.h5", None), ("a.h5", "group/X"),
        ("many.hdf5", "Y"), ("a.zarr", None), ("many.zarr", "X"), ("a.csv", None), ("a.tsv", None),
    ],
)  # fmt: skip
def test_every_kind_of_file_is_read_and_fitted(files, capsys, name, key):
    np.testing.assert_array_equal(read(Path(name), Reading(key)).X[:].astype("float32"), X)
    option = [] if key is None else ["--dataset", key]
    assert run("fit", name, *FIT, "-o", "m.npz", *option) == 0
    wanted = snmf.SNMF(2, max_iter=20, tol=0, random_state=0).fit(X)
    np.testing.assert_allclose(snmf.load("m.npz").components_, wanted.components_, atol=1e-4)


def test_sparse_matrices_stay_sparse(files, capsys):
    found = read(Path("sparse.npz")).X
    assert sparse.issparse(found)
    assert run("fit", "sparse.npz", *FIT, "-o", "m.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    wanted = report["error"] / np.linalg.norm(X * (X > 0))
    assert report["relative_error"] == pytest.approx(wanted, rel=1e-6)


def test_arrays_on_disk_are_not_loaded(files):
    assert isinstance(read(Path("a.npy")).X, np.memmap)
    assert isinstance(read(Path("a.h5")).X, h5py.Dataset)
    assert isinstance(read(Path("a.zarr")).X, zarr.Array)


@pytest.mark.parametrize(
    ("text", "columns", "rows", "values"),
    [
        ("1,2\n3,4\n", None, None, [[1, 2], [3, 4]]),
        ("a,b\n1,2\n3,4\n", ["a", "b"], None, [[1, 2], [3, 4]]),
        ("a;b\n1;2\n3;4", ["a", "b"], None, [[1, 2], [3, 4]]),
        ("a\tb\n1\t2\n3\t4", ["a", "b"], None, [[1, 2], [3, 4]]),
        ("\ufeffa, b\r\n1, 2\r\n\r\n3, 4\r\n", ["a", "b"], None, [[1, 2], [3, 4]]),
        (",a,b\n0,1,2\n1,3,4\n", ["a", "b"], ["0", "1"], [[1, 2], [3, 4]]),
        ("id,a,b\n7,1,2\n8,3,4\n", ["a", "b"], ["7", "8"], [[1, 2], [3, 4]]),
        ('"a","b"\n"x",1,2\n"y",3,4\n', ["a", "b"], ["x", "y"], [[1, 2], [3, 4]]),
        ('"x, or so",1,2\ny,3,4\n', None, ["x, or so", "y"], [[1, 2], [3, 4]]),
        ("1_1,1\n1_2,2\n", None, ["1_1", "1_2"], [[1], [2]]),
        ("0,1\n5,6\n", None, None, [[0, 1], [5, 6]]),
        ("a\n1\n2\n", ["a"], None, [[1], [2]]),
        ("5\n", None, None, [[5]]),
        ("1e-3,4\n-2,.5\n", None, None, [[1e-3, 4], [-2, 0.5]]),
    ],
)
def test_tables_of_text(folder, text, columns, rows, values):
    table = read(Path(csv(text)))
    assert (table.columns, table.rows) == (columns, rows)
    np.testing.assert_array_equal(table.X, values)


def test_what_a_person_says_of_a_table_goes_before_what_is_seen(folder):
    path = Path(csv("1,2,x\n3,4,y\n"))
    assert read(path, Reading(header=True, drop=["x"])).columns == ["1", "2"]
    table = read(path, Reading(row_names=True, drop=["3"]))
    assert table.rows == ["1", "3"]
    np.testing.assert_array_equal(table.X, [[2], [4]])
    path = Path(csv("a,b\n1,2\n"))
    assert read(path, Reading(row_names=True)).columns == ["b"]
    path = Path(csv("id,2\n1,2\n"))
    np.testing.assert_array_equal(read(path, Reading(row_names=False)).X, [[1, 2]])


def test_long_tables_keep_what_their_beginning_says(folder):
    n = 3 * tables.LINES
    lines = [f"r{i},{i},{i + 0.5}" for i in range(n)]
    table = read(Path(csv("\n".join(["name,a,b", *lines]))))
    assert len(table.rows) == n
    np.testing.assert_array_equal(table.X[:, 0], np.arange(n))
    csv("\n".join(["name,a,b", *lines, "last,1,two"]))
    with pytest.raises(ValueError, match=f"row {n + 1} .'last'., column 3 .'b'.: .* 'two'"):
        read(Path("table.csv"))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,2\n3,x\n", [], "table.csv: row 2, column 2 ('b'): expected a number; got 'x'"),
        ("a,b c\n1,2\n3,x\n4,5\n", [], "or leave the columns out: --numeric, or --drop 'b c'"),
        ("1,2\n3,x\n4,5\n", [], "row 2, column 2: expected a number; got 'x'. Correct them, or"),
        ("a\tb\n1\t2\n3\t1,234\n", [], "'1,234' may be 1234 or 1.234: pass --decimal . if"),
        ("a,b\n1,2\nq,3\n5,6\n", [], "row 2, column 1 ('a'): expected a number; got 'q'. If col"),
        ("a,b\n1,2\n3,1_2\n", [], "row 2, column 2 ('b'): expected a number; got '1_2'"),
        ("a,b\n1,2\n3,4,5\n", [], "row 2: expected 2 cells; got 3"),
        ("1,2\n3,4,5\n", [], "line 1: expected 3 cells; got 2"),
        ("a,b\n1,2\n", ["--drop", "c"], "no column 'c' to drop; the columns are a, b"),
        ("1,2\n", ["--drop", "3"], "no column '3' to drop; its columns have no names"),
        ("a,b\n1,2\n", ["--drop", "a", "--drop", "b"], "no column of numbers is left"),
        ("a,b\n", [], "equally many cells; got none"),
        ("", [], "the file is empty"),
        ("a,b\n1,2\n", ["--key", "x"], "--key: not for files of this kind"),
        ("a\n" + "1" * 200_000, [], "field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(folder, capsys, text, options, words):
    assert words in refused(capsys, "info", csv(text), *options)


def test_files_that_are_not_what_they_seem_are_refused(files, capsys):
    for suffix in ("npy", "npz", "h5", "csv"):
        Path(f"none.{suffix}").touch()
        Path(f"noise.{suffix}").write_bytes(bytes([255, 254, 0, 1, 128]) * 200)
        assert f"none.{suffix}: " in refused(capsys, "info", f"none.{suffix}")
        assert f"noise.{suffix}: expected" in refused(capsys, "info", f"noise.{suffix}")
    for name in ("a.npy", "a.npz", "sparse.npz", "a.h5"):
        whole = Path(name).read_bytes()
        Path(f"cut-{name}").write_bytes(whole[: len(whole) // 2])
        assert "or damaged" in refused(capsys, "info", f"cut-{name}")
    with zipfile.ZipFile("claims.npz", "w") as archive, archive.open("X.npy", "w") as entry:
        header = {"descr": "<f8", "fortran_order": False, "shape": (3, 2**40)}
        np.lib.format.write_array_header_1_0(entry, header)
    assert "says that it is of shape (3, 1099511627776)" in refused(capsys, "info", "claims.npz")
    Path("empty.zarr").mkdir()
    assert "expected a Zarr array" in refused(capsys, "info", "empty.zarr")


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo"])
@pytest.mark.parametrize(
    "change",
    [
        {"indices": 10**9}, {"indices": -1}, {"indptr": 10**9}, {"indptr": -1}, {"row": 10**9},
        {"col": -1}, {"last": 0, "indptr": 10**9},
    ],
)  # fmt: skip
def test_a_sparse_matrix_with_entries_outside_of_it_is_refused(folder, capsys, kind, change):
    sparse.save_npz("X.npz", sparse.coo_array(X * (X > 0)).asformat(kind))
    with np.load("X.npz") as file:
        arrays = dict(file)
    if not change.keys() & arrays.keys():
        pytest.skip(f"{kind} has no {', '.join(change)}")
    for name in change.keys() & arrays.keys():
        arrays[name][len(arrays[name]) // 2] = change[name]
    if "last" in change:
        arrays["indptr"][-1] = 0
    np.savez("X.npz", **arrays)
    said = refused(capsys, "info", "X.npz")
    assert "X.npz: expected arrays of NumPy, got something else or damaged (" in said


def test_arrays_that_are_no_table_of_numbers_are_refused(files, capsys):
    np.save("v.npy", X[0])
    np.save("z.npy", X * 1j)
    np.save("s.npy", np.array([["a"]]))
    np.save("o.npy", np.array([[{}]]), allow_pickle=True)
    np.save("e.npy", X[:0])
    assert "got the shape (5,)" in refused(capsys, "info", "v.npy")
    assert "real numbers; got the dtype complex64" in refused(capsys, "info", "z.npy")
    assert "real numbers; got the dtype <U1" in refused(capsys, "info", "s.npy")
    assert "Python objects" in refused(capsys, "info", "o.npy")
    assert "got the shape (0, 5)" in refused(capsys, "info", "e.npy")
    assert "is a group of ['X']" in refused(capsys, "info", "a.h5", "--key", "group")
    for name in ("many.npz", "many.hdf5", "many.zarr"):
        assert "choose one with --key, of: X, " in refused(capsys, "info", name).replace(
            "other, X", "X, other"
        ).replace("of: other", "of: X, other")
        assert "no table 'Q'; the tables are: " in refused(capsys, "info", name, "--key", "Q")
    assert "--header: not for files of this kind" in refused(capsys, "info", "a.npy", "--header")
    assert "must end in one of .npy" in refused(capsys, "info", "a.doc")
    assert "none.npy: No such file" in refused(capsys, "info", "none.npy")


def test_a_library_that_is_missing_is_named(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert "needs h5py: pip install 'snmf[files]'" in refused(capsys, "info", "a.h5")
    fit = ("fit", "a.npy", *FIT, "-o", "m.npz")
    assert "needs zarr: pip" in refused(capsys, *fit, "--weights", "W.zarr")
    assert not Path("m.npz").exists()
    assert run(*fit) == 0
    capsys.readouterr()
    assert "pip install 'snmf[plots]'" in refused(capsys, "plot", "m.npz", "-o", "p.png")


# Writing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["W.npy", "W.csv", "W.tsv", "W.h5", "W.hdf5", "W.zarr"])
def test_weights_are_written_to_the_bit(folder, capsys, name, dtype):
    np.save("X.npy", X.astype(dtype))
    for more in ([], ["--force"]):  # what is there is replaced
        assert run("fit", "X.npy", *FIT, "-o", "m.npz", "--weights", name, *more) == 0
        W = read(Path(name)).X[:]
        wanted = snmf.SNMF(2, max_iter=20, tol=0, random_state=0).fit_transform(X.astype(dtype))
        np.testing.assert_array_equal(W.astype(dtype), wanted)
    assert {path.name for path in folder.iterdir()} == {"X.npy", "m.npz", name}


def test_what_cannot_be_written_is_said_before_the_work(files, capsys, monkeypatch):
    def worked(*_, **__):
        raise AssertionError("it began")

    assert run("fit", "a.npy", *FIT, "-o", "m.npz") == 0
    capsys.readouterr()
    monkeypatch.setattr(snmf.SNMF, "fit_transform", worked)
    monkeypatch.setattr(snmf.SNMF, "transform", worked)
    fit = ("fit", "a.npy", *FIT, "-o")
    Path("other.zarr").mkdir()
    Path("other.zarr/mine").touch()
    assert "no such folder" in refused(capsys, *fit, "none/m.npz")
    assert "must end in one of" in refused(capsys, *fit, "m.npz", "--weights", "W.doc")
    assert "not one of Zarr" in refused(capsys, *fit, "m.npz", "--weights", "other.zarr")
    assert "must end in one of" in refused(capsys, "transform", "m.npz", "a.npy", "-o", "W.npz")
    assert "must end in one of" in refused(capsys, "plot", "m.npz", "-o", "W.txt")
    assert Path("other.zarr/mine").exists()
    if os.name == "posix":
        assert "not a regular file" in refused(capsys, *fit, "/dev/null")


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


# A process among others


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "snmf", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("snmf ")


def test_exit_codes_of_the_process(files):
    for arguments, code in (
        (["info", "a.npy"], 0), (["info", "none.npy"], 1), (["info"], 2), (["--help"], 0),
    ):  # fmt: skip
        done = process(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = done.communicate()
        assert done.returncode == code
        assert bool(out) == (code == 0)
        assert "Traceback" not in err


@pytest.fixture
def _interruptible():
    """Where the tests run in the background, SIGINT is ignored, in children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.usefixtures("_interruptible")
def test_a_terminal_shows_progress_and_control_c_is_a_130(folder):
    import pty
    import termios

    np.save("X.npy", np.random.default_rng(0).standard_normal((20_000, 50)))
    fit = ("fit", "X.npy", "-k", "10", "--tol", "0", "--max-iter", "10000000", "-o", "m.npz")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with process(*fit, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        try:
            seen = b""
            while b"loss=" not in seen:
                seen += os.read(ours, 4096)
            running.send_signal(signal.SIGINT)
            with suppress(OSError):  # how a pseudo-terminal ends
                while more := os.read(ours, 4096):
                    seen += more
            assert running.wait() == 130
            assert running.stdout.read() == ""
        finally:
            running.kill()
    os.close(ours)
    assert b"snmf: interrupted" in seen
    assert b"Traceback" not in seen
    assert [path.name for path in folder.iterdir()] == ["X.npy"]


@posix
@pytest.mark.parametrize("arguments", [["info", "a.npy"], ["--help"], ["info", "a.npy", "--json"]])
def test_a_broken_pipe_is_one_line(files, arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = process(*arguments, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    _, err = done.communicate()
    assert done.returncode == 1
    assert err == "snmf: nobody reads the output (broken pipe)\n"


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_one_line(files):
    with open("/dev/full", "w") as full:
        done = process("info", "a.npy", stdout=full, stderr=subprocess.PIPE)
        _, err = done.communicate()
    assert (done.returncode, err) == (1, "snmf: No space left on device\n")


LIMITED = """
import resource, sys
sys.dont_write_bytecode = True  # half of which would stay
from snmf.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.exit(main(sys.argv[1:]))
"""


@posix
@pytest.mark.parametrize("name", ["W.npy", "W.csv", "W.h5", "W.zarr"])
def test_a_full_disk_leaves_no_half_of_a_file(folder, name):
    np.save("X.npy", 1 + np.random.default_rng(0).standard_normal((4000, 3)))
    snmf.save(snmf.SNMF(2, random_state=0, max_iter=2, tol=0).fit(np.load("X.npy")), "m.npz")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "transform", "m.npz", "X.npy", "-o", name],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"snmf: {name}: ")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in folder.iterdir()} == {"X.npy", "m.npz"}


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


@pytest.fixture
def holes(folder):
    """A table with missing values, as .npy and as .csv in many spellings."""
    A = np.random.default_rng(0).standard_normal((40, 6))
    np.save("whole.npy", A)
    spellings = ["", "NA", "n/a", "null", " NaN ", "None", "-nan", "?", "#N/A", "<NA>"]
    text = [[f"{v:.6g}" for v in a] for a in A]
    for i, spelling in enumerate(spellings):
        A[3 * i, i % 6], text[3 * i][i % 6] = np.nan, spelling
    np.save("holes.npy", A)
    csv("\n".join([",".join("abcdef"), *(",".join([*line]) for line in text)]), "holes.csv")
    return A


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_missing_values_are_read_where_it_is_said(holes, capsys):
    fit = ("fit", "-k", "2", "-o", "m.npz", "--tol", 0, "--max-iter", 20)
    assert run(*fit, "holes.csv", "--missing") == 0
    said = capsys.readouterr()
    assert "missing values   10 (4.2%)" in said.out
    assert said.err == ""
    of_text = snmf.load("m.npz").components_
    assert run(*fit, "holes.npy", "--missing") == 0
    np.testing.assert_allclose(snmf.load("m.npz").components_, of_text, atol=1e-4)
    assert run("transform", "m.npz", "holes.csv", "-o", "W.csv") == 0  # as the fit was
    assert run("plot", "m.npz", "--kind", "weights", "--data", "holes.csv", "-o", "p.png") == 0
    assert np.isfinite(read(Path("W.csv")).X).all()
    assert np.isnan(read(Path("holes.csv"), Reading(missing=True)).X[0, 0])
    capsys.readouterr()
    assert run("info", "holes.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing_values"] == 10
    assert run("select", "holes.csv", "-k", "1,2", "--missing", "--json") == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    table = read(Path("holes.csv"), Reading(missing=True)).X
    expected = snmf.select_n_components(table, [1, 2], random_state=0).errors
    np.testing.assert_allclose(errors, expected, rtol=1e-3)


def test_missing_values_are_named_where_it_is_not_said(holes, capsys):
    words = (
        "holes.csv: row 1, column 1 ('a'): expected a number; the cell is empty, or says that a "
    )
    fit = ("fit", "-k", "2", "-o", "n.npz")
    assert f"{words}value is missing. If such values are missing, fit with --missing" in refused(
        capsys, *fit, "holes.csv"
    )
    assert words in refused(capsys, "select", "holes.csv", "-k", "1,2")
    words = "holes.npy: got NaN in row 0, column 0 (from 0). If such values are missing, fit with "
    assert f"{words}--missing" in refused(capsys, *fit, "holes.npy")
    assert words in refused(capsys, "select", "holes.npy", "-k", "1,2")
    assert run(*fit, "whole.npy") == 0
    capsys.readouterr()
    assert words in refused(capsys, "transform", "n.npz", "holes.npy", "-o", "W.npy")
    assert "row 1, column 1" in refused(capsys, "transform", "n.npz", "holes.csv", "-o", "W.npy")
    csv("a,b\n1,2\n3,NaN\n4,inf\n", "other.csv")
    assert "row 2, column 2 ('b'): expected a number; the cell" in refused(
        capsys, *fit, "other.csv", "--force"
    )
    csv("a,b\n1,2\n3,-inf\n4,inf\n", "other.csv")
    assert "got infinity in row 1, column 1" in refused(capsys, *fit, "other.csv", "--force")
    csv("a,b\n1,2\n3,x\n", "other.csv")
    assert "got 'x'. Correct" in refused(capsys, *fit, "other.csv", "--missing", "--force")


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


@pytest.mark.parametrize(("words", "most"), [("3", 3), ("0.5", 2), ("1", 1), ("6e-1", 3)])
def test_limits_of_components_reach_the_fit(folder, capsys, words, most):
    np.save("X.npy", X)
    fit = ("fit", "X.npy", "-k", "2", "-o", "m.npz")
    assert run(*fit, "--nonzero-features", words, "--positive") == 0
    H = snmf.load("m.npz").components_
    assert H.min() >= 0
    assert np.count_nonzero(H, axis=1).max() == most


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


def test_numbers_that_may_name_the_rows_are_asked_about(folder, capsys):
    A = np.random.default_rng(0).random((30, 3))
    lines = [",".join([str(7 * i), *(f"{v:.4f}" for v in a)]) for i, a in enumerate(A)]
    csv("\n".join(["sample,400,405,410", *lines]))
    words = (
        "table.csv: column 1 ('sample') may name the rows: 0, 7, 14, 21, …: pass --row-names if it"
    )
    assert words in refused(capsys, "info", "table.csv")
    for option, features in (("--row-names", 3), ("--no-row-names", 4)):
        assert run("info", "table.csv", option, "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["features"], report["notes"]) == (features, [])


def test_numbers_that_may_name_the_columns_are_asked_about(folder, capsys):
    A = np.random.default_rng(0).random((30, 5))
    lines = [",".join([f"s{i}", *(f"{v:.4f}" for v in a)]) for i, a in enumerate(A)]
    csv("\n".join(["spectrum,400,405,410,415,420", *lines]))
    fit = ("fit", "table.csv", *FIT, "-o", "m.npz")
    words = (
        "the first line of numbers may name the columns: 400, 405, 410, 415, …: pass --header if"
    )
    assert words in refused(capsys, *fit)
    assert run(*fit, "--header") == 0
    said = capsys.readouterr()
    assert "samples          30 (s0, s1" in said.out
    assert said.err == ""
    assert list(snmf.load("m.npz").feature_names_in_) == ["400", "405", "410", "415", "420"]
    assert run(*fit, "--no-header") == 0
    assert "samples          31 (spectrum, s0" in capsys.readouterr().out
    csv("\n".join(["sample,400,405,410,415,420", *lines]))
    assert run(*fit) == 0
    assert list(snmf.load("m.npz").feature_names_in_) == ["400", "405", "410", "415", "420"]


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


@posix
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
def test_a_fit_that_is_ended_within_the_first_minute_goes_on(folder, number, code, word):
    np.save("X.npy", np.random.default_rng(0).standard_normal((20_000, 50)))
    fit = ("fit", "X.npy", "-k", "10", "--tol", "0", "--max-iter", "100000", "-o", "m.npz")
    checkpoint = ("--checkpoint", "fit.checkpoint")
    code_of_it = (
        "import sys, snmf.core.solve as s\nadvance = s.Alternation.advance\n"
        "def told(*a): print('pass', file=sys.stderr, flush=True); return advance(*a)\n"
        "s.Alternation.advance = told\nfrom snmf.__main__ import main\nsys.exit(main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])}
    command = [sys.executable, "-c", code_of_it, *fit, *checkpoint]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        for _ in range(5):
            assert running.stderr.readline() == "pass\n"
        running.send_signal(number)
        _, err = running.communicate()
        assert running.returncode == code
    assert err.splitlines()[-1] == f"snmf: {word}: the same command continues from fit.checkpoint"
    assert {path.name for path in folder.iterdir()} == {"X.npy", "fit.checkpoint"}
    with np.load("fit.checkpoint") as file:
        header = json.loads(file[_checkpoint.HEADER].tobytes())
    assert len(header["curve"]) >= 4


# What comes out


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
    for kind in _command_line.KINDS:
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


def test_columns_of_words_are_dropped_together_or_known_to_the_model(folder, capsys):
    csv("id,a,day,b,site\n1,1,2024-01-01,2,K\n2,3,2024-01-02,1,L\n3,2,2024-01-03,5,M\n")
    fit = ("fit", "table.csv", "-k", 1, "-o", "m.npz")
    assert "--drop day,site" in refused(capsys, *fit)
    assert run(*fit, "--drop", "day,site") == 0
    assert run(*fit, "--numeric", "--json") == 0
    notes = json.loads(capsys.readouterr().out.splitlines()[-1])["notes"]
    assert notes == ["left out, since they are no numbers: day ('2024-01-02'), site ('L')"]
    assert run("transform", "m.npz", "table.csv", "-o", "W.csv") == 0
    assert capsys.readouterr().err == ""


def test_a_pipe_that_cannot_encode_what_is_said_is_no_error(folder, capsys, monkeypatch):
    """On Windows a pipe has the code page of the machine, which lacks these names."""
    fit = ("fit", csv("β,日本\n1,2\n3,5\n7,1\n2,8\n"), "-k", "1", "-o", "日本.npz")
    assert run(*fit, "--json") == 0
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said)["model"] == "日本.npz"
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "cp1252"}
    done = process(*fit, **both)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert "??.npz" in out
    assert "Error" not in err
