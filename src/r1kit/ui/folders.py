"""Runs as their folders show them, at any moment: finished, going on, stopped, or copied from elsewhere.

Nothing is written, and nothing has to be there. A file that is damaged becomes a fault of its stage, which
the page shows as a sentence; the rest is shown all the same.
"""

import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from r1kit.errors import DataError
from r1kit.pipeline.lock import lock_holder
from r1kit.report.reader import EVAL_FOLDER, RECORD_NAME, STAGE_ORDER
from r1kit.ui.text import as_float

Json = dict[str, Any]
State = Literal["done", "running", "stopped", "to do"]

_DEPTH = 6  # levels of folders below a root that are looked through for runs
_STAGE_FILES = ("manifest.json", "metrics.jsonl")
_NO_ADDRESS = re.compile(r"[^\w.:~@+=,-]|^\.+$")
_SKIPPED = ("node_modules", "site-packages", "__pycache__")
_SHOWN_CHARS = 200
_MOST_KEPT = 5000
_MOST_KEPT_BYTES = 1_000_000
_SETTLED_NS = 2_000_000_000  # a file may be written twice within one tick of its clock

Stamp = tuple[int, int, int]
_kept: dict[str, tuple[Stamp, "Json"]] = {}


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an unfinished stage is, as its progress.json says: `done` of `total` in its current part."""

    part: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    seconds: float = 0.0
    left_seconds: float | None = None


@dataclass(frozen=True)
class StageView:
    """A stage or an evaluation (`eval/<stage>`) of a run, finished or not; `folder` has its files."""

    name: str
    folder: Path
    state: State
    manifest: Json
    reached: Reached = Reached()
    faults: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """grpo, sft, cold_start, ...; "" if there is no manifest."""
        return short(self.manifest.get("kind", ""))

    @property
    def config(self) -> Json:
        """Its table of the recipe, with defaults filled in."""
        key = self.manifest.get("key")
        config = key.get("config") if isinstance(key, dict) else None
        return dict(config) if isinstance(config, dict) else {}

    @property
    def seconds(self) -> float | None:
        """The time it took, or has taken so far; None if unknown."""
        return as_float(self.manifest.get("seconds")) or self.reached.seconds or None

    @property
    def changed(self) -> float:
        """When its metrics or progress last changed, in seconds since 1970; 0 if never."""
        names = ("metrics.jsonl", "progress.json", "manifest.json")
        return max(_mtime(self.folder / name) for name in names)


@dataclass(frozen=True)
class Run:
    """A run's folder. `id` is what addresses name it by: its path below the root, with `:` for `/`
    and `_` for what an address can't hold as it is."""

    id: str
    folder: Path

    @property
    def record(self) -> Json:
        """run.json, or {}. It must not be changed."""
        return read_json_kept(self.folder / RECORD_NAME)[0]

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"/runs/{quote(self.id, safe=':~')}"

    @property
    def title(self) -> str:
        """The report's title, or the folder's name."""
        report = self.record.get("report")
        title = report.get("title") if isinstance(report, dict) else None
        return short(title or self.folder.resolve().name)

    @property
    def holder(self) -> int | None:
        """The process that works on it on this machine; None if none does, or its lock can't be read."""
        try:
            lock = json.loads((self.folder / ".lock").read_text(encoding="utf-8"))
            # a folder copied from another machine brings that machine's lock
            return lock_holder(self.folder) if lock["host"] == socket.gethostname() else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None

    def stages(self) -> list[StageView]:
        """Its stages in the recipe's order, evaluations left out."""
        return _in_order(self._views(self.folder, self.folder / ".work"))

    def evaluations(self) -> list[StageView]:
        """The evaluations of its stages; each is named after its stage."""
        return _in_order(self._views(self.folder / EVAL_FOLDER, self.folder / ".work" / EVAL_FOLDER))

    def stage_folders(self) -> list[Path]:
        """The folders of its stages and evaluations, finished or not; no file in them is read."""
        work = self.folder / ".work"
        parents = (self.folder, work, self.folder / EVAL_FOLDER, work / EVAL_FOLDER)
        return [folder for parent in parents for folder in _stage_folders(parent)]

    def to_do(self) -> list[StageView]:
        """The recipe's stages that have not begun, in its order; their folders are not there."""
        jobs = self.record.get("jobs")
        begun = {view.name for view in self.stages()}
        rows = [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []
        names = [(str(row.get("name")), str(row.get("kind"))) for row in rows]
        return [
            StageView(short(name), self.folder / name, "to do", {"kind": kind})
            for name, kind in names
            if name not in begun and "/" not in name
        ]

    def stage(self, name: str) -> StageView:
        """One stage. Raises `DataError` if there is none of this name."""
        for view in self.stages():
            if view.name == name:
                return view
        known = ", ".join(view.name for view in self.stages()) or "none yet"
        raise DataError(f"{self.folder}: no stage {name!r} in it; there are: {known}")

    def _views(self, finished: Path, work: Path) -> list[StageView]:
        at_work = self.holder is not None
        views = {folder.name: _view(folder, "done") for folder in _stage_folders(finished)}
        for folder in _stage_folders(work):
            # a stage that is being made again hides its earlier result, as it will replace it
            views[folder.name] = _view(folder, "running" if at_work else "stopped")
        return list(views.values())


def find_runs(roots: Sequence[Path]) -> list[Run]:
    """Every run in or below the given folders, each once, by path."""
    found: dict[Path, Run] = {}
    ids: set[str] = set()
    for root in roots:
        for folder in _run_folders(root, _DEPTH, {}):
            if (real := folder.resolve()) in found:
                continue
            relative = folder.relative_to(root).parts or (root.resolve().name or "run",)
            # in an address, other characters would mean something else
            name = _NO_ADDRESS.sub("_", ":".join(relative))
            run_id, number = name, 2
            while run_id in ids:
                run_id, number = f"{name}~{number}", number + 1
            ids.add(run_id)
            found[real] = Run(run_id, folder)
    return list(found.values())


def read_json(path: Path) -> tuple[Json, str | None]:
    """A JSON object and None, or {} and what is wrong; a missing file is {} and None.

    A number that is not finite is wrong: no file of r1kit has one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_not_finite, parse_float=_finite_float)
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        return {}, f"{path} can't be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return {}, f"{path} is damaged: {error}"
    if not isinstance(value, dict):
        return {}, f"{path} is damaged: expected an object, not {type(value).__name__}"
    return value, None


def read_json_kept(path: Path) -> tuple[Json, str | None]:
    """`read_json` of a file that seldom changes, kept until it does. The object must not be changed."""
    try:
        stat = path.stat()
    except OSError:
        return read_json(path)
    stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
    kept = _kept.get(str(path))
    if kept is not None and kept[0] == stamp:
        return kept[1], None
    value, fault = read_json(path)
    is_settled = time.time_ns() - stat.st_mtime_ns > _SETTLED_NS
    if fault is None and is_settled and stat.st_size < _MOST_KEPT_BYTES:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[str(path)] = stamp, value
    return value, fault


def short(value: object, most: int = _SHOWN_CHARS) -> str:
    """A text of a file that has no bound, as far as a page shows it: a long one would hold the browser."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def read_rows(path: Path) -> tuple[list[Json], list[str]]:
    """The rows of a JSONL log that can be read, and a sentence for each line that can't.

    An unfinished last line is left out without a word: whoever writes it has not come to its end.
    """
    rows: list[Json] = []
    faults: list[str] = []
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                try:
                    row = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    faults.append(f"{path}:{number} is damaged ({error}); it is left out here")
                    continue
                if isinstance(row, dict):
                    rows.append(row)
                elif raw.strip():
                    faults.append(f"{path}:{number} is not an object; it is left out here")
    except FileNotFoundError:
        pass
    except OSError as error:
        faults.append(f"{path} can't be read: {error.strerror}")
    return rows, faults


def seconds_left(view: StageView) -> float | None:
    """The time left for the part that a running stage is in, by its pace so far; None if unknown."""
    left = view.reached.left_seconds
    if view.state != "running" or left is None:
        return None
    return max(0.0, left - (time.time() - _mtime(view.folder / "progress.json")))


def _view(folder: Path, state: State) -> StageView:
    manifest, fault = read_json_kept(folder / "manifest.json")
    progress, other = read_json(folder / "progress.json") if state != "done" else ({}, None)
    faults = tuple(found for found in (fault, other) if found)
    return StageView(folder.name, folder, state, manifest, _reached(progress), faults)


def _reached(row: Json) -> Reached:
    try:
        return Reached(
            short(row["part"]),
            int(row["done"]),
            int(row["total"]),
            short(row["unit"]),
            as_float(row["seconds"]) or 0.0,
            as_float(row.get("left_seconds")),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return Reached()


def _stage_folders(parent: Path) -> Iterator[Path]:
    for folder in _folders_in(parent):
        if folder.name != EVAL_FOLDER and _is_stage(folder):
            yield folder


def _is_stage(folder: Path) -> bool:
    return any(os.path.isfile(f"{folder}/{name}") for name in _STAGE_FILES)


def _run_folders(folder: Path, depth: int, seen: dict[tuple[int, int], int]) -> Iterator[Path]:
    """`seen`: how deep each folder was looked into; a link may lead to one that was, or to one above it."""
    try:
        stat = folder.stat()
    except OSError:
        return
    place = stat.st_dev, stat.st_ino
    if seen.get(place, -1) >= depth:
        return
    seen[place] = depth
    children = _folders_in(folder)
    if _is_run(folder, children):
        yield folder
    if depth > 0:
        for child in children:
            # no run lies within a stage, but seeds lie within a run's folder
            if not _is_stage(child):
                yield from _run_folders(child, depth - 1, seen)


def _is_run(folder: Path, children: Sequence[Path]) -> bool:
    if (folder / RECORD_NAME).is_file() or (folder / ".work").is_dir():
        return True
    return any((child / "manifest.json").is_file() for child in children) and folder.name != EVAL_FOLDER


def _folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none where it can't be read."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name[0] != "." and e.name not in _SKIPPED and _is_dir(e)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _not_finite(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _finite_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text[:40])


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _in_order(views: Sequence[StageView]) -> list[StageView]:
    def key(view: StageView) -> tuple[int, str, str]:
        known = STAGE_ORDER.index(view.name) if view.name in STAGE_ORDER else len(STAGE_ORDER)
        return known, str(view.manifest.get("started", "")), view.name

    return sorted(views, key=key)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
