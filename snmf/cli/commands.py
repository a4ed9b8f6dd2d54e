"""The commands of the command line: a function for each, of its name.

Each takes the options that `snmf.cli.arguments` parsed, and returns a report: a list of `Fact`.
"""

from __future__ import annotations

import math
import shlex
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snmf import SNMF, ConvexNMF, MiniBatchSNMF, load, plots, save, select_n_components
from snmf._model_file import is_model, read_header
from snmf.cli.arguments import STREAM
from snmf.cli.files import check_writable, read, write
from snmf.cli.outputs import Output, check_outputs, picture_format
from snmf.cli.tables import Reading, Table
from snmf.core.features import largest
from snmf.storage.atomic import replacing
from snmf.storage.rows import NotFiniteError

Array = Any

FITTED_BY = ("n_components", "solver", "sparsity", "init", "n_init", "tol", "max_iter",
             "random_state", "backend", "device", "n_jobs", "locality", "fit_intercept",
             "n_nonzero_features", "positive_components", "scale", "missing_values",
             "checkpoint", "candidates")  # fmt: skip
SELECTED_BY = ("solver", "sparsity", "init", "tol", "max_iter", "scale", "fit_intercept",
               "n_nonzero_features", "positive_components")  # fmt: skip
WHERE = ("backend", "device", "n_jobs")


class Fact(NamedTuple):
    """A line of a report: `value` is for --json, `words` are for people."""

    name: str
    value: Any
    words: str


Report = list[Fact]


def check(options: Namespace) -> None:
    """Raise, before any work is done, if an output would replace a file that must stay."""
    given = vars(options)
    outputs = [Output(given[name], kind) for name, kind in options.outputs.items() if given[name]]
    inputs = [given[name] for name in options.inputs if given[name]]
    check_outputs(outputs, inputs, bool(outputs) and options.force)


def fit(options: Namespace) -> Report:
    """Fit a model to a data file; save the model, and the weights if asked."""
    table = _read(options.file, options, missing=options.missing_values is not None)
    if options.n_components != "auto":
        _tell_of_too_many([options.n_components], table.X.shape)
    model: Any = ConvexNMF() if options.convex else SNMF()
    known = model.get_params()
    model.set_params(**{n: v for n, v in _given(options, FITTED_BY).items() if n in known})
    began = time.perf_counter()
    with _naming_missing_values(options.file), _telling_how_to_go_on(options.checkpoint):
        W = model.fit_transform(table.X)
    seconds = time.perf_counter() - began
    if table.columns is not None:
        model.feature_names_in_ = np.array(table.columns, dtype=object)
    save(model, options.output)
    k, automatic = model.n_components_, options.n_components == "auto"
    report = [
        *_of_table(table),
        _fact("components", k, f"{k} (auto: by the error in held-out entries)")
        if automatic
        else _fact("components", k),
        *_of_fit(model, model.rms_ * table.X.shape[0] ** 0.5),
        _fact("seconds", seconds, f"{seconds:.2f}"),
        _fact("model", str(options.output)),
    ]
    if options.weights is not None:
        write(options.weights, W, model.get_feature_names_out(), table.rows)
        report.append(_fact("weights", str(options.weights)))
    return report


def select(options: Namespace) -> Report:
    """Compare numbers of components by the error in held-out entries."""
    table = _read(options.file, options, missing=options.missing_values is not None)
    _tell_of_too_many(options.n_components, table.X.shape)
    result = select_n_components(
        _whole(table.X, options),
        options.n_components,
        held_out=options.held_out,
        repeats=options.repeats,
        restarts=options.restarts,
        random_state=options.random_state,
        n_jobs=options.n_jobs,
        **_given(options, SELECTED_BY),
    )
    stability = None if result.stability is None else result.stability.tolist()
    best = "none" if result.best is None else result.best
    report = [
        *_of_table(table),
        _fact("n components", result.n_components.tolist(), f"best {best}\n{result}"),
        _fact("errors", result.errors.tolist(), "as in the table"),
        _fact("stability", stability, "not computed" if stability is None else "in the table"),
        _fact("best", result.best, str(best)),
    ]
    if options.plot is not None:
        _save_picture(result.plot(), options.plot)
        report.append(_fact("picture", str(options.plot)))
    return report


def _whole(X: Array, options: Namespace) -> Array:
    """Return the data in memory; raise ValueError if a value is missing and must not be."""
    X = X[:] if hasattr(X, "nnz") else _in_memory(X, options.file)
    if options.missing_values is None:
        rows, columns = (X != X).nonzero()  # only NaN differs from itself
        if len(rows):
            raise _missing_value(options.file, rows[0], columns[0])
    return X


