"""Who may ask: only who has the token, by the server's own name, and from its own pages.

A page of another site can send requests to the loopback address, and a name that it controls can be made to
mean that address. So every request needs the token (once in the address, from then on in a cookie), its
`Host` has to be this server's, and whatever changes something has to come from this server's own pages.
"""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

Answer = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, int, str], Response]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_COOKIE_SECONDS = 30 * 24 * 3600

# `script-src 'self'`: even if a completion got into a page as markup, it could run nothing. Styles of single
# elements are allowed: charts and shades have them.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The checks of one server. `hosts` are the names it answers to, without a port; None for any."""

    def __init__(self, token: str, hosts: tuple[str, ...] | None, refuse: Refuse) -> None:
        self._token = token
        self._hosts = hosts
        self._refuse = refuse

    async def __call__(self, request: Request, answer: Answer) -> Response:
        """The answer to a request that passes, or a page that says why it does not."""
        response = self._refusal(request)
        if response is None:
            given = request.query_params.get("token")
            if given is not None:  # out of the address bar, the history and the logs
                response = self._welcome(request)
            else:
                response = await answer(request)
        return protected(response)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            return self._refuse(request, 421, f"This server does not answer to the name {host!r}.")
        if request.method not in _SAFE_METHODS and not _from_here(request, host):
            return self._refuse(request, 403, "The request came from a page of another site.")
        given = request.query_params.get("token", request.cookies.get(cookie_name(request), ""))
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return self._refuse(
                request,
                403,
                "Open the address that `r1 ui` printed: it ends in the token that is missing here.",
            )
        return None

    def _welcome(self, request: Request) -> Response:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # `//name/` would lead to another server
        path = "/" + request.url.path.lstrip("/\\")
        response = RedirectResponse(path + (f"?{urlencode(kept)}" if kept else ""), 303)
        response.set_cookie(
            cookie_name(request), self._token, max_age=_COOKIE_SECONDS, httponly=True, samesite="lax"
        )
        return response


def protected(response: Response) -> Response:
    """The response with the headers that every response has."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def cookie_name(request: Request) -> str:
    """The cookie's name: browsers share cookies between the ports of a host, so it has the port."""
    return f"r1_token_{request.url.port or 80}"


def _from_here(request: Request, host: str) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    # neither header: not a browser, which the token alone has to convince
    return origin is None or urlsplit(origin).netloc == host


def _without_port(host: str) -> str:
    return host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdigit() else host
