"""The index of a run for the pages: kept in memory, brought up to date in the background, searched.

`look` never waits for a build: it returns what is there, and says how much of the log that is.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from r1kit.ui.folders import Run
from r1kit.ui.rollouts.build import UNTIL_CLOSED, build, bytes_to_read, is_up_to_date
from r1kit.ui.rollouts.filters import PAGE_ROWS, Filters, matching_rows
from r1kit.ui.rollouts.logs import LogState, read_state
from r1kit.ui.rollouts.search import TextSearch
from r1kit.ui.rollouts.snapshot import Rows, Snapshot, take_snapshot
from r1kit.ui.rollouts.store import FORMAT, DamagedIndexError, Index, open_current
from r1kit.ui.site import Site

_LOOK_AGAIN_SECONDS = 1.0
_CHECK_SECONDS = 30.0  # between looks at the files of steps that were whole before
_TRY_AGAIN_SECONDS = 10.0  # after a build that failed
_IN_PROCESS_BYTES = 24 << 20  # more than this is built by a process of its own
_KEPT_INDEXES, _KEPT_RESULTS, _KEPT_SEARCHES = 3, 8, 4

_kept: "OrderedDict[Path, RunIndex]" = OrderedDict()
_kept_lock = threading.Lock()


@dataclass(frozen=True)
class Seen:
    """The index as it is: what it has, and how much of the log that is."""

    snapshot: Snapshot
    state: LogState
    missing_bytes: int
    faults: tuple[str, ...]
    is_outdated: threading.Event = field(default_factory=threading.Event)  # set by who finds a file changed

    @property
    def share(self) -> float:
        """The share of the log that is indexed."""
        whole = self.state.num_bytes
        return 1.0 if not whole else max(0.0, 1.0 - self.missing_bytes / whole)


@dataclass
class Results:
    """The rows that pass the filters, in order; with a text to find, as far as it was looked for."""

    snapshot: Snapshot
    candidates: Rows
    search: TextSearch | None = None

    @property
    def rows(self) -> Rows:
        """The rows found so far."""
        return self.candidates if self.search is None else self.search.matches(self.candidates)

    @property
    def num_left(self) -> int:
        """How many rows still have to be looked at: 0 if `rows` is all there is."""
        return 0 if self.search is None else self.search.num_left(self.candidates)

    def look(self, seconds: float, *, enough: int | None = None) -> None:
        """Search on for about so many seconds, or until `enough` rows are found."""
        if self.search is not None:
            self.search.look(self.candidates, seconds, enough=enough)


@dataclass
class RunIndex:
    """The index of one run. All its methods may be called by many threads at once."""

    run: Run
    base: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _index: Index | None = None
    _snapshot: Snapshot = field(default_factory=Snapshot)
    _seen: Seen | None = None
    _looked: float = float("-inf")
    _checked: float = float("-inf")  # when the files of all steps were looked at
    _builder: threading.Thread | None = None
    _fault: str | None = None
    _failed: float = float("-inf")
    _current: tuple[str, int, int] | None = None  # the snapshot that results and searches are of
    _results: "OrderedDict[Filters, Results]" = field(default_factory=OrderedDict)
    _searches: "OrderedDict[tuple[object, ...], TextSearch]" = field(default_factory=OrderedDict)

    def look(self) -> Seen:
        """What there is; starts a build if the log has more. Looks at the log once a second at most.

        Files of steps that were whole are looked at twice a minute, or at once if a reader found one changed.
        """
        with self._lock:
            now = time.monotonic()
            is_outdated = self._seen is not None and self._seen.is_outdated.is_set()
            if self._seen is None or is_outdated or now - self._looked > _LOOK_AGAIN_SECONDS:
                if is_outdated or now - self._checked > _CHECK_SECONDS:
                    self._seen, self._checked = self._look(), now
                else:
                    self._seen = self._look(self._seen)
                self._looked = time.monotonic()
            return self._seen

    def look_patiently(self, seconds: float = 0.6) -> Seen:
        """As `look`, but waits for a build for a moment: for what may well be there then."""
        seen = self.look()
        builder = self._builder
        if seen.missing_bytes and builder is not None:
            builder.join(seconds)
            seen = self.look()
        return seen

    def wait(self) -> Seen:
        """The index once it has all of the log, or the build has failed. For tests and measurements."""
        while True:
            with self._lock:
                self._seen, self._looked = self._look(), time.monotonic()
                builder, seen = self._builder, self._seen
            if builder is None or self._fault:
                return seen
            builder.join()

    def find(self, filters: Filters) -> Results:
        """The rows that pass the filters; kept, so that the next page of them is there at once."""
        snapshot = self.look().snapshot
        with self._lock:
            self._forget_outdated(snapshot)
            if (kept := self._results.get(filters)) is not None:
                self._results.move_to_end(filters)
                return kept
            search = self._search(snapshot, filters)
        results = Results(snapshot, matching_rows(snapshot, filters), search)
        with self._lock:
            if self._current == snapshot.version:
                self._results[filters] = results
                while len(self._results) > _KEPT_RESULTS:
                    self._results.popitem(last=False)
        return results

    def _forget_outdated(self, snapshot: Snapshot) -> None:
        """Results of an earlier snapshot would keep all of it in memory; searches go on in the new one."""
        if self._current == snapshot.version:
            return
        self._current = snapshot.version
        self._results.clear()
        same = [(key, old) for key, old in self._searches.items() if old.snapshot.name == snapshot.name]
        self._searches = OrderedDict((key, old.in_later(snapshot)) for key, old in same)

    def _search(self, snapshot: Snapshot, filters: Filters) -> TextSearch | None:
        """The search for the filters' text, which other filters and orders share."""
        if filters.text is None:
            return None
        key = (filters.text, filters.mode, filters.case)
        found = self._searches.get(key)
        if found is None:
            found = self._searches[key] = TextSearch(
                snapshot, filters.text, is_regex=filters.mode == "regex", match_case=bool(filters.case)
            )
        self._searches.move_to_end(key)
        while len(self._searches) > _KEPT_SEARCHES:
            self._searches.popitem(last=False)
        return found

    def _look(self, before: Seen | None = None) -> Seen:
        """What there is now; with `before`, most of the log is taken to be as it was then."""
        state = read_state(self.run, None if before is None else before.state)
        damaged = ""
        try:
            self._read()
        except DamagedIndexError:
            damaged = self._index.folder.name if self._index else "-"
            self._index, self._snapshot = None, Snapshot()
        is_same = before is not None and state is before.state and self._snapshot is before.snapshot
        if before is not None and is_same and self._builder is None and not before.missing_bytes:
            return before
        is_building = self._builder is not None and self._builder.is_alive()
        if before is not None and not is_building and not is_up_to_date(self._index, state):
            state = read_state(self.run)  # the builder goes by the files as they are
        if damaged or not is_up_to_date(self._index, state):
            self._start(bytes_to_read(self._index, state), damaged)
        elif not is_building:
            self._builder = None
        faults = [*state.faults]
        live = self._index.live().values() if self._index else ()
        faults += [fault for number in live for fault in self._snapshot.commits[number].faults]
        if self._fault:
            faults.append(self._fault)
        return Seen(self._snapshot, state, bytes_to_read(self._index, state), tuple(faults))

    def _read(self) -> None:
        current = open_current(self.base) if self._is_another() else self._index
        if current is None:
            return
        self._index = current
        current.read_on()
        self._snapshot = take_snapshot(current, self._snapshot)

    def _is_another(self) -> bool:
        """Whether another index counts now than the one that is known."""
        try:
            name = (self.base / "current").read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            self._index, self._snapshot = None, Snapshot()
            return False
        return self._index is None or name != self._index.folder.name

    def _start(self, num_bytes: int, damaged: str) -> None:
        if self._builder is not None and self._builder.is_alive():
            return
        if self._fault and time.monotonic() - self._failed < _TRY_AGAIN_SECONDS:
            return
        work: Callable[[], str | None] = lambda: _build_here(self.run, self.base, damaged)  # noqa: E731
        if num_bytes > _IN_PROCESS_BYTES:
            work = lambda: _build_in_process(self.run, self.base, damaged)  # noqa: E731

        def run() -> None:
            self._fault = work()
            self._failed = time.monotonic()
            self._looked = float("-inf")

        self._builder = threading.Thread(target=run, daemon=True, name="rollout-index")
        self._builder.start()


