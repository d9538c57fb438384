"""What a person sees of a run, line by line."""

import io
import re
import time

from rich.console import Console

from r1kit.pipeline.status import StageStatus
from r1kit.terminal import Meter, PlainProgress, clock, metrics_line, phase_shares, progress_on, status_table

ROW = {
    "reward/mean": 1.5,
    "reward/accuracy": 0.5,
    "reward/language": 1.0,
    "completion/length_mean": 98.4,
    "tokens_per_second": 9809.0,
    "sampling_seconds": 3.0,
    "training_seconds": 1.0,
    "step_seconds": 4.0,
}


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_durations_read_as_a_clock() -> None:
    assert [clock(s) for s in (0, 42.4, 725, 12_000)] == ["0:00", "0:42", "12:05", "3:20:00"]


def test_a_row_of_metrics_is_one_line_with_the_reward_first() -> None:
    assert metrics_line(ROW) == "reward 1.500  accuracy 0.500  language 1.000  tokens 98  tokens/s 9,809"


def test_faults_of_the_verifier_are_shown_where_there_are_any() -> None:
    quiet = {"loss": 0.5, "verifier/timeouts": 0.0, "verifier/crashes": 0.0}
    assert metrics_line(quiet) == "loss 0.500"
    assert metrics_line(quiet | {"verifier/timeouts": 3.0}) == "loss 0.500  verifier timeouts 3"
    assert metrics_line(quiet | {"verifier/crashes": 1.0}) == "loss 0.500  verifier crashes 1"


def test_groups_that_were_dropped_are_counted_and_said_why() -> None:
    quiet = {"groups/trained": 16.0, "groups/sampled": 16.0}
    assert metrics_line(quiet) == ""
    row = {"groups/trained": 12.0, "groups/sampled": 18.0}
    row |= {"groups/dropped_all_right": 4.0, "groups/dropped_missing": 2.0, "alarm/entropy": 1.0}
    assert metrics_line(row) == "groups 12 of 18 (4 all right, 2 missing dropped)  ALARM entropy"


def test_phases_are_shares_of_their_sum() -> None:
    assert phase_shares(ROW) == "sampling 75%  training 25%"
    assert phase_shares({"loss": 1.0}) == ""


def test_time_left_is_measured_from_where_a_resumed_stage_goes_on() -> None:
    watch = Watch()
    meter = Meter(watch)
    meter.start("zero", 90, "steps")
    assert meter.left() is None
    watch.seconds = 2
    meter.step(71, {})  # resumed: this is its first step here
    assert meter.left() == 2 * 19  # 2 seconds a step, 19 to go
    watch.seconds = 6
    meter.step(73, ROW)
    assert meter.left() == 2 * 17
    assert meter.headline() == "zero  73 of 90 steps  0:06, 0:34 left"


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    watch, lines = Watch(), []
    progress = PlainProgress(lines.append, now=watch)
    progress.start("zero", 10, "steps")
    for step in range(1, 11):
        watch.seconds += 2
        progress.step(step, ROW)
    progress.sample("not in a log")
    progress.note("zero: done")
    assert lines[0] == "zero: 10 steps"
    assert [line.split("  ")[1] for line in lines[1:-1]] == [
        "3 of 10 steps",
        "6 of 10 steps",
        "9 of 10 steps",
        "10 of 10 steps",
    ]
    assert lines[1] == (
        "zero  3 of 10 steps  0:06, 0:14 left  |  "
        "reward 1.500  accuracy 0.500  language 1.000  tokens 98  tokens/s 9,809  |  sampling 75%  "
        "training 25%"
    )
    assert lines[-1] == "zero: done"


def test_output_that_is_no_terminal_has_no_control_codes() -> None:
    file = io.StringIO()
    with progress_on(Console(file=file)) as progress:
        progress.start("zero", 2, "steps")
        progress.step(2, ROW)
        progress.note("a note with [brackets] and a very long line " + "x" * 200)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "[brackets]" in text
    assert len(text.splitlines()) == 3  # nothing is wrapped


def test_a_terminal_shows_metrics_sample_and_notes() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=40)
    with progress_on(console) as progress:
        progress.start("zero", 2, "steps")
        progress.step(1, ROW)
        progress.sample("<think> 3 + 4 = 7 </think>")
        until = time.monotonic() + 60  # drawn four times a second, on a busy machine later
        while "3 + 4 = 7" not in file.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
        progress.note("dev1 again: because")
        progress.start("dev1", 5, "updates")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    for shown in ("zero  1 of 2 steps", "tokens/s 9,809", "sampling 75%", "3 + 4 = 7", "dev1 again: because"):
        assert shown in text


def test_the_status_table_says_what_is_done_and_why_not() -> None:
    file = io.StringIO()
    rows = [
        StageStatus("zero", "grpo", "done", "", 155.0),
        StageStatus("dev1", "sft", "stale", "stages.dev1.epochs was 2, is 3", 28.0),
        StageStatus("dev2", "grpo", "to do"),
    ]
    Console(file=file, width=100).print(status_table(rows))
    lines = [re.sub(r" {2,}", "  ", line.strip()) for line in file.getvalue().splitlines()]
    assert lines == [
        "stage  kind  state  time",
        "zero  grpo  done  2:35",
        "dev1  sft  stale: stages.dev1.epochs was 2, is 3  0:28",
        "dev2  grpo  to do",
    ]
