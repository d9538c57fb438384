"""The index: what it has is what the log has, after every kind of change and damage."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from r1kit.ui.folders import Run
from r1kit.ui.rollouts import build as build_module
from r1kit.ui.rollouts import index as index_module
from r1kit.ui.rollouts import logs
from r1kit.ui.rollouts.build import UNTIL_CLOSED, build
from r1kit.ui.rollouts.filters import Filters
from r1kit.ui.rollouts.index import RunIndex, Seen
from r1kit.ui.rollouts.logs import LogState
from r1kit.ui.rollouts.rows import Address, read_row
from r1kit.ui.rollouts.store import open_current
from tests.ui.rollouts.made_log import commit_step, encode, make_row, small_run, write_stage

STEPS = ["step-00001.jsonl", "step-00002.jsonl", "step-00003.jsonl"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "rollouts"


def open_index(run_dir: Path, base: Path) -> RunIndex:
    """A reader as another server would have it: nothing of it is in memory."""
    return RunIndex(Run("run", run_dir), base)


def texts(seen: Seen) -> dict[str, str]:
    """The text of every row that counts, by its address; each row is also read from the log and compared."""
    found = {}
    for row in np.flatnonzero(seen.snapshot.live):
        text = seen.snapshot.text(int(row))
        assert read_row(seen, int(row))["completion"]["text"] == text
        found[Address(seen.snapshot, int(row)).path] = text
    return found


def test_all_committed_rollouts_are_in_it(run_dir: Path, base: Path) -> None:
    seen = open_index(run_dir, base).wait()
    assert len(texts(seen)) == 8
    assert texts(seen)["zero/2/0/0"] == "<think>\nStep 2: six.\n</think>\n\n6"
    assert (seen.share, seen.faults, seen.missing_bytes) == (1.0, (), 0)


def test_a_step_is_shown_once_it_is_committed_and_only_it_is_read(run_dir: Path, base: Path) -> None:
    index = open_index(run_dir, base)
    first = index.wait().snapshot
    folder = run_dir / "zero" / "rollouts"
    # written, but its line is not there yet
    (folder / "step-00003.jsonl").write_bytes(encode([make_row(3)]))
    assert len(texts(index.wait())) == 8
    (folder / "step-00003.jsonl").unlink()
    commit_step(folder, 3, [make_row(3, text="third", parts={"accuracy": 1.0, "own": 0.25})])
    second = index.wait().snapshot
    assert second.name == first.name
    assert second.commits[:2] == first.commits
    # a part that came with step 3 is missing before
    own = second.columns["part own"]
    assert np.isnan(own[:8]).all()
    assert own[8] == 0.25


def test_a_step_that_was_sampled_again_replaces_the_earlier_one(run_dir: Path, base: Path) -> None:
    index = open_index(run_dir, base)
    index.wait()
    commit_step(run_dir / "zero" / "rollouts", 2, [make_row(2, text="sampled again")])
    found = texts(index.wait())
    assert len(found) == 5
    assert found["zero/2/0/0"] == "sampled again"
    assert texts(open_index(run_dir, base).wait()) == found


def test_an_index_with_more_dropped_than_kept_is_started_anew(run_dir: Path, base: Path) -> None:
    index = open_index(run_dir, base)
    name = index.wait().snapshot.name
    shutil.rmtree(run_dir / "zero" / "rollouts")
    commit_step(write_stage(run_dir), 1, [make_row(1, text="another run")])
    seen = index.wait()
    assert texts(seen) == {"zero/1/0/0": "another run"}
    assert seen.snapshot.name != name
    assert [path.name for path in base.glob("index-*")] == [seen.snapshot.name]


def test_a_stage_that_is_finished_keeps_its_index(run_dir: Path, base: Path) -> None:
    shutil.copytree(run_dir / "zero", run_dir / ".work" / "dev2")
    index = open_index(run_dir, base)
    before = index.wait().snapshot
    assert before.stages == ("zero", "dev2")
    (run_dir / ".work" / "dev2").rename(run_dir / "dev2")
    seen = index.wait()
    assert seen.snapshot.version == before.version
    assert len(texts(seen)) == 16  # the rows are read where they are now


def test_a_file_that_is_moved_while_it_is_read_is_read_where_it_is(
    run_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_dir / ".work").mkdir()
    (run_dir / "zero").rename(run_dir / ".work" / "zero")
    read_state = build_module.read_state

    def read_and_move(run: Run) -> LogState:
        state = read_state(run)
        if (run_dir / ".work" / "zero").exists():
            (run_dir / ".work" / "zero").rename(run_dir / "zero")
        return state

    monkeypatch.setattr(build_module, "read_state", read_and_move)
    seen = open_index(run_dir, base).wait()
    assert (len(texts(seen)), seen.faults) == (8, ())


def test_a_stage_that_is_being_made_again_hides_its_earlier_result(run_dir: Path, base: Path) -> None:
    index = open_index(run_dir, base)
    index.wait()
    commit_step(write_stage(run_dir / ".work", "zero"), 1, [make_row(1, text="made again")])
    assert texts(index.wait()) == {"zero/1/0/0": "made again"}


@pytest.mark.parametrize(
    "name", ["commits.jsonl", "group.i4", "flags.u1", "texts", "problems.jsonl", "part-0.f4"]
)
@pytest.mark.parametrize("how", ["missing", "short", "other bytes"])
def test_a_damaged_index_is_built_anew(run_dir: Path, base: Path, name: str, how: str) -> None:
    before = open_index(run_dir, base).wait()
    path = base / before.snapshot.name / name
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "short" else b"\xfe" * len(data))
    again = open_index(run_dir, base).wait()
    if (name, how) != ("texts", "other bytes"):  # texts have no checksum: a million of them take too long
        assert texts(again) == texts(before) if name != "texts" else len(texts(again)) == 8
        assert not again.faults


def test_a_pointer_to_nothing_is_mended(run_dir: Path, base: Path) -> None:
    open_index(run_dir, base).wait()
    for content in (b"", b"../..", b"index-gone", b"\xff"):
        (base / "current").write_bytes(content)
        assert len(texts(open_index(run_dir, base).wait())) == 8


def test_an_index_of_an_older_format_is_thrown_away(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1kit.ui.site import Site

    site = Site((run_dir,), tmp_path / "cache")
    run = Run("run", run_dir)
    first = index_module.index_of(run, site)
    first.wait()
    monkeypatch.setattr(index_module, "FORMAT", 99)
    other = index_module.index_of(run, site)
    assert other.base != first.base
    assert len(texts(other.wait())) == 8
    assert [path.name for path in first.base.parent.glob("rollouts-*")] == ["rollouts-99"]
    # a server of the older version that is still there makes its own again, and leaves the newer one alone
    assert len(texts(first.wait())) == 8
    assert other.base.exists()


def test_damaged_lines_are_named_and_the_rest_is_shown(run_dir: Path, base: Path) -> None:
    rows = [make_row(3, 0, i, f"row {i}") for i in range(4)]
    lines = encode(rows).splitlines(keepends=True)
    lines[1] = lines[1][:100] + b"\n"
    path = commit_step(run_dir / "zero" / "rollouts", 3, rows, data=b"".join(lines))
    seen = open_index(run_dir, base).wait()
    assert [address for address in texts(seen) if "/3/" in address] == [
        "zero/3/0/0",
        "zero/3/0/2",
        "zero/3/0/3",
    ]
    assert len(seen.faults) == 2
    assert seen.faults[0].startswith(f"{path}:2 is damaged (")
    assert "checksum differs" in seen.faults[1]


def test_a_cut_off_missing_or_unreadable_file_is_a_sentence(run_dir: Path, base: Path) -> None:
    folder = run_dir / "zero" / "rollouts"
    rows = [make_row(3, 0, i) for i in range(4)]
    commit_step(folder, 3, rows, data=encode(rows)[:-300])
    commit_step(folder, 4, rows).unlink()
    commit_step(folder, 5, rows).unlink()
    (folder / "step-00005.jsonl").mkdir()  # root may read everything but this
    seen = open_index(run_dir, base).wait()
    assert len(texts(seen)) == 8 + 3
    said = " ".join(seen.faults)
    assert "step-00003.jsonl:4 is damaged" in said
    assert "step-00004.jsonl is missing" in said
    assert "step-00005.jsonl can't be read: Is a directory" in said


def test_damage_of_the_logs_own_index_is_a_sentence(run_dir: Path, base: Path) -> None:
    with (run_dir / "zero" / "rollouts" / "index.jsonl").open("a") as file:
        file.write('{"step": 3}\nnot json\n{"step": 4, "rows": ')  # the last is still being written
    seen = open_index(run_dir, base).wait()
    assert len(texts(seen)) == 8
    assert len(seen.faults) == 2
    (run_dir / "zero" / "rollouts" / "index.jsonl").unlink()
    (fault,) = open_index(run_dir, base).wait().faults
    assert "no step of zero counts as committed" in fault


def test_a_row_whose_file_has_changed_since_is_a_sentence(run_dir: Path, base: Path) -> None:
    seen = open_index(run_dir, base).wait()
    path = run_dir / "zero" / "rollouts" / "step-00001.jsonl"
    path.write_bytes(b" " * path.stat().st_size)
    with pytest.raises(ValueError, match="has changed since it was indexed"):
        read_row(seen, 0)
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        read_row(seen, 0)


def test_a_cache_that_cannot_be_written_is_a_sentence(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seen = open_index(run_dir, tmp_path / "file" / "rollouts").wait()
    (fault,) = seen.faults
    assert fault.startswith("The index can't be built: ")
    assert seen.share == 0.0


def test_much_is_built_by_a_process_and_its_fault_is_told(
    run_dir: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_IN_PROCESS_BYTES", 0)
    assert len(texts(open_index(run_dir, base).wait())) == 8
    (tmp_path / "file").write_text("")
    (fault,) = open_index(run_dir, tmp_path / "file" / "rollouts").wait().faults
    assert "Not a directory" in fault


def test_builders_at_once_leave_one_whole_index(run_dir: Path, base: Path) -> None:
    folder = run_dir / "zero" / "rollouts"
    for step in range(3, 30):
        commit_step(folder, step, [make_row(step, g, s) for g in range(4) for s in range(4)])
    run = Run("run", run_dir)
    built: list[bool] = []
    threads = [threading.Thread(target=lambda: built.append(build(run, base))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert True in built
    seen = open_index(run_dir, base).wait()
    assert len(texts(seen)) == 8 + 27 * 16
    assert len(seen.snapshot.commits) == 29


def test_what_a_killed_builder_left_behind_the_last_commit_does_not_count(run_dir: Path, base: Path) -> None:
    before = texts(open_index(run_dir, base).wait())
    index = open_current(base)
    assert index is not None
    for name in ("group.i4", "texts", "problems.jsonl"):
        with (index.folder / name).open("ab") as file:
            file.write(b"half a step")
    with (index.folder / "commits.jsonl").open("ab") as file:
        file.write(b'{"stage": "zero", "st')
    assert texts(open_index(run_dir, base).wait()) == before
    commit_step(run_dir / "zero" / "rollouts", 3, [make_row(3, text="after it")])
    after = texts(open_index(run_dir, base).wait())
    assert after == before | {"zero/3/0/0": "after it"}


def test_a_touched_file_is_read_again(run_dir: Path, base: Path) -> None:
    index = open_index(run_dir, base)
    before = texts(index.wait())
    os.utime(run_dir / "zero" / "rollouts" / "step-00001.jsonl", ns=(1, 1))
    seen = index.wait()
    assert texts(seen) == before
    assert seen.snapshot.commit_of("zero", 1) == seen.snapshot.commits[2]


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that this thread looks at from now on; a builder looks at them, too."""
    names: list[str] = []
    real = logs.file_stamp

    def stamp(path: Path) -> tuple[int, int]:
        if threading.current_thread() is threading.main_thread():
            names.append(path.name)
        return real(path)

    monkeypatch.setattr(logs, "file_stamp", stamp)
    return names


