"""Fitted models in files: one ``.npz`` of plain arrays and a header in JSON, never a pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import check_is_fitted

from snmf import __version__
from snmf._estimator import SNMF
from snmf._minibatch import MiniBatchSNMF
from snmf._whole import replacing
from snmf.backends import Backend, owner

FORMAT = "snmf model"
VERSION = 1  # of the format: raised where an older snmf could not read the file
HEADER = "snmf_model"

BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")  # of a random_state
CLASSES: dict[str, type] = {"SNMF": SNMF, "MiniBatchSNMF": MiniBatchSNMF, "Backend": Backend}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted model.

    Parameters
    ----------
    model : SNMF
        Fitted. Arrays on a device are saved as NumPy arrays.
    path : path-like
        By custom it ends in ``.npz``. The file is written beside it, and takes its place whole.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    TypeError
        If a parameter or an attribute is neither an array nor anything that JSON holds.
    OSError
        If the file cannot be written; what was there is as it was.

    See Also
    --------
    load : The way back.

    Notes
    -----
    `numpy.load` reads the file too: fitted arrays have their own names in it, as
    ``components_``, and ``snmf_model`` is the header.

    Examples
    --------
    >>> import os, tempfile, numpy as np, snmf
    >>> X = np.random.default_rng(0).normal(size=(30, 5))
    >>> model = snmf.SNMF(2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     snmf.save(model, os.path.join(folder, "model.npz"))
    ...     again = snmf.load(os.path.join(folder, "model.npz"))
    >>> bool(np.all(again.transform(X) == model.transform(X)))
    True
    """
    check_is_fitted(model)
    arrays: dict[str, np.ndarray] = {}
    parameters = model.get_params(deep=False)
    attributes = {name: value for name, value in vars(model).items() if name not in parameters}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"snmf {__version__}",
        "class": _class_name(model),
        "parameters": {name: _pack(value, name, arrays) for name, value in parameters.items()},
        "attributes": {name: _pack(value, name, arrays) for name, value in attributes.items()},
    }
    text = np.frombuffer(json.dumps(header, ensure_ascii=False).encode(), np.uint8)
    with replacing(path) as new, new.open("xb") as file:
        np.savez(file, allow_pickle=False, **{HEADER: text}, **arrays)


