"""Tables of numbers in text: what a person's .csv may be like, and what is wrong in which line."""

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
Record = tuple[int, list[str]]  # the line that it ends in, and its cells

SAMPLE = 200  # records that decide what a file is like
INDEX = {"", "index", "id", "unnamed: 0"}  # what a column of row names is called
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
        A name in ``.tsv`` has tabs; other text has what is most frequent in its first line, of
        comma, semicolon and tab.
    header : bool or None
        Whether the first line names the columns. None is to see: it does where there are words
        over numbers, or numbers that `snmf.cli.header` takes for names. Of these a warning tells,
        and of numbers that could be names.
    row_names : bool or None
        Whether the first column names the rows. None is to see: it does where most of it are
        words, or its own name is none, "index" or "id".
    drop : sequence of str
        Columns to leave out, by name or by number from 1.
    missing : bool, default=False
        Whether cells that are empty, or say "NA" or the like, are missing values, NaN, and not
        errors.
    known : sequence of str, default=None
        Names that the columns are expected to have: a line of these is one of names.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        In float64.
    columns, rows : list of str or None
        Their names.

    Raises
    ------
    ValueError
        If it is no such table; the message names line and column.
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
    """How a text file is laid out.

    Attributes
    ----------
    width : int
        The cells of a line.
    header, row_names : bool
        Whether the first line and the first column are names.
    names : list of str or None
        Of all columns.
    kept : list of int
        The columns to read.
    """

    width: int
    header: bool
    row_names: bool
    names: list[str] | None
    kept: list[int]


def _names_columns(path: Path, cells: list[list[str]], known: Sequence[str] | None) -> bool:
    """Whether the first line does, with a word of it where that is not plain."""
    if not cells:
        return False
    first = _first(cells)
    verdict = judge(first, cells[1:])
    if known is not None and [name.strip() for name in first[-len(known) :]] == list(known):
        return True
    shown = [cell for cell in cells[0] if cell.strip()]
    words = ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")
    if verdict is Verdict.NUMBERS_AS_NAMES:
        words = f"line 1 was taken for column names: {words}; --no-header if it is data"
        warnings.warn(f"{path}: {words}", stacklevel=2)
    elif verdict is Verdict.DOUBTFUL:
        words = f"line 1 was taken for data: {words}; --header if it names the columns"
        warnings.warn(f"{path}: {words}", stacklevel=2)
    return verdict in (Verdict.NAMES, Verdict.NUMBERS_AS_NAMES)


def _first(cells: list[list[str]]) -> list[str]:
    """The first line; as R writes it, there is nothing above the names of rows."""
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
            warnings.warn(f"{path}: {words}; --row-names if it names the rows", stacklevel=2)
    names = [name.strip() for name in first] if header else None
    dropped = {_column(path, word, names, width) for word in drop}
    kept = [j for j in range(row_names, width) if j not in dropped]
    if not kept:
        raise ValueError(f"{path}: no column of numbers is left")
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
        if math.isnan(sum(numbers)) or _has_underscore(cells, layout):  # so it is if one is missing
            numbers = [_number(path, line, cells, j, layout, missing) for j in layout.kept]
        values.extend(numbers)
        if layout.row_names:
            rows.append(cells[0])
    if not values:
        raise ValueError(f"{path}: there is a line of names, and none of numbers")
    X = np.frombuffer(values).reshape(-1, len(layout.kept))
    columns = [layout.names[j] for j in layout.kept] if layout.names else None
    return X, columns, rows or None


def _has_underscore(cells: list[str], layout: Layout) -> bool:
    """Whether a cell is such as 1_2, a number to Python alone."""
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
            f"{where} If such values are missing, fit with --missing; or leave out the row or "
            "(--drop) the column."
        )
    if is_number(cells[j].replace(",", ".")):
        return f"{where} Write decimals with a point."
    if j == 0:
        return f"{where} If these are names of rows, say --row-names."
    drop = layout.names[j] if layout.names else j + 1
    return f"{where} To leave the column out: --drop {shlex.quote(str(drop))}"