def transform(options: Namespace) -> Report:
    """Compute the weights of a data file with a saved model, and write them."""
    model = _load(options.model).set_params(**_given(options, WHERE))
    table = _read_for(model, options.file, options)
    W = _transform(model, table, options.file)
    write(options.output, W, model.get_feature_names_out(), table.rows)
    return [*_of_table(table), _fact("weights", str(options.output))]


def impute(options: Namespace) -> Report:
    """Fill the missing values of a data file with a saved model, and write the table."""
    model = _load(options.model).set_params(**_given(options, WHERE))
    if model.missing_values is None:
        raise ValueError(f"{options.model}: was fitted without --missing. Fit it with --missing.")
    table = _read_for(model, options.file, options)
    X, names = _in_memory(table.X, options.file), table.columns or _feature_names(model)
    missing = np.isnan(X)
    rows = missing.any(axis=1)
    filled = np.array(X)
    if rows.any():
        W = _transform(model, table._replace(X=X[rows]), options.file)
        filled[missing] = model.inverse_transform(W)[missing[rows]]
    write(options.output, filled, names, table.rows, name="X")
    count = _fact("filled", int(missing.sum()))
    return [*_of_table(table), count, _fact("table", str(options.output))]


def top(options: Namespace) -> Report:
    """List the features of every component with the largest absolute values; none that is 0."""
    if options.output is not None:
        check_writable(options.output, words=True)
    model = _of_components(options.model)
    H, features = np.asarray(model.components_), np.array(_feature_names(model), dtype=object)
    names = model.get_feature_names_out()
    found = {
        str(name): [(str(features[j]), float(h[j])) for j in largest(h, options.n)]
        for name, h in zip(names, H, strict=True)
    }
    if options.output is None:
        return [
            _fact(name, [[*pair] for pair in pairs], ", ".join(f"{f} {v:+.3g}" for f, v in pairs))
            for name, pairs in found.items()
        ]
    lines = [
        [name, rank, *pair] for name, pairs in found.items() for rank, pair in enumerate(pairs, 1)
    ]
    cells = np.array(lines, dtype=object).reshape(-1, 4)
    write(options.output, cells, ["component", "rank", "feature", "value"])
    return [_fact("components", len(H)), _fact("table", str(options.output))]


def _load(path: Path) -> Any:
    """Load a model; raise ValueError if it has several levels."""
    model = load(path)
    if hasattr(model, "levels_"):
        raise ValueError(
            f"{path}: expected a model of one level; got a {type(model).__name__}. Save one of its "
            "levels_ from Python: snmf.save(model.levels_[0], 'level.npz')"
        )
    return model


def _of_components(path: Path) -> Any:
    """Load a model; raise ValueError if its components lie in the space of a kernel."""
    model = _load(path)
    if not hasattr(model, "components_"):
        raise ValueError(
            f"{path}: expected a model with components in the space of X; got one with "
            f"kernel={model.kernel!r}. Fit it with kernel='linear'."
        )
    return model


def components(options: Namespace) -> Report:
    """Write the components of a saved model, with the names of the features, as a table."""
    model = _of_components(options.model)
    H, names = np.asarray(model.components_), [*model.get_feature_names_out()]
    if (intercept := getattr(model, "intercept_", None)) is not None:
        H, names = np.vstack([H, intercept]), [*names, "intercept"]
    if (scale := getattr(model, "scale_", None)) is not None:
        H, names = np.vstack([H, scale]), [*names, "scale"]
    write(options.output, H, _feature_names(model), names, name="H")
    return [_fact("components", len(model.components_)), _fact("table", str(options.output))]


def convert(options: Namespace) -> Report:
    """Write a data file in another format."""
    table = _read(options.file, options, missing=True)
    X = table.X if isinstance(table.X, np.ndarray) else _in_memory(table.X, options.file)
    names = table.columns or [f"x{j}" for j in range(X.shape[1])]
    write(options.output, X, names, table.rows, name="X")
    return [*_of_table(table), _fact("table", str(options.output))]


def _in_memory(X: Array, path: Path) -> np.ndarray:
    if hasattr(X, "nnz"):
        raise ValueError(f"{path}: expected a dense table; got a sparse matrix. Save it as dense.")
    return np.asarray(X[:])


