"""The functions `save` and `load`: fitted models in files.

A model file is an ``.npz`` of plain arrays with a header in JSON. It is never a pickle, so that
loading it runs no code from the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import check_is_fitted

from snmf import __version__
from snmf._convex import ConvexNMF
from snmf._estimator import SNMF
from snmf._hierarchy import HierarchicalSNMF
from snmf._minibatch import MiniBatchSNMF
from snmf.backends import Backend, owner
from snmf.storage.atomic import replacing
from snmf.storage.entries import check_places
from snmf.storage.npz import (
    DAMAGE,
    Arrays,
    RefusedError,
    check_finite,
    check_floats,
    is_npz_with,
)

FORMAT = "snmf model"
VERSION = 1  # of the format: raise it when an older snmf cannot read the new files
HEADER = "snmf_model"

KINDS = "biuf"  # of arrays
NUMBERS = ("penalty_", "rms_", "reconstruction_err_")
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")  # of a random_state
CLASSES: dict[str, type] = {
    "SNMF": SNMF,
    "MiniBatchSNMF": MiniBatchSNMF,
    "ConvexNMF": ConvexNMF,
    "HierarchicalSNMF": HierarchicalSNMF,
    "Backend": Backend,
}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted model.

    Parameters
    ----------
    model : SNMF, MiniBatchSNMF, ConvexNMF or HierarchicalSNMF
        The fitted model. Arrays on a device are saved as NumPy arrays.
    path : path-like
        The file, by custom ``….npz``. A file of that name is replaced, whatever it is, as by
        `numpy.save`. The new file is complete before it replaces the old one.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    TypeError
        If the model is not one of snmf, or if a parameter or an attribute is neither an array nor
        a value that JSON can hold.
    ValueError
        If a fitted array has NaN or infinity.
    OSError
        If the file cannot be written. A file that existed is then unchanged.

    See Also
    --------
    load : Load the model.

    Notes
    -----
    `numpy.load` reads the file too. Its arrays have the names of the fitted attributes, such as
    ``components_``; ``snmf_model`` is the header.

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
    if not _is_estimator(model):
        *names, last = (name for name, cls in CLASSES.items() if cls is not Backend)
        raise TypeError(
            f"model must be a fitted {', '.join(names)} or {last}; got {type(model).__qualname__}. "
            "Give it as snmf.save(model, path)."
        )
    check_is_fitted(model)
    arrays: dict[str, np.ndarray] = {}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"snmf {__version__}",
        **_pack_model(model, "", arrays),
    }
    text = np.frombuffer(json.dumps(header, ensure_ascii=False).encode(), np.uint8)
    with replacing(path) as new, new.open("xb") as file:
        np.savez(file, allow_pickle=False, **{HEADER: text}, **arrays)


def load(path: str | os.PathLike[str], *, classes: Iterable[type] = ()) -> Any:
    """Load a model that `save` has written.

    Parameters
    ----------
    path : path-like
        The file.
    classes : iterable of type, default=()
        Allows the file to name your own classes: subclasses of the estimators, and backends.
        `load` runs and imports no other code.

    Returns
    -------
    model : SNMF, MiniBatchSNMF, ConvexNMF or HierarchicalSNMF
        The fitted model. `transform` returns the same values as before, to the bit.

    Raises
    ------
    ValueError
        If the file is no model file, is damaged, or needs a newer snmf or a class that is not in
        `classes`. Sizes are checked before any array is read.
    OSError
        If the file cannot be read.
    """
    known = CLASSES | {cls.__name__: cls for cls in classes}
    header, arrays = _opened(path)
    try:
        model = _unpack_model(header, arrays, known)
        check_is_fitted(model)
    except RefusedError:
        raise
    except DAMAGE as error:
        raise _refusal(path, f"got one that is damaged ({error})") from error
    return model


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether the file exists, and has the header of a model."""
    return is_npz_with(path, HEADER)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the header of a model file: format, version, class, parameters, attributes.

    Raises
    ------
    ValueError
        If the file is no model file, or has a newer format.
    """
    return _opened(path)[0]


def _opened(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Return the header of a model file, and its arrays."""
    try:
        arrays = Arrays(path)
    except DAMAGE as error:
        raise _refusal(path, f"got something else, or one that is damaged ({error})") from error
    if HEADER not in arrays.names:
        raise _refusal(path, f"got an .npz with the arrays {arrays.names[:10]}")
    try:
        header = arrays.header(HEADER)
        if header["format"] != FORMAT or not isinstance(header["version"], int):
            raise ValueError(f"its header must name the format {FORMAT!r} and a version")
    except DAMAGE as error:
        raise _refusal(path, f"got one that is damaged ({error})") from error
    if header["version"] > VERSION:
        raise _refusal(
            path,
            f"up to version {VERSION} of the format; got version {header['version']}, "
            f"written by {header.get('written_by')}. Upgrade snmf.",
        )
    return header, arrays


