"""What a notebook shows of a result: a small table."""

from html.parser import HTMLParser

import numpy as np
import pytest

import snmf
from snmf._html import table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.exponential(size=(80, 3)) @ RNG.standard_normal((3, 8)) + RNG.standard_normal((80, 8))


class Cells(HTMLParser):
    """The rows of a table, and the text below it; what is opened must be closed."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.note, self.open = [], "", []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "p":
            self.note += data
        else:
            self.rows[-1][-1] += data


def results():
    fit = snmf.factorize(X, 3, random_state=0)
    return {
        "factorization": fit,
        "with an intercept": snmf.factorize(X, 3, fit_intercept=True, random_state=0),
        "with a scale": snmf.factorize(X, 3, scale=True, random_state=0),
        "without W": snmf.factorize(X, 3, random_state=0, out=False),
        "alignment": snmf.align(fit, fit.H[:2]),
        "stability": snmf.stability(X, 3, n_fits=2, random_state=0),
        "consensus": snmf.consensus(X, 2, n_runs=2, random_state=0),
        "consensus table": snmf.consensus(X, [1, 2], n_runs=2, random_state=0),
        "merged": snmf.merge([fit, fit.H[:2]]),
        "selection": snmf.select_n_components(X, [1, 2, 3], random_state=0),
        "selection of noise": snmf.select_n_components(
            RNG.standard_normal((40, 6)), [1, 2], restarts=2, random_state=0
        ),
        "diagnostics": snmf.SNMF(3, random_state=0).fit(X).diagnostics(X),
    }


def test_a_result_is_the_same_table_in_a_notebook_and_at_a_prompt():
    for name, result in results().items():
        html = Cells(result._repr_html_())
        words = " ".join(cell for row in html.rows for cell in row) + " " + html.note
        assert words.replace(";", "").split() == repr(result).replace(";", "").split(), name
        assert str(result) == repr(result)
        assert len({len(row) for row in html.rows}) == 1, name


def test_a_factorization_says_what_it_is():
    fit = snmf.factorize(X, 3, fit_intercept=True, scale=True, random_state=0, max_iter=2)
    for part in ("80 × 3", "3 × 8", "intercept", "scale", "iterations       2", "max_iter=2"):
        assert part in repr(fit)
    assert "not kept" in repr(snmf.factorize(X, 3, out=False))


def test_text_in_a_table_is_escaped():
    assert table(["<b>"], [["a & b"]], "<script>") == (
        "<table><thead><tr><th>&lt;b&gt;</th></tr></thead>"
        "<tbody><tr><td>a &amp; b</td></tr></tbody></table><p>&lt;script&gt;</p>"
    )
