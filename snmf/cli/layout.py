"""How a table of cells is laid out: `layout_of` finds names, units, title lines and words.

pandas reads the numbers. Where they begin, and what the lines and columns beside them are, is
decided here from the first lines. If a doubt would change the numbers, an error asks for an option.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

MISSING = {"", "na", "n/a", "n.a.", "n.d.", "nan", "+nan", "-nan", "null", "none", "nil", "-", "--",
           "?", ".", "#n/a", "#na", "<na>", "#div/0!", "#value!"}  # fmt: skip
ROW_NAMES = {"", "index", "id", "unnamed: 0"}  # a column of such a name holds names of rows
MAYBE_ROW_NAMES = {"ids", "name", "sample", "row", "label", "key", "case", "subject", "nr", "no"}
COUNTED = 4  # this many rows that count 1, 2, 3, … may be numbered by them
ORDERED = 6  # this many numbers rarely rise or fall by chance
NUMBER = {
    decimal: re.compile(
        rf"[+-]?(?=[.,]?\d)"
        rf"(?:[1-9]\d{{0,2}}(?P<mark>[{other}'’ \u00a0\u202f])\d{{3}}(?:(?P=mark)\d{{3}})*|\d*)"
        rf"(?:[{decimal}]\d*)?(?:[eE][+-]?\d+)?"
    )
    for decimal, other in ((".", ","), (",", "."))
}

Record = list[str]


class Layout(NamedTuple):
    """The layout of a table.

    Attributes
    ----------
    above : int
        The number of records above the first row of numbers.
    names : list of str or None
        The names of all columns.
    rows : bool
        Whether the first column names the rows.
    words : dict of int to str
        The columns that hold words, each with an example. It is empty for empty columns without a
        name, which come from delimiters at the end of each line.
    width : int
        The number of columns.
    """

    above: int
    names: list[str] | None
    rows: bool
    words: dict[int, str]
    width: int


def number(cell: object, decimal: str | None) -> float | None:
    """Return the number in a cell: NaN if it is missing, None if the cell holds something else.

    `decimal` is the sign before decimals. None is a point, and a comma is not understood.
    """
    if isinstance(cell, int | float | np.number):
        return float(cell)
    text = "" if cell is None else str(cell).strip().replace("\u2212", "-")
    if text.lower() in MISSING:
        return math.nan
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return float(text)
    found = NUMBER[decimal or "."].fullmatch(text)
    if not found or (decimal is None and "," in text):
        return None
    return float(text.replace(found["mark"] or " ", "").replace(",", "."))


def decimal_of(cells: Sequence[str], delimiter: str) -> str | None:
    """Return the sign before decimals, from cells of a table; None if they are whole numbers.

    Raises
    ------
    ValueError
        If "1,234" may be 1234 or 1.234, and no other cell tells.
    """
    points = commas = whole = 0
    doubtful = {".": "", ",": ""}
    for cell in map(str.strip, cells):
        point, comma = (NUMBER[mark].fullmatch(cell) is not None for mark in ".,")
        points, commas = points + (point > comma), commas + (comma > point)
        whole += cell.isdecimal()
        for mark in ".,":
            if point and comma and mark in cell[1:]:
                doubtful[mark] = cell
    if points or commas:
        return "," if commas > points else "."
    cell = doubtful[","] or (doubtful["."] if whole and delimiter == ";" else "")
    if cell:
        raise ValueError(
            f"{cell!r} may be {re.sub('[.,]', '', cell)} or {cell.replace(',', '.')}: pass "
            "--decimal . if decimals follow a point, or --decimal , if they follow a comma"
        )
    return "." if doubtful["."] else None


class _Sample:
    """The first records of a table, and what its columns hold.

    Attributes
    ----------
    width : int
        The number of columns: the most frequent length of a record.
    full : list of int
        The records of this length.
    words : dict of int to str
        The columns of words, each with an example.
    numbers : list of int
        The other columns.
    """

    def __init__(self, records: list[Record], decimal: str | None) -> None:
        lengths = Counter(map(len, records))
        self.width = max(lengths, key=lambda length: (lengths[length], length))
        self.records = records
        self.values = [[number(cell, decimal) for cell in record] for record in records]
        self.full = [i for i, record in enumerate(records) if len(record) == self.width]
        lower = self.full[len(self.full) // 2 :]  # above may be titles, names and units
        self.words = {}
        for j in range(self.width):
            words = [self.records[i][j] for i in lower if self.values[i][j] is None]
            if len(words) > sum(self.is_number(i, j) for i in lower):
                self.words[j] = words[0].strip()
        self.numbers = [j for j in range(self.width) if j not in self.words]

    def is_number(self, i: int, j: int) -> bool:
        value = self.values[i][j]
        return value is not None and not math.isnan(value)

    def below(self, i: int) -> list[int]:
        """Return the records of full length from i on."""
        return [other for other in self.full if other >= i]

    def first_of_numbers(self, i: int) -> int:
        """Return the first record of numbers from i on."""
        for other in self.below(i):
            if any(self.is_number(other, j) for j in self.numbers):
                return other
        raise ValueError(
            "expected lines of numbers, with equally many cells; got none. If many other lines are "
            "above the table, delete them."
        )

    def first_row(self, first: int, names: int | None) -> int:
        """Return the first row of data: rows of missing values may come before the first number."""
        while first - 1 in self.full and first - 1 != names:
            above = self.values[first - 1]
            blank = not any(map(str.strip, self.records[first - 1]))
            if blank or any(above[j] is None for j in self.numbers):
                break
            first -= 1
        return first

    def line_of_names(self, end: int) -> int | None:
        """Return the record before `end` that names the columns: the first of the fullest ones."""

        def filled(i: int) -> tuple[bool, int]:
            said = sum(value is None or not math.isnan(value) for value in self.values[i])
            return not self.records[i][0].startswith("#"), said

        able = [i for i in range(end) if i in self.full or self._is_short(i, end)]
        able = [i for i in able if 2 * filled(i)[1] > len(self.numbers) - self._has_corner(i)]
        return max(able, key=lambda i: (*filled(i), -i), default=None)

    def _has_corner(self, i: int) -> bool:
        return 0 in self.numbers and not self.records[i][0].strip()

    def _is_short(self, i: int, end: int) -> bool:
        """Whether it lacks one cell: that above the row names, or the empty one at the end."""
        short = i == end - 1 and len(self.records[i]) == self.width - 1
        return short and (0 in self.words or None in self.values[i])

    def blank_columns(self) -> dict[int, str]:
        """Return the last columns, as far as they are empty and have no name."""
        used = [j for j in range(self.width) if any(self.records[i][j].strip() for i in self.full)]
        return dict.fromkeys(range(used[-1] + 1, self.width), "")


def layout_of(
    records: list[Record],
    header: bool | None,
    row_names: bool | None,
    decimal: str | None,
    known: Sequence[str] | None = None,
) -> Layout:
    """Find the layout of a table from its first records.

    Parameters
    ----------
    records : list of list of str
        The cells of the first lines that are not blank.
    header, row_names : bool or None
        Says whether a line above the numbers names the columns, and whether the first column names
        the rows. None decides by the cells.
    decimal : str or None
        The sign before decimals.
    known : sequence of str, default=None
        The expected names of the columns.

    Raises
    ------
    ValueError
        If there are no numbers, or if numbers may be names.
    """
    sample = _Sample(records, decimal)
    start = sample.first_of_numbers(0)
    at = None if header is False else sample.line_of_names(start)
    if at is None and header is not False:
        expected = known is not None and sample.records[start][-len(known) :] == list(known)
        mixed = any(sample.values[start][j] is None for j in sample.numbers)
        if header or expected or mixed or _are_names(sample, start):
            at, start = start, sample.first_of_numbers(start + 1)
    start = sample.first_row(start, at)
    for row, record in enumerate(sample.records[start:], 1):
        if len(record) > sample.width:
            raise ValueError(f"row {row}: expected {sample.width} cells; got {len(record)}")
    _tell_of_lines(sample, [i for i in range(start) if i != at])
    names, words = None, sample.words | sample.blank_columns()
    if at is not None:
        names = [name.strip() for name in sample.records[at]]
        names[0] = names[0].lstrip("# ")
        if len(names) < sample.width:
            names = [*names, ""] if sample.width - 1 in words else ["", *names]
    rows = row_names
    if rows is None:
        cells = [sample.records[i][0].strip() for i in sample.below(start)]
        rows = sample.width > 1 and (0 in words or _name_rows(cells, names, known))
    return Layout(start, names, rows, words, sample.width)


def _tell_of_lines(sample: _Sample, lines: list[int]) -> None:
    """Tell of lines above the numbers that are left out; raise ValueError if they hold numbers."""
    for i in lines:
        if all(sample.is_number(i, j) for j in range(len(sample.records[i]))):
            raise ValueError(
                f"line {i + 1}: expected {sample.width} cells; got {len(sample.records[i])}"
            )
    told = [" ".join(filter(None, map(str.strip, sample.records[i]))) for i in lines]
    if told := [repr(line[:40]) for line in told if line]:
        shown = ", ".join(told[:3]) + (", …" if told[3:] else "")
        warnings.warn(f"left out lines above the numbers: {shown}", stacklevel=2)


def _are_names(sample: _Sample, first: int) -> bool:
    """Whether a line of numbers names the columns; raise ValueError if that is not certain."""
    below, corner = sample.below(first + 1)[:50], sample.records[first][0].strip().lower()
    apart = not corner and _all_differ([sample.records[i][0].strip() for i in below])
    columns = [j for j in sample.numbers if not (apart and j == 0)]
    labels = [sample.records[first][j].strip() for j in columns]
    if not below or len({*labels}) < len(labels) or not all(map(str.strip, labels)):
        return False
    if apart or (0 in sample.words and corner in ROW_NAMES | MAYBE_ROW_NAMES):
        return True
    cells = [[sample.records[i][j].strip() for j in columns] for i in below]
    if _rise_alone(sample, first, below, columns) or _whole_alone(labels, cells):
        raise ValueError(
            f"the first line of numbers may name the columns: {', '.join(labels[:4])}, …: pass "
            "--header if it does, or --no-header if it is data"
        )
    return False


def _rise_alone(sample: _Sample, first: int, below: list[int], columns: list[int]) -> bool:
    """Whether the numbers of a line rise or fall evenly, or are many; and those below do not."""
    if len(columns) < 3:
        return False
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        steps = np.diff([[sample.values[i][j] or 0.0 for j in columns] for i in (first, *below)])
    one_way = np.all(steps > 0, axis=1) | np.all(steps < 0, axis=1)
    even = np.allclose(steps[0], steps[0, 0], rtol=1e-6, atol=0) or len(columns) >= ORDERED
    return bool(one_way[0] and even and np.mean(one_way[1:]) <= 1 / 3)


def _whole_alone(labels: list[str], cells: list[list[str]]) -> bool:
    """Whether several numbers of a line have no decimals, and every line below has some."""
    return (
        len(labels) > 1
        and all(map(_is_whole, labels))
        and not any(all(map(_is_whole, line)) for line in cells)
    )


def _name_rows(cells: list[str], names: list[str] | None, known: Sequence[str] | None) -> bool:
    """Whether a first column of numbers names the rows; raise ValueError if that is not certain."""
    name = names[0] if names else None
    if name is not None and name.lower() in ROW_NAMES:
        return True
    if known is not None:
        return names is not None and names[1:] == list(known)
    parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name or "")}
    steps = [float(b) - float(a) for a, b in pairwise(cells)] if _all_differ(cells) else []
    counted = len(cells) >= COUNTED and {*steps} == {1.0}
    if counted or (steps and parts & (ROW_NAMES | MAYBE_ROW_NAMES)):
        called = f" ({name!r})" if name else ""
        raise ValueError(
            f"column 1{called} may name the rows: {', '.join(cells[:4])}, …: pass --row-names if "
            "it does, or --no-row-names if it is data"
        )
    return False


def _all_differ(cells: list[str]) -> bool:
    """Whether cells hold whole numbers that all differ."""
    return 1 < len(cells) == len({*cells}) and all(map(_is_whole, cells))


def _is_whole(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+", cell))