def _refusal(path: str | os.PathLike[str], what: str) -> ValueError:
    return RefusedError(f"{os.fspath(path)}: expected a model file of snmf, {what}")


def _is_estimator(value: Any) -> bool:
    return isinstance(value, tuple(cls for cls in CLASSES.values() if cls is not Backend))


def _class_name(value: Any) -> str:
    cls = type(value)
    if CLASSES.get(cls.__name__, cls) is not cls:
        raise TypeError(
            f"{cls.__qualname__} has the name of a class of snmf. Rename your class to save it."
        )
    return cls.__name__


def _known_class(name: str, known: dict[str, type]) -> Any:
    if name not in known:
        raise RefusedError(
            f"The file names the class {name!r}, which snmf does not know. Pass your class: "
            f"snmf.load(path, classes=[{name}])"
        )
    return known[name]


def _check_claims(attributes: dict[str, Any], arrays: Arrays) -> None:
    """Raise ValueError if the components do not have the shape of the model; read nothing."""
    shape = tuple(attributes[name] for name in ("n_components_", "n_features_in_"))
    if not all(isinstance(length, int) and length > 0 for length in shape):
        raise ValueError(f"n_components_ and n_features_in_ must be positive; got {shape}")
    # convex NMF with a kernel has a combination of candidates, and no components
    factor = "components_" if "components_" in attributes else "combination_"
    claim = arrays.claim(attributes[factor]["name"])
    if factor == "combination_":
        shape = (shape[0], *claim.shape[1:2])
    check_floats(factor, shape, claim.shape, claim.dtype)


def _check_attributes(cls: type, values: dict[str, Any]) -> None:
    check = _check_levels if issubclass(cls, HierarchicalSNMF) else _check_values
    check(values)


def _check_values(values: dict[str, Any]) -> None:
    """Raise ValueError if a fitted number or array has a value that no fit returns."""
    k, p = values["n_components_"], values["n_features_in_"]
    m = k + (values.get("intercept_") is not None)
    shapes: dict[str, tuple[int, ...]] = {
        "components_": (k, p),
        "intercept_": (p,),
        "scale_": (p,),
        "_stream.H": (m, p),
        "_stream.S": (m, p),
        "_stream.T": (m, m),
        "_stream.mean": (p,),
    }
    if "combination_" in values:
        m = values["combination_"].shape[-1]
        shapes |= {"combination_": (k, m), "gram_": (k, k), "candidates_": (m, p)}
    if "loss_curve_" in values:
        shapes["loss_curve_"] = (values["n_iter_"] + 1,)
    _check_arrays(shapes, values)
    for name in values.keys() & NUMBERS:
        value = values[name]
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            raise ValueError(f"{name} must be a finite number from 0; got {value!r}")


def _check_levels(values: dict[str, Any]) -> None:
    """Raise ValueError if the levels of a hierarchy do not fit together."""
    levels, p = values["levels_"], values["n_features_in_"]
    if not levels or any(level.n_features_in_ != p for level in levels):
        raise ValueError(f"levels_ must be models of {p} features")
    sizes = [level.n_components_ for level in levels]
    if len(values["mixtures_"]) != len(sizes) - 1:
        raise ValueError(f"mixtures_ must be {len(sizes) - 1}; got {len(values['mixtures_'])}")
    shapes: dict[str, tuple[int, ...]] = {
        f"mixtures_.{i}": shape for i, shape in enumerate(pairwise(sizes))
    }
    found = {f"mixtures_.{i}": V for i, V in enumerate(values["mixtures_"])}
    _check_arrays({**shapes, "errors_": (len(sizes),)}, {**found, "errors_": values["errors_"]})


def _check_arrays(shapes: dict[str, tuple[int, ...]], values: dict[str, Any]) -> None:
    """Raise ValueError if one of these arrays has another shape, no floats, or NaN or infinity."""
    for name in shapes.keys() & values.keys():
        if (A := values[name]) is None:  # a model without an intercept or a scale
            continue
        check_floats(name, shapes[name], A.shape, A.dtype)
        check_finite(name, A)


