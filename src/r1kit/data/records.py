"""The project's types as JSON objects and back, without loss: the contents of logs and data files.

A problem's fields with default values are left out, so that files stay readable.
Not here: rows with other schemas (`mappings`, `sources`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args

from r1kit.config import suggest
from r1kit.data.faults import shown
from r1kit.data.texts import surrogate_fault
from r1kit.data.truths import truth_text
from r1kit.errors import DataError
from r1kit.types import Completion, Kind, Message, Problem, PromptStyle, RewardBreakdown, Rollout

Json = dict[str, Any]

# Python converts at most 4,300 decimal digits (about 14,280 bits).
_LONG_NUMBER, _MAX_DECIMAL_BITS = "$hexadecimal", 10_000
_KINDS: tuple[str, ...] = get_args(Kind)
# The fields of a problem that are not text.
_TYPES: Mapping[str, type] = {"tests": list, "metadata": dict, "wants_reasoning": bool}
_TYPE_NAMES = {list: "a list", dict: "a table", bool: "true or false", str: "text"}


def problem_to_json(problem: Problem) -> Json:
    """A problem as a JSON object; fields with default values are left out."""
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
    """Numbers with more digits than Python's JSON writer allows (tests of programs have some), as hex."""
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
    """The problem in an object written by `problem_to_json`. Raises `DataError` that names the fault."""
    known = {field.name for field in fields(Problem)}
    if unknown := sorted(set(row) - known):
        raise DataError(f"unknown problem fields: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if missing := sorted({"id", "kind", "messages"} - set(row)):
        raise DataError(f"problem without {', '.join(missing)}")
    if row["kind"] not in _KINDS:
        raise DataError(f"`kind` is {row['kind']!r}: there is no such kind; {suggest(row['kind'], _KINDS)}")
    # a null counts as a missing field, and people write ids and answers as numbers
    values = {"id": ""} | {name: value for name, value in row.items() if value is not None}
    values["id"] = _text_of_number(values["id"])
    if "ground_truth" in values:
        values["ground_truth"] = truth_text(values["ground_truth"], row["kind"], "ground_truth")
        values = {name: value for name, value in values.items() if value is not None}
    for name, value in values.items():
        wanted = _TYPES.get(name, str)
        if name != "messages" and not isinstance(value, wanted):
            raise DataError(f"`{name}` must be {_TYPE_NAMES[wanted]}, not {shown(value)}")
    values["messages"] = messages_from_json(row["messages"])
    values["tests"] = tuple(map(_read_long_numbers, values.get("tests", ())))
    return Problem(**values)


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def messages_from_json(rows: Any) -> tuple[Message, ...]:
    """Validated conversation turns: a list of objects with a known role and text content.

    The last turn must be the user's: a final assistant turn would put the answer into the prompt.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise DataError(f"messages must be a non-empty list of turns, not {shown(rows)}")
    messages: list[Message] = []
    for row in rows:
        if not isinstance(row, Mapping) or row.get("role") not in ("system", "user", "assistant"):
            raise DataError(
                f"a turn needs a role (system, user or assistant) and a content, not {shown(row)}"
            )
        if not isinstance(row.get("content"), str):
            raise DataError(f"a turn's content must be text, not {shown(row.get('content'))}")
        messages.append({"role": row["role"], "content": row["content"]})
    if not any(message["role"] == "user" for message in messages):
        raise DataError("messages hold no user turn")
    if messages[-1]["role"] != "user":
        raise DataError(
            f"the last turn of messages is the {messages[-1]['role']}'s, and would be part of the prompt: "
            "end them with the question (a response has its own field)"
        )
    if fault := surrogate_fault(messages, "messages"):
        raise DataError(fault)
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
    """The completion in an object written by `completion_to_json`, bit for bit."""
    return Completion(
        token_ids=tuple(row["token_ids"]),
        sampler_logprobs=tuple(row["sampler_logprobs"]),
        text=row["text"],
        finish_reason=row["finish_reason"],
        weights_version=row["weights_version"],
    )


def rollout_to_json(rollout: Rollout) -> Json:
    """A rollout as a JSON object; floats are written so that they are read back exactly."""
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
    """The rollout in an object written by `rollout_to_json`; other keys are ignored."""
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
    """A reward breakdown as a JSON object; `total` is for readers and is not read back."""
    return {"parts": dict(breakdown.parts), "weights": dict(breakdown.weights), "total": breakdown.total}


def breakdown_from_json(row: Mapping[str, Any]) -> RewardBreakdown:
    """The breakdown in an object written by `breakdown_to_json`."""
    return RewardBreakdown(parts=dict(row["parts"]), weights=dict(row["weights"]))


def record_key(record: Mapping[str, Any]) -> str:
    """What tells a pair or a label from the others: a hash of its messages and texts."""
    texts = [record.get(name) for name in ("messages", "chosen", "rejected", "response")]
    return hashlib.blake2b(json.dumps(texts, ensure_ascii=False).encode(), digest_size=8).hexdigest()


def sft_record(problem: Problem, response: str, *, style: PromptStyle, source: str) -> Json:
    """One row of supervised data: the prompt's messages and the response that follows them."""
    return {
        "messages": [dict(message) for message in problem.messages],
        "response": response,
        "style": style,
        "domain": problem.domain or problem.kind,
        "language": problem.language,
        "source": source,
        "problem_id": problem.id,
    }
