"""Checks of output files before any work: `check_outputs`.

A command never replaces a file that it reads. Without --force it replaces a file only by one of
the same kind.
"""

from __future__ import annotations

import errno
import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from snmf._checkpoint import is_checkpoint
from snmf._model_file import is_model
from snmf.cli.arguments import STREAM
from snmf.cli.files import READERS, check_writable
from snmf.storage.atomic import check_file

# The first bytes of files in matplotlib's formats. Other formats are refused: .raw and .rgba have
# no such bytes, and .pgf is several files.
BEGINNINGS = {
    "png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "svgz": b"\x1f\x8b", "eps": b"%!PS",
    "ps": b"%!PS", "jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff", "tif": b"II*\0",
    "tiff": b"II*\0", "webp": b"RIFF", "gif": b"GIF8", "avif": b"ftypavif",
}  # fmt: skip
OTHERS = (b"MM\0*", b"<svg")  # TIFF and SVG from other programs
PICTURES = (*BEGINNINGS.values(), *OTHERS)


class Output(NamedTuple):
    """A file that a command writes, and its kind: a key of KINDS."""

    path: Path
    kind: str


def check_outputs(outputs: Sequence[Output], inputs: Sequence[Path], force: bool) -> None:
    """Check before any work that every output can be written, and replaces no file it must not.

    Parameters
    ----------
    outputs : sequence of Output
        The files that the command writes.
    inputs : sequence of Path
        The files that the command reads.
    force : bool
        Allows outputs to replace files of any kind, but never an input.

    Raises
    ------
    ValueError, OSError, ImportError
        If an output is refused. The message names the file, and says what to do.
    """
    outputs = [output for output in outputs if output.path != STREAM]
    inputs = [path for path in inputs if path != STREAM]
    names = [output.path for output in outputs]
    for one, other in product(names, inputs):
        if _are_one(one, other):
            raise ValueError(
                f"{one}: is read by this command; an output never replaces an input. Name another "
                "output file."
            )
    for one, other in combinations(names, 2):
        if _are_one(one, other):
            raise ValueError(f"{one}: two outputs would be this file. Name two different files.")
    for path, kind in outputs:
        KINDS[kind].check(path)
    for one, other in [*product(names, inputs), *combinations(names, 2)]:
        if _lies_in(one, other) or _lies_in(other, one):
            raise ValueError(
                f"{one}: this path and {other} lie in one another. Write to another folder."
            )
    for path, kind in outputs:
        if _is_there(path) and not KINDS[kind].replaces(path):
            if force and kind != "checkpoint":
                continue
            raise FileExistsError(errno.EEXIST, f"exists already{KINDS[kind].refusal}", str(path))


def _are_one(one: Path, other: Path) -> bool:
    """Whether two paths are one file: by links, or on a file system that ignores case."""
    if one.exists() and other.exists():
        return one.samefile(other)
    one, other = Path(os.path.realpath(one)), Path(os.path.realpath(other))
    if one.exists() or other.exists() or one.name.casefold() != other.name.casefold():
        return False
    parents = one.parent, other.parent
    return all(parent.exists() for parent in parents) and parents[0].samefile(parents[1])


def _lies_in(inner: Path, outer: Path) -> bool:
    parents = Path(os.path.realpath(inner)).parents
    return outer.is_dir() and any(path.exists() and path.samefile(outer) for path in parents)


def _is_there(path: Path) -> bool:
    return path.is_dir() or (path.exists() and path.stat().st_size > 0)


def _check_model(path: Path) -> None:
    check_file(path)
    if path.suffix.lower() in {*READERS} - {".npz"}:
        raise ValueError(
            f"{path}: a model is no table. Name it ….npz; to write a table, use fit --weights."
        )


def _check_picture(path: Path) -> None:
    picture_format(path)
    check_file(path)


def picture_format(path: Path) -> str:
    """Return the picture format of a path, as matplotlib names it.

    Raises
    ------
    ValueError
        If matplotlib cannot write it as one file with known first bytes.
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import use
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'snmf[plots]'") from error
    use("Agg")  # no window
    kind = path.suffix.removeprefix(".").lower()
    known = [name for name in BEGINNINGS if name in FigureCanvasBase.get_supported_filetypes()]
    if kind not in known:
        names = ", ".join(f".{name}" for name in known)
        raise ValueError(f"{path}: the name must end in one of {names}")
    return kind


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        begins = file.read(12)
    if begins.startswith(BEGINNINGS["svgz"]):  # any gzip file begins so
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
            return file.read(12).startswith((BEGINNINGS["svg"], *OTHERS))
        return False
    return begins.startswith(PICTURES) or begins[4:] == BEGINNINGS["avif"]


class Kind(NamedTuple):
    """A kind of output.

    Attributes
    ----------
    check : callable
        Raises if no file of the kind can be written to a path.
    replaces : callable
        Returns whether the file at a path is of the kind, and so may be replaced without --force.
    refusal : str
        The end of the error message if it is not.
    """

    check: Callable[[Path], object]
    replaces: Callable[[Path], bool]
    refusal: str


KINDS = {
    "model": Kind(_check_model, is_model, ", and is no model; --force replaces it"),
    "picture": Kind(_check_picture, _is_picture, ", and is no picture; --force replaces it"),
    # a table may hold data, and not only weights
    "table": Kind(check_writable, lambda path: False, "; --force replaces it"),
    "checkpoint": Kind(check_file, is_checkpoint, ", and is no checkpoint; name another file"),
}
