"""How large a request may be: checked before any of it is read, else a form of any size fills the disk."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

MOST_BYTES = 8_000_000  # a text of a million characters, as JSON
MOST_IMPORTED_BYTES = 512_000_000


class BoundedRoute(APIRoute):
    """A route that refuses requests over its bound, with a sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the check."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            most = MOST_IMPORTED_BYTES if self.path.endswith("/import") else MOST_BYTES
            length = request.headers.get("content-length", "0")
            if "transfer-encoding" in request.headers or not length.isdecimal():
                raise HTTPException(411, "The request does not say how long it is.")
            if int(length) > most:
                raise HTTPException(413, f"The request has more than {most // 1_000_000} MB; split it.")
            return await handler(request)

        return bounded
