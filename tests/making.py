"""Problems and rollouts for the tests of rewards."""

from typing import Any

from r1kit.types import Completion, FinishReason, Kind, Problem, Rollout


def make_problem(kind: Kind = "math", ground_truth: str | None = "51", **fields: Any) -> Problem:
    """A problem; what is no field of it goes into its metadata."""
    known = {name: fields.pop(name) for name in list(fields) if name in Problem.__dataclass_fields__}
    content = known.pop("question_text", fields.pop("question_text", "What is 45 + 6?"))
    return Problem(
        id="p1",
        kind=kind,
        messages=({"role": "user", "content": content},),
        ground_truth=ground_truth,
        metadata=fields,
        **known,
    )


def make_rollout(
    problem: Problem, text: str, *, sample: int = 0, seed: int = 7, finish_reason: FinishReason = "stop"
) -> Rollout:
    """A rollout whose completion has this text."""
    completion = Completion((1,), (-0.5,), text, finish_reason, 0)
    return Rollout(problem, 0, 0, sample, seed, (1, 2), completion)
