"""Events to open pages: `changed`, whenever what they show has changed.

Pages then ask for what they show anew, so an event carries nothing. However many pages are open, what they
follow is looked at once a second: a training run beside it should not notice.
"""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from starlette.responses import StreamingResponse

_LOOK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 15.0
_MOST_KEPT = 1000

Mark = tuple[tuple[int, int], ...]


@dataclass
class _Kept:
    """What was seen last, for all pages that follow the same."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    looked: float = float("-inf")
    version: str = ""


_kept: dict[tuple[object, ...], _Kept] = {}


@dataclass(frozen=True, slots=True)
class Watch:
    """What a page follows. `look` gives a value whose `repr` changes with it; `key` names it: pages with the
    same key share one look a second."""

    key: tuple[object, ...]
    look: Callable[[], object]

    def address(self, url: str) -> str:
        """The address of the events, for a page that is about to be made: it carries what there is now, so
        that what changes before the page listens is not missed. Ask for it before the files are read."""
        kept = self._kept()
        with kept.lock:
            version = self._renewed(kept)
        return f"{url}{'&' if '?' in url else '?'}shown={version}"

    def events(self, request: Request, *, pause_seconds: float = _LOOK_SECONDS) -> StreamingResponse:
        """The stream of events: `changed` when there is something else than what the page shows.

        Two events are at least `pause_seconds` apart.
        """
        shown = request.query_params.get("shown", "")
        return value_changes(request, self._recent, shown, pause_seconds=pause_seconds)

    def _recent(self) -> str:
        kept = self._kept()
        # while one looks, the others go by what was seen before
        if not kept.lock.acquire(blocking=not kept.version):
            return kept.version
        try:
            is_recent = time.monotonic() - kept.looked < _LOOK_SECONDS * 0.9
            return kept.version if is_recent else self._renewed(kept)
        finally:
            kept.lock.release()

    def _renewed(self, kept: _Kept) -> str:
        kept.version = hashlib.sha256(repr(self.look()).encode()).hexdigest()[:16]
        kept.looked = time.monotonic()
        return kept.version

    def _kept(self) -> _Kept:
        if self.key not in _kept and len(_kept) >= _MOST_KEPT:  # pages that nobody looks at any more
            _kept.clear()
        return _kept.setdefault(self.key, _Kept())


def mark(paths: Iterable[Path]) -> Mark:
    """Time and size of each file as they are now; (0, 0) where there is none."""
    return tuple(map(_stamp, paths))


def named_mark(paths: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    """The files with their `mark`, for a `Watch` of files that come and go."""
    return [(str(path), *_stamp(path)) for path in paths]


def value_changes(
    request: Request, value: Callable[[], object], shown: object, *, pause_seconds: float = _LOOK_SECONDS
) -> StreamingResponse:
    """Events when a value differs from the one before; first, from what is shown."""

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


def _stamp(path: str | Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)
        return stat.st_mtime_ns, stat.st_size
    except (OSError, ValueError):
        return 0, 0
