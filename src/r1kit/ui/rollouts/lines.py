"""What the index keeps of a line of the step log, read without decoding the whole line.

Most of a line are token ids and logprobs, which no filter asks for; the problem is the same for all rollouts
of a group. `LineReader.quick` therefore finds the fields by their places in a line as `write_step_log` writes
it, and checks each mark between them. A line that looks otherwise is parsed as a whole by `LineReader.whole`,
with the same result. Why the marks are safe: in a JSON string every quote has a backslash before it, so a
mark with a bare quote can't be inside one, and an array of numbers ends at its first bracket.
"""

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from r1kit.text.template import parse_response
from r1kit.types import PromptStyle

_START = b'{"problem": '
_PLACE = re.compile(rb', "step": (\d{1,9}), "group": (\d{1,9}), "sample": ')
_AFTER_PLACE = re.compile(rb'(\d{1,9}), "seed": -?\d+, "prompt_token_ids": \[')
_IDS = b'], "completion": {"token_ids": ['
_LOGPROBS = b'], "sampler_logprobs": ['
_TEXT = b'], "text": "'
_TEXT_END = b'", "finish_reason": "'
_TAIL = re.compile(
    rb'", "finish_reason": "(\w+)", "weights_version": -?\d+\}, "reward": (\{.*\}), '
    rb'"advantage": (null|-?[0-9][0-9.eE+-]*), "problem_set": ("(?:[^"\\]|\\.)*"), "wave": \d+\}\s*\Z',
    re.DOTALL,
)
_MOST_KEPT = 200_000  # reward breakdowns and problems kept at a time; a stage's are few


class Reward(NamedTuple):
    """A breakdown: values by part (None: missing), and the total."""

    parts: tuple[tuple[str, float | None], ...]
    total: float | None


class Line(NamedTuple):
    """A rollout as the index keeps it. `problem` is a number that its reader gave the problem."""

    step: int
    group: int
    sample: int
    problem: int
    num_tokens: int
    is_truncated: bool
    is_malformed: bool
    text: bytes  # UTF-8
    reward: Reward
    advantage: float | None
    problem_set: str


class ProblemRow(NamedTuple):
    """A problem as the index keeps it; `prompt` is the text of all its turns."""

    id: str
    kind: str
    language: str
    domain: str
    tier: str
    source: str
    prompt: str
    wants_reasoning: bool


