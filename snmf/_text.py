"""Tables of numbers in text: what a person's .csv may be like, and what is wrong in which line."""

from __future__ import annotations

import csv
import shlex
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

Names = list[str] | None
Record = tuple[int, list[str]]  # the line that it ends in, and its cells

SAMPLE = 200  # records that decide what a file is like
MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?", "."}
INDEX = {"", "index", "id", "unnamed: 0"}  # what a column of row names is called
DELIMITERS = ",;\t"


def read_text(
    path: Path, header: bool | None, row_names: bool | None, drop: Sequence[str]
) -> tuple[np.ndarray, Names, Names]:
    """Read a table of numbers from text.

    Parameters
    ----------
    path : Path
        A name in ``.tsv`` has tabs; other text has what is most frequent in its first line, of
        comma, semicolon and tab.
    header : bool or None
        Whether the first line names the columns. None is to see: it does where there are words
        over numbers, or the numbers 0, 1, 2, …
    row_names : bool or None
        Whether the first column names the rows. None is to see: it does where most of it are
        words, or its own name is none, "index" or "id".
    drop : sequence of str
        Columns to leave out, by name or by number from 1.

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
            layout = _layout(path, [cells for _, cells in head], header, row_names, drop)
            return _parsed(path, layout, islice(chain(head, records), layout.header, None))
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


def _layout(
    path: Path,
    cells: list[list[str]],
    header: bool | None,
    row_names: bool | None,
    drop: Sequence[str],
) -> Layout:
    if not cells:
        raise ValueError(f"{path}: the file is empty")
    first, rest = cells[0], cells[1:]
    if rest and len(rest[0]) == len(first) + 1:  # as R writes it: row names without a name
        first = ["", *first]
    width = len(first)
    if header is None:
        header = _is_header(first, rest)
    if row_names is None:
        named = header and first[0].strip().lower() in INDEX
        row_names = width > 1 and (named or _mostly(_is_text, rest if header else cells, 0))
    names = [name.strip() for name in first] if header else None
    dropped = {_column(path, word, names, width) for word in drop}
    kept = [j for j in range(row_names, width) if j not in dropped]
    if not kept:
        raise ValueError(f"{path}: no column of numbers is left")
    return Layout(width, header, row_names, names, kept)


def _is_header(first: list[str], rest: list[list[str]]) -> bool:
    """Whether a column of numbers has a word above it, or the columns are numbered from 0."""
    indexed = not first[0].strip()
    labels = first[1:] if indexed else first
    if rest and len(labels) > 2 - indexed and labels == [str(j) for j in range(len(labels))]:
        return True
    return any(
        _is_text(cell) and (not rest or _mostly(_is_number, rest, j))
        for j, cell in enumerate(first)
    )


def _mostly(what: Callable[[str], bool], records: list[list[str]], j: int) -> bool:
    cells = [cells[j] for cells in records if len(cells) > j and not _is_missing(cells[j])]
    return 2 * sum(map(what, cells)) > len(cells)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _is_text(cell: str) -> bool:
    return not _is_missing(cell) and not _is_number(cell)


def _column(path: Path, word: str, names: list[str] | None, width: int) -> int:
    if names and word in names:
        return names.index(word)
    if word.isdecimal() and 1 <= int(word) <= width:
        return int(word) - 1
    known = f"the columns are {', '.join(names[:30])}" if names else "its columns have no names"
    raise ValueError(f"{path}: there is no column {word!r} to drop; {known}")


def _parsed(
    path: Path, layout: Layout, records: Iterator[Record]
) -> tuple[np.ndarray, Names, Names]:
    values, rows = array("d"), []
    for line, cells in records:
        if len(cells) != layout.width:
            raise ValueError(
                f"{path}, line {line}: expected {layout.width} cells; got {len(cells)}"
            )
        try:
            values.extend([float(cells[j]) for j in layout.kept])
        except ValueError:
            raise ValueError(f"{path}, {_not_a_number(line, cells, layout)}") from None
        if layout.row_names:
            rows.append(cells[0])
    if not values:
        raise ValueError(f"{path}: there is a line of names, and none of numbers")
    X = np.frombuffer(values).reshape(-1, len(layout.kept))
    columns = [layout.names[j] for j in layout.kept] if layout.names else None
    return X, columns, rows or None


def _not_a_number(line: int, cells: list[str], layout: Layout) -> str:
    j = next(j for j in layout.kept if not _is_float(cells[j]))
    name = f" ({layout.names[j]!r})" if layout.names else ""
    where = f"line {line}, column {j + 1}{name}: expected a number; got {cells[j]!r}."
    if _is_missing(cells[j]):
        return f"{where} Fill in missing values, or leave out the row or (--drop) the column."
    if _is_float(cells[j].replace(",", ".")):
        return f"{where} Write decimals with a point."
    if j == 0:
        return f"{where} If these are names of rows, say --row-names."
    drop = layout.names[j] if layout.names else j + 1
    return f"{where} To leave the column out: --drop {shlex.quote(str(drop))}"


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
