import json

import pytest

from r1kit.data.records import (
    breakdown_from_json,
    breakdown_to_json,
    problem_from_json,
    problem_to_json,
    rollout_from_json,
    rollout_to_json,
    sft_record,
)
from r1kit.errors import DataError
from r1kit.types import Completion, Problem, RewardBreakdown, Rollout

PROBLEM = Problem(
    id="p",
    kind="code",
    messages=({"role": "system", "content": "s"}, {"role": "user", "content": "问"}),
    tests=({"type": "stdin", "input": "1", "output": "2"},),
    language="zh",
    wants_reasoning=False,
    metadata={"options": ["a", "b"]},
)


def through_json(row: dict) -> dict:
    return json.loads(json.dumps(row))


def test_a_problem_survives_the_round_trip() -> None:
    assert problem_from_json(through_json(problem_to_json(PROBLEM))) == PROBLEM


def test_defaults_are_left_out_of_a_problem() -> None:
    plain = Problem(id="q", kind="math", messages=({"role": "user", "content": "x"},), ground_truth="1")
    assert set(problem_to_json(plain)) == {"id", "kind", "messages", "ground_truth"}
    assert problem_from_json(problem_to_json(plain)) == plain


def test_an_unknown_field_and_a_missing_one_are_named() -> None:
    with pytest.raises(DataError, match="unknown problem fields: grond_truth"):
        problem_from_json({"id": "1", "kind": "math", "messages": [], "grond_truth": "1"})
    with pytest.raises(DataError, match="problem without messages"):
        problem_from_json({"id": "1", "kind": "math"})


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        [{"role": "robot", "content": "x"}],
        [{"role": "user", "content": 3}],
        [{"role": "system", "content": "x"}],
    ],
)
def test_messages_that_are_no_conversation_are_refused(messages: object) -> None:
    with pytest.raises(DataError):
        problem_from_json({"id": "1", "kind": "math", "messages": messages})


def test_a_rollout_survives_the_round_trip_to_the_bit() -> None:
    completion = Completion((5, 6), (-0.1 - 1e-17, -1 / 3), "ab", "stop", 7)
    rollout = Rollout(PROBLEM, 3, 1, 2, 2**62 + 1, (1, 2, 3), completion)
    assert rollout_from_json(through_json(rollout_to_json(rollout))) == rollout


def test_a_breakdown_with_a_missing_part_survives_the_round_trip() -> None:
    breakdown = RewardBreakdown({"accuracy": 1.0, "helpful": None}, {"accuracy": 1.0, "helpful": 0.5})
    row = through_json(breakdown_to_json(breakdown))
    assert row["total"] is None
    assert breakdown_from_json(row) == breakdown


def test_an_sft_record_has_the_fields_of_the_format() -> None:
    assert sft_record(PROBLEM, "2", style="chat", source="zero") == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "问"}],
        "response": "2",
        "style": "chat",
        "domain": "code",
        "language": "zh",
        "source": "zero",
        "problem_id": "p",
    }
