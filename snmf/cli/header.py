"""Decides whether the first line of a text table names its columns: `judge`.

A line with a word above a column of numbers names the columns. A line of numbers may name them too:
wavelengths, years, or the numbers that pandas writes. It does if all its numbers differ, and

- the first cell is empty or a word such as "sample", above a column that names the rows; or
- the numbers are years, or 0, 1, 2, … as pandas writes them, and the lines below are not; or
- two of these are true: the numbers are evenly spaced, or are many and rise or fall, and the lines
  below do not; they are whole numbers above decimals; they are far from the numbers below them; the
  first cell has no digit, and all names below it have one.

If only one of these is true, the line is data, and a note says that it may hold names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum

import numpy as np

MISSING = {"", "na", "n/a", "nan", "+nan", "-nan", "null", "none", "nil", "-", "?", ".",
           "#n/a", "#na", "<na>"}  # fmt: skip
CORNERS = {"", "index", "id", "ids", "name", "names", "sample", "samples", "sample_id", "sampleid",
           "sample id", "sample name", "sample_name", "row", "rows", "label", "labels",
           "unnamed: 0", "specimen", "subject", "case", "key", "file", "filename"}  # fmt: skip
LINES = 50  # the number of lines to compare with
YEARS = (1500, 2199)
LEAST = 3  # fewer numbers are names only with further evidence
MANY = 6  # so many numbers rarely rise or fall by chance
NEARLY_ALL = 0.95


class Verdict(Enum):
    """The decision about the first line."""

    NAMES = "words"
    NUMBERS_AS_NAMES = "numbers that are names"
    DATA = "data"
    DOUBTFUL = "data that may be names"


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or stands for a missing value, such as "NA"."""
    return cell.strip().lower() in MISSING


