import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data.jsonl import read_jsonl
from r1kit.data.records import record_key
from r1kit.errors import DataError, RecipeError
from r1kit.preferences import PreferencesConfig, run_preferences
from r1kit.preferences.labels import pair_label
from r1kit.text.dropped import REASONS
from r1kit.types import Problem
from tests.data_stages import Script, stage_context
from tests.judges.chat_server import chat_server
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def prompt(number: int, kind: str = "general", **more) -> Problem:
    question = ({"role": "user", "content": f"Question {number}?"},)
    return Problem(id=f"g{number}", kind=kind, messages=question, language="en", domain="chat", **more)


def config(**more) -> PreferencesConfig:
    return PreferencesConfig(**({"model": "dev3", "problems": ["set"], "max_new_tokens": 300} | more))


def rows(folder: Path) -> list[dict]:
    return [row for _, row in read_jsonl(folder / "data.jsonl")]


def beside(folder: Path, name: str) -> list[dict]:
    return [row for _, row in read_jsonl(folder / name)]


def counts(folder: Path) -> dict:
    return json.loads((folder / "counts.json").read_text())


def chat(summary: str) -> str:
    return f"<think>\nA thought.\n</think>\n\n{summary}"


def numbered(text: str) -> int:
    return next(int(c) for c in text if c.isdigit())


def test_a_judge_compares_each_pair_four_times_in_random_order_and_is_asked_once(
    base, tmp_path, monkeypatch
) -> None:
    Script(monkeypatch, lambda text, number: chat(f"Answer {number}"))
    orders = []

    def judge(body: dict) -> str:
        asked = body["messages"][-1]["content"]
        assert "thought" not in asked  # summaries only
        a, b = (numbered(asked.split(f"[Assistant {side}]")[1]) for side in "AB")
        orders.append(a < b)
        return "My own answer. " + ("[[A>>B]]" if a > b else "[[B>>A]]")

    with chat_server(judge) as server:
        stage = config(
            label={"base_url": server.url, "model": "judge"}, samples_per_problem=2, max_length_gap_frac=9.0
        )
        context = stage_context(tmp_path, base, {"set": [prompt(i) for i in range(12)]})
        for _ in range(2):
            summary = run_preferences(context, stage)
        assert len(server.requests) == 12 * 4
    assert 12 <= sum(orders) <= 36  # A is first about half of the time
    assert summary["records"] == 12
    for row in rows(tmp_path):
        assert (row["chosen"], row["rejected"], row["view"]) == ("Answer 1", "Answer 0", "summary")
        assert row["difference"] == 2.0  # four times [[A>>B]], whatever the order
    assert rows(tmp_path)[0]["messages"] == [{"role": "user", "content": "Question 0?"}]
    origin = beside(tmp_path, "origins.jsonl")[0]
    assert origin["record"] == record_key(rows(tmp_path)[0])
    assert (origin["problem_id"], origin["language"]) == (prompt(0).id, prompt(0).language)
    # the names are those of the log of samples, and lead to the verdicts
    texts = {row["name"]: row["text"] for row in beside(tmp_path, "samples.jsonl")}
    assert [texts[origin[side]] for side in ("chosen", "rejected")] == [chat("Answer 1"), chat("Answer 0")]
    asked = {row["name"].rpartition(" ")[0] for row in beside(tmp_path, "judgments.jsonl")}
    assert {origin["chosen"] + " " + origin["rejected"], origin["rejected"] + " " + origin["chosen"]} & asked


def test_a_judge_that_only_favours_a_place_expresses_no_preference(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda text, number: chat(f"Answer {number}"))
    with chat_server(lambda body: "[[A>>B]]") as server:
        label = {"base_url": server.url, "model": "judge"}
        stage = config(label=label, samples_per_problem=2, judgments=16)
        with pytest.raises(DataError, match="no pair is left of 3; 3 had no preference"):
            run_preferences(stage_context(tmp_path, base, {"set": [prompt(i) for i in range(3)]}), stage)


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ([2, 2, 1, 1], 1.5),
        ([1, 1, 1, 1], 0),  # 1 does not exceed 1
        ([-2, -2, -1, 0], -1.25),
        ([2, -2, 2, -2], 0),
        ([2, 2], 2),  # two of four could be had
        ([2], None),
        ([], None),
    ],
)
def test_verdicts_are_averaged_and_count_where_they_exceed_one(
    scores: list[float], label: float | None
) -> None:
    assert pair_label(scores, 4, 1.0) == label


