"""The application: the guard, the parts, and a sentence for whatever goes wrong."""

import logging
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from r1kit.errors import UserError
from r1kit.ui import chat, compare, data, overview, report, review, stage
from r1kit.ui.guard import LOOPBACK, Guard, protected
from r1kit.ui.pages import STATIC, error_page
from r1kit.ui.rollouts import views as rollouts
from r1kit.ui.site import Site

_log = logging.getLogger("r1kit.ui")

PARTS = (
    overview.router,
    stage.router,
    rollouts.router,
    data.router,
    review.router,
    chat.router,
    report.router,
    compare.router,
)


def make_app(
    roots: Sequence[Path], *, token: str, cache: Path, hosts: tuple[str, ...] | None = LOOPBACK
) -> FastAPI:
    """The application for the runs below `roots`. `hosts`: the names it answers to; None for any."""
    app = FastAPI(title="r1kit", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = Site(tuple(roots), cache)
    app.middleware("http")(Guard(token, hosts, error_page))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(OSError, _os_error)
    app.add_exception_handler(Exception, _bug)
    app.get("/static/{name}", include_in_schema=False)(_static)
    for router in PARTS:
        app.include_router(router)
    return app


def _static(name: str) -> Response:
    known = {path.name: path for path in STATIC.iterdir()}  # names from here, never from the request
    if name not in known:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(known[name], headers={"Cache-Control": "no-cache"})


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    usual = "There is no such page." if error.status_code == 404 else str(error.detail)
    return error_page(request, error.status_code, usual if error.detail == "Not Found" else str(error.detail))


def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()]
    return error_page(request, 422, f"A value in the address or form can't be used: {'; '.join(parts)}.")


def _user_error(request: Request, error: Exception) -> Response:
    return error_page(request, 400, str(error))


def _os_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    place = f"{error.filename}: " if error.filename else ""
    return error_page(request, 500, f"{place}{error.strerror or error}.")


def _bug(request: Request, error: Exception) -> Response:
    # the traceback is for the terminal: a page could show it to anyone
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    sentence = "This page can't be shown: a fault of r1kit. The terminal of `r1 ui` has its details."
    return protected(error_page(request, 500, sentence))  # it does not come back through the guard
