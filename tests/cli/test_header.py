"""Whether the first line of a table names the columns: tables of many kinds, as they are found."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets

from snmf.cli.files import Reading, read
from snmf.cli.header import MISSING, Verdict, judge

RNG = np.random.default_rng(0)
N, P = 20, 10
SPECTRA, COUNTS = RNG.random((N, P)), RNG.integers(0, 10, (N, P))
ROWS = [f"s{i}" for i in range(N)]
PLACES = ["Chad", "Peru", "Mali", "Iran"] * 5
EVENLY = [*range(400, 450, 5)]
UNEVENLY = [401.3, 402.5, 404.2, 405.4, 407.1, 408.4, 410.0, 411.9, 413.3, 414.8]
YEARS = [1990, 1995, 2000, 2003, 2005, 2010, 2011, 2012, 2013, 2014]
GENES = [100130426, 29974, 87769, 144568, 65985, 13, 12, 343, 53947, 51146]


def lines(A, head=None, names=None, corner=None, fmt="%.4g"):
    of_rows = [[*([] if names is None else [names[i]]), *(fmt % v for v in a)]
               for i, a in enumerate(A)]  # fmt: skip
    first = [] if head is None else [[*([] if corner is None else [corner]), *map(str, head)]]
    return first + of_rows


def pandas(A, **how):
    text = pd.DataFrame(A).to_csv(**how)
    return [line.split(",") for line in text.splitlines()]


NAMES = {
    "a sample's": lines(SPECTRA, EVENLY, ROWS, "sample"),
    "a sample's counts": lines(COUNTS, EVENLY, ROWS, "Sample", "%d"),
    "one wavelength": lines(SPECTRA[:, :1], [400], ROWS, "sample"),
    "an empty cell": lines(SPECTRA, EVENLY, ROWS, ""),
    "an empty cell, genes": lines(COUNTS, GENES, ROWS, "", "%d"),
    "an empty cell over numbers": lines(SPECTRA, EVENLY, [str(i) for i in range(N)], ""),
    "another word": lines(SPECTRA, EVENLY, ROWS, "spectrum"),
    "another word, of no order": lines(SPECTRA, GENES, ROWS, "probe"),
    "another word, two columns": lines(SPECTRA[:, :2], [400, 405], ROWS, "probe"),
    "names of rows without digits": lines(SPECTRA, EVENLY, PLACES, "place"),
    "wavelengths": lines(SPECTRA, EVENLY),
    "wavelengths that fall": lines(SPECTRA, EVENLY[::-1]),
    "wavelengths with decimals": lines(SPECTRA, [f"{v}.0" for v in EVENLY]),
    "wavelengths over counts": lines(COUNTS, EVENLY, fmt="%d"),
    "uneven wavelengths": lines(SPECTRA, UNEVENLY),
    "over what rises": lines(np.sort(SPECTRA, axis=1), EVENLY),
    "three wavelengths": lines(SPECTRA[:, :3], EVENLY[:3]),
    "two lines": lines(SPECTRA[:1], EVENLY),
    "genes": lines(SPECTRA, GENES),
    "years": lines(1e4 * SPECTRA, YEARS),
    "years over counts": lines(1e4 * SPECTRA, YEARS, fmt="%d"),
    "three years": lines(1e4 * SPECTRA[:, :3], [1990, 2000, 2020], fmt="%d"),
    "years of places": lines(1e4 * SPECTRA, YEARS, PLACES, "country", "%d"),
    "pandas": pandas(SPECTRA, index=False),
    "pandas, three": pandas(SPECTRA[:, :3] - 0.5, index=False),
    "pandas, counts": pandas(COUNTS, index=False),
    "pandas, an index": pandas(COUNTS),
    "pandas, two and an index": pandas(COUNTS[:, :2]),
    "pandas, an index in disorder": pandas(pd.DataFrame(COUNTS).sample(frac=1, random_state=0)),
    "pandas, named rows": pandas(pd.DataFrame(COUNTS, index=ROWS)),
    "missing values": lines(np.where(SPECTRA < 0.2, np.nan, SPECTRA), EVENLY),
}  # fmt: skip
DRIFT = np.vstack([np.zeros(P), np.cumsum(0.3 * RNG.standard_normal((N, P)), axis=0)])
DATA = {
    "decimals": lines(SPECTRA),
    "decimals of many sizes": lines(np.exp(3 * RNG.standard_normal((N, P)))),
    "columns of many sizes": lines(SPECTRA * 10.0 ** np.arange(P)),
    "one line": lines(SPECTRA[:1]),
    "two lines": lines(SPECTRA[:2]),
    "rounded": lines(np.round(3 * SPECTRA, 1), fmt="%g"),
    "digits": lines(COUNTS, fmt="%d"),
    "zeros and ones": lines(COUNTS > 4, fmt="%d"),
    "zeros and ones, two": lines([[0, 1], [1, 0], [1, 1], [0, 0]], fmt="%d"),
    "the identity": lines(np.eye(5), fmt="%d"),
    "one column": lines(SPECTRA[:, :1]),
    "one column of counts": lines(np.arange(N)[:, None], fmt="%d"),
    "rows of squares": lines(np.arange(P) ** 2 + np.arange(N)[:, None] ** 2, fmt="%d"),
    "a table of products": lines(np.outer(range(1, N), range(1, P)), fmt="%d"),
    "evenly spaced, all of them": lines([[1, 2, 3], [4, 5, 6], [7, 8, 9]], fmt="%d"),
    "ranks": lines([RNG.permutation(4) for _ in range(N)], fmt="%d"),
    "rows with names": lines(SPECTRA, names=ROWS),
    "zero at first": lines(DRIFT),
    "alike at first": lines(100 + DRIFT),
    "places on a grid, that move": lines(10 * np.arange(P) + DRIFT),
    "from whole numbers on": lines([[1, 0, 2], [0.9, 0.1, 1.9], [0.7, 0.3, 1.8], [0.5, 0.5, 1.7]]),
    "the first is missing": [["", "1.5", "2.5"], ["0.5", "", "2"], ["0.1", "0.7", "0.3"]],
    "iris": lines(datasets.load_iris().data),
    "digits as images": lines(datasets.load_digits().data, fmt="%d"),
    "wine": lines(datasets.load_wine().data),
    "diabetes": lines(datasets.load_diabetes().data),
}  # fmt: skip
DOUBTFUL = {
    "counted, all of them": lines(np.arange(40).reshape(10, 4), fmt="%d"),
    "counted, and one line": [["0", "1", "2"], ["5", "6", "7"]],
    "evenly spaced at first": lines([[1, 2, 3], [9, 1, 5], [2, 2, 7], [4, 1, 3]], fmt="%d"),
    "whole at first": lines(10 * SPECTRA, [3, 1, 7, 9, 2, 4, 5, 8, 6, 0]),
    "two columns": lines([[400, 405], [3, 7], [2, 9]], fmt="%d"),
    "far at first": lines(np.vstack([[150.2, 99.7, 871.3], SPECTRA[:, :3]])),
    "places on the smallest grid": lines(np.arange(P) + DRIFT / 4),
    "a control of whole numbers": lines(COUNTS[:, :3], [12, 7, 30], ROWS, "control", "%d"),
    "pandas, two columns": pandas(SPECTRA[:, :2], index=False),
    "wavelengths among counts as large": lines(1000 * SPECTRA, EVENLY, fmt="%d"),
    "three uneven wavelengths": lines(SPECTRA[:, :3], UNEVENLY[:3]),
    "falls from the largest number": lines(SPECTRA[:, :3], ["1e308", "0", "-1e308"]),
    "an order among ranks": lines([[0, 1, 2, 3], [1, 0, 3, 2], [3, 1, 0, 2]], fmt="%d"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_names(name):
    assert judge(NAMES[name][0], NAMES[name][1:]) is Verdict.NUMBERS_AS_NAMES


@pytest.mark.parametrize("name", DATA)
def test_numbers_that_are_data(name):
    assert judge(DATA[name][0], DATA[name][1:]) is Verdict.DATA


@pytest.mark.parametrize("name", DOUBTFUL)
def test_numbers_that_are_data_and_may_be_names(name):
    assert judge(DOUBTFUL[name][0], DOUBTFUL[name][1:]) is Verdict.DOUBTFUL


def test_the_documentation_lists_the_words_for_missing_values():
    page = Path(__file__).parents[2] / "docs" / "command_line.rst"
    listed = page.read_text(encoding="utf-8").split("in upper or lower case, one of:")[1]
    words = re.findall(r"``(.+?)``", listed.split("\n\n")[0])
    assert {word.lower() for word in words} | {""} == MISSING


def test_words_over_numbers_are_names():
    for first, rest in (
        (["a", "b"], [["1", "2"]]),
        (["id", "2"], [["1", "2"], ["2", "3"]]),
        (["name", "group", "400"], [["s1", "A", "0.1"], ["s2", "B", "0.2"]]),
        (["a", "b"], []),
    ):
        wanted = Verdict.NUMBERS_AS_NAMES if first[0] == "name" else Verdict.NAMES
        assert judge(first, rest) is wanted


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 30), columns=st.integers(1, 12))
@settings(max_examples=300)
def test_ordinary_tables_lose_no_row(seed, rows, columns):
    rng = np.random.default_rng(seed)
    for A, fmt in (
        (rng.standard_normal((rows, columns)), "%.4g"),
        (np.round(3 * rng.random((rows, columns)), 1), "%g"),
        (rng.integers(0, 2, (rows, columns)), "%d"),
        (rng.integers(20, 90, (rows, columns)), "%d"),
        (np.exp(3 * rng.standard_normal((rows, columns))), "%.3g"),
        (np.cumsum(rng.random((rows, columns)), axis=0), "%.4g"),
        (np.cumsum(rng.random((rows, columns)), axis=1), "%.4g"),
        (rng.random((rows, columns)) * 10.0 ** rng.integers(-3, 6, columns), "%.4g"),
    ):
        table = lines(A, fmt=fmt)
        assert judge(table[0], table[1:]) in (Verdict.DATA, Verdict.DOUBTFUL)


# What is said, and what is read


def written(folder, table):
    path = Path(folder) / "table.csv"
    path.write_text("\n".join(map(",".join, table)), encoding="utf-8")
    return path


def test_what_was_decided_is_said(tmp_path):
    path = written(tmp_path, NAMES["a sample's"])
    words = (
        r"table.csv: line 1 was taken for column names: sample, 400, 405, 410, …; pass --no-header"
    )
    with pytest.warns(UserWarning, match=words):
        table = read(path)
    assert table.columns == [str(v) for v in EVENLY]
    assert table.rows == ROWS
    np.testing.assert_allclose(table.X, SPECTRA, rtol=1e-3)
    path = written(tmp_path, DOUBTFUL["far at first"])
    words = r"line 1 was taken for data: 150.2, 99.7, 871.3; pass --header if it names the columns"
    with pytest.warns(UserWarning, match=words):
        table = read(path)
    assert table.columns is None
    assert table.X.shape == (21, 3)


@pytest.mark.parametrize("name", ["a sample's", "wavelengths", "pandas"])
def test_what_the_person_says_goes_first(tmp_path, name):
    path, count = written(tmp_path, NAMES[name]), len(NAMES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(path, Reading(header=True)).X) == count - 1
        assert len(read(path, Reading(header=False)).X) == count
        assert read(path, Reading(header=False)).columns is None


def test_ordinary_tables_are_read_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("decimals", "digits", "iris", "rows with names", "one column"):
            table = read(written(tmp_path, DATA[name]))
            assert len(table.X) == len(DATA[name])


def test_names_that_are_expected_are_known_again(tmp_path):
    path = written(tmp_path, DOUBTFUL["three uneven wavelengths"])
    known = [str(v) for v in UNEVENLY[:3]]
    assert read(path, Reading(known=known)).columns == known
    path = written(tmp_path, lines(SPECTRA[:, :3], UNEVENLY[:3], ROWS, "batch"))
    assert read(path, Reading(known=known)).columns == known
    assert read(path, Reading(known=known)).rows == ROWS


def test_a_name_of_two_columns_is_not_dropped_in_half(tmp_path):
    path = written(tmp_path, [["a", "b", "a"], ["1", "2", "3"]])
    with pytest.raises(ValueError, match="2 columns are called 'a': drop by number"):
        read(path, Reading(drop=["a"]))
    np.testing.assert_array_equal(read(path, Reading(drop=["3"])).X, [[1, 2]])
