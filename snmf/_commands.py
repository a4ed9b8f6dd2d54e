"""What the commands do. Each takes the options of `snmf._command_line`, and gives its report."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snmf import SNMF, factorize, load, plots, save, select_n_components
from snmf._files import Reading, Table, check_writable, read, write
from snmf._model_file import is_model, read_header
from snmf._whole import check_replaceable, replacing

Array = Any

FITTED_BY = ("n_components", "solver", "sparsity", "init", "n_init", "tol", "max_iter",
             "random_state", "backend", "device", "n_jobs", "locality",
             "missing_values", "checkpoint")  # fmt: skip
SELECTED_BY = ("solver", "sparsity", "init", "tol", "max_iter")
WHERE = ("backend", "device", "n_jobs")


class Fact(NamedTuple):
    """A line of a report: the value is for programs, the words are for people."""

    name: str
    value: Any
    words: str


Report = list[Fact]


def fit(options: Namespace) -> Report:
    """Fit a model to a file, and save it and its weights."""
    check_replaceable(options.output)
    if options.weights is not None:
        check_writable(options.weights)
    table = _read(options.file, options)
    model = SNMF(**_given(options, FITTED_BY))
    began = time.perf_counter()
    W = model.fit_transform(table.X)
    seconds = time.perf_counter() - began
    if table.columns is not None:
        model.feature_names_in_ = np.array(table.columns, dtype=object)
    save(model, options.output)
    report = [
        *_of_table(table),
        *_of_fit(model, model.rms_ * table.X.shape[0] ** 0.5),
        _fact("seconds", seconds, f"{seconds:.2f}"),
        _fact("model", str(options.output)),
    ]
    if options.weights is not None:
        write(options.weights, W, model.get_feature_names_out(), table.rows)
        report.append(_fact("weights", str(options.weights)))
    return report


def select(options: Namespace) -> Report:
    """Compare numbers of components."""
    kind = None if options.plot is None else _picture_format(options.plot)
    table = _read(options.file, options)
    result = select_n_components(
        np.asarray(table.X),
        options.n_components,
        held_out=options.held_out,
        repeats=options.repeats,
        restarts=options.restarts,
        random_state=options.random_state,
        n_jobs=options.n_jobs,
        **_given(options, SELECTED_BY),
    )
    stability = None if result.stability is None else result.stability.tolist()
    report = [
        *_of_table(table),
        _fact("n components", result.n_components.tolist(), f"best {result.best}\n{result}"),
        _fact("errors", result.errors.tolist(), "as in the table"),
        _fact("stability", stability, "not asked for" if stability is None else "in the table"),
        _fact("best", result.best),
    ]
    if options.plot is not None:
        with replacing(options.plot) as new:
            result.plot().figure_.savefig(new, format=kind, dpi=150)
        report.append(_fact("picture", str(options.plot)))
    return report


def transform(options: Namespace) -> Report:
    """Write the weights of a file."""
    check_writable(options.output)
    model = load(options.model).set_params(**_given(options, WHERE))
    table = _read(options.file, options)
    W = _transform(model, table, options.file)
    write(options.output, W, model.get_feature_names_out(), table.rows)
    return [*_of_table(table), _fact("weights", str(options.output))]


def plot(options: Namespace) -> Report:
    """Draw a model into a file."""
    kind = _picture_format(options.output)
    check_replaceable(options.output)
    model = load(options.model)
    table = None if options.data is None else _read(options.data, options)
    display = DRAWN[options.kind](model, table, options)
    with replacing(options.output) as new:
        display.figure_.savefig(new, format=kind, dpi=150)
    return [_fact("kind", options.kind), _fact("picture", str(options.output))]


def _picture_format(path: Path) -> str:
    try:
        from matplotlib import use
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    use("Agg")  # no window
    kind = path.suffix.removeprefix(".").lower()
    known = FigureCanvasBase.get_supported_filetypes()
    if kind not in known:
        names = ", ".join(f".{name}" for name in known)
        raise ValueError(f"{path}: the name must end in one of {names}")
    return kind


def _draw_components(model: Any, table: Table | None, options: Namespace) -> Any:
    return plots.ComponentsDisplay.from_estimator(model, image_shape=options.image_shape)


def _draw_weights(model: Any, table: Table | None, options: Namespace) -> Any:
    assert table is not None
    return plots.WeightsDisplay(_transform(model, table, options.data)).plot()


def _draw_convergence(model: Any, table: Table | None, options: Namespace) -> Any:
    return plots.ConvergenceDisplay.from_estimator(model, table and table.X)


DRAWN: dict[str, Callable[[Any, Table | None, Namespace], Any]] = {
    "components": _draw_components,
    "weights": _draw_weights,
    "convergence": _draw_convergence,
}


def info(options: Namespace) -> Report:
    """What is in a file."""
    if not (options.file.is_file() and is_model(options.file)):
        return _of_table(_read(options.file, options))
    header, model = read_header(options.file), load(options.file)
    k, p = model.components_.shape
    parameters = {n: v for n, v in model.get_params().items() if n in FITTED_BY[1:]}
    return [
        _fact("file", header["format"], f"{header['format']}, format {header['version']}"),
        _fact("written by", header["written_by"]),
        _fact("class", header["class"]),
        _fact("components", k),
        _fact("features", p, f"{p}{_some(getattr(model, 'feature_names_in_', None))}"),
        *_of_fit(model),
        _fact("parameters", parameters, ", ".join(f"{n}={v!r}" for n, v in parameters.items())),
    ]


def demo(options: Namespace) -> Report:
    """Factorise the centred digits, and save W and H."""
    from sklearn.datasets import load_digits

    check_replaceable(options.output)
    X = load_digits().data
    X = X - X.mean(axis=0)
    k = options.components
    began = time.perf_counter()
    result = factorize(X, k, random_state=0)
    seconds = time.perf_counter() - began
    relative = result.error / (result.rms * len(X) ** 0.5)
    bound = math.sqrt(plots.svd_bound(X, k))
    with replacing(options.output) as new, new.open("xb") as file:
        np.savez(file, W=result.W, H=result.H)
    n, p = X.shape
    return [
        _fact("digits", [n, p], f"{n} images of {p} pixels, centred, handwritten"),
        _fact("components", k, f"{k}: X ≈ W H, W {result.W.shape} ≥ 0 and H {result.H.shape}"),
        _fact("relative error", relative, f"{relative:.4f}"),
        _fact("SVD bound", bound, f"{bound:.4f}   (no factorization of rank {k} is below)"),
        _fact("iterations", result.n_iter, f"{result.n_iter} in {seconds:.2f} s"),
        _fact("stopped because", result.reason),
        _fact("saved", str(options.output), f"{options.output}   (W, H; numpy.load reads it)"),
    ]


def _read(path: Path, options: Namespace) -> Table:
    return read(path, Reading(options.key, options.header, options.row_names, options.drop))


def _given(options: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _transform(model: Any, table: Table, path: Path) -> np.ndarray:
    expected = getattr(model, "feature_names_in_", None)
    if expected is not None and table.columns is not None:
        del model.feature_names_in_  # X is a bare array; its names are compared here
        if table.columns != list(expected):
            raise ValueError(f"{path}: {_difference(list(expected), table.columns)}")
    elif expected is not None:
        del model.feature_names_in_
    return model.transform(table.X)  # type: ignore[no-any-return]


def _difference(expected: list[str], columns: list[str]) -> str:
    if missing := [name for name in expected if name not in columns]:
        return f"the model was fitted on columns that are not here: {', '.join(missing[:10])}"
    if more := [name for name in columns if name not in expected]:
        words = " ".join(f"--drop '{name}'" for name in more[:10])
        return f"it has columns that the model was not fitted on; leave them out: {words}"
    return f"its columns must be in the order of the fit: {', '.join(expected[:30])}"


def _fact(name: str, value: Any, words: str | None = None) -> Fact:
    return Fact(name, value, str(value) if words is None else words)


def _of_table(table: Table) -> Report:
    n, p = table.X.shape
    return [
        _fact("data", table.kind, f"{table.kind} ({table.X.dtype})"),
        _fact("samples", n, f"{n}{_some(table.rows)}"),
        _fact("features", p, f"{p}{_some(table.columns)}"),
    ]


def _of_fit(model: Any, norm: float | None = None) -> Report:
    error, iterations = model.reconstruction_err_, model.n_iter_
    report = [_fact("iterations", iterations), _fact("error", error, f"{error:.6g}")]
    if norm is not None:
        relative = error / norm if norm else 0.0
        words = f"{relative:.4f}, so that {1 - relative**2:.1%} of ‖X‖² is explained"
        report.append(_fact("relative error", relative, words))
    return report


def _some(names: Any) -> str:
    if names is None:
        return ""
    shown = ", ".join(map(str, names[:5]))
    return f" ({shown}{', …' if len(names) > 5 else ''})"