def test_an_open_page_looks_at_the_logs_index_and_not_at_each_step(
    run_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_LOOK_AGAIN_SECONDS", -1.0)
    index = open_index(run_dir, base)
    index.wait()
    index.look()
    names = looked_at(monkeypatch)
    first = index.look()
    assert index.look() is first
    assert names == ["index.jsonl"] * 2
    commit_step(run_dir / "zero" / "rollouts", 3, [make_row(3)])
    names.clear()
    assert index.look().missing_bytes > 0
    # the new step; and before they are read, all files once
    assert sorted(names) == sorted(["index.jsonl", "step-00003.jsonl", "index.jsonl", *STEPS])
    assert len(texts(index.wait())) == 9


def test_a_file_that_changes_later_is_noticed_in_time_or_when_it_is_read(
    run_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_LOOK_AGAIN_SECONDS", -1.0)
    index = open_index(run_dir, base)
    index.wait()
    path = run_dir / "zero" / "rollouts" / "step-00001.jsonl"
    index.look()
    os.utime(path, ns=(1, 1))
    seen = index.look()
    assert seen.missing_bytes == 0
    with pytest.raises(ValueError, match="has changed since it was indexed"):
        read_row(seen, 0)
    assert index.look().missing_bytes == path.stat().st_size
    assert len(texts(index.wait())) == 8
    index.look()
    os.utime(path, ns=(2, 2))
    assert index.look().missing_bytes == 0
    monkeypatch.setattr(index_module, "_CHECK_SECONDS", -1.0)
    assert index.look().missing_bytes == path.stat().st_size


def test_a_builder_ends_with_its_server(run_dir: Path, base: Path) -> None:
    blocked = run_dir / "zero" / "rollouts" / "step-00001.jsonl"
    blocked.unlink()
    os.mkfifo(blocked)  # the builder waits for a writer
    command = [sys.executable, "-m", "r1kit.ui.rollouts.build", str(run_dir), str(base), "", UNTIL_CLOSED]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as builder:
        assert builder.stdin is not None
        with pytest.raises(subprocess.TimeoutExpired):
            builder.wait(timeout=1)
        builder.stdin.close()
        assert builder.wait(timeout=60) == 1


def test_numbers_that_no_float_holds_are_a_sentence_about_their_line(run_dir: Path, base: Path) -> None:
    huge = make_row(3, accuracy=7.5)
    data = encode([huge, make_row(3, 0, 1)]).replace(b"7.5", b"1" + b"0" * 400)
    path = commit_step(run_dir / "zero" / "rollouts", 3, [huge], data=data)
    seen = open_index(run_dir, base).wait()
    assert len(texts(seen)) == 9
    assert seen.faults[0].startswith(f"{path}:1 is damaged (")


def test_nothing_is_found_before_anything_is_indexed(tmp_path: Path, base: Path) -> None:
    (tmp_path / "empty").mkdir()
    seen = open_index(tmp_path / "empty", base).look()
    assert (seen.share, seen.faults, seen.snapshot.num_rows) == (1.0, (), 0)
    assert len(open_index(tmp_path / "empty", base).find(Filters(text="x")).rows) == 0


def test_a_page_waits_for_no_heavy_library(run_dir: Path, base: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from r1kit.ui.rollouts import views
from r1kit.ui.folders import Run
from r1kit.ui.rollouts.filters import Filters
from r1kit.ui.rollouts.index import RunIndex
from r1kit.ui.rollouts.listing import row_lines
index = RunIndex(Run("run", Path({str(run_dir)!r})), Path({str(base)!r}))
assert index.wait().share == 1.0
for filters in (Filters(), Filters(text="six"), Filters(text="s.x", mode="regex"), Filters(prompt="what")):
    results = index.find(filters)
    results.look(60)
    assert row_lines(results.snapshot, results.rows, filters)
print([name for name in ("torch", "transformers", "pandas", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