def is_number(cell: str) -> bool:
    """Whether a cell is a number, as a person would write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def is_text(cell: str) -> bool:
    """Whether a cell is neither missing nor a number."""
    return not is_missing(cell) and not is_number(cell)


def mostly(what: Callable[[str], bool], records: list[list[str]], j: int) -> bool:
    """Whether `what` is true for most cells of a column that are not missing."""
    cells = [cells[j] for cells in records if len(cells) > j and not is_missing(cells[j])]
    return 2 * sum(map(what, cells)) > len(cells)


def judge(first: list[str], rest: list[list[str]]) -> Verdict:
    """Decide what the first line of a table is, from the lines below it."""
    if any(
        is_text(cell) and (not rest or mostly(is_number, rest, j)) for j, cell in enumerate(first)
    ):
        return Verdict.NAMES
    rest = [cells for cells in rest[:LINES] if len(cells) == len(first)]
    named = mostly(is_text, rest, 0)
    apart = named or not first[0].strip()  # whether the first column names the rows
    columns = [j for j in range(apart, len(first)) if _holds_numbers(rest, j)]
    labels = [first[j].strip() for j in columns]
    names = {value for value in map(_value, labels) if not math.isnan(value)}
    if not rest or not labels or len(names) < len(labels):
        return Verdict.DATA  # names must exist, and differ
    if apart and first[0].strip().lower() in CORNERS and (named or _counts(rest)):
        return Verdict.NUMBERS_AS_NAMES
    cells = [[line[j].strip() for j in columns] for line in rest]
    score = _score(labels, cells)
    unlike = named and _has_no_digit_as_others(first[0], rest)
    if score + unlike >= 2 and len(labels) >= LEAST - unlike:
        return Verdict.NUMBERS_AS_NAMES
    counted = len(labels) >= LEAST and labels == [str(j) for j in range(len(labels))]
    doubtful = score or counted or (unlike and all(map(_is_whole, labels)))
    return Verdict.DOUBTFUL if doubtful else Verdict.DATA


def _holds_numbers(rest: list[list[str]], j: int) -> bool:
    try:  # fast for the usual column, since a table may have many
        return not all(math.isnan(float(line[j])) for line in rest)
    except ValueError:
        return mostly(is_number, rest, j)


@np.errstate(over="ignore", invalid="ignore")  # steps of 1e308 overflow, and are then not even
def _score(labels: list[str], cells: list[list[str]]) -> int:
    """Count the signs that the numbers are names."""
    names = np.array([float(label) for label in labels])
    below = np.array([[_value(cell) for cell in line] for line in cells])
    if _go_on(names, below):
        return 0
    in_order = len(names) >= LEAST and _are_in_order(names, below)
    counted = labels == [str(j) for j in range(len(labels))]
    shuffled = np.all(np.sort(below, axis=1) == np.sort(names), axis=1).any()
    if in_order and counted and not shuffled:
        return 2
    if len(names) >= LEAST and _are_years(labels, names, below):
        return 2
    return in_order + _are_whole(labels, cells) + _are_far(names, below)


def _are_in_order(names: np.ndarray, below: np.ndarray) -> bool:
    """Whether names are evenly spaced, or many and rise or fall, while the lines below do not."""
    steps, theirs = np.diff(names), np.diff(below, axis=1)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return False
    along = np.all(theirs * np.sign(steps[0]) > 0, axis=1)
    if len(names) < MANY and not _are_even(steps[None])[0]:
        return False
    return bool(np.mean(along) <= 1 / 3 and np.mean(_are_even(theirs)) <= 1 / 10)


def _are_even(steps: np.ndarray) -> np.ndarray:
    """Return for each row whether its steps are equal, and not zero."""
    size = np.abs(steps[:, :1])
    even: np.ndarray = np.all((np.abs(steps - steps[:, :1]) <= 1e-6 * size) & (size > 0), axis=1)
    return even


def _go_on(names: np.ndarray, below: np.ndarray) -> bool:
    """Whether the lines continue the first line by small steps, as in a time series."""
    if len(below) < 2:
        return False
    first, later = _mean(np.abs(names - below[0])), _mean(np.abs(np.diff(below, axis=0)))
    return bool(first <= 3 * later and later <= np.std(names) / 4)


def _mean(A: np.ndarray) -> float:
    known = A[~np.isnan(A)]
    return float(known.mean()) if known.size else math.nan


def _are_years(labels: list[str], names: np.ndarray, below: np.ndarray) -> bool:
    low, high = YEARS
    steps, within = np.diff(names), (below >= low) & (below <= high)
    return (
        all(map(_is_whole, labels))
        and low <= names.min()
        and names.max() <= high
        and bool(np.all(steps > 0) or np.all(steps < 0))
        and not np.any(within.mean(axis=1) > 0.5)
    )


def _are_whole(labels: list[str], cells: list[list[str]]) -> bool:
    """Whether names have no decimals, while most cells and every line below have some."""
    if not all(map(_is_whole, labels)):
        return False
    count = whole = 0
    for line in cells:
        known = [cell for cell in line if not is_missing(cell)]
        of_line = sum(map(_is_whole, known))
        if known and of_line == len(known):
            return False
        count, whole = count + len(known), whole + of_line
    return 2 * whole < count


def _are_far(names: np.ndarray, below: np.ndarray) -> bool:
    """Whether nearly all names are far from the numbers below, compared with their range."""
    if len(below) < 2 or len(names) < 2:
        return False
    known = ~np.isnan(below)
    low = np.min(np.where(known, below, np.inf), axis=0)
    high = np.max(np.where(known, below, -np.inf), axis=0)
    far = (names < low - (high - low)) | (names > high + (high - low))
    return bool(far.mean() >= NEARLY_ALL)


def counts_rows(first: list[str], rest: list[list[str]]) -> bool:
    """Whether the first column may name the rows: it has a fitting name, and whole numbers."""
    return first[0].strip().lower() in CORNERS and _counts(rest)


def _counts(rest: list[list[str]]) -> bool:
    """Whether the first column holds whole numbers that all differ."""
    cells = [cells[0].strip() for cells in rest]
    return 1 < len(cells) == len({*cells}) and all(map(_is_whole, cells))


def _has_no_digit_as_others(cell: str, rest: list[list[str]]) -> bool:
    names = [cells[0] for cells in rest]
    return is_text(cell) and not re.search(r"\d", cell) and all(re.search(r"\d", n) for n in names)


def _is_whole(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+", cell))


def _value(cell: str) -> float:
    """Return the number in a cell; NaN if there is none, or if it is not finite."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
