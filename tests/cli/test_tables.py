"""Tables as spreadsheets, instruments and people write them."""

import bz2
import gzip
import re
import sys
import warnings
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import datasets

import snmf
from snmf.__main__ import main
from snmf.cli import tables
from snmf.cli.files import read
from snmf.cli.layout import MISSING, number
from snmf.cli.tables import Reading

nan = np.nan
X = np.array([[1234.5, -0.25, 3], [12, 4.5, 1000.125], [0.5, 7, -2], [2210.75, 1, 0], [3, 2.5, 8]])
ROWS = ["s1", "s2", "s3", "s4", "s5"]
COLUMNS = ["Länge", "b", "c"]
NAMED = (COLUMNS, ROWS, X)
HOLES = np.array([[1234.5, nan, 3], [12, 4.5, nan], [nan, 7, -2], [2210.75, 1, nan], [3, 2.5, 8]])


def german(value):
    return f"{value:,}".translate(str.maketrans(",.", ".,")).removesuffix(",0")


def lines(corner="Probe", spell=str, between=",", end="", values=X, rows=ROWS, columns=COLUMNS):
    head = [between.join([corner, *columns]) + end]
    return head + [
        between.join([row, *map(spell, x)]) + end for row, x in zip(rows, values, strict=True)
    ]


def text(lines, encoding="utf-8", end="\n"):
    return (end.join(lines) + end).encode(encoding)


def sheets(**frames):
    file = BytesIO()
    with pd.ExcelWriter(file, engine="openpyxl") as book:
        for name, frame in frames.items():
            frame.to_excel(book, sheet_name=name, index=False, header=False)
    return file.getvalue()


def sheet():
    """As an office writes it: a title, an empty line, names, units."""
    pytest.importorskip("openpyxl", reason="openpyxl, of the extra 'files', is missing")
    empty = [None] * 4
    cells = [["Messung 2024", *empty[1:]], empty, ["Probe", *COLUMNS], [None, "mm", "g", "s"]]
    cells += [[row, *x] for row, x in zip(ROWS, X, strict=True)]
    return sheets(Notizen=pd.DataFrame([["von Hand"]]), Werte=pd.DataFrame(cells))


def columns_of(write):
    frame = pd.DataFrame(X, columns=COLUMNS).astype({"c": "Float64"})
    frame.insert(0, "sample", ROWS)
    frame.insert(2, "day", pd.date_range("2024-01-31", periods=len(X)))
    file = BytesIO()
    getattr(frame, write)(file)
    return file.getvalue()


def indexed():
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)])
    frame = pd.DataFrame(X, index, COLUMNS)
    file = BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


def with_words():
    table = lines(values=[["2024-01-31", *x, "Köln"] for x in X], columns=["day", *COLUMNS, "site"])
    return text(table)


def with_holes():
    spelled = iter(["", "n/a", "-", "NA"])
    return text(lines(values=HOLES, spell=lambda v: next(spelled) if np.isnan(v) else str(v)))


