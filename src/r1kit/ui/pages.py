"""Pages from templates: everything in them is escaped, numbers and times are written in one way."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, JSONResponse, Response

from r1kit.ui.folders import short
from r1kit.ui.text import as_float

STATIC = Path(__file__).parent / "static"

_environment = Environment(
    loader=PackageLoader("r1kit.ui", "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,  # a misspelt name is an error, not an empty place
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as a page. It also gets `request`, and `is_part`: whether htmx asks for a part of it."""
    is_part = request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"
    defaults: dict[str, Any] = {"run": None, "part": "", "is_part": is_part}
    text = _environment.get_template(template).render(defaults | values | {"request": request})
    return HTMLResponse(text, status)


def error_page(request: Request, status: int, sentence: str) -> Response:
    """A sentence as a page; as JSON for whoever asks for JSON."""
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"error": sentence}, status)
    is_part = request.headers.get("hx-request") == "true"
    template = "fault.html" if is_part else "error.html"
    return page(request, template, status=status, sentence=sentence)


def number(value: Any, digits: int = 3) -> str:
    """`0.812`, `1,024`, `3e-07`; a dash for nothing, text as it is, no more than a page can show."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(value)
    if isinstance(value, int) and as_float(value) is None:  # too large for what is below
        return short(value, 20)
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:,.{digits}f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """`42 s`, `12:05`, `3:04:00`; a dash for nothing."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def moment(seconds: float) -> str:
    """A file's time as `2026-11-30 11:08 UTC`; a dash for 0."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "–"
    except (ValueError, OverflowError, OSError):  # of a clock that was wrong
        return "–"


def ago(seconds: float) -> str:
    """`just now`, `12 s ago`, `5 min ago`, else the date; of a time since 1970."""
    if not seconds:
        return "–"
    passed = time.time() - seconds
    if passed < 5:
        return "just now"
    if passed < 90:
        return f"{passed:.0f} s ago"
    return f"{passed / 60:.0f} min ago" if passed < 5400 else moment(seconds)


_environment.filters |= {"number": number, "duration": duration, "moment": moment, "ago": ago, "short": short}
