"""Problems from `reasoning-gym`'s data sets, by name: `source = "reasoning_gym:countdown"`.

Each is a problem of kind logic, verified by the data set's own scorer (`verify.gym_worker`). What the scorer
needs is regenerated from the name, the seed and the index in `metadata["gym"]`. Each split has its own seed,
and the text of a question also assigns it to one split, so that a data set with few different questions can't
put one into two splits.
Not here: scoring; curricula. The package is an extra: `pip install 'r1kit[gym]'`.
"""

from collections.abc import Mapping
from typing import Any

from r1kit.errors import RecipeError
from r1kit.seeds import derive_seed
from r1kit.types import Problem

PREFIX = "reasoning_gym:"
# Tenths of a data set's questions, by a hash of their text.
SPLITS: Mapping[str, range] = {"train": range(0, 6), "validation": range(6, 8), "test": range(8, 10)}
# Data sets that can't be graded, and why (as seen in reasoning-gym 0.1.25).
_NO_ANSWER = "its problems come without an answer that its scorer could be checked with"
REFUSED: Mapping[str, str] = {
    "boxnet": _NO_ANSWER,
    "composite": "its members have scorers of their own; name each as a source",
    "graph_color": _NO_ANSWER,
    "propositional_logic": "its scorer takes a premise repeated for a conclusion, whatever the problem",
    "rubiks_cube": _NO_ANSWER,
    "rush_hour": _NO_ANSWER,
}
# Candidates drawn per requested problem, before a data set is said to have too few different ones.
_MAX_CANDIDATES_PER_PROBLEM = 50


def make_gym_problems(
    name: str, split: str, num: int, *, seed: int, options: Mapping[str, Any]
) -> list[Problem]:
    """`num` different problems of a data set. Raises `RecipeError` for an unknown name or option."""
    if split not in SPLITS:
        raise RecipeError(f"problems from {PREFIX}{name}: no split {split!r}; there are {', '.join(SPLITS)}.")
    if name in REFUSED:
        raise RecipeError(f"problems from {PREFIX}{name}: it can't be used, {REFUSED[name]}.")
    size = num * _MAX_CANDIDATES_PER_PROBLEM
    gym_seed = derive_seed(seed, "reasoning_gym", name, split) % 2**31
    dataset = _dataset(name, seed=gym_seed, size=size, options=options)
    problems: list[Problem] = []
    seen: set[str] = set()
    for index in range(size):
        entry = dataset[index]
        question = str(entry["question"])
        if not _truth(entry):  # "" means no solutions: any answer without a number would be right
            continue
        if question in seen or derive_seed("reasoning_gym split", name, question) % 10 not in SPLITS[split]:
            continue
        seen.add(question)
        spec = {
            "dataset": name,
            "seed": gym_seed,
            "size": size,
            "index": index,
            "options": dict(options),
        }
        problems.append(_problem(entry, spec))
        if len(problems) == num:
            return problems
    raise RecipeError(
        f"problems from {PREFIX}{name}: {num} asked for in split {split!r}, and only {len(problems)} "
        f"different ones found; lower `num_problems`, or make the data set harder with `options`."
    )


def _problem(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> Problem:
    return Problem(
        id=f"{spec['dataset']}-{spec['seed']}-{spec['index']}",
        kind="logic",
        messages=({"role": "user", "content": str(entry["question"])},),
        ground_truth=_truth(entry),
        language="en",
        domain=str(spec["dataset"]),
        source=f"{PREFIX}{spec['dataset']}",
        metadata={"verifier": "reasoning_gym", "gym": dict(spec)},
    )


def _truth(entry: Mapping[str, Any]) -> str:
    """A right answer; a data set with several stores one as an example. "" if there is none."""
    answer = (
        entry["answer"] if entry["answer"] is not None else entry.get("metadata", {}).get("example_answer")
    )
    return "" if answer is None else str(answer)


def _dataset(name: str, *, seed: int, size: int, options: Mapping[str, Any]) -> Any:
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        raise RecipeError(
            f"problems from {PREFIX}{name} need reasoning-gym: `pip install 'r1kit[gym]'`."
        ) from None
    try:
        return create_dataset(name, seed=seed, size=size, **options)
    # reasoning-gym's configurations validate themselves with assertions
    except (ValueError, TypeError, AssertionError) as error:
        raise RecipeError(f"problems from {PREFIX}{name}: {error}") from None