def _flat(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes, with the items of dictionaries under the names of `_pack`."""
    items = [(name, value) for name, value in attributes.items() if isinstance(value, dict)]
    return attributes | {f"{name}.{key}": v for name, value in items for key, v in value.items()}


def _pack_model(model: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return class, parameters and attributes for JSON; put arrays into `arrays`, with a prefix."""
    parameters = model.get_params(deep=False)
    attributes = {name: value for name, value in vars(model).items() if name not in parameters}
    own: dict[str, np.ndarray] = {}
    packed = {
        "class": _class_name(model),
        "parameters": {n: _pack(value, prefix + n, own) for n, value in parameters.items()},
        "attributes": {n: _pack(value, prefix + n, own) for n, value in attributes.items()},
    }
    if attributes:  # a model that is a parameter is not fitted
        values = {name.removeprefix(prefix): A for name, A in own.items()}
        _check_attributes(type(model), attributes | values)
    arrays.update(own)
    return packed


def _unpack_model(packed: dict[str, Any], arrays: Arrays, known: dict[str, type]) -> Any:
    cls = _known_class(packed["class"], known)
    if packed["attributes"] and not issubclass(cls, HierarchicalSNMF):
        _check_claims(packed["attributes"], arrays)
    parameters = {n: _unpack(value, arrays, known) for n, value in packed["parameters"].items()}
    attributes = {n: _unpack(value, arrays, known) for n, value in packed["attributes"].items()}
    model = cls(**parameters)
    if taken := [name for name in attributes if hasattr(model, name)]:
        raise ValueError(f"attributes that are not data: {taken}")
    vars(model).update(attributes)
    if attributes:
        _check_attributes(cls, _flat(attributes))
    return model


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return the value for JSON: plain, or {"is": kind, …}; put arrays into `arrays`."""
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
    if _is_estimator(value):
        return {"is": "model", **_pack_model(value, f"{name}.", arrays)}
    if issparse(value):
        parts = _pack([value.data, value.indices, value.indptr], name, arrays)
        return {"is": "CSR", "shape": list(value.shape), "parts": parts}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        host = owner(value).to_host(value)
        if host.dtype.kind in KINDS:
            arrays[name] = host
            return {"is": "array", "name": name}
        if host.dtype.kind in "OU" and all(isinstance(item, str) for item in host.flat):
            return {"is": "strings", "dtype": host.dtype.str, "items": host.tolist()}
    advice = "Set it to a string, a number or None first."
    if callable(value):
        advice = "Pickle the model to keep a function, or name a kernel of scikit-learn instead."
    raise TypeError(
        f"{name} must be an array, or what JSON holds, to be saved; got {value!r}. {advice}"
    )


def _unpack(value: Any, arrays: Arrays, known: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        return value

    def again(value: Any) -> Any:
        return _unpack(value, arrays, known)

    def array() -> np.ndarray:
        name = value["name"]
        if (dtype := arrays.claim(name).dtype).kind not in KINDS:
            raise ValueError(f"{name} must be of numbers; got dtype {dtype}")
        return arrays[name]

    def strings() -> np.ndarray:
        kind = np.dtype(value["dtype"]).kind  # the width follows from the strings
        return np.array(value["items"], dtype={"O": object, "U": str}[kind])

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
        check_places(A)  # SciPy would read outside of the arrays if an index is wrong
        return A

    kinds: dict[str, Callable[[], Any]] = {
        "array": array,
        "strings": strings,
        "list": lambda: [again(item) for item in value["items"]],
        "tuple": lambda: tuple(again(item) for item in value["items"]),
        "dict": lambda: {key: again(item) for key, item in value["items"].items()},
        "Backend": backend,
        "CSR": rows,
        "model": lambda: _unpack_model(value, arrays, known),
        "RandomState": random_state,
        "Generator": generator,
    }
    return kinds[value["is"]]()


def _bit_generator(state: Any) -> Any:
    """Return NumPy's bit generator for this state; the caller sets the state."""
    name = state["bit_generator"] if isinstance(state, dict) else state[0]
    if name not in BIT_GENERATORS:
        raise ValueError(f"{name!r} is none of {BIT_GENERATORS}")
    return getattr(np.random, name)()
