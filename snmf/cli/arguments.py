"""The words of the command line: nothing heavy is imported, ``snmf --help`` is there at once.

A new command is a `_command` here, and a function of its name in `snmf.cli.commands`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snmf import __version__

SOLVERS = ("mu", "hals")
STARTS = ("kmeans", "svd", "random")
BACKENDS = ("auto", "numpy", "cupy", "torch", "jax")
KINDS = ("components", "weights", "convergence")

FILES = """
Data FILEs are tables of numbers, a row for every sample: .npy (never loaded whole by the command
line), .npz (one array, or a SciPy sparse matrix), .csv and .tsv, .h5 or .hdf5, .zarr.
An output never replaces a file that the command reads. A model replaces a model, and a picture a
picture; any other file that is there and not empty stays, unless you say --force.
Exit codes: 0, all went well; 1, bad data or a file that cannot be read or written; 2, bad usage.
"""
FORCE = """replace files that are there, whatever they are, but none that is read; without it a
model replaces only a model, a picture only a picture, and a table nothing, but for empty files"""


def parser() -> argparse.ArgumentParser:
    """The parser; what it gives has `run`, the name of the function that does the work."""
    words = argparse.ArgumentParser(
        prog="snmf",
        description="Semi-nonnegative matrix factorization: X ≈ W H with W ≥ 0 and H of any sign.",
        epilog=FILES,
    )
    words.add_argument("--version", action="version", version=f"snmf {__version__}")
    commands = words.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=f"{help.capitalize()}.")
        made.add_argument("--json", action="store_true", help="print one JSON object")
        made.set_defaults(refuse=made.error, inputs=(), outputs={})
        return made

    _fit(command("fit", "learn the components of a data file, and save the model"))
    _select(command("select", "compare numbers of components by entries that were held out"))
    _transform(command("transform", "compute the weights of data by a saved model"))
    _plot(command("plot", "draw a saved model"))
    info = command("info", "say what is in a model or a data file")
    _data(info, "a model or data")
    _reading(info)
    demo = command("demo", "factorise the handwritten digits of scikit-learn")
    demo.add_argument("-k", "--components", type=positive, default=16, help="default: 16")
    _output(
        demo, "-o", "--output", kind="model", default=Path("snmf-demo.npz"), metavar="MODEL.npz",
        help="where the model goes; default: snmf-demo.npz",
    )  # fmt: skip
    return words


def _data(command: argparse.ArgumentParser, help: str) -> None:
    _input(command, "file", metavar="FILE", help=help)


def _input(command: argparse.ArgumentParser, *flags: str, **words: Any) -> None:
    """An argument that names a file which is read."""
    name = command.add_argument(*flags, type=file_name, **words).dest
    command.set_defaults(inputs=(*command.get_default("inputs"), name))


def _output(
    command: argparse.ArgumentParser,
    *flags: str,
    kind: str,
    group: argparse._ArgumentGroup | None = None,
    **words: Any,
) -> None:
    """An argument that names a file which is written, of a kind of `snmf.cli.outputs`."""
    if not command.get_default("outputs"):
        command.add_argument("--force", action="store_true", help=FORCE)
    name = (group or command).add_argument(*flags, type=file_name, **words).dest
    command.set_defaults(outputs={**command.get_default("outputs"), name: kind})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments, checked as far as they can be without data."""
    options = parser().parse_args(arguments)
    if options.command == "plot":
        if options.kind == "weights" and options.data is None:
            options.refuse("--kind weights needs the data: --data FILE")
        if options.kind == "components" and options.data is not None:
            options.refuse("--data is for --kind weights and --kind convergence")
        if options.kind != "components" and options.image_shape is not None:
            options.refuse("--image-shape is for --kind components")
    return options


def _fit(command: argparse.ArgumentParser) -> None:
    _data(command, "the data")
    command.add_argument(
        "-k",
        "--n-components",
        type=positive_or_auto,
        required=True,
        metavar="K",
        help="the number of components, or auto: the report says which it was",
    )
    _output(
        command, "-o", "--output", kind="model", required=True, metavar="MODEL.npz",
        help="where the model goes",
    )  # fmt: skip
    _output(
        command, "--weights", kind="table", metavar="W",
        help="where W goes: .npy, .csv, .tsv, .h5 or .zarr",
    )  # fmt: skip
    fit = command.add_argument_group("the fit (the parameters of snmf.SNMF)")
    fit.add_argument("--n-init", type=positive, default=1, help="restarts; default: 1")
    fit.add_argument(
        "--locality", type=nonnegative, default=0.0, help="about 2 to tell classes apart"
    )
    _missing(fit)
    _output(
        command, "--checkpoint", kind="checkpoint", group=fit, metavar="FILE",
        help="save the state of the fit there, every minute and on Ctrl-C; the same command goes "
        "on from it",
    )  # fmt: skip
    _model(fit)
    _where(fit)
    _reading(command)


