"""The project's types as JSON objects and back, without loss: what logs and data files hold.

Fields at their default are left out of a problem's object, so that files stay readable.
Not here: rows of other people's schemas (`mappings`, `sources`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args

from r1kit.config import suggest
from r1kit.data.faults import shown
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.types import Completion, Kind, Message, Problem, PromptStyle, RewardBreakdown, Rollout

Json = dict[str, Any]

_KINDS: tuple[str, ...] = get_args(Kind)
# A problem's fields that are not text.
_TYPES: Mapping[str, type] = {"tests": list, "metadata": dict, "wants_reasoning": bool}
_TYPE_NAMES = {list: "a list", dict: "a table", bool: "true or false", str: "text"}


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
    return [dict(item) for item in value] if isinstance(value, tuple) else value


def problem_from_json(row: Mapping[str, Any]) -> Problem:
    """The problem of an object that `problem_to_json` wrote. Raises `DataError` naming what is wrong."""
    known = {field.name for field in fields(Problem)}
    if unknown := sorted(set(row) - known):
        raise DataError(f"unknown problem fields: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if missing := sorted({"id", "kind", "messages"} - set(row)):
        raise DataError(f"problem without {', '.join(missing)}")
    if row["kind"] not in _KINDS:
        raise DataError(f"`kind` is {row['kind']!r}: there is no such kind; {suggest(row['kind'], _KINDS)}")
    # a null is a field that is left out, and people write ids and answers as numbers
    values = {"id": ""} | {
        name: _text_of_number(value) if name in ("id", "ground_truth") else value
        for name, value in row.items()
        if value is not None
    }
    for name, value in values.items():
        wanted = _TYPES.get(name, str)
        if name != "messages" and not isinstance(value, wanted):
            raise DataError(f"`{name}` must be {_TYPE_NAMES[wanted]}, not {shown(value)}")
    values["messages"] = messages_from_json(row["messages"])
    values["tests"] = tuple(values.get("tests", ()))
    return Problem(**values)


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def messages_from_json(rows: Any) -> tuple[Message, ...]:
    """Conversation turns, checked: a list of objects with a known role and a text content.

    The last is the user's: what an assistant said last would stand in the prompt, the answer with it.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise DataError(f"messages must be a list of turns that is not empty, not {shown(rows)}")
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
            f"the last turn of messages is of the {messages[-1]['role']}, and would be a part of the prompt: "
            "end them on the question (a response has a field of its own)"
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
