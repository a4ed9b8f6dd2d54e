"""Small HTML tables, for results that a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return a table with this head and these rows, and a note below it; all text is escaped."""
    top = f"<thead>{_row('th', head)}</thead>" if head else ""
    body = "".join(_row("td", cells) for cells in rows)
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<table>{top}<tbody>{body}</tbody></table>{below}"


def _row(kind: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"
