"""What a command may write over: tried as a person would, by hand or by mistake."""

import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from matplotlib.backend_bases import FigureCanvasBase
from scipy import sparse

import snmf
from snmf import __main__
from snmf.cli import outputs

X = np.random.default_rng(0).standard_normal((30, 4))
FIT = ("-k", 2, "--max-iter", 2, "--tol", 0)
posix = pytest.mark.skipif(os.name != "posix", reason="links")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", X)
    np.save("other.npy", X[::-1])
    np.savez("data.npz", X=X)
    np.savetxt("X.csv", X, delimiter=",")
    with h5py.File("X.h5", "w") as file:
        file["X"], file["labels"] = X, np.arange(30)
    zarr.save_array("X.zarr", X)
    Path("notes.md").write_text("mine", encoding="utf-8")
    snmf.save(snmf.SNMF(2, random_state=0, max_iter=2, tol=0).fit(X), "m.npz")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(*arguments):
    return __main__.main([str(argument) for argument in arguments])


@pytest.fixture
def refused(folder, capsys, monkeypatch):
    """The one line of a command that is refused before any work, and changes nothing."""

    def worked(*_, **__):
        raise AssertionError("it began")

    def refused(*arguments):
        before = contents(folder)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name in ("read", "load", "SNMF", "select_n_components"):
                patch.setattr(f"snmf.cli.commands.{name}", worked)
            assert run(*arguments) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("snmf: ")
        assert said.err.count("\n") == 1
        assert contents(folder) == before
        return said.err

    return refused


READS = "is read by this command; an output never replaces an input"


@pytest.mark.parametrize("more", [(), ("--force",)])
@pytest.mark.parametrize(
    "command",
    [
        ("fit", "X.csv", *FIT, "-o", "X.csv"),
        ("fit", "data.npz", *FIT, "-o", "data.npz"),
        ("fit", "X.npy", *FIT, "-o", "n.npz", "--weights", "X.npy"),
        ("fit", "X.h5", "--key", "X", *FIT, "-o", "n.npz", "--weights", "X.h5"),
        ("fit", "X.zarr", *FIT, "-o", "n.npz", "--weights", "X.zarr"),
        ("fit", "X.npy", *FIT, "-o", "n.npz", "--checkpoint", "X.npy"),
        ("transform", "m.npz", "X.npy", "-o", "X.npy"),
        ("transform", "m.npz", "X.csv", "-o", "./X.csv"),
        ("transform", "m.npz", "X.npy", "-o", "m.npz"),
        ("plot", "m.npz", "-o", "m.npz"),
        ("plot", "m.npz", "--kind", "weights", "--data", "X.npy", "-o", "X.npy"),
        ("select", "X.npy", "-k", "2", "--plot", "X.npy"),
    ],
)
def test_an_output_never_replaces_an_input(refused, command, more):
    assert READS in refused(*command, *more)


@posix
@pytest.mark.parametrize("name", ["soft.npy", "hard.npy", "sub/../X.npy", "sub/up/X.npy", "here"])
def test_nor_by_another_name(folder, refused, name):
    Path("sub").mkdir()
    Path("sub/up").symlink_to(folder)
    Path("soft.npy").symlink_to("X.npy")
    Path("hard.npy").hardlink_to("X.npy")
    name = folder / "X.npy" if name == "here" else name
    assert READS in refused("transform", "m.npz", "X.npy", "-o", name, "--force")
    assert READS in refused("transform", "m.npz", name, "-o", "X.npy", "--force")


def test_nor_where_case_does_not_tell(folder, refused, monkeypatch):
    """As on a disk that takes x.NPY for X.npy."""
    exists, samefile = Path.exists, Path.samefile
    lower = {path.name.lower(): path for path in folder.iterdir()}

    def real(path):
        return path if exists(path) else lower.get(Path(path).name.lower(), path)

    monkeypatch.setattr(Path, "exists", lambda path: exists(real(path)))
    monkeypatch.setattr(Path, "samefile", lambda a, b: samefile(real(a), real(b)))
    assert READS in refused("transform", "m.npz", "X.npy", "-o", "x.NPY")


