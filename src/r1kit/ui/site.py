"""What all pages share: the runs that there are, and where indexes of them may be kept."""

import hashlib
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from starlette.exceptions import HTTPException

from r1kit.ui.folders import Run, find_runs

_NOTE = "folder"  # in a folder of the cache: the path of what it is about
_LOOK_AGAIN_SECONDS = 2.0  # a tree of folders is not walked for every request,
_PAUSE_PER_WALK = 20.0  # nor for more than a twentieth of the time,
_SLOW_WALK_SECONDS = 0.2  # nor while a request waits, if it takes longer


@dataclass
class Site:
    """What the pages share: the folders that are shown, and where indexes of them may be kept.

    `cache` is outside of all runs. What lies in it can be deleted at any time.
    """

    roots: tuple[Path, ...]
    cache: Path
    _runs: list[Run] | None = None
    _walked: float = float("-inf")
    _walk_seconds: float = 0.0
    _walking: threading.Lock = field(default_factory=threading.Lock)

    def runs(self) -> list[Run]:
        """The runs, looked for again every few seconds.

        Where that takes long, what was found last is given meanwhile; the first time, it is waited for.
        """
        if self._runs is None:
            with self._walking:
                if self._runs is None:
                    self._walk()
        pause = max(_LOOK_AGAIN_SECONDS, _PAUSE_PER_WALK * self._walk_seconds)
        if time.monotonic() - self._walked > pause and self._walking.acquire(blocking=False):
            if self._walk_seconds > _SLOW_WALK_SECONDS:
                threading.Thread(target=self._walk_and_release, name="r1-ui-runs", daemon=True).start()
            else:
                self._walk_and_release()
        return list(self._runs or ())

    def _walk_and_release(self) -> None:
        try:
            self._walk()
        finally:
            self._walking.release()

    def _walk(self) -> None:
        began = time.monotonic()
        try:
            self._runs = find_runs(self.roots)
        finally:
            self._walked = time.monotonic()
            self._walk_seconds = self._walked - began

    def run(self, run_id: str) -> Run:
        """The run of this id. Raises `HTTPException` 404 with a sentence."""
        for run in self.runs():
            if run.id == run_id:
                return run
        looked = ", ".join(str(root) for root in self.roots)
        raise HTTPException(404, f"There is no run {run_id!r} in {looked}.")

    def cache_of(self, folder: Path) -> Path:
        """A folder of its own for what is kept about this folder, made if need be."""
        real = folder.resolve()
        digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
        path = self.cache / f"{real.name}-{digest}"
        path.mkdir(parents=True, exist_ok=True)
        note = path / _NOTE
        if not note.is_file():
            note.write_bytes(os.fsencode(real))
        return path

    def forget_gone(self) -> list[Path]:
        """Delete what is kept about folders that are gone, and return their paths. Never raises.

        What is kept of a run is about as large as its rollouts' texts. It is made again when it is needed.
        """
        gone = []
        for note in self.cache.glob(f"*/{_NOTE}"):
            try:
                folder = Path(os.fsdecode(note.read_bytes()))
                if folder.is_absolute() and not folder.exists():
                    shutil.rmtree(note.parent, ignore_errors=True)
                    gone.append(folder)
            except (OSError, ValueError):
                continue
        return gone


def site_of(request: Request) -> Site:
    """The site that a request came to; for `Depends`."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


def run_of(run: str, request: Request) -> Run:
    """The run that the address names; for `Depends`."""
    return site_of(request).run(run)