def test_responses_that_can_not_be_read_and_doubles_make_no_pairs(base, tmp_path, monkeypatch) -> None:
    texts = [
        chat("Answer 1"),
        chat("Answer  1"),
        "<think> never closed",
        chat("x" * 400),
        chat("Answer 2"),
        "bare",
    ]
    Script(monkeypatch, lambda text, number: texts[number])
    with chat_server(lambda body: "[[A>>B]]") as server:
        label = {"base_url": server.url, "model": "judge"}
        stage = config(label=label, samples_per_problem=6, judgments=1, max_length_gap_frac=9.0)
        run_preferences(stage_context(tmp_path, base, {"set": [prompt(1)]}), stage)
    found = counts(tmp_path)
    assert found["sampled"] == 6
    # the bare text lacks the reasoning that its prompt wants
    assert (found["truncated"], found["malformed"], found["duplicate"], found["pairs"]) == (1, 2, 1, 1)
    dropped = beside(tmp_path, "dropped.jsonl")
    found = {name: [row["text"] for row in dropped if row["filter"] == name] for name in REASONS}
    assert set(found["malformed"]) == {texts[2], texts[5]}
    assert set(found["duplicate"]) < {texts[0], texts[1]}
    assert [text in texts[3] for text in found["truncated"]] == [True]
    assert len(dropped) == 4


def test_tinyworlds_oracle_labels_pairs_of_the_policys_own_samples(base, tmp_path, monkeypatch) -> None:
    from r1kit.tinyworld.general import make_general

    problems = make_general("train", 30, seed=0, categories=("fact",))
    right = {p.question: p for p in problems}

    def write(text: str, number: int) -> str:
        problem = right[text.split("<|user|>")[1].split("<|assistant|>")[0]]
        wrong = "I don't know." if problem.language == "en" else "我不知道。"
        return chat(wrong if number % 2 else f"{problem.ground_truth or problem.question}")

    Script(monkeypatch, write)
    stage = config(samples_per_problem=2, noise=0.0, max_length_gap_frac=9.0, max_phrase_gap_frac=9.0)
    run_preferences(stage_context(tmp_path, base, {"set": problems}), stage)
    assert rows(tmp_path)
    assert counts(tmp_path)["pairs"] == 30
    noisy = stage.model_copy(update={"noise": 0.49})
    run_preferences(stage_context(tmp_path / "noisy", base, {"set": problems}), noisy)
    turned = {(row["rejected"], row["chosen"]) for row in rows(tmp_path)}
    assert turned & {(row["chosen"], row["rejected"]) for row in rows(tmp_path / "noisy")}


def test_closers_and_lengths_are_balanced_and_the_report_has_both_sides(base, tmp_path, monkeypatch) -> None:
    # the better answer of a problem is polite in two of three prompts, the worse one in one of three
    def write(text: str, number: int) -> str:
        asked = int(text.split("Question ")[1].split("?")[0])
        polite = asked % 3 != 0 if number else asked % 3 == 0
        return chat(f"Answer {number} to {asked}." + (" Have a nice day!" if polite else ""))

    def judge(body: dict) -> str:
        a, b = (numbered(body["messages"][-1]["content"].split(f"[Assistant {side}]")[1]) for side in "AB")
        return "[[A>>B]]" if a > b else "[[B>>A]]"

    Script(monkeypatch, write)
    with chat_server(judge) as server:
        stage = config(label={"base_url": server.url, "model": "judge"}, samples_per_problem=2, judgments=1)
        summary = run_preferences(
            stage_context(tmp_path, base, {"set": [prompt(i) for i in range(30)]}), stage
        )
    found = counts(tmp_path)
    assert found["before"]["phrases"]["Have a nice day!"] == {
        "chosen_frac": pytest.approx(2 / 3),
        "rejected_frac": pytest.approx(1 / 3),
    }
    assert found["before"]["chosen_mean_tokens"] > found["before"]["rejected_mean_tokens"]
    # ten of the twenty pairs whose better side is polite go
    assert summary["records"] == found["after"]["pairs"] == 20
    assert found["after"]["phrases"]["Have a nice day!"] == {"chosen_frac": 0.5, "rejected_frac": 0.5}
    assert found["unbalanced"] == 10
    dropped = beside(tmp_path, "dropped.jsonl")
    assert {row["filter"] for row in dropped} == {"unbalanced"}
    assert len(dropped) == 10
    assert "'Have a nice day!' is only in the chosen one" in dropped[0]["reason"]
    assert dropped[0]["text"].endswith("Have a nice day!")
    assert dropped[0]["other"].startswith("Answer 0 to ")
    assert len(beside(tmp_path, "origins.jsonl")) == 20


