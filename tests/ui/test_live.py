"""Pages that follow their files: what they cost, and that no change is missed."""

import asyncio
import html
import re
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from r1kit.ui import folders, live, site
from r1kit.ui.folders import Run, find_runs, read_json_kept
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.site import Site
from tests.ui.conftest import TOKEN
from tests.ui.made_runs import append, make_evaluation, make_stage, rl_rows


class _Asking:
    """A request that goes away after some looks."""

    def __init__(self, shown: str, looks: int = 1) -> None:
        self.query_params = {"shown": shown}
        self.looks = looks

    async def is_disconnected(self) -> bool:
        self.looks -= 1
        return self.looks < 0


async def _chunks(watch: Watch, asking: Any) -> list[str]:
    return [str(chunk) async for chunk in watch.events(asking).body_iterator]


def shown_in(address: str) -> str:
    return address.rpartition("shown=")[2]


def test_ten_pages_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    watch = Watch(("ten pages",), lambda: looks.append(0))
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(live, "_LOOK_SECONDS", 0.01)

    async def ten() -> list[list[str]]:
        return await asyncio.gather(*(_chunks(watch, _Asking("", 3)) for _ in range(10)))

    answers = asyncio.run(ten())
    assert len(looks) == 1
    assert [sum("changed" in chunk for chunk in chunks) for chunks in answers] == [1] * 10


def test_an_event_stream_begins_with_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LOOK_SECONDS", 0.0)
    file = tmp_path / "file"
    watch = Watch(("file", file), lambda: named_mark([file]))
    shown = shown_in(watch.address("/events?a=b"))
    assert watch.address("/events?a=b") == f"/events?a=b&shown={shown}"
    assert asyncio.run(_chunks(watch, _Asking(shown, 3))) == ["retry: 2000\n\n"]
    file.write_text("x")
    assert len(asyncio.run(_chunks(watch, _Asking(shown, 3)))) == 2
    assert watch.address("/events") != f"/events?shown={shown}"


PAGES = (
    "/",
    "/runs/run",
    "/runs/run/stages",
    "/runs/run/stages/zero",
    "/runs/run/data",
    "/runs/run/data/preferences",
    "/runs/run/review",
    "/compare?run=run&run=other",
)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_misses_what_changes_before_it_listens(
    path: str, tmp_path: Path, serve: Callable[..., str]
) -> None:
    run = tmp_path / "runs" / "run"
    for name in ("run", "other"):
        make_stage(tmp_path / "runs" / name, "zero", rl_rows(1, 5))
        make_evaluation(tmp_path / "runs" / name, "zero", {"a": [True]})
    made = make_stage(run, "cold_start", kind="cold_start")
    (made / "data.jsonl").write_text("{}\n")
    make_stage(run, "preferences", kind="preferences", work=True)
    address = serve(tmp_path / "runs")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.open(f"{address}/?token={TOKEN}", timeout=60).close()
    with browser.open(address + path, timeout=60) as page:
        found = re.search(r'data-events="([^"]+)"', page.read().decode())
    assert found is not None
    # all of it happens in the time between the page and its events
    append(run / "zero", rl_rows(6, 6))
    (run / ".work" / "preferences").rename(run / "preferences")
    (made / "data.jsonl").write_text("{}\n{}\n")
    with browser.open(address + html.unescape(found[1]), timeout=60) as events:
        assert next(line for line in events if line.startswith(b"event:")) == b"event: changed\n"


def test_a_finished_stages_manifest_is_read_again_only_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_SETTLED_NS", -(10**18))
    folder = make_stage(tmp_path, "zero")
    reads: list[Path] = []
    read = folders.read_json
    monkeypatch.setattr(folders, "read_json", lambda path: reads.append(path) or read(path))
    run = Run("run", tmp_path)
    for _ in range(3):
        assert run.stages()[0].kind == "grpo"
    assert reads == [folder / "manifest.json"]
    (folder / "manifest.json").write_text('{"kind": "another kind"}')
    assert run.stages()[0].kind == "another kind"
    (folder / "manifest.json").write_text("[")  # nothing damaged is kept
    assert [len(view.faults) for _ in range(2) for view in run.stages()] == [1, 1]
    assert len(reads) == 4
    shutil.rmtree(folder)
    assert read_json_kept(folder / "manifest.json") == ({}, None)


def test_a_file_that_has_just_been_written_is_not_kept(tmp_path: Path) -> None:
    for kind in ("abc", "xyz", "abc"):  # of one size, perhaps within one tick of the clock
        (tmp_path / "manifest.json").write_text(f'{{"kind": "{kind}"}}')
        assert read_json_kept(tmp_path / "manifest.json")[0] == {"kind": kind}


def test_nobody_waits_for_a_slow_walk_but_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, began = threading.Event(), threading.Event()
    found = [Run("first", tmp_path)]
    times = [100.0]

    def walk(roots: object) -> list[Run]:
        times[0] += 1.0  # a walk takes a second
        if began.is_set():
            assert go_on.wait(60)
            return [Run("second", tmp_path)]
        began.set()
        return found

    monkeypatch.setattr(site, "find_runs", walk)
    monkeypatch.setattr(site, "time", SimpleNamespace(monotonic=lambda: times[0]))
    shown = Site((tmp_path,), tmp_path / "cache")
    assert shown.runs() == found
    times[0] += 19.0  # a twentieth of the time at most
    assert shown.runs() == found
    assert times[0] == 120.0
    times[0] += 2.0
    assert shown.runs() == found  # though another walk goes on
    assert shown.runs() == found
    walking = [thread for thread in threading.enumerate() if thread.name == "r1-ui-runs"]
    assert len(walking) == 1
    go_on.set()
    walking[0].join(60)
    assert [run.id for run in shown.runs()] == ["second"]


def test_links_do_not_multiply_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_stage(tmp_path / "z" / "run", "zero")
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "d" / "link").symlink_to(tmp_path / "z")
    for name in ("up1", "up2", "up3", "up4"):
        (tmp_path / "z" / name).symlink_to(tmp_path)
    looked: list[Path] = []
    look = folders._folders_in
    monkeypatch.setattr(folders, "_folders_in", lambda folder: looked.append(folder) or look(folder))
    runs = find_runs([tmp_path])
    assert [run.folder.resolve() for run in runs] == [tmp_path / "z" / "run"]
    assert len(looked) < 20


def test_a_run_that_is_killed_is_a_change(
    tmp_path: Path, client_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stage(tmp_path / "run", "zero", work=True)
    (tmp_path / "run" / ".lock").write_text(f'{{"host": "{socket.gethostname()}"}}')
    monkeypatch.setattr(folders, "lock_holder", lambda folder: 1)
    client = client_of(tmp_path)
    for path in ("/", "/runs/run", "/runs/run/stages", "/runs/run/stages/zero"):
        monkeypatch.setattr(folders, "lock_holder", lambda folder: 1)
        running = client.get(path).text
        monkeypatch.setattr(folders, "lock_holder", lambda folder: None)  # its files are as they were
        stopped = client.get(path).text
        for text, state in ((running, "running"), (stopped, "stopped")):
            assert f'<span class="state {state}">{state}</span>' in text
        assert re.findall('data-events="[^"]+"', running) != re.findall('data-events="[^"]+"', stopped)