OFFICE = [";;;", "Messung vom 31.01.2024;;;", ";;;"]
TABLES = {
    "a German sheet": ("t.csv", text(lines(spell=german, between=";")), {}, NAMED),
    "sep= of Excel": (
        "t.csv",
        text(["sep=;", *lines(between=";", spell=lambda v: f'"{german(v)}"')], "utf-8-sig", "\r\n"),
        {},
        NAMED,
    ),
    "thousands": ("t.csv", text(lines("id", spell=lambda v: f'"{v:,}"')), {}, NAMED),
    "titles of a sheet": (
        "t.csv",
        text([*OFFICE, *lines(spell=german, between=";"), ";;;", ";;;"], "cp1252", "\r\n"),
        {},
        NAMED,
    ),
    "comments": (
        "t.tsv",
        text(["# made by hand", "# 2024", *lines("#OTU ID", between="\t"), "# the end"]),
        {},
        NAMED,
    ),
    "settings above": (
        "t.txt",
        text([*(f"Setting {i}: {i % 7}; ok" for i in range(4)), *lines(between="\t")]),
        {},
        NAMED,
    ),
    "no names, infinite": (
        "t.csv",
        text(["1,inf,3", "2,-inf,4", "inf,inf,5"]),
        {},
        (None, None, [[1, np.inf, 3], [2, -np.inf, 4], [np.inf, np.inf, 5]]),
    ),
    "units": (
        "t.csv",
        text([*lines(between=";")[:1], ";[mm];[g];[s]", *lines(between=";")[1:]]),
        {},
        NAMED,
    ),
    "dates and words": ("t.csv", with_words(), {"numeric": True}, NAMED),
    "columns to drop": ("t.csv", with_words(), {"drop": ("day,site",)}, NAMED),
    "holes": ("t.csv", with_holes(), {"missing": True}, (COLUMNS, ROWS, HOLES)),
    "UTF-16 of an instrument": (
        "t.txt",
        text(["Instrument\tX-7", "", *lines(between="\t", spell="{:.4f}".format)], "utf-16"),
        {},
        NAMED,
    ),
    "cp1252": ("t.csv", text(lines(between=";", spell=german), "cp1252"), {}, NAMED),
    "delimiters at the end": ("t.csv", text(lines(end=",")), {}, NAMED),
    "delimiters below": ("t.csv", text([lines()[0], *lines(end=",")[1:]]), {}, NAMED),
    "pipes, gz": ("t.csv.gz", gzip.compress(text(lines(between="|"))), {}, NAMED),
    "bz2": ("t.tsv.bz2", bz2.compress(text(lines(between="\t", spell=german))), {}, NAMED),
    "spaces": ("t.txt", text(lines(between="   ", spell="{:10.3f}".format)), {}, NAMED),
    "spaces and decimal commas": (
        "t.txt",
        text(lines(between=" ", spell=lambda v: f"{v:.3f}".replace(".", ","))),
        {},
        NAMED,
    ),
    "R": ("t.csv", text([",".join(COLUMNS), *lines()[1:]]), {}, NAMED),
    "Parquet": ("t.parquet", columns_of("to_parquet"), {"numeric": True}, NAMED),
    "Parquet with an index": (
        "t.parquet",
        indexed(),
        {},
        (COLUMNS, ["('a', 1)", "('a', 2)", "('b', 1)", "('b', 2)", "('b', 3)"], X),
    ),
    "Feather": ("t.feather", columns_of("to_feather"), {"drop": ("day",)}, NAMED),
    "xlsx": ("t.xlsx", sheet, {"key": "Werte"}, NAMED),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TABLES)
def test_tables_as_they_are_found(tmp_path, name):
    path, content, options, (columns, rows, values) = TABLES[name]
    path = tmp_path / path
    path.write_bytes(content() if callable(content) else content)
    table = read(path, Reading(**options))
    np.testing.assert_array_equal(table.X, values)
    assert (table.columns, table.rows) == (columns, rows)


def written(folder, lines, name="t.csv"):
    path = folder / name
    path.write_bytes(text(lines))
    return path


def test_a_column_of_words_may_begin_with_an_empty_cell(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1.0, 2, 3], "site": ["", "Köln", "Mainz"]}).to_parquet(path)
    with pytest.raises(ValueError, match=re.escape("no numbers: site ('Köln')")):
        read(path, Reading())
    with pytest.warns(UserWarning, match=re.escape("no numbers: site ('Köln')")):
        assert read(path, Reading(numeric=True)).columns == ["a"]


