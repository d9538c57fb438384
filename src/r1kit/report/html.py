"""HTML pieces shared by several sections: plain tables, formatted values, times."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

DASH = "–"
# A row is its label and its cells, which are HTML.
HtmlRow = tuple[str, Sequence[str]]


def plain_table(head: Sequence[str], rows: Sequence[HtmlRow], *, foot: HtmlRow | None = None) -> str:
    """A table whose first column labels the rows; `head` is text, cells are HTML."""
    parts = ['<div class="scroll"><table>']
    if head:
        parts.append(f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>")
    parts.append(f"<tbody>{''.join(map(_row, rows))}</tbody>")
    if foot is not None:
        parts.append(f"<tfoot>{_row(foot)}</tfoot>")
    return "".join([*parts, "</table></div>"])


def _row(row: HtmlRow) -> str:
    label, cells = row
    return f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>"


def number_cell(value: Any) -> str:
    """A right-aligned cell."""
    return f"<td>{shown(value)}</td>"


def text_cell(text: str) -> str:
    """A left-aligned cell of running text."""
    return f'<td class="text">{escape(text)}</td>'


def shown(value: Any) -> str:
    """A value as shown in a table; None is a dash, never 0."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    return escape(json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value))


def words(name: str) -> str:
    """A key of a JSON file as words."""
    return name.replace("_", " ")


def clock(seconds: float) -> str:
    """Seconds as `0:42`, `12:05` or `3:20:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
