"""Windows neither replaces nor removes a file that is open or memory-mapped: nor do these tests."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import snmf
from snmf.__main__ import main
from snmf.storage import stored
from snmf.storage.atomic import replacing

fcntl = pytest.importorskip("fcntl")
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

X = np.random.default_rng(0).standard_normal((60, 8))


def in_use():
    """The files that this process has open or memory-mapped."""
    handles = Path("/proc/self/fd")
    opened = {os.readlink(handle) for handle in handles.iterdir() if os.path.islink(handle)}
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return opened | {line.split(maxsplit=5)[5] for line in maps if line.count("/")}


def as_on_windows(function):
    def called(*paths, **options):
        used = in_use()
        for path in paths if options.get("dir_fd") is None else ():
            if os.path.realpath(path) in used:
                raise PermissionError(errno.EACCES, "it is used by a process", str(path))
        return function(*paths, **options)

    return called


@pytest.fixture(autouse=True)
def windows(monkeypatch, tmp_path):
    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, as_on_windows(getattr(os, name)))
    monkeypatch.chdir(tmp_path)


def test_these_tests_see_an_open_file_and_a_mapped_one():
    np.save("X.npy", X)
    with open("X.npy", "rb"), pytest.raises(PermissionError, match="used by"):
        os.replace("X.npy", "Y.npy")
    mapped = np.load("X.npy", mmap_mode="r")
    with pytest.raises(PermissionError, match="used by"):
        Path("X.npy").unlink()
    del mapped
    os.replace("X.npy", "Y.npy")


def test_weights_replace_a_file_that_nobody_holds():
    model = snmf.SNMF(3, random_state=0).fit(X)
    for _ in range(2):
        W = model.transform(X, out="W.npy")
        np.testing.assert_array_equal(W, model.transform(X))
        del W
    held = model.transform(X, out="W.npy")
    with pytest.raises(PermissionError, match="open or memory-mapped") as caught:
        model.transform(X, out="W.npy")
    assert Path(caught.value.filename).name == "W.npy"
    assert os.listdir() == ["W.npy"]
    np.testing.assert_array_equal(held, model.transform(X))


def test_a_fit_from_a_checkpoint_leaves_no_file(monkeypatch):
    monkeypatch.setattr(stored, "SCRATCH", 1)
    np.save("X.npy", X)
    data = np.load("X.npy", mmap_mode="r")
    options = dict(random_state=0, tol=0, max_iter=8, checkpoint_interval=0, checkpoint="fit")

    def stop(iteration):
        if iteration.number == 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            snmf.factorize(data, 3, callback=stop, **options)
        assert Path("fit").exists()
        result = snmf.factorize(data, 3, **options)
        assert os.listdir() == ["X.npy"]
    expected = snmf.factorize(X, 3, random_state=0, tol=0, max_iter=8)
    np.testing.assert_allclose(result.W, expected.W, atol=1e-12)


def test_a_model_replaces_a_model():
    model = snmf.SNMF(3, random_state=0).fit(X)
    for _ in range(2):
        snmf.save(model, "m.npz")
        np.testing.assert_array_equal(snmf.load("m.npz").components_, model.components_)


@pytest.mark.parametrize("name", ["X.npy", "X.npz", "X.csv", "X.tsv", "X.h5", "X.zarr"])
def test_commands_replace_their_outputs(name):
    kind = Path(name).suffix
    if kind == ".npy":
        np.save(name, X)
    elif kind == ".npz":
        np.savez(name, X)
    elif kind in (".csv", ".tsv"):
        sep = "," if kind == ".csv" else "\t"
        pd.DataFrame(X).add_prefix("f").to_csv(name, sep=sep, index=False)
    elif kind == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(name, "w") as file:
            file["X"] = X
    else:
        pytest.importorskip("zarr").save(name, X)
    out = f"W{'.npy' if kind == '.npz' else kind}"
    fit = ["fit", name, "-k", "3", "-o", "m.npz", "--weights", out, "--force"]
    for _ in range(2):
        assert main(fit) == 0
        assert main(["transform", "m.npz", name, "-o", out, "--force"]) == 0
        assert main(["plot", "m.npz", "-o", "p.png"]) == 0
    assert {*os.listdir()} == {name, out, "m.npz", "p.png"}


def test_an_error_has_the_path_as_it_is_typed():
    """Backslashes are not doubled."""
    out = Path("a\\b.npy")
    np.save(out, X)
    mapped = np.load(out, mmap_mode="r")
    options = dict(checkpoint=out, max_iter=1, tol=0)
    for call, given in (
        (lambda: snmf.factorize(X, 2, **options), "checkpoint '{}' cannot be read"),
        (lambda: snmf.factorize(X, 2, out=out, **options), "got '{}' for both"),
        (lambda: snmf.factorize(mapped, 2, out=out), "got '{}'"),
    ):
        with pytest.raises(ValueError, match="npy") as refused:
            call()
        paths = (out, out.resolve())
        assert any(given.format(path) in str(refused.value) for path in paths)


def test_a_file_is_synchronised_by_a_handle_that_may_write(monkeypatch):
    """On Windows, os.fsync refuses any other."""
    modes = []

    def fsync(handle):
        if not os.path.isdir(f"/proc/self/fd/{handle}"):
            modes.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing("a.txt") as new:
        new.write_text("whole", encoding="utf-8")
    assert modes == [os.O_RDWR]
