"""The arguments of the command line, and their help texts.

This module imports nothing slow, so that ``snmf --help`` is fast. A new command needs a call of
`command` in `parser`, and a function of its name in `snmf.cli.commands`.
"""

from __future__ import annotations

import argparse
import codecs
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snmf import __version__

SOLVERS = ("auto", "mu", "hals")
STARTS = ("auto", "skewness", "varimax", "kmeans", "svd", "random")
BACKENDS = ("auto", "numpy", "cupy", "torch", "jax")
KINDS = ("components", "weights", "convergence")
STREAM = Path("-")  # standard input or output
OPTIONS = {  # what a warning of the library calls them
    "set fit_intercept=True": "pass --intercept",
    "n_components='auto'": "--n-components auto",
    "n_components=": "--n-components ",
    "n_components": "--n-components",
    "max_iter": "--max-iter",
    "sparsity": "--sparsity",
    "init.": "--init.",
    " tol": " --tol",
}
NOT_CONVEX = {  # options of a fit that `snmf.ConvexNMF` has not
    "missing_values": "--missing",
    "locality": "--locality",
    "fit_intercept": "--intercept",
    "n_nonzero_features": "--nonzero-features",
    "positive_components": "--positive",
    "scale": "--scale",
}
TABLE = "-, .csv, .tsv, .txt, .npy, .parquet, .feather, .xlsx, .h5 or .zarr"

FILES = """
A data FILE is a table of numbers with a row for every sample: .npy (memory-mapped), .npz (one
array, or a SciPy sparse matrix), .h5, .h5ad, .zarr, .mtx, .parquet, .feather, .xlsx, or text: .csv,
.tsv or .txt, also compressed (.gz, .bz2, .xz, .zst). All but .npy, .npz and .mtx need
pip install 'snmf[files]'. - is standard input or output.
An output never replaces a file that the command reads. A model replaces a model, and a picture a
picture. To replace any other file that is not empty, pass --force.
Exit codes: 0, success; 1, bad data, or a file that cannot be read or written; 2, bad usage.
"""
FORCE = """replace existing output files of any kind (never a file that the command reads). Without
--force, a model replaces only a model, a picture only a picture, and a table only an empty file"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; `command` in its result is the name of a function in `commands`."""
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
    _select(command("select", "compare numbers of components by the error in held-out entries"))
    _transform(command("transform", "compute the weights of data with a saved model"))
    _impute(command("impute", "fill the missing values of data with a saved model"))
    _top(command("top", "list the features of every component with the largest values"))
    _components(command("components", "write the components of a saved model as a table"))
    _plot(command("plot", "draw a saved model"))
    _convert(command("convert", "write a data file in another format, such as text as .npy"))
    info = command("info", "show what is in a model or a data file")
    _data(info, "the model or data file")
    _reading(info)
    demo = command("demo", "factorise the handwritten digits of scikit-learn")
    demo.add_argument(
        "-k", "--components", type=positive, default=16, help="number of components; default: 16"
    )
    _output(
        demo, "-o", "--output", kind="model", default=Path("snmf-demo.npz"), metavar="MODEL.npz",
        help="write the model to this file; default: snmf-demo.npz",
    )  # fmt: skip
    return words


def _data(command: argparse.ArgumentParser, help: str) -> None:
    _input(command, "file", metavar="FILE", help=f"{help}; - is standard input")


def _input(command: argparse.ArgumentParser, *flags: str, **words: Any) -> None:
    """Add an argument for a file that the command reads."""
    kind = file_name if "model" in flags else file_or_stream
    name = command.add_argument(*flags, type=kind, **words).dest
    command.set_defaults(inputs=(*command.get_default("inputs"), name))


