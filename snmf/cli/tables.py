"""Reading of .csv and .tsv files: `read_text`. Errors name the line and the column."""

from __future__ import annotations

import csv
import math
import shlex
import warnings
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from snmf.cli.header import Verdict, counts_rows, is_missing, is_number, is_text, judge, mostly

Names = list[str] | None
Record = tuple[int, list[str]]  # the number of its last line, and its cells

SAMPLE = 200  # records from which the layout of a file is decided
INDEX = {"", "index", "id", "unnamed: 0"}  # usual names of a column of row names
DELIMITERS = ",;\t"


def read_text(
    path: Path,
    header: bool | None,
    row_names: bool | None,
    drop: Sequence[str],
    missing: bool = False,
    known: Sequence[str] | None = None,
) -> tuple[np.ndarray, Names, Names]:
    """Read a table of numbers from text.

    Parameters
    ----------
    path : Path
        The file. A ``.tsv`` file is separated by tabs. Other files are separated by the most
        frequent of comma, semicolon and tab in the first line.
    header : bool or None
        Says whether the first line names the columns. With None it does if it has words above
        numbers, or numbers that `snmf.cli.header` takes for names. A warning is given if the
        names are numbers, or if numbers may be names.
    row_names : bool or None
        Says whether the first column names the rows. With None it does if most of its cells are
        words, or if its own name is empty, "index" or "id".
    drop : sequence of str
        Leaves out these columns, by name or by number from 1.
    missing : bool, default=False
        Reads empty cells, and cells such as "NA", as NaN. Otherwise they are errors.
    known : sequence of str, default=None
        The expected names of the columns. A first line with these names is a line of names.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The numbers, in float64.
    columns, rows : list of str or None
        The names of the columns and of the rows.

    Raises
    ------
    ValueError
        If the file is no such table. The message names line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = _records(file, _delimiter(path, file))
            head = list(islice(records, SAMPLE))
            cells = [cells for _, cells in head]
            if header is None:
                header = _names_columns(path, cells, known)
            layout = _layout(path, cells, header, row_names, drop)
            return _parsed(path, layout, islice(chain(head, records), layout.header, None), missing)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a table of text in UTF-8; {error}") from error


def _delimiter(path: Path, file: TextIO) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = file.readline()
    file.seek(0)
    return max(DELIMITERS, key=first.count)


def _records(file: TextIO, delimiter: str) -> Iterator[Record]:
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        if cells:
            yield reader.line_num, cells


class Layout(NamedTuple):
    """The layout of a text file.

    Attributes
    ----------
    width : int
        The number of cells in a line.
    header, row_names : bool
        Whether the first line and the first column are names.
    names : list of str or None
        The names of all columns.
    kept : list of int
        The columns to read.
    """

    width: int
    header: bool
    row_names: bool
    names: list[str] | None
    kept: list[int]


def _names_columns(path: Path, cells: list[list[str]], known: Sequence[str] | None) -> bool:
    """Whether the first line names the columns; warn if that is not certain."""
    if not cells:
        return False
    first = _first(cells)
    verdict = judge(first, cells[1:])
    if known is not None and [name.strip() for name in first[-len(known) :]] == list(known):
        return True
    shown = [cell for cell in cells[0] if cell.strip()]
    words = ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")
    if verdict is Verdict.NUMBERS_AS_NAMES:
        words = f"line 1 was taken for column names: {words}; pass --no-header if it is data"
        warnings.warn(f"{path}: {words}", stacklevel=2)
    elif verdict is Verdict.DOUBTFUL:
        words = f"line 1 was taken for data: {words}; pass --header if it names the columns"
        warnings.warn(f"{path}: {words}", stacklevel=2)
    return verdict in (Verdict.NAMES, Verdict.NUMBERS_AS_NAMES)


def _first(cells: list[list[str]]) -> list[str]:
    """Return the first line; if it lacks a cell above the row names, as R writes it, add one."""
    return ["", *cells[0]] if len(cells) > 1 and len(cells[1]) == len(cells[0]) + 1 else cells[0]


def _layout(
    path: Path,
    cells: list[list[str]],
    header: bool,
    row_names: bool | None,
    drop: Sequence[str],
) -> Layout:
    if not cells:
        raise ValueError(f"{path}: the file is empty")
    first, rest = _first(cells), cells[1:]
    width = len(first)
    if row_names is None:
        named = header and first[0].strip().lower() in INDEX
        row_names = width > 1 and (named or mostly(is_text, rest if header else cells, 0))
        if header and not row_names and counts_rows(first, rest):
            words = f"column 1, {first[0].strip()!r}, was taken for data"
            warnings.warn(f"{path}: {words}; pass --row-names if it names the rows", stacklevel=2)
    names = [name.strip() for name in first] if header else None
    dropped = {_column(path, word, names, width) for word in drop}
    kept = [j for j in range(row_names, width) if j not in dropped]
    if not kept:
        raise ValueError(f"{path}: no column of numbers is left. Drop fewer columns.")
    return Layout(width, header, row_names, names, kept)


def _column(path: Path, word: str, names: list[str] | None, width: int) -> int:
    if names and names.count(word) > 1:
        raise ValueError(f"{path}: {names.count(word)} columns are called {word!r}: drop by number")
    if names and word in names:
        return names.index(word)
    if word.isdecimal() and 1 <= int(word) <= width:
        return int(word) - 1
    known = f"the columns are {', '.join(names[:30])}" if names else "its columns have no names"
    raise ValueError(f"{path}: there is no column {word!r} to drop; {known}")


def _parsed(
    path: Path, layout: Layout, records: Iterator[Record], missing: bool
) -> tuple[np.ndarray, Names, Names]:
    values, rows = array("d"), []
    for line, cells in records:
        if len(cells) != layout.width:
            raise ValueError(
                f"{path}, line {line}: expected {layout.width} cells; got {len(cells)}"
            )
        try:
            numbers = [float(cells[j]) for j in layout.kept]
        except ValueError:
            numbers = [math.nan]
        if math.isnan(sum(numbers)) or _has_underscore(cells, layout):  # NaN if a cell is missing
            numbers = [_number(path, line, cells, j, layout, missing) for j in layout.kept]
        values.extend(numbers)
        if layout.row_names:
            rows.append(cells[0])
    if not values:
        raise ValueError(f"{path}: expected lines of numbers; got only a line of names")
    X = np.frombuffer(values).reshape(-1, len(layout.kept))
    columns = [layout.names[j] for j in layout.kept] if layout.names else None
    return X, columns, rows or None


def _has_underscore(cells: list[str], layout: Layout) -> bool:
    """Whether a cell has an underscore: Python would read 1_2 as a number."""
    return "_" in "".join(cells) and any("_" in cells[j] for j in layout.kept)


def _number(
    path: Path, line: int, cells: list[str], j: int, layout: Layout, missing: bool
) -> float:
    if missing and is_missing(cells[j]):
        return math.nan
    if not is_missing(cells[j]) and is_number(cells[j]):
        return float(cells[j])
    raise ValueError(f"{path}, {_not_a_number(line, cells, j, layout)}")


def _not_a_number(line: int, cells: list[str], j: int, layout: Layout) -> str:
    name = f" ({layout.names[j]!r})" if layout.names else ""
    where = f"line {line}, column {j + 1}{name}: expected a number; got {cells[j]!r}."
    if is_missing(cells[j]):
        return (
            f"{where} If such values are missing, fit with --missing; or leave out the row, or "
            "the column (--drop)."
        )
    if is_number(cells[j].replace(",", ".")):
        return f"{where} Write decimals with a point."
    if j == 0:
        return f"{where} If these are names of rows, pass --row-names."
    drop = layout.names[j] if layout.names else j + 1
    return f"{where} To leave the column out, pass --drop {shlex.quote(str(drop))}"
