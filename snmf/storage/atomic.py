"""Atomic writes: a file or folder appears complete, or not at all."""

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
    """Yield a temporary path to write to; at the end, it replaces `path` in one step.

    Parameters
    ----------
    path : path-like
        The file or folder to replace: a file by a file, a folder by a folder.
    part : str, default=None
        The name of the temporary file, in the same folder. A file of that name, left by a killed
        process, is overwritten. None makes a new name each time.

    Raises
    ------
    OSError
        If it cannot be written. The error names `path`, which is then unchanged.
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
    """Return `path` with links resolved; raise OSError if it certainly cannot be written."""
    final = Path(os.path.realpath(path))
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(final.parent))
    if final.exists() and not (final.is_file() or final.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))  # such as /dev/null
    if not os.access(final.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "the folder cannot be written to", str(final.parent))
    return final


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return what `check_replaceable` returns; raise OSError also if `path` is a folder."""
    final = check_replaceable(path)
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    return final


def _put(new: Path, final: Path) -> None:
    if not final.is_dir():
        try:
            os.replace(new, final)
        except PermissionError as error:  # on Windows, where nothing replaces an open file
            words = "cannot be replaced: it is open or memory-mapped, or belongs to somebody else"
            raise PermissionError(error.errno, words, str(final)) from error
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
        check_file(final)  # raises
    _synchronise(final.parent)


def _synchronise(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows needs writing
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
