"""Saved models: what comes back is what was saved, to the bit, or an error that says why not."""

import copy
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

import snmf
from snmf import SNMF, MiniBatchSNMF, _model_file
from snmf.backends import Backend
from snmf.storage.atomic import replacing

X = np.random.default_rng(0).standard_normal((80, 6))


class Ours(SNMF):
    pass


class Doubled(Backend):
    def __init__(self, factor=2.0):
        super().__init__("numpy")
        self.factor = factor


def fitted(data=X, **parameters):
    return SNMF(
        **{"n_components": 3, "random_state": 0, "max_iter": 30, "tol": 0, **parameters}
    ).fit(data)


def same(model, again, data):
    assert type(again) is type(model)
    assert {*vars(again)} == {*vars(model)}
    assert again.get_params().keys() == model.get_params().keys()
    np.testing.assert_array_equal(again.transform(data), model.transform(data))
    for name in ("components_", "loss_curve_"):
        assert getattr(again, name).dtype == getattr(model, name).dtype
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    for name in ("n_components_", "n_iter_", "reconstruction_err_", "penalty_", "n_features_in_"):
        assert getattr(again, name) == getattr(model, name)


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (X, {}),
        (X.astype("float32"), {"sparsity": 0.1, "solver": "hals", "n_components": np.int64(2)}),
        (np.asfortranarray(X * 1e-200), {"init": "svd", "n_jobs": 2}),
        (sparse.random_array((80, 6), density=0.4, rng=0, format="csr"), {}),
        (pd.DataFrame(X, columns=[*"abcdé", "f\0"]), {}),
    ],
)
def test_round_trip_to_the_bit(tmp_path, data, parameters):
    model = fitted(data, **parameters)
    snmf.save(model, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    same(model, again, data)
    assert again.get_params() == model.get_params()
    if isinstance(data, pd.DataFrame):
        assert again.feature_names_in_.dtype == object
        assert list(again.feature_names_in_) == list(data.columns)
        with pytest.raises(ValueError, match="feature names"):
            again.transform(data[data.columns[::-1]])


def test_state_that_is_neither_array_nor_json_is_kept_where_it_is_known(tmp_path):
    rng = np.random.RandomState(3)
    model = fitted(random_state=rng).set_output(transform="pandas")
    snmf.save(model, str(tmp_path / "model.npz"))
    again = snmf.load(str(tmp_path / "model.npz"))
    assert isinstance(again.transform(X), pd.DataFrame)
    np.testing.assert_array_equal(again.random_state.random(5), rng.random(5))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_a_stream_goes_on_from_few_rows_that_were_saved(tmp_path, make):
    stream = snmf.MiniBatchSNMF(3, random_state=0, progress_bar=False)
    stream.partial_fit(make(X[:9]), sample_weight=np.arange(9))
    snmf.save(stream, tmp_path / "stream.npz")
    again = snmf.load(tmp_path / "stream.npz")
    for model in (stream, again):
        model.partial_fit(make(X[9:]))
    np.testing.assert_array_equal(stream.components_, again.components_)


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
@pytest.mark.parametrize("make", [np.random.Generator, np.random.RandomState])
def test_a_generator_comes_back_in_its_state(tmp_path, make, name):
    rng = make(getattr(np.random, name)(3))
    model = fitted(random_state=rng, init="random")
    rng.normal()  # of RandomState that leaves another one behind
    snmf.save(model, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    assert type(again.random_state) is make
    np.testing.assert_array_equal(again.random_state.normal(size=5), rng.normal(size=5))
    np.testing.assert_array_equal(again.fit(X).components_, model.fit(X).components_)


def test_a_generator_of_ones_own_is_refused(tmp_path):
    class Own(np.random.PCG64):
        @property
        def state(self):
            return {**super().state, "bit_generator": "Own"}

    with pytest.raises(TypeError, match="random_state must be an array, or what JSON holds"):
        snmf.save(fitted(random_state=np.random.Generator(Own(0))), tmp_path / "model.npz")


def test_arrays_of_another_library_come_back_as_numpy(tmp_path):
    xp = pytest.importorskip("array_api_strict")
    model = fitted(xp.asarray(X))
    assert not isinstance(model.components_, np.ndarray)
    snmf.save(model, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    assert isinstance(again.components_, np.ndarray)
    np.testing.assert_array_equal(again.components_, np.from_dlpack(model.components_))
    there = np.from_dlpack(model.transform(xp.asarray(X)))
    np.testing.assert_array_equal(np.from_dlpack(again.transform(xp.asarray(X))), there)


def test_classes_of_ones_own_are_named_and_given(tmp_path):
    path = tmp_path / "model.npz"
    model = Ours(2, backend=Doubled(3.0), random_state=0).fit(X)
    snmf.save(model, path)
    again = snmf.load(path, classes=[Ours, Doubled])
    same(model, again, X)
    assert again.backend == Doubled(3.0) != Doubled()
    for classes, missing in (([], "Ours"), ([Ours], "Doubled")):
        with pytest.raises(ValueError, match=f"classes=.{missing}."):
            snmf.load(path, classes=classes)
    with pytest.raises(ValueError, match=r"damaged .*not a Backend"):
        snmf.load(path, classes=[Ours, type("Doubled", (), {})])


def test_an_instance_of_the_base_backend(tmp_path):
    model = fitted(backend=Backend("numpy"))
    snmf.save(model, tmp_path / "model.npz")
    same(model, snmf.load(tmp_path / "model.npz"), X)


def test_any_future_class_is_a_row_of_the_table(tmp_path, monkeypatch):
    class Later(BaseEstimator):
        def __init__(self, decay=0.5):
            self.decay = decay

        def fit(self, X):
            self.components_, self._sums = np.asarray(X), [np.ones((2, 2)), 3]
            self.n_components_, self.n_features_in_ = X.shape
            return self

    monkeypatch.setitem(_model_file.CLASSES, "Later", Later)
    snmf.save(Later(0.25).fit(X), tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    assert (type(again), again.decay, again._sums[1]) == (Later, 0.25, 3)
    np.testing.assert_array_equal(again._sums[0], np.ones((2, 2)))


def test_what_cannot_be_saved_is_refused_and_leaves_no_file(tmp_path):
    path = tmp_path / "model.npz"
    for unfitted in (SNMF(), MiniBatchSNMF()):
        with pytest.raises(NotFittedError):
            snmf.save(unfitted, path)
    for other in (PCA(2).fit(X), PCA(2), SNMF, snmf.backends.Backend("numpy"), path, None):
        with pytest.raises(
            TypeError, match=r"model must be a fitted SNMF, MiniBatchSNMF, ConvexNMF or H"
        ):
            snmf.save(other, path)
    model = fitted()
    with pytest.raises(TypeError, match=r"device must be an array.*got <object"):
        snmf.save(model.set_params(device=object()), path)
    with pytest.raises(TypeError, match="name of a class of snmf"):
        snmf.save(type("SNMF", (SNMF,), {})(2).fit(X), path)
    model.set_params(device=None).note_ = lambda: 0
    with pytest.raises(TypeError, match="note_ must be"):
        snmf.save(model, path)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def hierarchy():
    estimator = SNMF(scale=np.arange(1.0, 7), max_iter=9, tol=0, progress_bar=False)
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    return snmf.HierarchicalSNMF((4, 3, 2), estimator, random_state=0).fit(frame)


def test_a_hierarchy_comes_back_with_its_levels(tmp_path, hierarchy):
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    snmf.save(hierarchy, tmp_path / "model.npz")
    again = snmf.load(tmp_path / "model.npz")
    assert {*vars(again)} == {*vars(hierarchy)}
    for level in range(3):
        W = hierarchy.transform(frame, level=level)
        np.testing.assert_array_equal(again.transform(frame, level=level), W)
        assert {*vars(again.levels_[level])} == {*vars(hierarchy.levels_[level])}
    assert again.tree() == hierarchy.tree()
    assert again.n_components == (4, 3, 2)
    np.testing.assert_array_equal(again.estimator.scale, hierarchy.estimator.scale)
    assert not hasattr(again.estimator, "components_")
    np.testing.assert_array_equal(again.fit(frame).errors_, hierarchy.errors_)


@pytest.mark.parametrize(
    ("change", "arrays", "words"),
    [
        (
            lambda h: None,
            {"mixtures_.0": np.ones((4, 2))},
            r"mixtures_.0 must be of shape \(4, 3\)",
        ),
        (lambda h: None, {"mixtures_.1": np.full((3, 2), np.nan)}, "mixtures_.1 must be finite"),
        (lambda h: None, {"errors_": np.ones(2)}, r"errors_ must be of shape \(3,\)"),
        (lambda h: None, {"levels_.1.components_": np.ones((3, 5))}, r"of shape \(3, 6\)"),
        (lambda h: h["attributes"]["levels_"]["items"].pop(), {}, "mixtures_ must be 1; got 2"),
        (
            lambda h: h["attributes"].update(n_features_in_=5),
            {},
            "levels_ must be models of 5 feat",
        ),
        (
            lambda h: h["attributes"]["levels_"]["items"][0].update({"class": "os.system"}),
            {},
            "class 'os.system'",
        ),
        (
            lambda h: h["attributes"]["levels_"]["items"][0]["attributes"].clear(),
            {},
            "damaged",
        ),
    ],
)
def test_levels_that_do_not_fit_together_are_refused(tmp_path, hierarchy, change, arrays, words):
    path = tmp_path / "model.npz"
    snmf.save(hierarchy, path)
    rewritten(path, change, **arrays)
    with pytest.raises(ValueError, match=words):
        snmf.load(path)
    hierarchy.mixtures_[0][0, 0] = np.inf
    with pytest.raises(ValueError, match=r"mixtures_.0 must be finite"):
        snmf.save(hierarchy, path)


def test_numpy_reads_it_and_no_pickle_is_in_it(tmp_path):
    model = fitted(pd.DataFrame(X, columns=list("abcdef")))
    snmf.save(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert {*file.files} == {"snmf_model", "components_", "loss_curve_"}
        assert all(file[name].dtype.kind in "uf" for name in file.files)
        header = json.loads(file["snmf_model"].tobytes())
    assert header["format"] == "snmf model"
    assert header["version"] == _model_file.VERSION
    assert header["written_by"] == f"snmf {snmf.__version__}"
    assert header["parameters"]["max_iter"] == 30


def rewritten(path, change=lambda header: None, **arrays):
    with np.load(path) as file:
        contents = dict(file)
    header = json.loads(contents["snmf_model"].tobytes())
    change(header)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **{**contents, "snmf_model": text, **arrays})


@pytest.mark.parametrize(
    ("change", "arrays", "words"),
    [
        (
            lambda h: h.update(version=2, written_by="snmf 9"),
            {},
            "version 2, written by snmf 9. Up",
        ),
        (lambda h: h.update(format="other"), {}, "its header must name the format"),
        (lambda h: h.update({"class": "os.system"}), {}, "class 'os.system'"),
        (lambda h: h["parameters"].update(nope=1), {}, "damaged .*nope"),
        (lambda h: h["attributes"].update(transform=1), {}, "not data: .'transform'"),
        (lambda h: h["attributes"].pop("n_components_"), {}, "damaged .*n_components_"),
        (lambda h: h["attributes"].update(n_components_=4), {}, r"shape \(4, 6\)"),
        (lambda h: h["attributes"].update(penalty_={"is": "code"}), {}, "damaged .'code'"),
        (lambda h: h.pop("attributes"), {}, "damaged .'attributes'"),
        (lambda h: h["attributes"].update(n_components_=-3, n_features_in_=-6), {}, "be positive"),
        (lambda h: h["attributes"].update(n_components_=True), {}, r"shape \(True, 6\)"),
        (lambda h: h["attributes"].update(n_iter_=7), {}, r"loss_curve_ must be of shape \(8,\)"),
        (lambda h: h["attributes"].update(penalty_=float("nan")), {}, "penalty_ must be a finite"),
        (lambda h: h["attributes"].update(penalty_=-1.0), {}, "penalty_ must be a finite"),
        (lambda h: h["attributes"].update(rms_=float("inf")), {}, "rms_ must be a finite .* inf"),
        (lambda h: h["attributes"].update(rms_="1"), {}, "rms_ must be a finite .* '1'"),
        (lambda h: h["attributes"].update(reconstruction_err_=None), {}, "err_ must be a finite"),
        (lambda h: None, {"components_": np.full((3, 6), np.nan)}, "components_ must be finite"),
        (lambda h: None, {"components_": np.full((3, 6), np.inf)}, "components_ must be finite"),
        (lambda h: None, {"components_": np.ones((3, 6), int)}, "of floats; got .* of int64"),
        (lambda h: None, {"components_": np.ones((3, 5))}, r"of shape \(3, 6\) and of floats; got"),
        (lambda h: None, {"loss_curve_": np.full(31, np.nan)}, "loss_curve_ must be finite"),
        (lambda h: None, {"loss_curve_": np.array(["a"] * 31)}, "loss_curve_ must be of numbers"),
        (lambda h: None, {"components_": np.array(["a"])}, "shape"),
        (lambda h: None, {"components_": np.array([{}])}, "damaged .*allow_pickle=False"),
        (lambda h: None, {"snmf_model": np.zeros(3)}, "damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*pickle")
def test_a_file_that_says_otherwise_is_refused(tmp_path, change, arrays, words):
    path = tmp_path / "model.npz"
    snmf.save(fitted(), path)
    rewritten(path, change, **arrays)
    with pytest.raises(ValueError, match=words) as refusal:
        snmf.load(path)
    assert "class '" in str(refusal.value) or str(path) in str(refusal.value)


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path, contents, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in contents:
                archive.writestr(name, content)


def claiming(shape, descr="<f8", data=b"", version=(1, 0)):
    """A .npy that says so of itself."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    getattr(np.lib.format, f"write_array_header_{version[0]}_0")(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (claiming((3, 2**40)), r"components_ says that it is of shape \(3, 1099511627776\)"),
        (claiming((3, 2**40), version=(2, 0)), "of 26388279066624 bytes; it has 0"),
        (claiming((3, 6), data=bytes(3 * 6 * 8 + 1)), "of 144 bytes; it has 145"),
        (claiming((3, 6), data=bytes(3 * 6 * 8 - 1)), "of 144 bytes; it has 143"),
        (claiming((-3, -6), data=bytes(3 * 6 * 8)), r"shape \(-3, -6\)"),
        (claiming((2**62, 6), "|V0"), "must be of shape"),
        (claiming((3, 6), "|O", bytes(3 * 6 * 8)), "allow_pickle=False"),
        (b"\x93NUMPY\x03\x00" + bytes(200), "header of components_ cannot be read"),
        (b"\x93NUMPY\x01\x00\x08\x00{'descr'" + bytes(200), "header of components_ cannot be"),
        (b"", "header of components_ cannot be read"),
    ],
)
def test_what_an_array_claims_is_checked_before_it_is_read(tmp_path, content, words):
    path = tmp_path / "model.npz"
    snmf.save(fitted(), path)
    archived(path, {**entries(path), "components_.npy": content}.items())
    with pytest.raises(ValueError, match=words) as refusal:
        snmf.load(path)
    assert f"{path}: expected a model file of snmf" in str(refusal.value)


@pytest.mark.parametrize("name", ["components_", "loss_curve_", "snmf_model", "more"])
def test_what_is_compressed_beyond_belief_is_not_read(tmp_path, name, monkeypatch):
    path = tmp_path / "model.npz"
    snmf.save(fitted(), path)
    bomb = claiming((2**21, 3), data=bytes(3 * 8 * 2**21))
    archived(path, {**entries(path), f"{name}.npy": bomb}.items(), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(ValueError, match=r"compressed from 503.* bytes to .*, more than snmf"):
        snmf.load(path)


def test_a_model_that_was_compressed_by_other_means_is_read(tmp_path):
    path = tmp_path / "model.npz"
    model = fitted()
    snmf.save(model, path)
    archived(path, entries(path).items(), zipfile.ZIP_DEFLATED)
    same(model, snmf.load(path), X)


def test_arrays_that_lie_over_one_another_or_are_there_twice_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    snmf.save(fitted(), path)
    archived(path, [*entries(path).items(), *entries(path).items()])
    with pytest.raises(ValueError, match="two arrays of one name"):
        snmf.load(path)
    inner = claiming((2**17, 8), data=bytes(8 * 8 * 2**17))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", inner)
        for i in range(1000):  # the same bytes, of a thousand names
            entry = copy.copy(archive.infolist()[0])
            entry.filename = entry.orig_filename = f"a{i}.npy"
            archive.filelist.append(entry)
    with pytest.raises(ValueError, match="its parts overlap"):
        snmf.load(path)


def test_what_load_refuses_is_not_saved(tmp_path):
    for change in (
        {"components_": np.full((3, 6), np.nan)},
        {"components_": np.ones((3, 5))},
        {"penalty_": float("inf")},
    ):
        model = fitted()
        vars(model).update(change)
        with pytest.raises(ValueError, match=next(iter(change))):
            snmf.save(model, tmp_path / "model.npz")
    stream = snmf.MiniBatchSNMF(2, random_state=0).fit(X)
    stream._stream["S"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"_stream.S must be finite"):
        snmf.save(stream, tmp_path / "model.npz")
    assert not any(tmp_path.iterdir())


def test_strings_take_the_room_that_they_need(tmp_path):
    path = tmp_path / "model.npz"
    model = fitted()
    model.note_ = np.array([["a", "bc"]])
    snmf.save(model, path)

    def change(header):
        header["attributes"]["note_"]["dtype"] = "<U100000000"

    rewritten(path, change)
    np.testing.assert_array_equal(snmf.load(path).note_, model.note_)


def test_any_byte_that_is_damaged_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "model.npz"
    model = fitted()
    snmf.save(model, path)
    whole = path.read_bytes()
    noticed = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xA5]) + whole[place + 1 :])
        try:
            same(model, snmf.load(path), X)  # a date, say
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            noticed += 1
    assert noticed > 0.7 * len(whole) / 7


def test_any_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    snmf.save(fitted(), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected a model file of snmf") as refusal:
            snmf.load(path)
        assert str(path) in str(refusal.value)


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=X)
    np.save(tmp_path / "b.npz.npy", X)
    (tmp_path / "c.npz").write_text("a,b\n1,2\n")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=f"{path.name}: expected a model file of snmf"):
            snmf.load(path)
    with pytest.raises(FileNotFoundError):
        snmf.load(tmp_path / "none.npz")
    with pytest.raises(OSError, match=r"directory|denied"):
        snmf.load(tmp_path)


FULL = """
import resource, sys
sys.dont_write_bytecode = True  # half of which would stay
import numpy as np, snmf
X = np.random.default_rng(1).standard_normal((40, 300))
model = snmf.SNMF(20, random_state=0, max_iter=2, tol=0).fit(X)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    snmf.save(model, sys.argv[1])
except OSError as error:
    assert error.filename == sys.argv[1], error.filename
    print("refused")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs limits on the size of files")
def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "model.npz"
    model = fitted()
    snmf.save(model, path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(snmf.__file__).parents[1])},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr
    assert [*tmp_path.iterdir()] == [path]
    same(model, snmf.load(path), X)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_stops_the_writing_nothing_is_left(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")

    def stopped():
        with replacing(path) as new:
            new.write_text("half")
            raise error

    with pytest.raises(error):
        stopped()
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "before"


@pytest.mark.skipif(os.name != "posix", reason="modes, links and devices")
def test_modes_links_and_devices(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o600)
    link.symlink_to(path)
    with replacing(link) as new:
        new.write_text("after")
    assert link.is_symlink()
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="not a regular file"), replacing("/dev/null"):
        pass
    assert Path("/dev/null").is_char_device()


def test_folders_take_the_place_of_folders_only(tmp_path):
    folder = tmp_path / "folder"
    for text in ("before", "after"):
        with replacing(folder) as new:
            new.mkdir()
            (new / "a").write_text(text)
    assert (folder / "a").read_text() == "after"
    with pytest.raises(IsADirectoryError, match="folder"), replacing(folder) as new:
        new.write_text("a file")
    assert [*tmp_path.iterdir()] == [folder]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "file"):
        pass
