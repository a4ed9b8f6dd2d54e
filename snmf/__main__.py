"""The program ``snmf``: runs a command, and turns every error into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from threading import current_thread, main_thread
from typing import Any

from snmf.cli.arguments import OPTIONS, STREAM, parse

INTERRUPTED, TERMINATED = 130, 143  # exit codes as in a shell: 128 + the number of the signal


class TerminatedError(KeyboardInterrupt):
    """The process received SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code; bad usage raises SystemExit with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a Windows pipe cannot encode λ: it gets a "?"
            stream.reconfigure(errors="replace")
    try:
        try:
            with _ending_as_if_interrupted():
                _run(None if arguments is None else list(arguments))
        finally:
            if sys.stdout is not None:
                _flush()
    except TerminatedError as stop:
        return _say(": ".join(["terminated", *map(str, stop.args)]), TERMINATED)
    except KeyboardInterrupt as stop:
        return _say(": ".join(["interrupted", *map(str, stop.args)]), INTERRUPTED)
    except BrokenPipeError:
        return _say("nobody reads the output (broken pipe)", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", 1)
    except MemoryError as error:
        return _say(f"not enough memory {error}", 1)
    except (ValueError, ImportError) as error:
        return _say(str(error), 1)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        words = f"{type(error).__name__}: {error} (python -X dev -m snmf shows where)"
        return _say(words, 1)
    return 0


@contextmanager
def _ending_as_if_interrupted() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary files are removed."""

    def end(*_: object) -> None:
        raise TerminatedError

    ours = current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(arguments: list[str] | None) -> None:
    options = parse(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)  # these are for developers, not users
        from snmf.cli import commands

        try:
            commands.check(options)
            report = getattr(commands, options.command)(options)
        finally:
            notes = list(dict.fromkeys(map(_note, caught)))
            if not options.json or sys.exc_info()[0] is not None:
                for note in notes:
                    print(f"note: {note}", file=sys.stderr)
    written = any(getattr(options, name) == STREAM for name in options.outputs)
    with redirect_stdout(sys.stderr) if written else nullcontext():
        if options.json:
            _print_json(options.command, report, notes)
        else:
            for fact in report:
                print(f"{fact.name:<16} {fact.words}")


def _note(warning: warnings.WarningMessage) -> str:
    """Return a warning in one line; advice on parameters of a fit names the options instead."""
    words = _one_line(str(warning.message))
    if warning.category.__name__ == "ConvergenceWarning":
        for parameter, option in OPTIONS.items():
            words = words.replace(parameter, option)
    return words


def _print_json(command: str, report: Any, notes: list[str]) -> None:
    import json

    facts = {fact.name.replace(" ", "_").lower(): fact.value for fact in report}
    print(json.dumps({"command": command, **facts, "notes": notes}))  # ASCII, for any encoding


def _say(words: str, code: int) -> int:
    print(f"snmf: {_one_line(words)}", file=sys.stderr)
    return code


def _one_line(words: str) -> str:
    return " ".join(words.split())


def _flush() -> None:
    """Flush standard output; if that fails, make sure that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


if __name__ == "__main__":
    sys.exit(main())
