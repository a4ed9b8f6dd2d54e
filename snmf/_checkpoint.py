"""Checkpoints: the state of a fit in a file, from which the same call continues.

The file is an ``.npz`` that `numpy.load` reads. A header in JSON holds the parameters of the fit.
The file is complete at any moment: a new one replaces the old one in one step. W is written block
by block, so that it needs no second copy in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array, issparse

from snmf.core.options import DRAWN
from snmf.core.solve import Point, Run, State
from snmf.storage.atomic import check_file, replacing
from snmf.storage.npz import (
    DAMAGE,
    Arrays,
    Claim,
    RefusedError,
    check_finite,
    check_floats,
    is_npz_with,
)
from snmf.storage.parts import write_header
from snmf.storage.rows import Scale

FORMAT = 1
HEADER = "snmf_checkpoint"
NAMES = ("format", "parameters", "data", "restart", "random_state", "curve", "beta", "moved",
         "best")  # fmt: skip
SOME_ROWS = 32  # rows of X that the header records, to recognise the data
SAME_NORM = 1e-5  # relative difference of ‖X‖² up to which data are the same


class Stand(NamedTuple):
    """The state of a fit, as `Checkpoint.remember` got it."""

    rows: Any
    random_state: dict[str, Any]
    restart: int
    best: Run | None
    state: State


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether the file exists, and has the header of a checkpoint."""
    return is_npz_with(path, HEADER)


