"""The counts of a data stage as funnels: what came in, what each filter dropped, what is left.

From `counts.json`, whose shape depends on the kind of stage: one table of sources (cold_start), tables of
domains and sources (rejection), or plain numbers (preferences).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = Mapping[str, Any]

_BEFORE_PAIRS = ("truncated", "malformed", "duplicate")


@dataclass(frozen=True, slots=True)
class Step:
    """A filter: how many came to it, and how many it dropped."""

    name: str
    came: int
    dropped: int

    @property
    def left(self) -> int:
        """How many passed it."""
        return self.came - self.dropped

    @property
    def share(self) -> float:
        """Of those that came, the share that it dropped."""
        return self.dropped / self.came if self.came else 0.0


@dataclass(frozen=True, slots=True)
class Funnel:
    """A funnel of all sources together, or of `one`; `rows` has each source's own counts."""

    title: str
    unit: str  # what is counted: samples, pairs
    by: str  # what a row is: source, domain; "" for none
    start: int
    steps: tuple[Step, ...]
    kept: int
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    one: str = ""  # the source that it is of, if it is not of all

    @property
    def kept_share(self) -> float:
        """The share that is kept."""
        return self.kept / self.start if self.start else 0.0

    @property
    def main_step(self) -> Step | None:
        """The filter that dropped most."""
        return max((step for step in self.steps if step.dropped), key=lambda s: s.dropped, default=None)

    @property
    def adds_up(self) -> bool:
        """Whether what the filters left is what was kept."""
        return (self.steps[-1].left if self.steps else self.start) == self.kept


def of_one(funnel: Funnel, name: str) -> Funnel:
    """The funnel of one of its sources or domains alone; itself if it has none of this name."""
    row = funnel.rows.get(name)
    if row is None:
        return funnel
    dropped = {what: num for what, num in row.items() if what not in ("sampled", "kept")}
    start = row["sampled"]
    return replace(funnel, start=start, steps=_steps(start, dropped), kept=row.get("kept", 0), one=name)


def funnels(counts: Json) -> list[Funnel]:
    """The funnels in a stage's counts.json; none if it has none that can be read."""
    found = [
        _from_table(counts.get("sources"), "Candidates", "source"),
        _from_table(counts.get("reasoning"), "Reasoning data", "domain"),
        _from_table(counts.get("general"), "General data", "source"),
    ]
    if "pairs" in counts or "labels" in counts:
        found += _from_numbers(counts)
    return [funnel for funnel in found if funnel is not None]


def _from_table(table: Any, title: str, by: str) -> Funnel | None:
    if not isinstance(table, Mapping):
        return None
    rows = {
        str(name): {str(what): num for what, num in row.items() if _is_count(num)}
        for name, row in table.items()
        if isinstance(row, Mapping) and _is_count(row.get("sampled"))
    }
    if not rows:
        return None
    total: dict[str, int] = {}
    for row in rows.values():
        for what, num in row.items():
            total[what] = total.get(what, 0) + num
    start, kept = total.pop("sampled"), total.pop("kept", 0)
    return Funnel(title, "samples", by, start, _steps(start, total), kept, rows)


def _from_numbers(counts: Json) -> list[Funnel | None]:
    """The two funnels of pairs (responses, then pairs made of them), or the one of labels."""
    number = {name: num for name, num in counts.items() if _is_count(num)}
    sampled = number.get("sampled")
    responses = None
    if sampled is not None:
        dropped = {name: number.get(name, 0) for name in _BEFORE_PAIRS}
        if "labels" in number:
            dropped["unlabelled"] = number.get("unlabelled", 0)
            dropped |= _of_review(number)
        kept = number.get("labels", sampled - sum(dropped.values()))
        responses = Funnel("Responses", "samples", "", sampled, _steps(sampled, dropped), kept)
    if "pairs" not in number:
        return [responses]
    dropped = {name: number.get(name, 0) for name in ("unlabelled", "no_preference")}
    dropped |= _of_review(number) | {"unbalanced": number.get("unbalanced", 0)}
    pairs, after = number["pairs"], counts.get("after")
    kept = pairs - sum(dropped.values())
    if isinstance(after, Mapping) and _is_count(after.get("pairs")):
        kept = int(after["pairs"])
    return [responses, Funnel("Pairs", "pairs", "", pairs, _steps(pairs, dropped), kept)]


def _of_review(number: Mapping[str, int]) -> dict[str, int]:
    """What reviewers dropped, where there was a review."""
    return {name: number[name] for name in ("dropped_in_review",) if name in number}


def _steps(start: int, dropped: Mapping[str, int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for name, num in dropped.items():
        steps.append(Step(name, steps[-1].left if steps else start, num))
    return tuple(steps)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