def index_of(run: Run, site: Site) -> RunIndex:
    """The index of a run, kept between requests. Raises `OSError` if the cache can't be written."""
    base = site.cache_of(run.folder) / f"rollouts-{FORMAT}"
    with _kept_lock:
        found = _kept.get(base)
        if found is None:
            found = _kept[base] = RunIndex(run, base)
        _kept.move_to_end(base)
        while len(_kept) > _KEPT_INDEXES:
            _kept.popitem(last=False)
        return found


def page_of(results: Results, number: int) -> Rows:
    """The rows of a page, from 1."""
    return results.rows[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]


def _build_here(run: Run, base: Path, damaged: str) -> str | None:
    try:
        build(run, base, damaged)
    except OSError as error:
        return f"The index can't be built: {error.filename or base}: {error.strerror or error}."
    except Exception as error:
        logging.getLogger("r1kit.ui").exception("the index of %s", run.folder)  # for the terminal
        return f"The index can't be built, a fault of r1kit: {type(error).__name__}: {error}"
    return None


def _build_in_process(run: Run, base: Path, damaged: str) -> str | None:
    command = [
        sys.executable, "-m", "r1kit.ui.rollouts.build", str(run.folder.resolve()), str(base.resolve()),
        damaged, UNTIL_CLOSED,
    ]  # fmt: skip
    # its input is open as long as this process lives, and it ends with that
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONSAFEPATH": "1"}, text=True, errors="replace",
    ) as builder:  # fmt: skip
        assert builder.stderr is not None
        errors = builder.stderr.read()
        code = builder.wait()
    if code == 0:
        return None
    said = errors.strip().splitlines()
    return f"The index can't be built: {said[-1] if said else f'its process ended with {code}'}."