class Checkpoint:
    """The checkpoint of a fit: read if the file exists, written during the fit, then removed.

    Use it as a context manager: if an exception stops the fit, the checkpoint is written once
    more.

    Parameters
    ----------
    path : path-like
        The file.
    interval : float
        The least number of seconds between two writes.
    rows : Rows
        The rows of X.
    parameters : dict
        The arguments and parameters that the result of the fit depends on, by name.
    columns : int, default=None
        The number of columns of H. None is that of X.

    Raises
    ------
    ValueError
        If the file is of a fit with other parameters, or is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        interval: float,
        rows: Any,
        parameters: dict[str, Any],
        columns: int | None = None,
    ) -> None:
        self.path = check_file(path)
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._interval, self._last = interval, time.monotonic()
        self._parameters = {name: _plain(value) for name, value in parameters.items()}
        self._parameters |= {"shape of X": list(rows.shape), "precision": rows.dtype}
        self._data: dict[str, Any] = {}
        self._unwritten: Stand | None = None
        shape = len(rows), columns or rows.shape[1]
        self._header, self._arrays = self._read(shape) if self.path.exists() else ({}, {})
        self._coordinates: np.ndarray | None = self._arrays.get("coordinates")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._remove()
        elif self._unwritten is not None:
            self._save(Exception)  # an error here must not hide the one that stopped the fit

    def _read(self, shape: tuple[int, int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Read the file; `shape` is that of X, but with as many columns as H has."""
        try:
            found = Arrays(self.path)
            found.check_sums()
            header = found.header(HEADER)
            if missing := [name for name in NAMES if name not in header]:
                raise ValueError(f"its header has no {missing[0]!r}")
            if header["format"] != FORMAT:
                raise ValueError(f"its format must be {FORMAT}; got {header['format']}")
            theirs = header["parameters"]
            self._must_be_ours(theirs)
            _check_header(header, self._parameters)
            k = self._parameters["n_components"]
            rows_of_h = k + bool(self._parameters.get("fit_intercept"))
            return header, _checked_arrays(found, header, shape, k, rows_of_h)
        except RefusedError:
            raise
        except DAMAGE as error:
            raise self._unreadable(error) from error

    def _must_be_ours(self, theirs: dict[str, Any]) -> None:
        for name in sorted({*theirs, *self._parameters}):
            one, other = theirs.get(name), self._parameters.get(name)
            if one != other:
                raise self._refused(f"is of a fit with another {name}: {one!r}, and here {other!r}")

    def _unreadable(self, error: Exception) -> ValueError:
        return RefusedError(
            f"The checkpoint '{self.path}' cannot be read: {error}. Name another file; or, "
            "if it is a checkpoint, delete it to start anew."
        )

    def _refused(self, what: str) -> ValueError:
        return RefusedError(
            f"The checkpoint '{self.path}' {what}. Delete it to start anew, or name another."
        )

    def is_of(self, rows: Any, scale: Scale) -> None:
        """Compare the data of the checkpoint with these rows, by norm and by a few rows.

        Raises
        ------
        ValueError
            If the checkpoint is of other data.
        """
        some = np.unique(np.linspace(0, len(rows) - 1, SOME_ROWS).astype(int))
        entries = coo_array(rows.take(some))
        digests = [_digest(A) for A in (*entries.coords, entries.data)]
        self._data = {"square": scale.square, "exponent": scale.exponent, "rows": digests}
        if not self._header:
            return
        theirs = self._header["data"]
        near = math.isclose(theirs.get("square", math.inf), scale.square, rel_tol=SAME_NORM)
        if not near or {**theirs, "square": scale.square} != self._data:
            raise self._refused("is of other data, of the same shape")

    def recall(self, coordinates: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the coordinates for wide data (`snmf.core.wide`): the saved ones, or new ones."""
        if self._coordinates is None:
            self._coordinates = coordinates()
        return self._coordinates

    def restarts(self, rng: np.random.RandomState) -> tuple[int, Run | None]:
        """Return the number of the current restart and the best run before it; set rng."""
        if not self._header:
            return 0, None
        try:
            rng.set_state(self._header["random_state"])
        except DAMAGE as error:
            raise self._unreadable(error) from error
        best = self._header["best"]
        H = best and self._arrays["best_H"]
        return self._header["restart"], best and Run(**best, H=H)

    def state(self, restart: int, rows: Any) -> State | None:
        """Return the saved state of this restart; None if the restart has not begun."""
        header, arrays = self._header, self._arrays
        if not header or restart != header["restart"]:
            return None
        H = arrays["H"]
        before = arrays["before"] if header["moved"] else H
        with Arrays(self.path).opened("W") as (stream, claim):
            W = rows.made(partial(self._next_rows, stream, claim))
        return State(Point(W, H, header["curve"][-1]), before, header["beta"], header["curve"])

    def _next_rows(self, stream: IO[bytes], claim: Claim, some: slice) -> np.ndarray:
        """Read the next rows of W from the stream."""
        try:
            shape = some.stop - some.start, claim.shape[1]
            W = np.frombuffer(stream.read(math.prod(shape) * claim.dtype.itemsize), claim.dtype)
            if not np.isfinite(W).all() or W.min(initial=0.0) < 0:
                raise ValueError("W must be finite and nonnegative")
            return W.reshape(shape)
        except (*DAMAGE, OSError) as error:
            raise self._unreadable(error) from error

    def remember(
        self, rows: Any, rng: np.random.RandomState, restart: int, best: Run | None, state: State
    ) -> None:
        """Keep the state of the fit for the next write; copy what changes, as rng and the curve."""
        state = state._replace(curve=[*state.curve])
        self._unwritten = Stand(rows, rng.get_state(legacy=False), restart, best, state)

    def keep(self, *stand: Any) -> None:
        """Remember the state of the fit, and write it if the interval has passed.

        A full disk does not end the fit: it gives a RuntimeWarning, and the last checkpoint stays.
        """
        self.remember(*stand)
        if time.monotonic() - self._last >= self._interval:
            self._save(OSError)
            self._last = time.monotonic()

    def _save(self, endured: type[Exception]) -> None:
        """Write the state that `remember` kept; an error of the type `endured` is a warning."""
        assert self._unwritten is not None
        try:
            with replacing(self.path, self._part.name) as new:
                self._write(new, *self._unwritten)
            self._unwritten = None
        except endured as error:
            warnings.warn(
                f"The checkpoint cannot be written: {error}. The file still holds the last "
                "checkpoint, if there was one.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _write(
        self,
        new: Path,
        rows: Any,
        random_state: dict[str, Any],
        restart: int,
        best: Run | None,
        state: State,
    ) -> None:
        point, before, beta, curve = state
        header = {
            "format": FORMAT,
            "parameters": self._parameters,
            "data": self._data,
            "restart": restart,
            "random_state": random_state,
            "curve": curve,
            "beta": beta,
            "moved": before is not point.H,
            "best": None,
        }
        arrays = {"H": point.H, "before": before}
        if self._coordinates is not None:
            arrays["coordinates"] = self._coordinates
        if best is not None:
            arrays["best_H"] = best.H
            header["best"] = {n: v for n, v in best._asdict().items() if n not in ("H", "W")}
        text = json.dumps(header, default=lambda value: value.tolist()).encode()
        with zipfile.ZipFile(new, "w") as archive:
            _put(archive, HEADER, len(text), [np.frombuffer(text, np.uint8)])
            for name, array in arrays.items():
                _put(archive, name, len(array), [array])
            _put(archive, "W", len(rows), rows.to_host(point.W))

    def _remove(self) -> None:
        """Remove the file, and a partial file that a killed process left behind."""
        for path in (self.path, self._part):
            path.unlink(missing_ok=True)


def _check_header(header: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Raise ValueError if `Checkpoint._write` cannot have written this header for this fit."""
    kinds = {"data": dict, "random_state": dict, "moved": bool}
    if wrong := [name for name, kind in kinds.items() if not isinstance(header[name], kind)]:
        raise ValueError(f"its {wrong[0]} is {header[wrong[0]]!r}")
    if not _is_number(header["data"].get("square", 0)):
        raise ValueError(f"its data have the square {header['data']['square']!r}")
    restart, beta, best = header["restart"], header["beta"], header["best"]
    last = (parameters["n_init"] if parameters["init"] in DRAWN else 1) - 1
    if not (isinstance(restart, int) and not isinstance(restart, bool) and 0 <= restart <= last):
        raise ValueError(f"its restart must be a whole number from 0 to {last}; got {restart!r}")
    if not (_is_number(beta) and 0 <= beta <= 1):
        raise ValueError(f"its beta must be a number from 0 to 1; got {beta!r}")
    _check_curve(header["curve"], parameters["max_iter"])
    if (best is None) != (restart == 0):
        raise ValueError(f"its restart is {restart}, and the best before it is {str(best)[:100]}")
    if best is not None:
        run = Run(**best, H=None)
        _check_curve(run.loss_curve, parameters["max_iter"])
        if not (isinstance(run.converged, bool) and isinstance(run.reason, str)):
            raise ValueError(f"its best restart is {str(best)[:100]}")


def _check_curve(curve: Any, max_iter: int) -> None:
    """Raise ValueError if this is no loss curve: one value at the start, one per iteration."""
    if not (isinstance(curve, list) and curve and all(map(_is_number, curve))):
        raise ValueError(f"its objectives must be finite numbers; got {str(curve)[:100]}")
    if len(curve) > max_iter + 1:
        raise ValueError(f"it has {len(curve) - 1} iterations, and max_iter={max_iter}")


def _is_number(value: Any) -> bool:
    """Whether `value` is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked_arrays(
    found: Arrays, header: dict[str, Any], shape: tuple[int, int], k: int, rows_of_h: int
) -> dict[str, np.ndarray]:
    """Read all arrays but W; check first that their shapes go with the shape of X."""
    n, p = shape
    q = found.claim("coordinates").shape[1] if "coordinates" in found.names else 0
    of_h = rows_of_h, q or p
    wanted = {"H": of_h, "before": of_h, "best_H": of_h, "coordinates": (n, q), "W": (n, k)}
    names = {"H", "before", "W"} | ({"best_H"} if header["best"] else set())
    names |= {"coordinates"} & {*found.names}
    for name in sorted(names):
        claim = found.claim(name)
        check_floats(name, wanted[name], claim.shape, claim.dtype)
        if claim.by_columns:
            raise ValueError(f"{name} must lie row by row; it lies column by column")
    arrays = {name: found[name] for name in names - {"W"}}
    for name, array in arrays.items():
        check_finite(name, array)
    return arrays


def _put(archive: zipfile.ZipFile, name: str, length: int, parts: Iterable[np.ndarray]) -> None:
    """Write an array with `length` rows into the archive, block by block."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        for number, part in enumerate(parts):
            if not number:
                write_header(entry, part.dtype, (length, *part.shape[1:]))
            entry.write(part.tobytes())


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold; a digest stands for an array or a generator."""
    if isinstance(value, np.ndarray):
        return f"an array, {_digest(value)}"
    if issparse(value):
        return [_plain(part) for part in (value.data, value.indices, value.indptr)]
    if isinstance(value, np.random.RandomState):
        state = json.dumps(value.get_state(legacy=False), default=lambda value: value.tolist())
        return f"a generator, {_digest(np.frombuffer(state.encode(), np.uint8))}"
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else repr(float(value))
    return value


def _digest(A: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(A).tobytes(), digest_size=8).hexdigest()
