"""Tables of text, xlsx, Parquet and Feather, read by pandas.

The way of a text: `_encoding` and `_delimiter` look at its beginning, `layout_of` finds names and
numbers in its first lines, pandas reads it in pieces, and `_numbers` converts what pandas takes for
words, such as "1.234,5". The numbers of a large text lie in a temporary file.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import math
import re
import shlex
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from warnings import catch_warnings
from zipfile import BadZipFile

import numpy as np

from snmf.cli.layout import ROW_NAMES, Layout, decimal_of, layout_of, number

Array = Any
Frame = Any

LINES = 200  # the layout of a table is found from its first lines
FEW, SIZE = 10, 2_000_000  # fewer lines, if they have this many characters
PIECE, ROWS = 2**21, 1000  # pandas reads so many cells at a time, or so many rows if these are more
LARGE = 2**30  # bytes of text whose numbers are kept in a temporary file
DELIMITERS = "\t;|, "  # in doubt, the first
COMMON = ["", "NA", "N/A", "n/a", "NaN", "nan", "null"]  # pandas knows these; `number`, all others


@dataclass(frozen=True)
class Reading:
    """The options for reading a file.

    Attributes
    ----------
    key : str, default=None
        Selects an array or a sheet, if the file holds several.
    header : bool, default=None
        Says whether a line above the numbers names the columns. None decides by the cells.
    row_names : bool, default=None
        Says whether the first column names the rows. None decides by the cells.
    drop : tuple of str
        Leaves out these columns, by name or by number from 1; each may be several with commas.
    numeric : bool, default=False
        Leaves out the columns that are no numbers. Otherwise they are an error.
    missing : bool, default=False
        Reads empty cells, and cells such as "NA", as NaN. Otherwise they are an error.
    known : sequence of str, default=None
        The expected names of the columns.
    decimal : {".", ","}, default=None
        The sign before decimals. None decides by the cells.
    encoding : str, default=None
        The encoding of a text. None is UTF-8, UTF-16 with its mark, or else Windows-1252.
    """

    key: str | None = None
    header: bool | None = None
    row_names: bool | None = None
    drop: tuple[str, ...] = ()
    numeric: bool = False
    missing: bool = False
    known: Sequence[str] | None = None
    decimal: str | None = None
    encoding: str | None = None


class Table(NamedTuple):
    """A table that was read.

    Attributes
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        The numbers: memory-mapped, or an array of h5py or Zarr, if the format allows it.
    columns, rows : list of str or None
        The names of the columns and of the rows.
    kind : str
        The kind of file, in words.
    """

    X: Array
    columns: list[str] | None = None
    rows: list[str] | None = None
    kind: str = ""


def library(path: Path, name: str) -> Any:
    """Import a library of the extra `files`; raise ImportError that names file and extra."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{path}: needs {name}: pip install 'snmf[files]'") from error


def _zst(path: Path, mode: str) -> Any:
    pyarrow = library(path, "pyarrow")
    stream = pyarrow.input_stream if mode == "rb" else pyarrow.output_stream
    return stream(str(path), compression="zstd")


OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zst,
}  # fmt: skip


def text_file(path: Path, mode: str, encoding: str, compression: str) -> TextIO:
    """Open a file of text, to read or write; `compression` is a suffix of OPENERS, or any other."""
    binary = OPENERS.get(compression, open)(path, mode)
    return io.TextIOWrapper(binary, encoding=encoding, newline="")


