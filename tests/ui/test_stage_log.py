"""The numbers of metrics files: read as they grow, and what is made of them for a picture."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from r1kit.training.metrics_log import MetricsWriter
from r1kit.ui.stage import log as log_module
from r1kit.ui.stage.drawing import LARGE, draw, standalone
from r1kit.ui.stage.lines import Line, axes_of, axis_of, exponential_mean, line_of, running_mean, thinned
from r1kit.ui.stage.log import Logs, MetricsLog
from r1kit.ui.stage.view import View
from tests.ui.made_runs import append, rl_rows


def log_with(folder: Path, rows: list[dict[str, float]]) -> MetricsLog:
    append(folder, rows)
    return Logs().of(folder)


def values(log: MetricsLog, name: str) -> list[tuple[float, float]]:
    rows, found = log.column(name)
    return list(zip(log.steps()[rows].tolist(), found.tolist(), strict=True))


def test_only_what_was_appended_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_with(tmp_path, [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval/x": 0.5}])
    parsed: list[bytes] = []
    loads = json.loads
    monkeypatch.setattr(log_module.json, "loads", lambda raw: parsed.append(raw) or loads(raw))
    version = log.version
    log.refresh()
    assert (parsed, log.version) == ([], version)
    append(tmp_path, [{"step": 3, "loss": 1.0}])
    log.refresh()
    assert len(parsed) == 1
    assert log.version != version
    assert values(log, "loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert values(log, "eval/x") == [(2, 0.5)]
    assert log.names == ["loss", "eval/x"]


def test_an_unfinished_line_waits_and_damaged_ones_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 1.0}\n{"step": 2, "lo\n[1]\n\n{"loss": 2.0}\n'
        b'{"step": 3, "loss": NaN, "x": true}\n'
        b'\xff\xfe\n{"step": 4, "loss": 1e999, "big": ' + b"9" * 400 + b"}\n"
        b'{"step": 5, "loss": 5.0}\n{"step": 6, "lo'
    )
    log = Logs().of(tmp_path)
    assert values(log, "loss") == [(1, 1.0), (5, 5.0)]
    assert log.names == ["loss"]
    assert log.num_rows == 4
    assert [fault.split(" is ")[0] for fault in log.faults] == [f"{path}:{n}" for n in (2, 3, 5, 7)]
    with path.open("ab") as file:
        file.write(b'ss": 6.0}\n' + b"{\n" * 9)
    log.refresh()
    assert values(log, "loss")[-1] == (6, 6.0)
    assert len(log.faults) == 6
    assert log.faults[-1].endswith("8 more lines are damaged")


@pytest.mark.parametrize("same_length", [False, True])
def test_another_file_is_read_from_its_beginning(tmp_path: Path, same_length: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    log = log_with(tmp_path, [{"step": step, "loss": 1.0} for step in range(1, 60)])
    factor = 2.0 if same_length else 10.0
    fresh = [{"step": step, "loss": factor} for step in range(1, 60 if same_length else 30)]
    text = "".join(json.dumps(row) + "\n" for row in fresh)
    path.write_text(text)  # the same inode: only its size or its contents tell
    log.refresh()
    assert values(log, "loss") == [(row["step"], factor) for row in fresh]
    path.unlink()
    log.refresh()
    assert log.num_rows == 0
    assert log.faults == []


def test_a_resumed_stage_is_followed(tmp_path: Path) -> None:
    """A writer replaces the file and goes on; in between nobody may have looked."""
    writer = MetricsWriter(tmp_path)
    for step in range(1, 9):
        writer.write(step, {"loss": float(step)})
    writer.close()
    log = Logs().of(tmp_path)
    writer = MetricsWriter(tmp_path)
    for step in range(5, 12):
        writer.write(step, {"loss": 10.0 * step})
    writer.close()
    log.refresh()
    assert values(log, "loss") == [(s, float(s)) for s in range(1, 5)] + [(s, 10.0 * s) for s in range(5, 12)]


def test_a_later_row_of_a_step_replaces_it_and_all_after(tmp_path: Path) -> None:
    log = log_with(tmp_path, [*rl_rows(1, 5), {"step": 4, "reward/mean": 7.0}])
    assert values(log, "reward/mean")[-2:] == [(3, 0.3), (4, 7.0)]
    assert [step for step, _ in values(log, "policy/entropy")] == [1, 2, 3]


def test_a_folder_in_place_of_the_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    log = Logs().of(tmp_path)
    assert log.faults == [f"{tmp_path / 'metrics.jsonl'} can't be read: Is a directory"]


def test_alarms_are_episodes(tmp_path: Path) -> None:
    rows = rl_rows(0, 20)
    for step in (3, 4, 5, 9, 20):
        rows[step]["alarm/entropy"] = 1.0
    rows[4]["alarm/kl"] = 1.0
    log = log_with(tmp_path, rows)
    assert [(e.alarm, e.first, e.last) for e in log.episodes()] == [
        ("entropy", 3, 5),
        ("kl", 4, 4),
        ("entropy", 9, 9),
        ("entropy", 20, 20),
    ]
    assert not any(name.startswith("alarm/") for name in log.names)


def test_memory_is_bounded(tmp_path: Path) -> None:
    logs = Logs(most_values=20)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        append(tmp_path / name, [{"step": s, "loss": 1.0} for s in range(12)])
        logs.of(tmp_path / name)
    assert [path.parent.name for path in logs._logs] == ["c"]
    assert logs.of(tmp_path / "a").num_rows == 12


def test_axes(tmp_path: Path) -> None:
    (tmp_path / "rl").mkdir()
    log = log_with(tmp_path / "rl", [{"step": 0, "eval/x": 0.5}, *rl_rows(1, 4)])
    assert axes_of(log) == ["step", "time", "tokens"]
    assert axis_of(log, "time").tolist() == [0, 2, 4, 6, 8]
    assert axis_of(log, "tokens").tolist() == [0, 100, 200, 300, 400]
    (tmp_path / "sft").mkdir()
    sft = log_with(tmp_path / "sft", [{"step": s, "tokens": 60, "tokens_per_second": 30.0} for s in (1, 2)])
    assert axis_of(sft, "time").tolist() == [2, 4]  # 60 tokens at 30 a second
    (tmp_path / "rm").mkdir()
    assert axes_of(log_with(tmp_path / "rm", [{"step": 1, "loss": 1.0}])) == ["step"]


def test_means() -> None:
    numbers = np.array([1.0, 2.0, 6.0, 3.0])
    assert running_mean(numbers, 1).tolist() == pytest.approx([1.5, 3.0, 11 / 3, 4.5])
    assert running_mean(numbers, 0).tolist() == numbers.tolist()
    # with factor 1/2, weights 1/2, 1/4, ... of what there is: (2/2 + 1/4) / (3/4) and so on
    assert exponential_mean(numbers, 0.5).tolist() == pytest.approx([1.0, 5 / 3, 29 / 7, 53 / 15])
    assert exponential_mean(np.full(1000, 3.0), 0.99).tolist() == pytest.approx([3.0] * 1000)


def test_a_long_line_is_thinned_but_keeps_its_peaks(tmp_path: Path) -> None:
    y = np.zeros(100_000)
    y[[17, 54_321, 99_998]] = 5.0, 9.0, -3.0
    x = np.arange(100_000.0)
    thin = thinned(Line("", 0, x, x, y, y), 240)
    assert len(thin.x) <= 2 * 240
    assert {17.0, 54_321.0, 99_998.0, 0.0, 99_999.0} <= set(thin.x.tolist())
    assert (np.diff(thin.x) > 0).all()
    short = Line("", 0, x[:9], x[:9], y[:9], y[:9])
    assert thinned(short, 240) is short


def test_ranges_and_the_log_scale_leave_points_out(tmp_path: Path) -> None:
    log = log_with(tmp_path, [{"step": s, "loss": float(s - 2), "huge": 1e200} for s in range(1, 9)])
    line = line_of(log, "loss", "", View(start=2, end=5))
    assert line is not None
    assert line.x.tolist() == [2, 3, 4, 5]
    line = line_of(log, "loss", "", View(log=True))
    assert line is not None
    assert line.y.tolist() == [1, 2, 3, 4, 5, 6]
    assert line_of(log, "huge", "", View()) is None
    assert line_of(log, "none", "", View()) is None
    assert line_of(log, "loss", "", View(x="time")) is None


@pytest.mark.parametrize("smooth", [View(), View(smooth="ema", by=0.9), View(log=True), View(x="time")])
def test_pictures_hold_odd_numbers(tmp_path: Path, smooth: View) -> None:
    odd = [1e-300, 1e149, 5e-324, 1.0, 1.0 + 2**-52, 3.0]
    rows = [{"step": i, "y": y, "step_seconds": 1e6} for i, y in enumerate(odd)]
    line = line_of(log_with(tmp_path, rows), "y", "<b>&\x1b[31m\x00", smooth)
    assert line is not None
    drawing = draw("<script>alert(1)</script>\ud800", [line], smooth, size=LARGE)
    assert drawing is not None
    text = standalone(drawing, "<script>\x00", LARGE, dark=True)
    for made in (str(drawing.svg), text):
        assert "nan" not in made
        assert "inf" not in made
        assert "<script" not in made
        assert "\x1b" not in made
    assert "var(" not in text
    text.encode("utf-8")
    ElementTree.fromstring(text)
    assert all(math.isfinite(y) for y in json.loads(drawing.data)["lines"][0]["y"])