def _select(command: argparse.ArgumentParser) -> None:
    _data(command, "the data, dense")
    command.add_argument(
        "-k",
        "--n-components",
        type=numbers,
        required=True,
        metavar="K",
        help="the numbers to compare, as 2-12 or 5,10,20",
    )
    command.add_argument(
        "--held-out", type=share, default=0.1, help="share of the entries; default: 0.1"
    )
    command.add_argument("--repeats", type=positive, default=3, help="draws; default: 3")
    command.add_argument(
        "--restarts", type=whole, default=0, help="from 2 on, stability is judged as well"
    )
    _output(command, "--plot", kind="picture", metavar="PNG", help="draw it, too")
    _missing(command)
    command.add_argument("--n-jobs", type=threads, help="fits at a time; -1: all cores")
    _model(command.add_argument_group("the fits (the parameters of snmf.SNMF)"))
    _reading(command)


def _missing(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--missing",
        dest="missing_values",
        action="store_const",
        const=math.nan,
        help="allow missing values: NaN; in .csv also empty cells, and NA, N/A, null, ? "
        "and the like (docs/command_line.rst lists them)",
    )


def _model(group: argparse._ArgumentGroup) -> None:
    """What a fit of several commands may be."""
    group.add_argument("--solver", choices=SOLVERS, help="default: mu; of select, hals")
    group.add_argument(
        "--sparsity", type=nonnegative, default=0.0, help="0.05 to 0.2 for sparse weights"
    )
    group.add_argument("--init", choices=STARTS, default="kmeans", help="default: kmeans")
    group.add_argument("--tol", type=nonnegative, default=1e-5, help="default: 1e-5")
    group.add_argument("--max-iter", type=whole, default=200, help="default: 200")
    group.add_argument(
        "--seed", dest="random_state", type=whole, default=0, metavar="SEED", help="default: 0"
    )


def _transform(command: argparse.ArgumentParser) -> None:
    _input(command, "model", metavar="MODEL", help="a model that fit has saved")
    _data(command, "the data")
    _output(
        command, "-o", "--output", kind="table", required=True, metavar="W",
        help=".npy, .csv, .tsv, .h5, .zarr",
    )  # fmt: skip
    _where(command.add_argument_group("where it is computed (by default, as the fit was)"))
    _reading(command)


def _plot(command: argparse.ArgumentParser) -> None:
    _input(command, "model", metavar="MODEL", help="a model that fit has saved")
    command.add_argument("--kind", choices=KINDS, default="components", help="default: components")
    _output(
        command, "-o", "--output", kind="picture", required=True, metavar="PNG",
        help="or .pdf, .svg, …",
    )  # fmt: skip
    _input(command, "--data", metavar="FILE", help="for weights; for the SVD bound of convergence")
    command.add_argument(
        "--image-shape", type=image_shape, metavar="HxW", help="draw components as images"
    )
    _reading(command)


def _where(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backend", choices=BACKENDS)
    group.add_argument("--device", help="such as cuda:1, in the words of the backend")
    group.add_argument("--n-jobs", type=threads, help="threads on blocks of rows; -1: all cores")


def _reading(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("reading the data")
    group.add_argument(
        "--key",
        "--dataset",
        metavar="NAME",
        help="the array, where .npz, .h5 or .zarr hold several",
    )
    yes_or_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--header",
        action=yes_or_no,
        help=".csv: whether the first line names the columns; by default snmf decides, and prints "
        "a note where the names are numbers",
    )
    group.add_argument(
        "--row-names",
        action=yes_or_no,
        help=".csv: whether the first column names the rows; by default snmf decides",
    )
    group.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMN",
        help=".csv: leave that column out, by its name, or else by its number from 1",
    )


def _number(kind: Callable[[str], float], fits: Callable[[float], bool], name: str) -> type:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {name}; got {text!r}")
        return value

    return convert  # type: ignore[return-value]


positive = _number(int, lambda value: value >= 1, "a positive whole number")
whole = _number(int, lambda value: 0 <= value < 2**32, "a whole number from 0")
threads = _number(int, lambda value: value >= 1 or value <= -1, "a number of threads, or -1")
nonnegative = _number(float, lambda value: 0 <= value < math.inf, "a number from 0")


share = _number(float, lambda value: 0 < value < 1, "a share between 0 and 1")


def file_name(text: str) -> Path:
    """The name of a file: neither nothing nor "-"."""
    if text in ("", "-"):
        words = "the name of a file, as standard input and output are not used"
        raise argparse.ArgumentTypeError(f"must be {words}; got {text!r}")
    return Path(text)


def positive_or_auto(text: str) -> int | str:
    """A positive whole number, or "auto"."""
    return text if text == "auto" else positive(text)


def numbers(text: str) -> list[int]:
    """Whole numbers, as in 2-12 or 5,10,20."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = positive(first), positive(last or first)
        found.extend(range(low, high + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"must be numbers, as 2-12 or 5,10,20; got {text!r}")
    return found


def image_shape(text: str) -> tuple[int, int]:
    """Height and width, as in 28x28."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be as 28x28, height and width; got {text!r}")
    return int(height), int(width)