def test_what_is_left_out_is_said(tmp_path):
    title, path = ["Report of 2024", *lines()], tmp_path / "w.csv"
    with pytest.warns(UserWarning, match="left out lines above the numbers: 'Report of 2024'"):
        read(written(tmp_path, title))
    with pytest.warns(UserWarning, match="left out empty rows at the end: 1"):
        read(written(tmp_path, [*lines(), ",,,"]))
    path.write_bytes(with_words())
    words = re.escape("left out, since they are no numbers: day ('2024-01-31'), site ('Köln')")
    with pytest.warns(UserWarning, match=words):
        read(path, Reading(numeric=True))
    path.write_bytes(text(lines(), "cp1252"))
    with pytest.warns(UserWarning, match="not in UTF-8, and was read as Windows-1252"):
        read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(path, Reading(encoding="cp1252")).columns == COLUMNS


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (with_words(), {}, "no numbers: day ('2024-01-31'), site ('Köln'). Leave them out: all wi"),
        (with_words(), {}, "--numeric, or by name with --drop day,site"),
        (text(["a;b", "1;x", "2;3", "y;4", "5;6"]), {}, "row 3, column 1 ('a'): expected a number; "
         "got 'y'; row 1, column 2 ('b'): expected a number; got 'x'. If column 1 names"),
        (text(["a;b", "1;2", "3;1,5"]), {"decimal": "."}, "got '1,5'. If decimals follow a comma"),
        (text(["a;b", *["1;2"] * 300, "3;1,234"]), {}, "row 301, column 2 ('b'): expected a "
         "number; got '1,234'. If decimals follow a comma"),
        (text(["a;b", "1,500;2", "3,250;4"]), {}, "'3,250' may be 3250 or 3.250: pass --decimal"),
        (text(["a;b", "1.500;2", "31;4"]), {}, "'1.500' may be 1500 or 1.500: pass --decimal"),
        (text(["a;b", "1;2", "3"]), {}, "row 2, column 2 ('b'): expected a number; the cell is e"),
        (text(["a;b", "1;2", "3;4;5"]), {}, "row 2: expected 2 cells; got 3"),
        (text(["a;b", *["1;2"] * 300, "3;4;5"]), {}, "line 302: expected 2 cells; got 3"),
        (text(["n,a,b", "x#1,1,2", "# half", "y,3,4"]), {}, "row 2 ('# half'), column 2 ('a')"),
        (text(["a;b", "x;y"]), {}, "equally many cells; got none"),
        (text(["a;b", "1;2"], "utf-16-le"), {}, "has zero bytes; if it is text in UTF-16, pass"),
        (text(["a;b", *["1;2"] * 400_000, "ü;1"], "latin1"), {}, "(another: --encoding)"),
        (gzip.compress(text(lines()))[:-12], {"name": "t.csv.gz"}, "table of text; Compressed"),
        (b"PAR1 and no more", {"name": "t.parquet"}, "expected a Parquet or Feather file"),
        (b"no sheet", {"name": "t.xlsx"}, "expected an xlsx file"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_do(tmp_path, content, options, words):
    path = tmp_path / options.get("name", "t.csv")
    path.write_bytes(content)
    if path.suffix == ".xlsx":
        pytest.importorskip("openpyxl", reason="openpyxl, of the extra 'files', is missing")
    reading = Reading(**{name: value for name, value in options.items() if name != "name"})
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        read(path, reading)
    assert str(refused.value).startswith(f"{path}: ")


def test_sheets_are_chosen_by_name(tmp_path):
    path = tmp_path / "t.xlsx"
    path.write_bytes(sheet())
    for key in (None, "no"):
        with pytest.raises(ValueError, match="choose one with --key, of: Notizen, Werte"):
            read(path, Reading(key=key))


DECIMALS = [
    (".", "1,234.5", 1234.5), (",", "1.234,5", 1234.5), (".", "1'234.5", 1234.5),
    (",", "1\u202f234,5", 1234.5), (".", "\u22121e3", -1000), (",", "12,5E-1", 1.25),
    (".", "-inf", -np.inf), (",", "1.5", None), (".", "0,5", None), (".", "1,23", None),
    (None, "1,234", None), (".", "1_2", None), (".", "1.2.2024", None), (".", "+", None),
    (".", "0x1", None), (".", "e5", None), (".", ".5", 0.5), (",", "+,5", 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("decimal", "cell", "value"), DECIMALS)
def test_numbers_are_what_they_say(decimal, cell, value):
    assert number(cell, decimal) == value
    assert number(f" {cell} ", decimal) == value


def test_the_documentation_lists_the_words_for_missing_values():
    page = Path(__file__).parents[2] / "docs" / "command_line.rst"
    listed = page.read_text(encoding="utf-8").split("in upper or lower case, one of:")[1]
    words = re.findall(r"``(.+?)``", listed.split("\n\n")[0])
    assert {word.lower() for word in words} | {""} == MISSING
    assert all(np.isnan(number(word, ".")) for word in words)


RNG = np.random.default_rng(0)
SPECTRA, COUNTS = RNG.random((20, 10)), RNG.integers(0, 10, (20, 10))
EVENLY, GENES = [*range(400, 450, 5)], [*RNG.permutation(10**5)[:10]]


def table(values, head=None, rows=None, corner=""):
    frame = pd.DataFrame(values, rows if rows is None else [*rows], head)
    return frame.to_csv(
        header=head is not None, index=rows is not None, index_label=corner, float_format="%.4g"
    ).splitlines()


PLACES = [f"s{i}" for i in range(20)]
DOUBTFUL = {
    "wavelengths": table(SPECTRA, EVENLY),
    "wavelengths that fall": table(SPECTRA, EVENLY[::-1]),
    "wavelengths over counts": table(COUNTS, EVENLY),
    "of a corner that says little": table(SPECTRA, EVENLY, PLACES, "spectrum"),
    "three wavelengths": table(SPECTRA[:, :3], EVENLY[:3]),
    "genes": table(SPECTRA, GENES),
    "pandas": table(SPECTRA, [*range(10)]),
    "counted rows": table(SPECTRA, [f"x{j}" for j in range(10)], range(20), "n"),
    "counted rows without names": table(SPECTRA, None, range(1, 21)),
    "numbers of samples": table(
        SPECTRA, [f"x{j}" for j in range(10)], RNG.permutation(1000)[:20], "Probe_Nr"
    ),
}
CERTAIN = {
    "sample": table(SPECTRA, EVENLY, PLACES, "sample"),
    "an empty corner": table(COUNTS, GENES, PLACES, ""),
    "an empty corner over numbers": table(SPECTRA, EVENLY, range(20)),
    "an empty corner over one column": table(SPECTRA[:, :1], ["a"], range(20)),
    "a year among names": table(SPECTRA[:, :3], ["a", 2019, "b"], PLACES, "spot"),
    "one wavelength": table(SPECTRA[:, :1], [400], PLACES, "sample"),
    "an id": table(SPECTRA, [f"x{j}" for j in range(10)], range(20), "ID"),
}
DATA = {
    "decimals": SPECTRA,
    "counts": COUNTS,
    "zeros and ones": COUNTS > 4,
    "one column": SPECTRA[:, :1],
    "one line": SPECTRA[:1],
    "the identity": np.eye(5),
    "squares": np.arange(10) ** 2 + np.arange(20)[:, None] ** 2,
    "a random walk": np.cumsum(RNG.standard_normal((20, 10)), axis=0),
    "iris": datasets.load_iris().data,
    "digits": datasets.load_digits().data[:300],
    "wine": datasets.load_wine().data,
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_may_be_names_is_asked_about(tmp_path, name):
    path = written(tmp_path, DOUBTFUL[name])
    with pytest.raises(ValueError, match="may name the") as asked:
        read(path)
    yes, no = re.findall(r"--([\w-]+)", str(asked.value))
    answer = yes.replace("-", "_")
    assert no == f"no-{yes}"
    sizes = [np.shape(read(path, Reading(**{answer: said})).X) for said in (True, False)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", CERTAIN)
def test_what_names_columns_and_rows_is_no_data(tmp_path, name):
    found = read(written(tmp_path, CERTAIN[name]))
    first, *rest = (line.split(",") for line in CERTAIN[name])
    assert found.columns == first[1:]
    assert found.rows == [line[0] for line in rest]


def test_a_first_row_of_missing_values_is_a_row(tmp_path):
    path = written(tmp_path, ["s,a,b", "x,NA,", "y,1,2", "z,3,4"])
    found = read(path, Reading(missing=True))
    np.testing.assert_array_equal(found.X, [[nan, nan], [1, 2], [3, 4]])
    assert (found.columns, found.rows) == (["a", "b"], ["x", "y", "z"])


@pytest.mark.parametrize("name", DATA)
def test_ordinary_tables_lose_no_row(tmp_path, name):
    values = np.array(DATA[name], dtype=float)
    found = read(written(tmp_path, pd.DataFrame(values).to_csv(header=False, index=False).split()))
    np.testing.assert_array_equal(found.X, values)
    assert found.columns is found.rows is None


@given(st.data())
@settings(max_examples=60)
def test_a_table_is_read_as_written_or_asked_about(tmp_path_factory, data):
    """Over delimiters, decimals, names and missing values; at least two columns of words' names."""
    seed, between = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from(",;\t|"))
    decimal = data.draw(st.sampled_from(".," if between != "," else "."))
    named, spelled = data.draw(st.booleans()), data.draw(st.sampled_from(["", "NA", "n/a"]))
    spread = data.draw(st.sampled_from([0.01, 1.0, 1e3, 1e7]))
    rng = np.random.default_rng(seed)
    values = spread * rng.standard_normal(rng.integers(2, 9, 2))
    values[rng.random(values.shape) < 0.1] = nan
    columns = [f"x{j}" for j in range(values.shape[1])]
    rows = [f"s{i}" for i in range(len(values))]
    frame = pd.DataFrame(values, rows if named else None, columns)
    path = tmp_path_factory.mktemp("t") / "t.csv"
    frame.to_csv(path, sep=between, decimal=decimal, index=named, na_rep=spelled)
    if not np.isfinite(values).any():
        return
    found = read(path, Reading(missing=True))
    assert (found.columns, found.rows) == (columns, rows if named else None)
    np.testing.assert_array_equal(found.X, values)


def test_names_that_are_expected_are_known_again(tmp_path):
    known = [str(v) for v in EVENLY]
    for name in ("wavelengths", "of a corner that says little"):
        assert read(written(tmp_path, DOUBTFUL[name]), Reading(known=known)).columns == known
    known = [f"x{j}" for j in range(10)]
    found = read(written(tmp_path, DOUBTFUL["counted rows"]), Reading(known=known))
    assert found.columns == known
    path = tmp_path / "t.csv"
    path.write_bytes(with_words())
    assert read(path, Reading(known=COLUMNS)).columns == COLUMNS


def test_columns_are_dropped_by_name_or_number(tmp_path):
    path = written(tmp_path, ['a,b,a,"c,d"', "1,2,3,4", "5,6,7,8"])
    with pytest.raises(ValueError, match="2 columns are called 'a': drop by number"):
        read(path, Reading(drop=("a",)))
    np.testing.assert_array_equal(read(path, Reading(drop=("3,b", "c,d"))).X, [[1], [5]])


def test_a_large_text_is_read_in_pieces_and_streamed(tmp_path, monkeypatch):
    path = written(tmp_path, table(SPECTRA, [f"x{j}" for j in range(10)], PLACES, "sample"))
    whole = read(path)
    monkeypatch.setattr(tables, "ROWS", 7)
    monkeypatch.setattr(tables, "PIECE", 1)
    in_pieces = read(path)
    assert in_pieces.rows == whole.rows == PLACES
    np.testing.assert_array_equal(in_pieces.X, whole.X)
    monkeypatch.setattr(tables, "LARGE", 1)
    with pytest.warns(UserWarning, match="snmf convert writes them to a file"):
        large = read(path)
    assert isinstance(large.X, np.memmap)
    np.testing.assert_array_equal(large.X, whole.X)
    W = snmf.SNMF(2, random_state=0, max_iter=5, tol=0).fit_transform(large.X)
    np.testing.assert_allclose(
        W, snmf.SNMF(2, random_state=0, max_iter=5, tol=0).fit_transform(whole.X), atol=1e-10
    )


def test_a_table_with_more_columns_than_a_cell_may_have_characters(tmp_path):
    columns = [f"gene{j}" for j in range(20_000)]
    values = RNG.integers(0, 9, (12, 20_000))
    found = read(written(tmp_path, table(values, columns, PLACES[:12], "cell")))
    assert (found.columns, found.rows) == (columns, PLACES[:12])
    np.testing.assert_array_equal(found.X, values)


def test_matrix_market_is_read_sparse(tmp_path):
    A = sparse.random_array((30, 8), density=0.3, rng=RNG, format="coo")
    for name in ("A.mtx", "A.mtx.gz"):
        path = tmp_path / name
        file = BytesIO()
        scipy.io.mmwrite(file, A)
        path.write_bytes(gzip.compress(file.getvalue()) if name.endswith("gz") else file.getvalue())
        found = read(path).X
        assert found.format == "csr"
        np.testing.assert_allclose(found.toarray(), A.toarray())


def test_cells_of_anndata_are_read(tmp_path):
    path, A = tmp_path / "cells.h5ad", sparse.csr_array(X * (X > 0))
    genes, cells = (
        [f"{word}{i}" for i in range(n)] for word, n in (("g", A.shape[1]), ("c", len(X)))
    )
    with h5py.File(path, "w") as file:
        file["X"], file["obsm/X_pca"] = X, X[:, :2]
        for kind in ("csr", "csc"):
            group = file.create_group(f"layers/{kind}")
            group.attrs.update({"encoding-type": f"{kind}_matrix", "shape": A.shape})
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(A.asformat(kind), name)
        file["var/gene"], file["obs/_index"] = genes, cells
        file["var"].attrs["_index"] = "gene"
        file["obs"].attrs["_index"] = "_index"
    found = read(path)
    np.testing.assert_array_equal(found.X, X)
    assert (found.columns, found.rows) == (genes, cells)
    np.testing.assert_array_equal(read(path, Reading("obsm/X_pca")).X, X[:, :2])
    counts = read(path, Reading("layers/csr"))
    np.testing.assert_array_equal(counts.X[3:7].toarray(), A[3:7].toarray())
    assert counts.columns == genes
    with pytest.raises(ValueError, match=r"cells.h5ad: .*columns"):
        read(path, Reading("layers/csc"))
    with pytest.raises(ValueError, match="expected a table called 'layers'; it is a group of"):
        read(path, Reading("layers"))


@pytest.fixture
def counts(monkeypatch, tmp_path):
    """Cells × genes, and the names of both; a gene is there twice."""
    monkeypatch.chdir(tmp_path)
    A = sparse.csr_array(RNG.poisson(0.5, (60, 9)).astype("int32"))
    return A, [f"g{j % 8}" for j in range(9)], [f"AAC{i}-1" for i in range(60)]


@pytest.mark.parametrize("version", [2, 3])
def test_10x_genomics_is_read_by_cells(version, counts, capsys):
    """Cell Ranger stores genes × cells by columns."""
    A, genes, cells = counts
    group, of_genes = ("GRCh38", "gene_names") if version == 2 else ("matrix", "features/name")
    with h5py.File("cells.h5", "w") as file:
        for name, part in (("data", A.data), ("indices", A.indices), ("indptr", A.indptr)):
            file[f"{group}/{name}"] = part
        file[f"{group}/shape"] = np.array([9, 60], "int32")
        file[f"{group}/barcodes"] = np.array(cells, "S18")
        file[f"{group}/{of_genes}"] = np.array(genes, "S16")
    found = read(Path("cells.h5"))
    assert (found.columns, found.rows, found.X.shape) == (genes, cells, (60, 9))
    np.testing.assert_array_equal(found.X[5:40].toarray(), A[5:40].toarray())
    main(["fit", "cells.h5", "-k2", "-o", "m.npz", "--weights", "W.csv", "--seed", "0"])
    assert "of 10x Genomics" in capsys.readouterr().out
    assert snmf.load("m.npz").feature_names_in_.tolist() == genes
    assert read(Path("W.csv")).rows == cells
    with h5py.File("cells.h5") as file:
        W = snmf.SNMF(2, random_state=0).fit_transform(file[group])
    np.testing.assert_array_equal(W, snmf.SNMF(2, random_state=0).fit_transform(A))


@pytest.mark.parametrize("of_genes", ["features", "genes"])
def test_a_matrix_of_cell_ranger_has_its_names_beside_it(of_genes, counts):
    A, genes, cells = counts
    end = ".gz" if of_genes == "features" else ""
    opened = gzip.open if end else open
    with opened(f"p1_matrix.mtx{end}", "wb") as file:
        scipy.io.mmwrite(file, A.T)
    alone = read(Path(f"p1_matrix.mtx{end}"))
    assert (alone.X.shape, alone.columns) == ((9, 60), None)
    lines = [f"ENSG{j}\t{gene}\tGene Expression\n" for j, gene in enumerate(genes)]
    for name, content in ((of_genes, lines), ("barcodes", [f"{cell}\n" for cell in cells])):
        with opened(f"p1_{name}.tsv{end}", "wt") as file:
            file.writelines(content)
    found = read(Path(f"p1_matrix.mtx{end}"))
    assert (found.columns, found.rows, found.X.format) == (genes, cells, "csr")
    np.testing.assert_array_equal(found.X.toarray(), A.toarray())


def test_cells_of_an_old_anndata_are_read(counts):
    """Before anndata 0.7 frames were arrays of records, and attributes had other names."""
    A, genes, cells = counts
    with h5py.File("old.h5ad", "w") as file:
        for form in ("csr", "csc"):
            group = file.create_group("X" if form == "csr" else "raw.X")
            group.attrs.update({"h5sparse_format": form, "h5sparse_shape": A.shape})
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(A.asformat(form), name)
        for name, index in (("obs", cells), ("var", genes)):
            records = np.zeros(len(index), [("index", "S16"), ("n", "f4")])
            records["index"] = index
            file[name] = records
    found = read(Path("old.h5ad"))
    assert (found.columns, found.rows) == (genes, cells)
    np.testing.assert_array_equal(found.X[:].toarray(), A.toarray())
    with pytest.raises(ValueError, match="stored by columns"):
        read(Path("old.h5ad"), Reading("raw.X"))


@pytest.mark.filterwarnings("ignore:.*not part in the Zarr format 3:UserWarning")  # of Zarr 3.0
def test_cells_of_anndata_in_zarr_are_read(counts):
    zarr, (A, genes, cells) = pytest.importorskip("zarr"), counts
    group = zarr.open_group("cells.zarr", mode="w")
    for name, frame in (("obs", cells), ("var", genes)):
        array = group.create_group(name).create_array("_index", shape=(len(frame),), dtype=str)
        array[:] = np.array(frame)
        group[name].attrs["_index"] = "_index"
    group.create_array("X", shape=A.shape, dtype="f4")[:] = A.toarray()
    group.create_array("scaled", shape=A.shape, dtype="f4")
    found = read(Path("cells.zarr"))
    assert (found.columns, found.rows) == (genes, cells)
    np.testing.assert_array_equal(found.X[:], A.toarray())


def test_tables_need_pandas_and_say_so(tmp_path, monkeypatch):
    path = written(tmp_path, lines())
    np.save(tmp_path / "X.npy", X)
    for name, missing in (("t.csv", "pandas"), ("t.parquet", "pyarrow"), ("t.xlsx", "openpyxl")):
        (tmp_path / name).touch()
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(ImportError, match=rf"{missing}: pip install 'snmf\[files\]'"):
                read(path.with_name(name))
            assert len(read(tmp_path / "X.npy").X) == len(X)