def load(path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> Any:
    """Load a model that `save` has written.

    Parameters
    ----------
    path : path-like
    classes : iterable of type, default=()
        Classes of your own that the file may name: subclasses of estimators, and backends.
        No other code is run or imported, whatever the file says.

    Returns
    -------
    model : SNMF
        Fitted: `transform` gives what it gave before, to the bit.

    Raises
    ------
    ValueError
        If the file is no model file, is damaged, or needs a newer snmf or a class not given.
    OSError
        If it cannot be read.
    """
    known = CLASSES | {cls.__name__: cls for cls in classes}
    header, arrays = read_header(path), _Arrays(path)
    try:
        cls = _known_class(header["class"], known)
        parameters = {n: _unpack(v, arrays, known) for n, v in header["parameters"].items()}
        attributes = {n: _unpack(v, arrays, known) for n, v in header["attributes"].items()}
        model = cls(**parameters)
        if taken := [name for name in attributes if hasattr(model, name)]:
            raise ValueError(f"attributes that are not data: {taken}")
        vars(model).update(attributes)
        check_is_fitted(model)
        _check_shapes(model)
    except RefusedError:
        raise
    except (*DAMAGE, AttributeError) as error:
        raise _refusal(path, f"got one that is damaged ({error})") from error
    return model


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether that is the name of a file that claims to be a model."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return f"{HEADER}.npy" in file.namelist()


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model file says of itself: format, version, class, parameters, attributes.

    Raises
    ------
    ValueError
        If it is no model file, or of a newer format.
    """
    arrays = _Arrays(path)
    if HEADER not in arrays.names:
        raise _refusal(path, f"got an .npz with the arrays {arrays.names[:10]}")
    try:
        header = json.loads(arrays[HEADER].tobytes())
        if header["format"] != FORMAT or not isinstance(header["version"], int):
            raise ValueError("its header says nothing of the kind")
    except DAMAGE as error:
        raise _refusal(path, f"got one that is damaged ({error})") from error
    if header["version"] > VERSION:
        raise _refusal(
            path,
            f"up to version {VERSION} of the format; got version {header['version']}, "
            f"written by {header.get('written_by')}. Upgrade snmf.",
        )
    return header  # type: ignore[no-any-return]


DAMAGE = (ValueError, TypeError, KeyError, EOFError, NotImplementedError, RuntimeError,
          zipfile.BadZipFile, zlib.error)  # fmt: skip


class RefusedError(ValueError):
    """What was said of the file already."""


def _refusal(path: str | os.PathLike[str], what: str) -> ValueError:
    return RefusedError(f"{os.fspath(path)}: expected a model file of snmf, {what}")


class _Arrays:
    """The arrays of an .npz by name, each read whole, so that its checksum is looked at."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self.path.open("rb"):  # an OSError is one, not damage
            pass
        try:
            with zipfile.ZipFile(self.path) as file:
                broken = file.testzip()
                self.names = [name.removesuffix(".npy") for name in file.namelist()]
        except (*DAMAGE, OSError) as error:  # a seek to nowhere, too
            raise _refusal(path, f"got something else, or one cut short ({error})") from error
        if broken:
            raise _refusal(path, f"got one that is damaged (in {broken})")

    def __getitem__(self, name: str) -> np.ndarray:
        with np.load(self.path, allow_pickle=False) as file:
            return file[name]  # type: ignore[no-any-return]


def _class_name(value: Any) -> str:
    cls = type(value)
    if CLASSES.get(cls.__name__, cls) is not cls:
        raise TypeError(f"{cls.__qualname__} has the name of a class of snmf: rename it to save it")
    return cls.__name__


def _known_class(name: str, known: dict[str, type]) -> Any:
    if name not in known:
        raise RefusedError(
            f"The file names the class {name!r}, and none of that name is known: give yours "
            f"as snmf.load(path, classes=[{name}])"
        )
    return known[name]


def _check_shapes(model: Any) -> None:
    shape = (model.n_components_, model.n_features_in_)
    if model.components_.shape != shape or model.components_.dtype.kind != "f":
        raise ValueError(
            f"components_ must be of shape {shape}; got {model.components_.shape} of dtype "
            f"{model.components_.dtype}"
        )


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value in JSON: plain, or {"is": kind, …}; arrays go to `arrays` under their name."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return {"is": type(value).__name__, "items": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        named = {key: _pack(item, f"{name}.{key}", arrays) for key, item in value.items()}
        return {"is": "dict", "items": named}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        if isinstance(value, np.random.RandomState):
            state = dict(value.get_state(legacy=False))
        else:
            state = dict(value.bit_generator.state)
        if state["bit_generator"] in BIT_GENERATORS:
            return {"is": type(value).__name__, "state": _pack(state, name, arrays)}
    if isinstance(value, Backend):
        packed = _pack(vars(value), name, arrays)
        return {"is": "Backend", "class": _class_name(value), "state": packed}
    if issparse(value):
        parts = _pack([value.data, value.indices, value.indptr], name, arrays)
        return {"is": "CSR", "shape": list(value.shape), "parts": parts}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        host = owner(value).to_host(value)
        if host.dtype.kind in "biuf":
            arrays[name] = host
            return {"is": "array", "name": name}
        if host.dtype.kind in "OU" and all(isinstance(item, str) for item in host.flat):
            return {"is": "strings", "dtype": host.dtype.str, "items": host.tolist()}
    raise TypeError(
        f"{name} must be an array, or what JSON holds, to be saved; got {value!r}. "
        "Set it to its name, or to None, first."
    )


def _unpack(value: Any, arrays: _Arrays, known: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value

    def again(value: Any) -> Any:
        return _unpack(value, arrays, known)

    def backend() -> Backend:
        cls = _known_class(value["class"], known)
        if not issubclass(cls, Backend):
            raise TypeError(f"{cls.__name__} is not a Backend")
        made: Backend = cls.__new__(cls)
        vars(made).update(again(value["state"]))
        return made

    def random_state() -> np.random.RandomState:
        state = again(value["state"])
        rng = np.random.RandomState(_bit_generator(state))
        rng.set_state(state)
        return rng

    def generator() -> np.random.Generator:
        state = again(value["state"])
        rng = np.random.Generator(_bit_generator(state))
        rng.bit_generator.state = state
        return rng

    def rows() -> Any:
        A = csr_array(tuple(again(value["parts"])), shape=tuple(value["shape"]))
        A.check_format()  # not left to what looks for entries where there are none
        return A

    kinds: dict[str, Callable[[], Any]] = {
        "array": lambda: arrays[value["name"]],
        "strings": lambda: np.array(value["items"], dtype=value["dtype"]),
        "list": lambda: [again(item) for item in value["items"]],
        "tuple": lambda: tuple(again(item) for item in value["items"]),
        "dict": lambda: {key: again(item) for key, item in value["items"].items()},
        "Backend": backend,
        "CSR": rows,
        "RandomState": random_state,
        "Generator": generator,
    }
    return kinds[value["is"]]()


def _bit_generator(state: Any) -> Any:
    """One of NumPy's, that the state is of; its own state is not set."""
    name = state["bit_generator"] if isinstance(state, dict) else state[0]
    if name not in BIT_GENERATORS:
        raise ValueError(f"{name!r} is none of {BIT_GENERATORS}")
    return getattr(np.random, name)()
