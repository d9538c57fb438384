"""What a person sees of a run: a live display on a terminal, plain lines elsewhere, and tables.

Both displays implement `stage.Progress` and show the same: stage, step of total, time left, tokens per
second, reward parts (including accuracy and language consistency) and each phase's share of the time. The
live one also shows samples. Plain lines have no control codes and come every few seconds, to suit a log.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1kit.pipeline.doctor import Check
from r1kit.pipeline.expected_time import REFERENCE_MACHINE, Expectation
from r1kit.pipeline.memory import StageMemory, format_bytes
from r1kit.pipeline.next_steps import next_steps, where_it_lies
from r1kit.pipeline.recipe import Recipe
from r1kit.pipeline.status import StageStatus
from r1kit.stage import Progress

PLAIN_SECONDS = 5.0
_SAMPLE_CHARACTERS = 700
_REWARD = "reward/"
_PHASE = "_seconds"
_DROPPED = "groups/dropped_"
_ALARM = "alarm/"

# The metrics to show on one line beside the reward's parts: label and format.
_SHOWN: dict[str, tuple[str, str]] = {
    "loss": ("loss", ".3f"),
    "pass@1": ("pass@1", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "completion/length_mean": ("tokens", ".0f"),
    "completion/truncated_frac": ("cut", ".2f"),
    "kl/ref": ("kl", ".4f"),
    "policy/entropy": ("entropy", ".2f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
}
# Counts of what should not happen, shown only if they are not 0.
_FAULTS = {
    "verifier/timeouts": "verifier timeouts",
    "verifier/crashes": "verifier crashes",
    **{f"judge/{name}/missing": f"{name} not judged" for name in ("accuracy", "helpful", "safety")},
}


def clock(seconds: float) -> str:
    """Seconds as `0:42`, `12:05` or `3:20:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def metrics_line(row: Mapping[str, float]) -> str:
    """A metrics row as one line, the reward and its parts first."""
    parts = []
    if "reward/mean" in row:
        parts.append(f"reward {row['reward/mean']:.3f}")
    for name, value in row.items():
        part = name.removeprefix(_REWARD)
        if name.startswith(_REWARD) and "/" not in part and part not in ("mean", "missing_frac"):
            parts.append(f"{part} {value:.3f}")
    parts += [f"{label} {row[name]:{spec}}" for name, (label, spec) in _SHOWN.items() if name in row]
    parts += [f"{label} {row[name]:.0f}" for name, label in _FAULTS.items() if row.get(name)]
    parts += [dropped_groups(row)] if dropped_groups(row) else []
    alarms = [name.removeprefix(_ALARM) for name in row if name.startswith(_ALARM)]
    parts += [f"ALARM {', '.join(alarms)}"] if alarms else []
    return "  ".join(parts)


def dropped_groups(row: Mapping[str, float]) -> str:
    """How many groups were dropped, and why: `groups 2 of 9 (6 all right, 1 all wrong dropped)`."""
    dropped = {name.removeprefix(_DROPPED): n for name, n in row.items() if name.startswith(_DROPPED) and n}
    if not dropped:
        return ""
    reasons = ", ".join(f"{n:.0f} {reason.replace('_', ' ')}" for reason, n in dropped.items())
    return f"groups {row['groups/trained']:.0f} of {row['groups/sampled']:.0f} ({reasons} dropped)"


def phase_shares(row: Mapping[str, float]) -> str:
    """Each phase's share of the step's time: `sampling 61%  training 35%  scoring 4%`."""
    phases = {name[: -len(_PHASE)].rsplit("/", 1)[-1]: s for name, s in row.items() if name.endswith(_PHASE)}
    phases.pop("step", None)  # the total, not a phase
    total = sum(phases.values())
    if total <= 0:
        return ""
    ordered = sorted(phases.items(), key=lambda item: -item[1])
    return "  ".join(f"{name} {value / total:.0%}" for name, value in ordered)


@dataclass
class Meter:
    """The progress of the current part, and the time left at the speed so far."""

    now: Callable[[], float] = time.monotonic
    stage: str = ""
    total: int = 0
    unit: str = ""
    done: int = 0
    row: dict[str, float] = field(default_factory=dict)
    _started: float = 0.0
    _first: int | None = None  # done before the first step seen here: a resumed stage does not start at 0

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a part with `total` of `unit` to do."""
        self.stage, self.total, self.unit, self.done, self.row = stage, total, unit, 0, {}
        self._started, self._first = self.now(), None

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Record that `done` are done."""
        if self._first is None:
            self._first = max(0, done - 1)
        self.done = done
        self.row = dict(row) or self.row

    def elapsed(self) -> float:
        """Seconds since the part began."""
        return self.now() - self._started

    def left(self) -> float | None:
        """Seconds left; None before anything is done."""
        if self._first is None or self.done <= self._first:
            return None
        return self.elapsed() / (self.done - self._first) * max(0, self.total - self.done)

    def headline(self) -> str:
        """`zero  step 12 of 90  0:31, 3:20 left`."""
        left = self.left()
        to_go = f", {clock(left)} left" if left is not None and self.done < self.total else ""
        return f"{self.stage}  {self.done} of {self.total} {self.unit}  {clock(self.elapsed())}{to_go}"


class PlainProgress:
    """Plain lines for a stream that is not a terminal."""

    def __init__(self, write: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now = write, now
        self._meter = Meter(now)
        self._last = float("-inf")

    def start(self, stage: str, total: int, unit: str) -> None:
        """Write a line for the new part."""
        self._meter.start(stage, total, unit)
        self._write(f"{stage}: {total} {unit}")
        self._last = self._now()

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Write a line every few seconds, and for the last step."""
        self._meter.step(done, row)
        if self._now() - self._last < PLAIN_SECONDS and done < self._meter.total:
            return
        self._last = self._now()
        parts = [self._meter.headline(), metrics_line(self._meter.row), phase_shares(self._meter.row)]
        self._write("  |  ".join(part for part in parts if part))

    def sample(self, text: str) -> None:
        """Do nothing: samples would flood a log, and are in the stage's rollouts."""

    def note(self, text: str) -> None:
        """Write the note."""
        self._write(text)


class LiveProgress:
    """A block at the bottom of a terminal that is redrawn; notes and finished parts scroll above it."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console, self._live = console, live
        self._meter = Meter()
        self._sample = ""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Print a line for the finished part, and show the new one."""
        self.close()
        self._meter.start(stage, total, unit)
        self._sample = ""
        self._live.update(self._render())

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Redraw."""
        self._meter.step(done, row)
        self._live.update(self._render())

    def sample(self, text: str) -> None:
        """Show this sample until the next."""
        cut = len(text) > _SAMPLE_CHARACTERS
        self._sample = text[:_SAMPLE_CHARACTERS] + ("…" if cut else "")
        self._live.update(self._render())

    def note(self, text: str) -> None:
        """Print the note above the block."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Print a line for the current part, and clear the block."""
        if self._meter.done:
            self._console.print(
                Text(f"{self._meter.headline()}  {metrics_line(self._meter.row)}", style="dim")
            )
        self._meter.done = 0
        self._live.update(Text(""))

    def _render(self) -> RenderableType:
        meter = self._meter
        bar = ProgressBar(total=max(1, meter.total), completed=meter.done, width=None)
        lines: list[RenderableType] = [Text(meter.headline(), style="bold"), bar]
        lines += [Text(line) for line in (metrics_line(meter.row), phase_shares(meter.row)) if line]
        if self._sample:
            lines.append(Panel(Text(self._sample), title="a sample", title_align="left", border_style="dim"))
        return Group(*lines)


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """The display for this console: live on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        # `print`, not rich's, which would wrap lines at a width that a file does not have
        yield PlainProgress(lambda line: print(line, file=console.file, flush=True))
        return
    with Live(Text(""), console=console, refresh_per_second=4, transient=True) as live:
        progress = LiveProgress(console, live)
        try:
            yield progress
        finally:
            progress.close()


def status_table(rows: Sequence[StageStatus]) -> Table:
    """The stage table of `r1 status` and of the end of a run."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "kind", "state", "time"):
        table.add_column(header, justify="right" if header == "time" else "left", no_wrap=header != "state")
    styles = {"done": "green", "stale": "yellow", "in progress": "cyan", "to do": "dim"}
    for row in rows:
        state = Text(row.state, style=styles[row.state])
        if row.why:
            state.append(f": {row.why}", style="default")
        table.add_row(row.name, row.kind, state, clock(row.seconds) if row.seconds else "")
    return table


def memory_table(rows: Sequence[StageMemory]) -> Table:
    """The table of `r1 plan`: each stage's memory by part, with formulas, and its peak."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for header in ("stage", "part", "memory", "how"):
        table.add_column(header, justify="right" if header == "memory" else "left", no_wrap=header != "how")
    for row in rows:
        if row.fault:
            table.add_row(row.stage, row.kind, "?", row.fault)
            continue
        for i, part in enumerate(row.parts):
            table.add_row(row.stage if i == 0 else "", part.name, format_bytes(part.num_bytes), part.formula)
        share = f"{row.num_trained / row.num_weights:.2%} of {row.num_weights:,} weights are trained"
        note = f"; {row.advice}" if row.advice else ""
        table.add_row("", "peak", format_bytes(row.num_bytes), share + note, style="bold")
    return table


def expectation_line(name: str, expected: Expectation) -> str:
    """How long a run will take here, and what the estimate is based on."""
    least, most = (max(1, round(seconds / 60)) for seconds in expected.range_seconds)
    pace = f"{expected.slower:.1f} times as long" if expected.slower >= 0.1 else "a tenth of that or less"
    return (
        f"{name}: about {max(1, round(expected.seconds / 60))} minutes from here, between {least} and {most} "
        f"if nothing else uses the cores. The complete run took {clock(expected.reference_seconds)} on "
        f"{REFERENCE_MACHINE}; a sample of its work takes {pace} here."
    )


def next_steps_text(recipe: Recipe, folder: Path, report: Path | None) -> Text:
    """What to do after a run, one command per line, and where `r1` is."""
    steps = next_steps(recipe, folder, report)
    width = max((len(command) for command, _ in steps), default=0)
    lines = ["Next:" if steps else "", *(f"  {command:<{width}}  {what}" for command, what in steps)]
    if where := where_it_lies():
        lines.append(where)
    return Text("\n".join(line for line in lines if line))


def check_table(checks: Sequence[Check]) -> Table:
    """The checks that `r1 doctor` passed."""
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("checked")
    table.add_column("found")
    for check in checks:
        table.add_row(check.subject, check.found)
    return table