def test_nor_lies_in_it_or_around_it(refused):
    assert "lie in one another" in refused("fit", "X.zarr", *FIT, "-o", "X.zarr/m.npz")
    Path("W.zarr").mkdir()
    Path("W.zarr/zarr.json").touch()
    np.save("W.zarr/X.npy", X)
    command = ("transform", "m.npz", "W.zarr/X.npy", "-o", "W.zarr", "--force")
    assert "lie in one another" in refused(*command)
    command = ("fit", "X.npy", *FIT, "-o", "W.zarr/m.npz", "--weights", "W.zarr", "--force")
    assert "lie in one another" in refused(*command)


@pytest.mark.parametrize(
    "names",
    [("W.npy", "W.npy"), ("W.npy", "./W.npy"), ("W.npy", "w.NPY")],
)
def test_two_outputs_are_two_files(refused, names):
    one, other = names
    for more in ((), ("--force",)):
        command = ("fit", "X.npy", *FIT, "-o", "n.npz", "--weights", one, "--checkpoint", other)
        assert "two outputs would be this file" in refused(*command, *more)
    command = ("fit", "X.npy", *FIT, "-o", one, "--weights", other)
    assert "two outputs would be this file" in refused(*command)


@pytest.mark.parametrize("name", ["data.npz", "notes.md"])
def test_a_model_replaces_a_model_and_else_nothing(refused, name):
    words = f"{name}: exists already, and is no model; --force replaces it"
    assert words in refused("fit", "X.npy", *FIT, "-o", name)
    assert words in refused("demo", "-k", 2, "-o", name)
    assert run("fit", "X.npy", *FIT, "-o", name, "--force") == 0
    assert snmf.load(name).n_components_ == 2
    assert run("fit", "X.npy", "-k", 3, "-o", name) == 0
    assert snmf.load(name).n_components_ == 3


@pytest.mark.parametrize("name", ["other.csv", "other.npy", "W.h5", "W.hdf5", "W.tsv", "W.zarr"])
def test_a_model_is_no_table(refused, name):
    words = "a model is no table. Name it ….npz; to write a table, use fit --weights."
    assert words in refused("fit", "X.npy", *FIT, "-o", name, "--force")


@pytest.mark.parametrize("name", ["other.npy", "W.csv", "W.tsv", "W.h5", "W.zarr"])
def test_a_table_replaces_nothing_unasked(refused, name):
    transform = ("transform", "m.npz", "X.npy", "-o", name)
    fit = ("fit", "X.npy", *FIT, "-o", "m.npz", "--weights", name)
    if name != "other.npy":
        assert run(*transform) == 0
    words = f"{name}: exists already; --force replaces it"
    assert words in refused(*transform)
    assert words in refused(*fit)
    assert run(*transform, "--force") == 0
    assert run(*fit, "--force") == 0


@pytest.mark.parametrize("suffix", outputs.BEGINNINGS)
def test_a_picture_replaces_a_picture_and_else_nothing(refused, suffix):
    if suffix not in FigureCanvasBase.get_supported_filetypes():
        pytest.skip(f"this matplotlib does not write .{suffix}")
    name = f"p.{suffix}"
    for _ in range(2):
        assert run("plot", "m.npz", "-o", name) == 0
    np.savetxt(name, X)
    words = f"{name}: exists already, and is no picture; --force replaces it"
    assert words in refused("plot", "m.npz", "-o", name)
    assert words in refused("select", "X.npy", "-k", "2", "--plot", name)
    assert run("plot", "m.npz", "-o", name, "--force") == 0
    assert run("select", "X.npy", "-k", "2", "--plot", name) == 0


def test_a_compressed_file_is_no_picture(refused):
    with gzip.open("p.svgz", "wt") as file:
        file.write("mine")
    assert "p.svgz: exists already, and is no picture" in refused("plot", "m.npz", "-o", "p.svgz")


