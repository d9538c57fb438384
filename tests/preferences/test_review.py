"""Pairs and safety labels that wait for people."""

import json
from pathlib import Path

import pytest

from r1kit.errors import StageHalted
from r1kit.preferences import run_preferences
from tests.data_stages import Script, stage_context
from tests.judges.chat_server import chat_server
from tests.preferences.test_preferences import chat, config, counts, numbered, prompt, rows
from tests.reviewing import begin, decide, ids_of
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_people_decide_on_pairs_before_they_are_balanced(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda text, number: chat(f"Answer {number}"))

    def judge(body: dict) -> str:
        a, b = (numbered(body["messages"][-1]["content"].split(f"[Assistant {s}]")[1]) for s in "AB")
        return "[[A>>B]]" if a > b else "[[B>>A]]"

    with chat_server(judge) as server:
        label = {"base_url": server.url, "model": "judge"}
        stage = config(label=label, samples_per_problem=2, max_length_gap_frac=9.0, review="required")
        context = stage_context(tmp_path, base, {"set": [prompt(i) for i in range(4)]})
        with pytest.raises(StageHalted, match=r"4 records wait for review in .*swap `chosen` and `rejected`"):
            run_preferences(context, stage)
        asked = len(server.requests)
        swapped, dropped, kept, rest = ids_of(tmp_path)
        log = begin(tmp_path)
        decide(log, swapped, "prefer", value=-1)
        decide(log, dropped, "prefer", value=0)
        decide(log, kept, "prefer", value=1)
        decide(log, "", "accept_rest", items={rest: ""})
        summary = run_preferences(context, stage)
        assert len(server.requests) == asked
    found = [(row["messages"][0]["content"][9], row["chosen"], row["difference"]) for row in rows(tmp_path)]
    assert found == [("0", "Answer 0", 1.0), ("2", "Answer 1", 1.0), ("3", "Answer 1", 2.0)]
    assert (summary["records"], summary["dropped_in_review"], summary["judge/asked"]) == (3, 1, asked)
    table = counts(tmp_path)
    assert (table["pairs"], table["dropped_in_review"], table["changed_in_review"]) == (4, 1, 1)
    assert table["after"]["pairs"] == 3


def test_people_correct_safety_labels(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda text, number: chat(f"Answer {number}"))

    def judge(body: dict) -> str:
        return json.dumps({"analysis": "-", "safe": "Answer 0" in str(body)})

    with chat_server(judge) as server:
        stage = config(
            objective="pointwise",
            label={"base_url": server.url, "model": "judge"},
            samples_per_problem=2,
            review="required",
        )
        context = stage_context(tmp_path, base, {"set": [prompt(i, "safety") for i in range(2)]})
        with pytest.raises(StageHalted, match="4 records wait for review"):
            run_preferences(context, stage)
        one, two, three, four = ids_of(tmp_path)
        log = begin(tmp_path)
        for item, safe in ((one, 1), (two, 1), (three, 0)):
            decide(log, item, "label", value=safe)
        decide(log, four, "reject", reason="can't be decided")
        summary = run_preferences(context, stage)
    assert [row["safe"] for row in rows(tmp_path)] == [True, True, False]
    assert (summary["records"], summary["safe_frac"], summary["dropped_in_review"]) == (3, 2 / 3, 1)
