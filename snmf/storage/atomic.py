"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], part: str | None = None) -> Iterator[Path]:
    """Give a path to write a file or a folder to, which takes the place of `path` if all went well.

    Parameters
    ----------
    path : path-like
        What is there is replaced at the end: a file by a file, a folder by a folder.
    part : str, default=None
        The name to write under, beside it; what a process that was killed left there is written
        over. None is a name of its own each time.

    Raises
    ------
    OSError
        If it cannot be written; it names `path`, and what was there is as it was.
    """
    final = check_replaceable(path)
    new = final.with_name(part or f".snmf-{secrets.token_hex(6)}.part")
    try:
        yield new
        _synchronise(new)
        if final.is_file() and new.is_file():
            shutil.copymode(final, new)
        _put(new, final)
    except OSError as error:
        _remove(new)
        if error.filename not in (None, str(new)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except BaseException:
        _remove(new)
        raise


def check_replaceable(path: str | os.PathLike[str]) -> Path:
    """Where `path` leads to; an OSError if it is plain already that it could not be written."""
    final = Path(os.path.realpath(path))
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(final.parent))
    if final.exists() and not (final.is_file() or final.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))  # such as /dev/null
    if not os.access(final.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "the folder cannot be written to", str(final.parent))
    return final


def _put(new: Path, final: Path) -> None:
    if not final.is_dir():
        os.replace(new, final)
    elif new.is_dir():  # one folder cannot replace another in a single step
        old = new.with_suffix(".old")
        final.rename(old)
        try:
            new.rename(final)
        except OSError:
            old.rename(final)
            raise
        shutil.rmtree(old)
    else:
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(final))
    _synchronise(final.parent)


def _synchronise(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