def _feature_names(model: Any) -> list[str]:
    """Return the names of the columns in the fit, or else x0, x1, …, as scikit-learn does."""
    names = getattr(model, "feature_names_in_", None)
    p = model.components_.shape[1]
    return [f"x{j}" for j in range(p)] if names is None else [str(name) for name in names]


def plot(options: Namespace) -> Report:
    """Draw a saved model into a picture file."""
    model = _load(options.model)
    table = None if options.data is None else _read_for(model, options.data, options)
    _save_picture(DRAWN[options.kind](model, table, options), options.output)
    return [_fact("kind", options.kind), _fact("picture", str(options.output))]


def _save_picture(display: Any, path: Path) -> None:
    with replacing(path) as new:
        display.figure_.savefig(new, format=picture_format(path), dpi=150)


def _draw_components(model: Any, table: Table | None, options: Namespace) -> Any:
    return plots.ComponentsDisplay.from_estimator(model, image_shape=options.image_shape)


def _draw_weights(model: Any, table: Table | None, options: Namespace) -> Any:
    assert table is not None
    return plots.WeightsDisplay(_transform(model, table, options.data)).plot()


def _draw_convergence(model: Any, table: Table | None, options: Namespace) -> Any:
    if not hasattr(model, "loss_curve_"):
        raise ValueError(
            f"{options.model}: {type(model).__name__} keeps no loss curve. Draw --kind components "
            "or --kind weights."
        )
    return plots.ConvergenceDisplay.from_estimator(model, table and table.X)


DRAWN: dict[str, Callable[[Any, Table | None, Namespace], Any]] = {
    "components": _draw_components,
    "weights": _draw_weights,
    "convergence": _draw_convergence,
}


def info(options: Namespace) -> Report:
    """Report what is in a model file or a data file."""
    if options.file == STREAM or not (options.file.is_file() and is_model(options.file)):
        return _of_table(_read(options.file, options, missing=True))
    header, model = read_header(options.file), load(options.file)
    p, levels = model.n_features_in_, getattr(model, "levels_", None)
    k = model.n_components_ if levels is None else [level.n_components_ for level in levels]
    of_fit = getattr(model, "estimator", None) or model
    shown = (*FITTED_BY[1:], "kernel")
    parameters = {n: _in_words(v) for n, v in of_fit.get_params().items() if n in shown}
    return [
        _fact("file", header["format"], f"{header['format']}, format {header['version']}"),
        _fact("written by", header["written_by"]),
        _fact("class", header["class"]),
        _fact("components", k),
        _fact("features", p, f"{p}{_some(getattr(model, 'feature_names_in_', None))}"),
        *(_of_fit(model) if levels is None else []),
        _fact("parameters", parameters, ", ".join(f"{n}={v!r}" for n, v in parameters.items())),
    ]


def _in_words(value: Any) -> Any:
    """Return a parameter for a report: an array by its shape, and other objects by their repr."""
    if hasattr(value, "shape"):
        return f"array of shape {value.shape}"
    plain = value is None or isinstance(value, bool | int | float | str | list)
    return value if plain else repr(value)


def demo(options: Namespace) -> Report:
    """Factorise the centred digits of scikit-learn, and save the model."""
    from sklearn.datasets import load_digits

    X = load_digits().data
    X = X - X.mean(axis=0)
    (n, p), k = X.shape, options.components
    _tell_of_too_many([k], X.shape)
    model = SNMF(k, fit_intercept=True, random_state=0)
    began = time.perf_counter()
    W = model.fit_transform(X)
    seconds = time.perf_counter() - began
    save(model, options.output)
    relative = model.reconstruction_err_ / (model.rms_ * n**0.5)
    bound = math.sqrt(plots.svd_bound(X, k))
    words = f"snmf plot {shlex.quote(str(options.output))} --image-shape 8x8 -o parts.png"
    return [
        _fact("digits", [n, p], f"{n} images of {p} pixels, centred, handwritten"),
        _fact("components", k, f"{k}: X ≈ W H, W {W.shape} ≥ 0 and H {model.components_.shape}"),
        _fact("relative error", relative, f"{relative:.4f}"),
        _fact("SVD bound", bound, f"{bound:.4f}   (no factorization of rank {k} is below)"),
        _fact("iterations", model.n_iter_, f"{model.n_iter_} in {seconds:.2f} s"),
        _fact("model", str(options.output), f"{options.output}   (to see it: {words})"),
    ]


