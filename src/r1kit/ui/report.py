"""The report of a run, made from its folder as it is now, also while the run is going on.

Nothing is written: the page is kept in memory until a file of the run has changed. A section that can't be
made, because a file is damaged or unfinished, says so in its place.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from r1kit.errors import UserError
from r1kit.report import ReportConfig, report_page, title_of
from r1kit.ui.folders import Run
from r1kit.ui.live import Mark, mark
from r1kit.ui.overview import run_data
from r1kit.ui.pages import page
from r1kit.ui.site import run_of

router = APIRouter()
_log = logging.getLogger("r1kit.ui")

# what files that are damaged, unfinished or of another version may raise where they are read
_UNREADABLE = (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError, OSError)
_READ = ("manifest.json", "metrics.jsonl", "counts.json", "summary.json", "generations.jsonl", "data.jsonl")
_MOST_KEPT = 8


@dataclass
class _Kept:
    """A run's page, and the files that it was made from."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made_from: Mark = ()
    text: str = ""


_pages: dict[str, _Kept] = {}


@router.get("/runs/{run}/report")
def report_frame(request: Request, run: Annotated[Run, Depends(run_of)]) -> Response:
    """The report within the site."""
    begun = bool(run.stages() or run.evaluations())
    return page(request, "report.html", run=run, part="report", begun=begun, going_on=run.holder is not None)


@router.get("/runs/{run}/report/page")
def report_alone(
    run: Annotated[Run, Depends(run_of)], download: Annotated[bool, Query()] = False
) -> Response:
    """The report alone, as `r1 report` writes it."""
    if not run.stages() and not run.evaluations():
        raise HTTPException(404, f"{run.folder}: no stage has begun, so there is nothing to report yet.")
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in run.id)[:100]
    headers = {"Content-Disposition": f'attachment; filename="{name}-report.html"'} if download else {}
    return HTMLResponse(report_text(run), headers=headers)


def report_text(run: Run) -> str:
    """The report's page; made anew only if a file of the run has changed."""
    kept = _pages.setdefault(str(run.folder), _Kept())
    while len(_pages) > _MOST_KEPT:
        _pages.pop(next(iter(_pages)), None)
    with kept.lock:  # it takes seconds: whoever asks meanwhile gets the same page
        views = (*run.stages(), *run.evaluations())
        now = mark([view.folder / name for view in views for name in _READ])
        if not kept.text or kept.made_from != now:
            kept.text, kept.made_from = _made(run), now
        return kept.text


def _made(run: Run) -> str:
    data = run_data(run)
    try:
        config = ReportConfig.model_validate(data.record.get("report") or {})
    except ValidationError:  # of another version
        config = None
    return report_page(data, title_of(data, config), _guarded)


def _guarded(name: str, make: Callable[[], str]) -> str:
    try:
        return make()
    except _UNREADABLE as error:
        _log.warning("report, %s: not made", name, exc_info=error)
        reason = str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"
        return (
            f'<p class="alarm">{escape(name)} can\'t be made from the files as they are: {escape(reason)}</p>'
        )
