"""Rejection sampling that waits for people."""

from pathlib import Path

import pytest

from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.errors import DataError, StageHalted
from r1kit.rejection import RejectionConfig, run_rejection
from tests.data_stages import Script, math_problem, stage_context
from tests.rejection.test_rejection import GOOD, chat, config, counts, general, rows
from tests.reviewing import begin, decide, ids_of
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_people_decide_on_reasoning_and_general_data(base, tmp_path, monkeypatch) -> None:
    def write(prompt: str, number: int) -> str:
        return chat(f"{GOOD} {number}") if "12 + 7" in prompt else chat("They greet me.", f"Hello {number}!")

    script = Script(monkeypatch, write)
    sums = math_problem(1, "What is 12 + 7?", "19")
    greeting = general(1, "Good day", wants_reasoning=False)
    context = stage_context(tmp_path, base, {"set": [sums], "general": [greeting]})
    stage = config(
        samples_per_round=2,
        keep_easy=2,
        general={"problems": ["general"], "samples_per_problem": 2, "keep_per_problem": 2},
        review="required",
    )
    with pytest.raises(StageHalted, match="4 records wait for review"):
        run_rejection(context, stage)
    assert not (tmp_path / "data.jsonl").exists()
    first, second, hello, other = ids_of(tmp_path)
    unchanged = next(read_jsonl(tmp_path / "review.jsonl"))[1]["response"]
    log = begin(tmp_path)
    decide(log, first, "accept")
    decide(log, second, "edit", text=chat("We add them.", "The answer is 20."))
    decide(log, hello, "edit", text="Good day to you.")
    decide(log, other, "reject", reason="not helpful")
    with pytest.raises(
        DataError, match=f"item {second}, decided by Ann: the summary's answer is not correct"
    ):
        run_rejection(context, stage)
    edited = chat("We add the two of them and get nineteen.")
    decide(log, second, "edit", text=edited)
    summary = run_rejection(context, stage)
    assert [row["response"] for row in rows(tmp_path)] == [unchanged, edited, "Good day to you."]
    assert (summary["records"], summary["reasoning_records"], summary["general_records"]) == (3, 2, 1)
    assert (summary["dropped_in_review"], summary["problems_solved_frac"], summary["pass_rate"]) == (1, 1, 1)
    domains = counts(tmp_path)["domains"]
    assert {name: row["samples"] for name, row in domains.items()} == {"sums": 2, "general": 1, "total": 3}
    assert summary["mean_tokens"] == domains["total"]["mean tokens"]
    assert counts(tmp_path)["pass_rates"] == {"p1": 1.0}
    assert script.num_sampled == 4


def test_an_edit_of_general_data_keeps_the_reasoning_that_its_prompt_wants(
    base, tmp_path, monkeypatch
) -> None:
    Script(monkeypatch, lambda prompt, number: chat("I think about it.", f"Answer {number}."))
    context = stage_context(tmp_path, base, {"general": [general(1, "Why?"), general(2, "Hello")]})
    stage = RejectionConfig(
        model="dev2",
        max_new_tokens=400,
        general={"problems": ["general"], "samples_per_problem": 1, "keep_per_problem": 1},
        review="required",
    )
    with pytest.raises(StageHalted, match="2 records wait for review"):
        run_rejection(context, stage)
    path = tmp_path / "review.jsonl"
    found = [row for _, row in read_jsonl(path)]
    by_hand = [found[0] | {"response": "An answer alone."}, found[1]]
    write_jsonl(path, by_hand)  # without a log: the row as it was is not known any more
    with pytest.raises(DataError, match=r"review\.jsonl:1: the response must be <think>reasoning"):
        run_rejection(context, stage)
    write_jsonl(path, found)
    log = begin(tmp_path)
    one, two = ids_of(tmp_path)
    decide(log, one, "edit", text="An answer alone.")
    decide(log, two, "accept")
    with pytest.raises(DataError, match=f"item {one}, decided by Ann: the response must be <think>"):
        run_rejection(context, stage)
    decide(log, one, "edit", text=chat("I thought.", "It is so."))
    assert run_rejection(context, stage)["general_records"] == 2
