"""The project's types as JSON objects and back, without loss: what logs and data files hold.

Fields at their default are left out of a problem's object, so that files stay readable.
Not here: rows of other people's schemas (`mappings`, `sources`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from r1kit.errors import DataError
from r1kit.types import Completion, Message, Problem, PromptStyle, RewardBreakdown, Rollout

Json = dict[str, Any]

_LONG_NUMBER, _MAX_DECIMAL_BITS = "$hexadecimal", 10_000


def problem_to_json(problem: Problem) -> Json:
    """A problem as a JSON object; fields at their default are left out."""
    row: Json = {}
    for field in fields(Problem):
        value = getattr(problem, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        if field.name == "metadata" and not value:
            continue
        row[field.name] = dict(value) if field.name == "metadata" else _plain(value)
    return row


def _plain(value: Any) -> Any:
    return [_with_long_numbers(dict(item)) for item in value] if isinstance(value, tuple) else value


def _with_long_numbers(value: Any) -> Any:
    """Whole numbers of more digits than JSON's writer takes, as in tests of programs, in hexadecimal."""
    if isinstance(value, dict):
        return {key: _with_long_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_long_numbers(item) for item in value]
    is_long = isinstance(value, int) and value.bit_length() > _MAX_DECIMAL_BITS
    return {_LONG_NUMBER: hex(value)} if is_long else value


def _read_long_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_LONG_NUMBER}:
            return int(str(value[_LONG_NUMBER]), 16)
        return {key: _read_long_numbers(item) for key, item in value.items()}
    return [_read_long_numbers(item) for item in value] if isinstance(value, list) else value


def problem_from_json(row: Mapping[str, Any]) -> Problem:
    """The problem of an object that `problem_to_json` wrote. Raises `DataError` naming what is wrong."""
    known = {field.name for field in fields(Problem)}
    if unknown := sorted(set(row) - known):
        raise DataError(f"unknown problem fields: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if missing := sorted({"id", "kind", "messages"} - set(row)):
        raise DataError(f"problem without {', '.join(missing)}")
    values = dict(row)
    values["messages"] = messages_from_json(row["messages"])
    values["tests"] = tuple(map(_read_long_numbers, row.get("tests", ())))
    return Problem(**values)


def messages_from_json(rows: Any) -> tuple[Message, ...]:
    """Conversation turns, checked: a list of objects with a known role and a text content."""
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise DataError(f"messages must be a list of turns that is not empty, not {rows!r}")
    messages: list[Message] = []
    for row in rows:
        if not isinstance(row, Mapping) or row.get("role") not in ("system", "user", "assistant"):
            raise DataError(f"a turn needs a role (system, user or assistant) and a content, not {row!r}")
        if not isinstance(row.get("content"), str):
            raise DataError(f"a turn's content must be text, not {row.get('content')!r}")
        messages.append({"role": row["role"], "content": row["content"]})
    if not any(message["role"] == "user" for message in messages):
        raise DataError("messages hold no user turn")
    return tuple(messages)


def completion_to_json(completion: Completion) -> Json:
    """A completion as a JSON object."""
    return {
        "token_ids": list(completion.token_ids),
        "sampler_logprobs": list(completion.sampler_logprobs),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "weights_version": completion.weights_version,
    }


def completion_from_json(row: Mapping[str, Any]) -> Completion:
    """The completion of an object that `completion_to_json` wrote, to the bit."""
    return Completion(
        token_ids=tuple(row["token_ids"]),
        sampler_logprobs=tuple(row["sampler_logprobs"]),
        text=row["text"],
        finish_reason=row["finish_reason"],
        weights_version=row["weights_version"],
    )


def rollout_to_json(rollout: Rollout) -> Json:
    """A rollout as a JSON object; floats are written so that they read back to the bit."""
    return {
        "problem": problem_to_json(rollout.problem),
        "step": rollout.step,
        "group": rollout.group,
        "sample": rollout.sample,
        "seed": rollout.seed,
        "prompt_token_ids": list(rollout.prompt_token_ids),
        "completion": completion_to_json(rollout.completion),
    }


def rollout_from_json(row: Mapping[str, Any]) -> Rollout:
    """The rollout of an object that `rollout_to_json` wrote; other keys are left alone."""
    return Rollout(
        problem=problem_from_json(row["problem"]),
        step=row["step"],
        group=row["group"],
        sample=row["sample"],
        seed=row["seed"],
        prompt_token_ids=tuple(row["prompt_token_ids"]),
        completion=completion_from_json(row["completion"]),
    )


def breakdown_to_json(breakdown: RewardBreakdown) -> Json:
    """A reward breakdown as a JSON object; `total` is written for readers and not read back."""
    return {"parts": dict(breakdown.parts), "weights": dict(breakdown.weights), "total": breakdown.total}


def breakdown_from_json(row: Mapping[str, Any]) -> RewardBreakdown:
    """The breakdown of an object that `breakdown_to_json` wrote."""
    return RewardBreakdown(parts=dict(row["parts"]), weights=dict(row["weights"]))


def sft_record(problem: Problem, response: str, *, style: PromptStyle, source: str) -> Json:
    """One row of supervised data: the prompt's messages and the text that follows them."""
    return {
        "messages": [dict(message) for message in problem.messages],
        "response": response,
        "style": style,
        "domain": problem.domain or problem.kind,
        "language": problem.language,
        "source": source,
        "problem_id": problem.id,
    }