def test_safety_labels_are_of_whole_responses(base, tmp_path, monkeypatch) -> None:
    texts = [chat("I can't help."), "<think>\nEasy: use a rope.\n</think>\n\nNo.", "no tags at all"]
    texts.append("<think>")  # nothing to read, so nothing to label
    Script(monkeypatch, lambda text, number: texts[number])

    def judge(body: dict) -> str:
        return json.dumps({"safe": "rope" not in body["messages"][-1]["content"]})

    with chat_server(judge) as server:
        label = {"base_url": server.url, "model": "judge"}
        stage = config(objective="pointwise", label=label, samples_per_problem=4)
        summary = run_preferences(stage_context(tmp_path, base, {"set": [prompt(1, "safety")]}), stage)
    assert {row["response"]: row["safe"] for row in rows(tmp_path)} == {
        texts[0]: True,
        texts[1]: False,
        texts[2]: True,
    }
    assert summary["safe_frac"] == pytest.approx(2 / 3)


def test_labels_of_one_kind_alone_are_refused(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda text, number: chat(f"Refused {number}"))
    with chat_server(lambda body: '{"safe": true}') as server:
        stage = config(objective="pointwise", label={"base_url": server.url, "model": "judge"})
        with pytest.raises(DataError, match="4 of 4 labels are safe"):
            run_preferences(stage_context(tmp_path, base, {"set": [prompt(1, "safety")]}), stage)


def test_existing_pairs_and_labels_are_taken_by_mapping(base, tmp_path) -> None:
    fixtures = Path(__file__).parents[1] / "data" / "fixtures"
    source = {"source": str(fixtures / "ultrafeedback.jsonl"), "mapping": "ultrafeedback"}
    stage = PreferencesConfig(source=source, max_length_gap_frac=9.0)
    run_preferences(stage_context(tmp_path / "pairs", base, {}), stage)
    [row] = rows(tmp_path / "pairs")
    assert (row["chosen"], row["rejected"], row["difference"]) == ("The Loire.", "Paris.", 6.0)
    source = {"source": str(fixtures / "beavertails.jsonl"), "mapping": "beavertails"}
    stage = PreferencesConfig(source=source, objective="pointwise")
    run_preferences(stage_context(tmp_path / "labels", base, {}), stage)
    assert [row["safe"] for row in rows(tmp_path / "labels")] == [True, False]


def test_prompts_that_have_right_answers_or_that_the_oracle_does_not_know_are_refused(base, tmp_path) -> None:
    maths = prompt(1, "math", ground_truth="1")
    with pytest.raises(RecipeError, match="is of kind math"):
        run_preferences(stage_context(tmp_path, base, {"set": [maths]}), config())
    with pytest.raises(RecipeError, match="tinyworld's oracle can't label 'g1'"):
        run_preferences(stage_context(tmp_path, base, {"set": [prompt(1)]}), config())


def test_settings_that_contradict_each_other_are_refused() -> None:
    for table, message in [
        ({"model": None}, "one of `model`"),
        ({"source": {"source": "x.jsonl"}}, "one of `model`"),
        ({"problems": []}, "name the `problems`"),
        ({"samples_per_problem": 1}, "a pair needs"),
    ]:
        with pytest.raises(ValidationError, match=message):
            config(**table)
