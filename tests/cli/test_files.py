"""Files that commands read and write, of every kind, and what is said of those that cannot be."""

import json
import os
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from scipy import sparse
from shell import FIT, X, csv, refused, run

import snmf
from snmf.cli import tables
from snmf.cli.files import Reading, read

# Reading


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