def test_every_format_of_matplotlib_is_written_or_refused_by_name(refused):
    for suffix in {*FigureCanvasBase.get_supported_filetypes()} - {*outputs.BEGINNINGS}:
        said = refused("plot", "m.npz", "-o", f"p.{suffix}")
        assert f"p.{suffix}: the name must end in one of .png, .pdf, .svg, " in said
        assert f".{suffix}" not in said.split("one of")[1]


@pytest.mark.parametrize("more", [(), ("--force",)])
def test_a_checkpoint_is_never_anything_else(refused, more):
    command = ("fit", "X.npy", *FIT, "-o", "n.npz", "--checkpoint")
    for name in ("other.npy", "data.npz", "m.npz", "notes.md"):
        words = f"{name}: exists already, and is no checkpoint; name another"
        assert words in refused(*command, name, *more)


def test_an_empty_file_is_nothing(folder):
    """As mktemp makes it."""
    for name in ("W.npy", "n.npz", "p.png"):
        Path(name).touch()
    assert run("fit", "X.npy", *FIT, "-o", "n.npz", "--weights", "W.npy") == 0
    assert run("plot", "n.npz", "-o", "p.png") == 0


def test_a_file_and_a_folder_do_not_replace_each_other(refused):
    Path("folder.npz").mkdir()
    Path("folder.png").mkdir()
    Path("file.zarr").write_text("mine", encoding="utf-8")
    for more in ((), ("--force",)):
        assert "is a folder" in refused("fit", "X.npy", *FIT, "-o", "folder.npz", *more)
        assert "is a folder" in refused("fit", "X.npy", *FIT, "-o", ".", *more)
        assert "is a folder" in refused("plot", "m.npz", "-o", "folder.png", *more)
        command = ("transform", "m.npz", "X.npy", "-o", "file.zarr")
        assert "Zarr writes a folder" in refused(*command, *more)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "X.npy", *FIT, "-o", "-"),
        ("fit", "X.npy", *FIT, "-o", ""),
        ("fit", "X.npy", *FIT, "-o", "n.npz", "--checkpoint", "-"),
        ("plot", "-", "-o", "p.png"),
        ("plot", "m.npz", "-o", "-"),
        ("demo", "-o", "-"),
    ],
)
def test_models_and_pictures_need_a_name(folder, arguments, capsys):
    before = contents(folder)
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "must be the name of a file" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_name_that_is_a_dash_can_be_given(folder):
    assert run("fit", "X.npy", *FIT, "-o", "./-") == 0
    assert snmf.load("-").n_components_ == 2


def test_the_help_says_it(capsys):
    for command in ("fit", "select", "transform", "plot", "demo"):
        with pytest.raises(SystemExit):
            run(command, "--help")
        shown = " ".join(capsys.readouterr().out.split())
        assert "a model replaces only a model, a picture only a picture" in shown
        assert "and a table only an empty file" in shown
    with pytest.raises(SystemExit):
        run("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "An output never replaces a file that the command reads" in shown


# The library


@pytest.mark.parametrize(
    "view",
    [lambda A: A, lambda A: A[3:], np.asarray, lambda A: np.asarray(A)[3:].reshape(27, 4)],
)
def test_the_weights_do_not_replace_the_data(folder, view):
    model = snmf.load("m.npz")
    mapped = view(np.load("X.npy", mmap_mode="r"))
    for write in (model.transform, snmf.SNMF(2).fit_transform):
        with pytest.raises(ValueError, match="out must not be the file of X"):
            write(mapped, out="X.npy")
    np.testing.assert_array_equal(np.load("X.npy"), X)


def test_nor_do_they_replace_sparse_data(folder):
    np.save("values.npy", np.ones(8))
    indices = np.arange(8) % 4
    A = sparse.csr_array((np.load("values.npy", mmap_mode="r"), indices, np.arange(9)), (8, 4))
    with pytest.raises(ValueError, match="out must not be the file of X"):
        snmf.load("m.npz").transform(A, out="values.npy")