@contextmanager
def _naming(path: Path, kind: str, *damage: type[Exception]) -> Iterator[None]:
    """Turn errors into a ValueError that names the file; those of `damage` name the kind too."""
    expected: tuple[type[Exception], ...] = (*damage, csv.Error, UnicodeError, EOFError, OSError)
    try:
        yield
    except expected as error:
        raise ValueError(f"{path}: expected {kind}; {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_text(path: Path, reading: Reading) -> Table:
    """Read a table of text, compressed or not.

    Raises
    ------
    ValueError
        If it is no table of numbers. The message names the cell or the columns.
    ImportError
        If pandas is not installed.
    """
    pandas, compression = library(path, "pandas"), path.suffix.lower()
    damage = zlib.error, lzma.LZMAError
    with _naming(path, "a table of text", *damage):
        encoding = reading.encoding or _encoding(path, compression)
    with _naming(path, f"a table of text in {encoding} (another: --encoding)", *damage):
        with text_file(path, "rb", encoding, compression) as file:
            look = _Look.at(file, reading)
        layout, skipped = look.layout, look.skipped
        large = path.stat().st_size * (4 if compression in OPENERS else 1) > LARGE
        with text_file(path, "rb", encoding, compression) as file:
            for _ in range(skipped):
                file.readline()
            numbers = [j for j in range(layout.width) if j not in layout.words]
            numbers = numbers[layout.rows and numbers[0] == 0 :]
            pieces = pandas.read_csv(
                file, sep=r"\s+" if look.delimiter == " " else look.delimiter, header=None,
                names=range(layout.width), index_col=False, decimal=look.decimal or ".",
                na_values=dict.fromkeys(numbers, COMMON), keep_default_na=False,
                dtype={0: str} if layout.rows else None, skipinitialspace=True,
                comment=look.comment, low_memory=False,
                chunksize=max(ROWS, PIECE // layout.width), **_exact(pandas),
            )  # fmt: skip
            pieces = _without_blank_end(_with_lines(pieces, skipped))
            return _assembled("text", pieces, layout, reading, look.decimal, large)


def _exact(pandas: Any) -> dict[str, str]:
    """Return the argument by which an older pandas reads the bits that were written."""
    version = tuple(map(int, pandas.__version__.split(".")[:2]))
    return {"float_precision": "round_trip"} if version < (3, 1) else {}


def _with_lines(pieces: Iterable[Frame], skipped: int) -> Iterator[Frame]:
    """Correct the line in what pandas says of a line that is too long."""
    try:
        yield from pieces
    except ValueError as error:
        if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            width, line, seen = map(int, found.groups())
            words = f"line {line + skipped}: expected {width} cells; got {seen}"
            raise ValueError(words) from error
        raise


def _without_blank_end(pieces: Iterable[Frame]) -> Iterator[Frame]:
    """Leave out the last rows if they are empty, as spreadsheets write them."""
    pieces = iter(pieces)
    last = next(pieces)
    for piece in pieces:
        yield last
        last = piece
    n = end = len(last)
    while n > 1 and last.shape[1] > 1 and {*map(str, last.iloc[n - 1])} <= {"", "nan", "<NA>"}:
        n -= 1
    if n < end:
        warnings.warn(f"left out empty rows at the end: {end - n}", stacklevel=2)
    yield last[:n]


def _encoding(path: Path, compression: str) -> str:
    with OPENERS.get(compression, open)(path, "rb") as file:
        start = file.read(2**20)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        raise ValueError("it has zero bytes; if it is text in UTF-16, pass --encoding utf-16-le")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        warnings.warn(
            "the text is not in UTF-8, and was read as Windows-1252; pass --encoding for another",
            stacklevel=2,
        )
        return "cp1252"
    return "utf-8-sig"


class _Look(NamedTuple):
    """What the first lines of a text tell."""

    delimiter: str
    comment: str | None
    decimal: str | None
    layout: Layout
    skipped: int  # lines above the numbers

    @classmethod
    def at(cls, file: TextIO, reading: Reading) -> _Look:
        lines, cut = _first_lines(file)
        said = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE) if lines else None
        if said:  # as Excel writes it
            lines[0] = "\n"
        if not any(map(str.strip, lines)):
            raise ValueError("the file is empty")
        delimiter = said[1] if said else _delimiter([line for line in lines if line.strip()])
        top = next((i for i, line in enumerate(lines) if line[0] not in "#\r\n"), 0)
        below = lines[top:]
        marked = any(line[0] == "#" for line in below) and not any("#" in x[1:] for x in below)
        records, ends = _records(lines, delimiter, top if marked else len(lines))
        records = records[: -1 if cut else None]
        cells = [cell for record in records for cell in record]
        decimal = reading.decimal or decimal_of(cells, delimiter)
        layout = layout_of(records, reading.header, reading.row_names, decimal, reading.known)
        skipped = ends[layout.above - 1] if layout.above else 0
        return cls(delimiter, "#" if marked else None, decimal, layout, skipped)


def _first_lines(file: TextIO) -> tuple[list[str], bool]:
    """Return the first lines, and whether more follow, so that the last record may be cut."""
    lines: list[str] = []
    size = 0
    for line in file:
        if len(lines) >= LINES or (len(lines) >= FEW and size > SIZE):
            return lines, True
        lines.append(line)
        size += len(line)
    return lines, False


def _delimiter(lines: list[str]) -> str:
    """Return the delimiter by which the most lines have equally many cells, and numbers in them."""
    below = [line.strip() for line in lines[1:]]
    if "," not in lines[0] and below and all(re.fullmatch(r"[+-]?\d+,\d+", x) for x in below):
        return "\t"  # a single column, with decimal commas

    def full(delimiter: str) -> list[list[str]]:
        """Return the lines that are cut into as many cells as most are, if these are several."""
        try:
            rows = [*csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
        except csv.Error:  # a whole line is too long for one cell
            return []
        width, _ = Counter(map(len, rows)).most_common(1)[0]
        return [row for row in rows if len(row) == width > 1]

    def numbers(delimiter: str) -> int:
        cells = [cell.strip() for row in cut[delimiter] for cell in row]
        return sum(" " not in c and number(c, "," if "," in c else ".") is not None for c in cells)

    cut = {delimiter: full(delimiter) for delimiter in DELIMITERS}
    most = max(map(len, cut.values()))
    best = [delimiter for delimiter in DELIMITERS if len(cut[delimiter]) == most]
    return "," if most == 0 else best[0] if len(best) == 1 else max(best, key=numbers)


def _records(lines: list[str], delimiter: str, top: int) -> tuple[list[list[str]], list[int]]:
    """Return the cells of the lines, without comments from `top` on, and the last line of each."""
    at, records, ends = 0, [], []

    def counted() -> Iterator[str]:
        nonlocal at
        for at, line in enumerate(lines, 1):
            if at <= top or line[0] != "#":
                yield line

    for cells in csv.reader(counted(), delimiter=delimiter, skipinitialspace=True):
        if cells:
            records.append(cells)
            ends.append(at)
    return records, ends


def read_xlsx(path: Path, reading: Reading) -> Table:
    """Read a sheet of an xlsx file; raise as `read_text` does."""
    pandas = library(path, "pandas")
    library(path, "openpyxl")
    with _naming(path, "an xlsx file", ValueError, LookupError, BadZipFile), catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of styles and the like that are not read
        sheets = pandas.read_excel(
            path, None, header=None, dtype=object, keep_default_na=False, engine="openpyxl"
        )
    with _naming(path, "an xlsx file"):
        if (reading.key is None and len(sheets) > 1) or reading.key not in (None, *sheets):
            raise ValueError(f"expected one sheet; choose one with --key, of: {', '.join(sheets)}")
        frame = sheets[reading.key or next(iter(sheets))]
        frame.columns = range(frame.shape[1])
        records = [["" if c is None else str(c) for c in line] for line in frame[:LINES].values]
        if not records:
            raise ValueError("the sheet is empty")
        decimal = reading.decimal or decimal_of([c for line in records for c in line], "")
        layout = layout_of(records, reading.header, reading.row_names, decimal, reading.known)
        pieces = _without_blank_end([frame[layout.above :]])
        return _assembled("xlsx", pieces, layout, reading, decimal)


def read_columns(path: Path, reading: Reading) -> Table:
    """Read a Parquet or Feather file; raise as `read_text` does."""
    pandas = library(path, "pandas")
    library(path, "pyarrow")
    read = pandas.read_parquet if path.suffix.lower() == ".parquet" else pandas.read_feather
    with _naming(path, "a Parquet or Feather file", ValueError, LookupError):
        frame = read(path)
    with _naming(path, "a Parquet or Feather file"):
        if not isinstance(frame.index, pandas.RangeIndex):
            frame.index = frame.index.map(str)
            frame = frame.reset_index(names="")
        names = [str(name) for name in frame.columns]
        if frame.empty:
            raise ValueError("the table is empty")
        frame.columns = range(len(names))
        words = {}
        for j in np.flatnonzero([kind.kind not in "biuf" for kind in frame.dtypes]).tolist():
            odd = (str(c) for c in frame[j][:LINES].tolist() if number(c, ".") is None)
            if (cell := next(odd, None)) is not None:
                words[j] = cell
        rows = reading.row_names
        if rows is None:
            rows = len(names) > 1 and (0 in words or names[0].lower() in ROW_NAMES)
        layout = Layout(0, names, rows, words, len(names))
        return _assembled("Parquet or Feather", [frame], layout, reading, ".")


def _assembled(
    kind: str,
    frames: Iterable[Frame],
    layout: Layout,
    reading: Reading,
    decimal: str | None,
    large: bool = False,
) -> Table:
    """Return the numbers of all frames as a table, whose kind says what has names."""
    kept, count = _kept(layout, reading), 0
    parts: list[np.ndarray] = []
    rows: list[str] = []
    with tempfile.TemporaryFile() if large else nullcontext() as file:
        for frame in frames:
            X, odd = _numbers(frame, kept, decimal)
            if odd and reading.numeric and not count:
                _tell_of_words({j: cell for j, (_, cell) in odd.items()}, layout.names)
                X, kept = X[:, [j not in odd for j in kept]], [j for j in kept if j not in odd]
                odd = {}
            names = frame[0].map(str).tolist() if layout.rows else None
            _check(X, odd, kept, layout, names, count, decimal, reading.missing)
            rows += names or []
            count += len(X)
            if file is None:
                parts.append(X)
            else:
                file.write(np.ascontiguousarray(X).data)
        columns = [layout.names[j] for j in kept] if layout.names else None
        kind += ", columns named" * bool(columns) + ", rows named by the first column" * bool(rows)
        if file is None:
            X = parts[0] if len(parts) == 1 else np.concatenate(parts)
            return Table(X, columns, rows or None, kind)
        file.flush()
        warnings.warn(
            "the text is large, so its numbers lie in a temporary file; snmf convert writes them "
            "to a file that every command reads at once",
            stacklevel=2,
        )
        X = np.memmap(file, "float64", "r", shape=(count, len(kept)))
        return Table(X, columns, rows or None, kind)


def _kept(layout: Layout, reading: Reading) -> list[int]:
    """Return the columns to read; raise ValueError if others are left than numbers."""
    names, known = layout.names, reading.known
    dropped = {0} if layout.rows else set()
    for word in reading.drop:
        whole = names is not None and word in names
        parts = [word] if whole else word.split(",")
        dropped |= {_column(part.strip(), names, layout.width) for part in parts}
    words = {j: cell for j, cell in layout.words.items() if cell and j not in dropped}
    if names is not None and known is not None:
        words = {j: cell for j, cell in words.items() if names[j] in known}
    if words and not reading.numeric:
        shown, drop = _shown(words, names), ",".join(_name(j, names) for j in words)
        raise ValueError(
            f"columns that are no numbers: {shown}. Leave them out: all with --numeric, or by name "
            f"with --drop {shlex.quote(drop)}"
        )
    if words:
        _tell_of_words(words, names)
    kept = [j for j in range(layout.width) if j not in dropped and j not in layout.words]
    if not kept:
        raise ValueError("no column of numbers is left. Drop fewer columns.")
    return kept


def _column(word: str, names: list[str] | None, width: int) -> int:
    """Return the number of a column to drop."""
    if names and names.count(word) > 1:
        raise ValueError(f"{names.count(word)} columns are called {word!r}: drop by number")
    if names and word in names:
        return names.index(word)
    if word.isdecimal() and 1 <= int(word) <= width:
        return int(word) - 1
    known = f"the columns are {', '.join(names[:30])}" if names else "its columns have no names"
    raise ValueError(f"there is no column {word!r} to drop; {known}")


def _name(j: int, names: list[str] | None) -> str:
    """Return what --drop calls a column."""
    return names[j] if names and names[j] and names.count(names[j]) == 1 else str(j + 1)


def _shown(words: dict[int, str], names: list[str] | None) -> str:
    shown = [f"{_name(j, names)} ({cell[:30]!r})" for j, cell in words.items()]
    return ", ".join(shown[:20]) + (f", and {len(shown) - 20} more" if shown[20:] else "")


def _tell_of_words(words: dict[int, str], names: list[str] | None) -> None:
    warnings.warn(f"left out, since they are no numbers: {_shown(words, names)}", stacklevel=2)


def _numbers(
    frame: Frame, kept: list[int], decimal: str | None
) -> tuple[np.ndarray, dict[int, tuple[int, str]]]:
    """Return the numbers of some columns, and the first cell of each that is none, with its row."""
    dtypes = frame.dtypes.tolist()
    kinds = [dtypes[j] for j in kept]
    single = all(kind == np.float32 for kind in kinds)
    X = np.empty((len(frame), len(kept)), "float32" if single else "float64")
    plain = np.array([isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in kinds])
    X[:, plain] = frame.iloc[:, np.array(kept)[plain]].to_numpy(X.dtype)
    odd = {}
    for place in np.flatnonzero(~plain):
        if kinds[place].kind in "biuf":  # numbers of another kind than those of NumPy
            X[:, place] = frame[kept[place]].to_numpy(X.dtype, na_value=np.nan)
            continue
        cells = frame[kept[place]].tolist()
        values = [number(cell, decimal) for cell in cells]
        if None in values:
            i = values.index(None)
            odd[kept[place]] = i, str(cells[i])
        X[:, place] = [math.nan if value is None else value for value in values]
    return X, odd


def _check(
    X: np.ndarray,
    odd: dict[int, tuple[int, str]],
    kept: list[int],
    layout: Layout,
    rows: list[str] | None,
    before: int,
    decimal: str | None,
    missing: bool,
) -> None:
    """Raise ValueError if cells are no numbers, or are missing and must not be."""

    def place(i: int, j: int) -> str:
        row = f" ({rows[i]!r})" if rows else ""
        column = f" ({layout.names[j]!r})" if layout.names else ""
        return f"row {before + i + 1}{row}, column {j + 1}{column}"

    if odd:
        cells = [
            f"{place(i, j)}: expected a number; got {cell[:60]!r}" for j, (i, cell) in odd.items()
        ]
        drop = shlex.quote(",".join(_name(j, layout.names) for j in odd))
        advice = f"Correct them, or leave the columns out: --numeric, or --drop {drop}"
        if any("," in cell for _, cell in odd.values()) and decimal != ",":
            advice = "If decimals follow a comma, pass --decimal ,"
        elif 0 in odd:
            advice = f"If column 1 names the rows, pass --row-names. {advice}"
        raise ValueError(f"{'; '.join(cells[:5])}. {advice}")
    if not missing and np.isnan(X).any():
        i, at = np.argwhere(np.isnan(X))[0]
        drop = shlex.quote(_name(kept[at], layout.names))
        raise ValueError(
            f"{place(i, kept[at])}: expected a number; the cell is empty, or says that a value is "
            f"missing. If such values are missing, fit with --missing; or leave out the row, or "
            f"the column (--drop {drop})"
        )
