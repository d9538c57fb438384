"""Events to open pages: `changed`, whenever one of some files has changed.

Pages then ask for what they show anew, so an event carries nothing. However many pages are open, a file is
looked at once a second: a training run beside it should not notice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from fastapi import Request
from starlette.responses import StreamingResponse

_LOOK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 15.0

Mark = tuple[tuple[int, int], ...]
_seen: dict[tuple[str, ...], tuple[float, Mark]] = {}


def mark(paths: Sequence[Path]) -> Mark:
    """Time and size of each file, looked at once a second at most; (0, 0) where there is none."""
    key = tuple(map(str, paths))
    looked, found = _seen.get(key, (float("-inf"), ()))
    now = time.monotonic()
    if now - looked > _LOOK_SECONDS * 0.9:
        found = tuple(map(_stamp, paths))
        if len(_seen) > 1000:  # pages of stages that nobody looks at any more
            _seen.clear()
        _seen[key] = now, found
    return found


def changes(
    request: Request, paths: Callable[[], Sequence[Path]], *, pause_seconds: float = _LOOK_SECONDS
) -> StreamingResponse:
    """A stream of server-sent events: `changed` when one of the files has; `paths` is asked each time.

    Two events are at least `pause_seconds` apart.
    """
    return value_changes(request, lambda: mark(paths()), mark(paths()), pause_seconds=pause_seconds)


def value_changes(
    request: Request, value: Callable[[], object], shown: object, *, pause_seconds: float = _LOOK_SECONDS
) -> StreamingResponse:
    """Events as those of `changes`, when a value differs from the one before; first, from what is shown."""

    async def stream() -> AsyncIterator[str]:
        last, spoke = shown, time.monotonic()
        yield "retry: 2000\n\n"
        while not await request.is_disconnected():
            now = await asyncio.to_thread(value)
            is_quiet = now == last
            if not is_quiet:
                last, spoke = now, time.monotonic()
                yield "event: changed\ndata: 1\n\n"
            elif time.monotonic() - spoke > _KEEP_ALIVE_SECONDS:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(_LOOK_SECONDS if is_quiet else pause_seconds)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    except OSError:
        return 0, 0