class LineReader:
    """Reads the lines of logs, in order. Problems are numbered as it meets them, from 0.

    `style` is the format of the stage that is being read; `first_problem` is for whoever keeps the numbers.
    """

    def __init__(self, style: PromptStyle = "zero", *, first_problem: int = 0) -> None:
        self.style = style
        self.first_problem = first_problem
        self.problems: list[ProblemRow] = []
        self._num_told = 0
        self.num_quick = 0  # lines that did not have to be parsed as a whole
        self._numbers: dict[bytes, int] = {}
        self._rewards: dict[bytes, Reward] = {}
        self._sets: dict[bytes, str] = {}
        self._head = b"-"  # of the group's first line, up to its sample number
        self._place = (0, 0, 0)  # step, group, problem

    def read(self, raw: bytes) -> Line:
        """A line of the log. Raises `ValueError` that says what is wrong with it."""
        try:
            line = self.quick(raw)
        except (
            ValueError,
            OverflowError,
        ):  # JSON that is not what it looks like: the whole parse says what is wrong
            line = None
        if line is None:
            return self.whole(raw)
        self.num_quick += 1
        return line

    def new_problems(self) -> list[ProblemRow]:
        """The problems that it has met since this was last asked."""
        new = self.problems[self._num_told :]
        self._num_told = len(self.problems)
        return new

    def quick(self, raw: bytes) -> Line | None:
        """A line as `write_step_log` writes it; None if it looks otherwise."""
        if not raw.startswith(self._head) and not self._begin_group(raw):
            return None
        step, group, problem = self._place
        found = _AFTER_PLACE.match(raw, len(self._head))
        if found is None:
            return None
        at = raw.find(b"]", found.end())
        if at < 0 or not raw.startswith(_IDS, at):
            return None
        ids = at + len(_IDS)
        at = raw.find(b"]", ids)
        if at < 0 or not raw.startswith(_LOGPROBS, at):
            return None
        num_tokens = raw.count(b",", ids, at) + 1 if at > ids else 0
        at = raw.find(b"]", at + len(_LOGPROBS))
        if at < 0 or not raw.startswith(_TEXT, at):
            return None
        start = at + len(_TEXT)
        end = raw.find(_TEXT_END, start)
        tail = _TAIL.match(raw, end) if end >= 0 else None
        if tail is None:
            return None
        reason, reward_json, advantage, set_json = tail.groups()
        reward = self._rewards.get(reward_json) or self._keep_reward(reward_json)
        problem_set = self._sets.get(set_json) or self._keep_set(set_json)
        text = raw[start:end].decode()
        if "\\" in text:
            escaped = text + '"'
            text, stopped = scanstring(escaped, 0)
            if stopped != len(escaped):
                return None
        elif '"' in text:
            return None
        is_truncated = reason == b"length"
        return Line(
            step,
            group,
            int(found.group(1)),
            problem,
            num_tokens,
            is_truncated,
            self._is_malformed(text, reward, problem, is_truncated),
            text.encode("utf-8", "replace"),
            reward,
            None if advantage == b"null" else float(advantage),
            problem_set,
        )

    def whole(self, raw: bytes) -> Line:
        """A line by parsing all of it; its keys may be in any order. Raises `ValueError`."""
        row = json.loads(raw.decode())
        if not isinstance(row, dict):
            raise ValueError(f"expected an object, not {type(row).__name__}")
        try:
            completion, reward = row["completion"], _reward(row["reward"])
            problem = self._number(json.dumps(row["problem"], ensure_ascii=False).encode("utf-8", "replace"))
            text, is_truncated = str(completion["text"]), completion["finish_reason"] == "length"
            advantage = row.get("advantage")
            return Line(
                _count(row["step"]),
                _count(row["group"]),
                _count(row["sample"]),
                problem,
                len(completion["token_ids"]),
                is_truncated,
                self._is_malformed(text, reward, problem, is_truncated),
                text.encode("utf-8", "replace"),
                reward,
                None if advantage is None else float(advantage),
                _encodable(row.get("problem_set", "")),
            )
        except KeyError as error:
            raise ValueError(f"a rollout without `{error.args[0]}`") from None
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a rollout: {error}") from None

    def _begin_group(self, raw: bytes) -> bool:
        if not raw.startswith(_START):
            return False
        found = _PLACE.search(raw, len(_START))
        if found is None:
            return False
        # a key "step" deeper within the problem would end it too early: then this is no JSON
        problem = self._number(raw[len(_START) : found.start()])
        self._head = raw[: found.end()]
        self._place = (int(found.group(1)), int(found.group(2)), problem)
        return True

    def _number(self, problem_json: bytes) -> int:
        """The number of a problem, by its JSON; raises `ValueError`."""
        number = self._numbers.get(problem_json)
        if number is None:
            row = problem_row(json.loads(problem_json.decode()))
            if len(self._numbers) >= _MOST_KEPT:
                self._numbers.clear()  # a problem may then get a second number, which does no harm
            number = self._numbers[problem_json] = len(self.problems)
            self.problems.append(row)
        return number

    def _keep_reward(self, reward_json: bytes) -> Reward:
        if len(self._rewards) >= _MOST_KEPT:
            self._rewards.clear()
        reward = self._rewards[reward_json] = _reward(json.loads(reward_json.decode()))
        return reward

    def _keep_set(self, set_json: bytes) -> str:
        name = self._sets[set_json] = _encodable(json.loads(set_json.decode()))
        return name

    def _is_malformed(self, text: str, reward: Reward, problem: int, is_truncated: bool) -> bool:
        """As the format reward sees it: one that ran out of tokens never came to its end."""
        for name, value in reward.parts:
            if name == "format" and value is not None:
                return value < 1.0
        if is_truncated:
            return True
        required = self.problems[problem].wants_reasoning
        return not parse_response(text, self.style, reasoning_required=required).well_formed


def problem_row(row: Any) -> ProblemRow:
    """What the index keeps of a problem's JSON. Raises `ValueError`."""
    if not isinstance(row, dict) or "id" not in row:
        raise ValueError("a rollout without a problem")
    turns = row.get("messages")
    contents = [_encodable(turn.get("content", "")) for turn in turns or () if isinstance(turn, Mapping)]
    texts = {
        name: _encodable(row.get(name) or "") for name in ("kind", "language", "domain", "tier", "source")
    }
    required = bool(row.get("wants_reasoning", True))
    return ProblemRow(
        id=_encodable(row["id"]), **texts, prompt="\n\n".join(contents), wants_reasoning=required
    )


def _encodable(value: Any) -> str:
    """A value as text that any file and page can hold: JSON can have halves of surrogate pairs."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _reward(row: Any) -> Reward:
    if not isinstance(row, Mapping) or not isinstance(row.get("parts"), Mapping):
        raise ValueError("a rollout without reward parts")
    parts = tuple((_encodable(name), _float(value)) for name, value in row["parts"].items())
    if "total" in row:
        return Reward(parts, _float(row["total"]))
    weights = row.get("weights", {})
    given = [(value, float(weights.get(name, 1.0))) for name, value in parts]
    missing = any(value is None and weight for value, weight in given)
    return Reward(parts, None if missing else sum((value or 0.0) * weight for value, weight in given))


def _float(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a reward that is no number: {value!r:.60}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"a step, group or sample that is no count: {value!r:.60}")
    return value
