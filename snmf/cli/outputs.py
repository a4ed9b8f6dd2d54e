"""What a command may write over: never what it reads, and nothing of another kind unasked."""

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
from snmf.cli.files import READERS, check_writable
from snmf.storage.atomic import check_replaceable

# What files of matplotlib's formats begin with. Others are refused: .raw and .rgba have no
# beginning of their own, and .pgf is several files.
BEGINNINGS = {
    "png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "svgz": b"\x1f\x8b", "eps": b"%!PS",
    "ps": b"%!PS", "jpg": b"\xff\xd8\xff", "jpeg": b"\xff\xd8\xff", "tif": b"II*\0",
    "tiff": b"II*\0", "webp": b"RIFF", "gif": b"GIF8", "avif": b"ftypavif",
}  # fmt: skip
OTHERS = (b"MM\0*", b"<svg")  # of TIFF and SVG, as other programs write them
PICTURES = (*BEGINNINGS.values(), *OTHERS)


class Output(NamedTuple):
    """A file that a command writes, and its kind: a row of KINDS."""

    path: Path
    kind: str


def check_outputs(outputs: Sequence[Output], inputs: Sequence[Path], force: bool) -> None:
    """Say before any work is done that an output would destroy something, or cannot be written.

    Parameters
    ----------
    outputs : sequence of Output
    inputs : sequence of Path
        What the command reads.
    force : bool
        Whether a file that is there may be replaced, whatever it is. An input never may.

    Raises
    ------
    ValueError, OSError, ImportError
        The message names the file, and says what to do.
    """
    names = [output.path for output in outputs]
    for one, other in product(names, inputs):
        if _are_one(one, other):
            raise ValueError(f"{one}: is read by this command; an output never replaces an input")
    for one, other in combinations(names, 2):
        if _are_one(one, other):
            raise ValueError(f"{one}: two outputs would be this file; name two")
    for path, kind in outputs:
        KINDS[kind].check(path)
    for one, other in [*product(names, inputs), *combinations(names, 2)]:
        if _lies_in(one, other) or _lies_in(other, one):
            raise ValueError(f"{one}: of it and {other} one lies in the other; write elsewhere")
    for path, kind in outputs:
        if _is_there(path) and not KINDS[kind].replaces(path):
            if force and kind != "checkpoint":
                continue
            raise FileExistsError(errno.EEXIST, f"is there already{KINDS[kind].refusal}", str(path))


def _are_one(one: Path, other: Path) -> bool:
    """Whether two names are of one file, be it by links, or in letters of another case."""
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


def _check_file(path: Path) -> None:
    if check_replaceable(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))


def _check_model(path: Path) -> None:
    _check_file(path)
    if path.suffix.lower() in {*READERS} - {".npz"}:
        raise ValueError(
            f"{path}: a model is no table: name it .npz (fit --weights writes a table)"
        )


def _check_picture(path: Path) -> None:
    picture_format(path)
    _check_file(path)


def picture_format(path: Path) -> str:
    """The format of a picture of that name, in the words of matplotlib.

    Raises
    ------
    ValueError
        If matplotlib does not write it, or not as one file that is known again.
    ImportError
        If it is not installed.
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
    if begins.startswith(BEGINNINGS["svgz"]):  # as any file that is compressed so
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as file:
            return file.read(12).startswith((BEGINNINGS["svg"], *OTHERS))
        return False
    return begins.startswith(PICTURES) or begins[4:] == BEGINNINGS["avif"]


class Kind(NamedTuple):
    """A kind of output.

    Attributes
    ----------
    check : callable
        Raises if nothing of the kind can be written to that path.
    replaces : callable
        Whether what is there is of the kind, and so may be replaced unasked.
    refusal : str
        What else to say where it is not.
    """

    check: Callable[[Path], object]
    replaces: Callable[[Path], bool]
    refusal: str


KINDS = {
    "model": Kind(_check_model, is_model, ", and is no model; --force replaces it"),
    "picture": Kind(_check_picture, _is_picture, ", and is no picture; --force replaces it"),
    # numbers do not tell whether they are weights or data
    "table": Kind(check_writable, lambda path: False, "; --force replaces it"),
    "checkpoint": Kind(_check_file, is_checkpoint, ", and is no checkpoint; name another"),
}