def _output(
    command: argparse.ArgumentParser,
    *flags: str,
    kind: str,
    group: argparse._ArgumentGroup | None = None,
    **words: Any,
) -> None:
    """Add an argument for a file that the command writes, of a kind of `snmf.cli.outputs`."""
    if not command.get_default("outputs"):
        command.add_argument("--force", action="store_true", help=FORCE)
    convert = file_or_stream if kind == "table" else file_name
    name = (group or command).add_argument(*flags, type=convert, **words).dest
    command.set_defaults(outputs={**command.get_default("outputs"), name: kind})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the arguments, and check them as far as possible without reading data."""
    options = parser().parse_args(arguments)
    if options.command == "fit":
        if options.candidates is not None and not options.convex:
            options.refuse("--candidates is only for --convex: add --convex")
        others = [flag for name, flag in NOT_CONVEX.items() if getattr(options, name)]
        if options.convex and others:
            options.refuse(
                f"--convex does not go with {', '.join(others)}: leave one or the other out"
            )
        if options.convex and options.n_components == "auto":
            options.refuse("--convex needs a number of components: got -k auto")
    if options.command == "plot":
        if options.kind == "weights" and options.data is None:
            options.refuse("--kind weights needs data: add --data FILE")
        if options.kind == "components" and options.data is not None:
            options.refuse("--data is only for --kind weights and --kind convergence: leave it out")
        if options.kind != "components" and options.image_shape is not None:
            options.refuse("--image-shape is only for --kind components: leave it out")
    return options


def _fit(command: argparse.ArgumentParser) -> None:
    _data(command, "the data file")
    command.add_argument(
        "-k",
        "--n-components",
        type=positive_or_auto,
        required=True,
        metavar="K",
        help="number of components, or auto to choose it by held-out entries; the report shows it",
    )
    _output(
        command, "-o", "--output", kind="model", required=True, metavar="MODEL.npz",
        help="write the model to this file",
    )  # fmt: skip
    _output(
        command, "--weights", kind="table", metavar="W",
        help=f"write the weights W to this file: {TABLE}",
    )  # fmt: skip
    fit = command.add_argument_group("the fit (the parameters of snmf.SNMF)")
    fit.add_argument(
        "--n-init", type=positive, default=1,
        help="fit from this many starts, and keep the best; default: 1",
    )  # fmt: skip
    fit.add_argument(
        "--locality", type=nonnegative, default=0.0,
        help="make every row a mixture of components near it: 0.1 to 0.3 for sparse mixtures, "
        "about 2 to separate classes; default: 0",
    )  # fmt: skip
    fit.add_argument(
        "--convex", action="store_true",
        help="make components that are mixtures of rows of the data (snmf.ConvexNMF)",
    )  # fmt: skip
    fit.add_argument(
        "--candidates", type=positive, metavar="N",
        help="with --convex: the number of rows that components are made of, drawn at random; "
        "default: all, or 2000 if there are more",
    )  # fmt: skip
    _missing(fit)
    _output(
        command, "--checkpoint", kind="checkpoint", group=fit, metavar="FILE",
        help="save the state of the fit in this file, every minute and on Ctrl-C; the same command "
        "continues from it",
    )  # fmt: skip
    _model(fit)
    _where(fit)
    _reading(command)


def _select(command: argparse.ArgumentParser) -> None:
    _data(command, "the data file")
    command.add_argument(
        "-k",
        "--n-components",
        type=numbers,
        required=True,
        metavar="K",
        help="numbers of components to compare, such as 2-12 or 5,10,20",
    )
    command.add_argument(
        "--held-out", type=share, default=0.2,
        help="share of the rows that a fit does not see, and of the columns that are predicted "
        "at a time; default: 0.2",
    )  # fmt: skip
    command.add_argument(
        "--repeats", type=positive, default=3,
        help="random draws of rows and columns, with one fit each; default: 3",
    )  # fmt: skip
    command.add_argument(
        "--restarts", type=whole, default=0,
        help="also compute the stability, from so many restarts (at least 2); default: 0, none",
    )  # fmt: skip
    _output(command, "--plot", kind="picture", metavar="PNG", help="draw the errors into this file")
    _missing(command)
    command.add_argument(
        "--n-jobs", type=threads, help="run so many fits at a time; -1 uses all cores"
    )
    _model(command.add_argument_group("the fits (the parameters of snmf.SNMF)"))
    _reading(command)


def _missing(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--missing",
        dest="missing_values",
        action="store_const",
        const=math.nan,
        help="allow missing values: NaN, and in tables also empty cells, NA, N/A, null, ? and "
        "others (docs/command_line.rst lists them)",
    )


def _model(group: argparse._ArgumentGroup) -> None:
    """Add the parameters of a fit that `fit` and `select` share."""
    group.add_argument(
        "--solver", choices=SOLVERS,
        help="update of W: multiplicative (mu), or coordinate descent (hals); auto is hals with "
        "--positive, else mu; default: auto for fit, hals for select and --convex",
    )  # fmt: skip
    group.add_argument(
        "--sparsity", type=nonnegative,
        help="penalize weights, 0.01 to 0.1; 0 is the objective of the paper, whose answers are "
        "not identified; default: 0.01, and 0 for the errors of select",
    )  # fmt: skip
    group.add_argument(
        "--intercept", dest="fit_intercept", action="store_true",
        help="add a row to the model, X ≈ 1 mᵀ + W H: for centred data, and for results that do "
        "not depend on the mean of X",
    )  # fmt: skip
    group.add_argument(
        "--nonzero-features", dest="n_nonzero_features", type=number_or_share, metavar="N",
        help="at most so many nonzero entries in a component, as a number or as a share (0.01)",
    )  # fmt: skip
    group.add_argument(
        "--positive", dest="positive_components", action="store_true",
        help="no entry of a component below zero",
    )  # fmt: skip
    group.add_argument(
        "--scale", action="store_true",
        help="divide every column by its standard deviation, for columns of different units",
    )  # fmt: skip
    group.add_argument(
        "--init", choices=STARTS,
        help="start of the fit; kmeans is that of the paper; default: auto, which is skewness, "
        "and kmeans with --locality; svd for the errors of select",
    )  # fmt: skip
    group.add_argument(
        "--tol", type=nonnegative, default=1e-5,
        help="stop when the relative objective falls by less than this in an iteration; "
        "default: 1e-5",
    )  # fmt: skip
    group.add_argument("--max-iter", type=whole, default=200, help="most iterations; default: 200")
    group.add_argument(
        "--seed", dest="random_state", type=whole, default=0, metavar="SEED",
        help="seed of the start; default: 0",
    )  # fmt: skip


def _saved_model(command: argparse.ArgumentParser, fit: str = "snmf fit") -> None:
    _input(command, "model", metavar="MODEL", help=f"a model that {fit} has saved")


def _transform(command: argparse.ArgumentParser) -> None:
    _saved_model(command)
    _data(command, "the data file")
    _output(
        command, "-o", "--output", kind="table", required=True, metavar="W",
        help=f"write the weights W to this file: {TABLE}",
    )  # fmt: skip
    _where(command.add_argument_group("backend and threads (default: those of the fit)"))
    _reading(command)


def _impute(command: argparse.ArgumentParser) -> None:
    _saved_model(command, "snmf fit --missing")
    _data(command, "the data file, with missing values")
    _output(
        command, "-o", "--output", kind="table", required=True, metavar="X",
        help=f"write the data, with their missing values filled, to this file: {TABLE}",
    )  # fmt: skip
    _where(command.add_argument_group("backend and threads (default: those of the fit)"))
    _reading(command)


def _top(command: argparse.ArgumentParser) -> None:
    _saved_model(command)
    command.add_argument(
        "-n", type=positive, default=10, help="number of features for every component; default: 10"
    )
    _output(
        command, "-o", "--output", kind="table", metavar="TABLE",
        help="write them to this file, with a line for every feature: -, .csv, .tsv, .txt, "
        ".parquet, .feather or .xlsx",
    )  # fmt: skip


def _components(command: argparse.ArgumentParser) -> None:
    _saved_model(command)
    _output(
        command, "-o", "--output", kind="table", required=True, metavar="H",
        help="write the components H, and the intercept and the scale if there are any, to this "
        f"file: {TABLE}",
    )  # fmt: skip


def _convert(command: argparse.ArgumentParser) -> None:
    _data(command, "the data file")
    _output(
        command, "-o", "--output", kind="table", required=True, metavar="X",
        help=f"write the data to this file: {TABLE}",
    )  # fmt: skip
    _reading(command)


def _plot(command: argparse.ArgumentParser) -> None:
    _saved_model(command)
    command.add_argument(
        "--kind", choices=KINDS, default="components", help="what to draw; default: components"
    )
    _output(
        command, "-o", "--output", kind="picture", required=True, metavar="PNG",
        help="write the picture to this file: .png, .pdf, .svg, …",
    )  # fmt: skip
    _input(
        command, "--data", metavar="FILE",
        help="the data: needed for --kind weights; for --kind convergence it adds the SVD bound",
    )  # fmt: skip
    command.add_argument(
        "--image-shape", type=image_shape, metavar="HxW",
        help="draw each component as an image of this height and width, such as 28x28",
    )  # fmt: skip
    _reading(command)


def _where(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend", choices=BACKENDS,
        help="library for the arithmetic; auto takes numpy for files",
    )  # fmt: skip
    group.add_argument("--device", help="device, as the backend names it, such as cuda:1")
    group.add_argument(
        "--n-jobs", type=threads, help="number of threads, on blocks of rows; -1 uses all cores"
    )


def _reading(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("reading the data")
    group.add_argument(
        "--key",
        "--dataset",
        metavar="NAME",
        help="the array or sheet to read, if an .npz, .h5, .zarr or .xlsx file holds several",
    )
    yes_or_no = argparse.BooleanOptionalAction
    group.add_argument(
        "--header",
        action=yes_or_no,
        help="text, .xlsx: say that a line above the numbers names the columns, or that none does; "
        "by default snmf decides, or asks",
    )
    group.add_argument(
        "--row-names",
        action=yes_or_no,
        help="tables: say that the first column names the rows, or that it does not; by default "
        "snmf decides, or asks",
    )
    group.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMNS",
        help="tables: leave these columns out, by name or number from 1, with commas between them; "
        "may be repeated",
    )
    group.add_argument(
        "--numeric", action="store_true", help="tables: leave out all columns that are no numbers"
    )
    group.add_argument(
        "--decimal", choices=(".", ","), metavar="SIGN",
        help="text, .xlsx: the sign before decimals, . or , ; by default snmf decides, or asks",
    )  # fmt: skip
    group.add_argument(
        "--encoding", type=encoding, metavar="NAME",
        help="text: the encoding; default: UTF-8, UTF-16 with its mark, or else cp1252",
    )  # fmt: skip


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
number_or_share = _number(
    lambda text: int(text) if text.isdecimal() else float(text),
    lambda value: 0 < value < 1 or (isinstance(value, int) and value >= 1),
    "a positive whole number, or a share between 0 and 1",
)


def file_name(text: str) -> Path:
    """Return the path, if it is neither empty nor "-"."""
    if text in ("", "-"):
        words = "the name of a file, since only tables go through standard input and output"
        raise argparse.ArgumentTypeError(f"must be {words}; got {text!r}")
    return Path(text).absolute() if Path(text) == STREAM else Path(text)  # a file called -


def file_or_stream(text: str) -> Path:
    """Return the path, or STREAM for "-"."""
    return STREAM if text == "-" else file_name(text)


def encoding(text: str) -> str:
    """Return the name of an encoding, if Python knows it."""
    try:
        return codecs.lookup(text).name
    except LookupError:
        words = f"must be the name of an encoding, such as cp1252; got {text!r}"
        raise argparse.ArgumentTypeError(words) from None


def positive_or_auto(text: str) -> int | str:
    """Convert a positive whole number, or "auto"."""
    return text if text == "auto" else positive(text)


def numbers(text: str) -> list[int]:
    """Convert whole numbers, as in 2-12 or 5,10,20."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = positive(first), positive(last or first)
        found.extend(range(low, high + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"must be numbers, such as 2-12 or 5,10,20; got {text!r}")
    return found


def image_shape(text: str) -> tuple[int, int]:
    """Convert height and width, as in 28x28."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be height and width, such as 28x28; got {text!r}")
    return int(height), int(width)