def _read(
    path: Path, options: Namespace, missing: bool, known: Sequence[str] | None = None
) -> Table:
    names = ("key", "header", "row_names", "numeric", "decimal", "encoding")
    how = {name: getattr(options, name) for name in names}
    return read(path, Reading(**how, drop=tuple(options.drop), missing=missing, known=known))


def _read_for(model: Any, path: Path, options: Namespace) -> Table:
    """Read data for a model; missing values are allowed if they were in the fit."""
    known = getattr(model, "feature_names_in_", None)
    return _read(path, options, model.missing_values is not None, known)


@contextmanager
def _naming_missing_values(path: Path) -> Iterator[None]:
    try:
        yield
    except NotFiniteError as error:
        if not math.isnan(error.value):
            raise
        raise _missing_value(path, error.row, error.column) from error


def _missing_value(path: Path, row: int, column: int) -> ValueError:
    return ValueError(
        f"{path}: got NaN in row {row}, column {column} (from 0). If such values are missing, fit "
        "with --missing."
    )


@contextmanager
def _telling_how_to_go_on(checkpoint: Path | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        if checkpoint is None or not checkpoint.exists():
            raise
        raise type(stop)(f"the same command continues from {checkpoint}") from stop


def _tell_of_too_many(numbers: Sequence[int], shape: tuple[int, int]) -> None:
    n, p = shape
    if max(numbers) > min(n, p):
        warnings.warn(
            f"{max(numbers)} components are too many for {n} rows and {p} columns: least squares "
            f"determines at most {min(n, p)}. Lower -k.",
            stacklevel=2,
        )


def _given(options: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _transform(model: Any, table: Table, path: Path) -> np.ndarray:
    expected = getattr(model, "feature_names_in_", None)
    if expected is not None and table.columns is not None:
        del model.feature_names_in_  # X has no names for scikit-learn, so compare them here
        if table.columns != list(expected):
            raise ValueError(f"{path}: {_difference(list(expected), table.columns)}")
    elif expected is not None:
        del model.feature_names_in_
    with _naming_missing_values(path):
        return model.transform(table.X)  # type: ignore[no-any-return]


def _difference(expected: list[str], columns: list[str]) -> str:
    if missing := [name for name in expected if name not in columns]:
        return f"the file lacks columns of the fit: {', '.join(missing[:10])}. Add them."
    if more := [name for name in columns if name not in expected]:
        words = shlex.quote(",".join(more[:10]))
        return f"the file has columns that were not in the fit. Leave them out: --drop {words}"
    return f"the columns must be in the order of the fit: {', '.join(expected[:30])}"


def _fact(name: str, value: Any, words: str | None = None) -> Fact:
    return Fact(name, value, str(value) if words is None else words)


def _of_table(table: Table) -> Report:
    n, p = table.X.shape
    return [
        _fact("data", table.kind, f"{table.kind} ({table.X.dtype})"),
        _fact("samples", n, f"{n}{_some(table.rows)}"),
        _fact("features", p, f"{p}{_some(table.columns)}"),
        *_of_missing_values(table.X),
    ]


def _of_missing_values(X: Array) -> Report:
    """Report the number of missing values, if X is in memory and has any."""
    if not isinstance(X, np.ndarray) or isinstance(X, np.memmap) or X.dtype.kind != "f":
        return []
    count = int(np.isnan(X).sum())
    return [_fact("missing values", count, f"{count} ({count / X.size:.1%})")] if count else []


def _of_fit(model: Any, norm: float | None = None) -> Report:
    if isinstance(model, MiniBatchSNMF):
        return [_fact("batches", model.n_steps_), _fact("loss", model.loss_, f"{model.loss_:.6g}")]
    error, iterations = model.reconstruction_err_, model.n_iter_
    report = [_fact("iterations", iterations), _fact("error", error, f"{error:.6g}")]
    if norm is not None:
        relative = error / norm if norm else 0.0
        whole = "X" if getattr(model, "scale_", None) is None else "X / scale"
        whole += "" if getattr(model, "intercept_", None) is None else " less its mean"
        words = f"{relative:.4f} ({1 - relative**2:.1%} of ‖{whole}‖² is explained)"
        report.append(_fact("relative error", relative, words))
    if hasattr(model, "combination_"):
        report.append(_fact("candidates", model.combination_.shape[1]))
    return report


def _some(names: Any) -> str:
    if names is None:
        return ""
    shown = ", ".join(map(str, names[:5]))
    return f" ({shown}{', …' if len(names) > 5 else ''})"
