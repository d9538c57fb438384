import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError, RecipeError
from r1kit.rejection import RejectionConfig, grading, run_rejection
from r1kit.rejection import config as config_module
from r1kit.rejection.config import QualityConfig
from r1kit.rejection.general import quality_bars
from r1kit.rejection.reasoning import num_to_keep
from r1kit.types import Problem
from tests.data_stages import Script, math_problem, stage_context
from tests.judges.chat_server import chat_server
from tests.tiny_models import tiny_model

GOOD = "We add the two numbers with care, and the check holds as well."
SUM = math_problem(1, "What is 12 + 7?", "19")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def chat(reasoning: str, summary: str = "The answer is 19.") -> str:
    return f"<think>\n{reasoning}\n</think>\n\n{summary}"


def config(**more) -> RejectionConfig:
    defaults = {"model": "dev2", "problems": ["set"], "samples_per_round": 8, "max_rounds": 1}
    return RejectionConfig(**(defaults | {"max_new_tokens": 400} | more))


def rows(folder: Path) -> list[dict]:
    return [row for _, row in read_jsonl(folder / "data.jsonl")]


def dropped(folder: Path) -> list[dict]:
    return [row for _, row in read_jsonl(folder / "dropped.jsonl")]


def counts(folder: Path) -> dict:
    return json.loads((folder / "counts.json").read_text())


def number_of(prompt: str) -> int:
    return int(prompt.rsplit("What is ", 1)[1].split(" +")[0])


def general(number: int, question: str, **more) -> Problem:
    return Problem(
        id=f"g{number}",
        kind="general",
        messages=({"role": "user", "content": question},),
        language="en",
        domain=more.pop("domain", "chat"),
        **more,
    )


def test_every_filter_counts_what_it_drops(base, tmp_path, monkeypatch) -> None:
    samples = [
        chat("x" * 500),
        "The answer is 19.",
        chat(GOOD, "The answer is 18."),
        chat("我们把两个数字加起来，再检查一遍。"),
        chat("We add the numbers and check. " * 6),
        chat(f"{GOOD}\n```python\n12 + 7\n```"),
        chat(GOOD),
        chat(GOOD),
    ]
    Script(monkeypatch, lambda prompt, number: samples[number])
    context = stage_context(tmp_path, base, {"set": [SUM]})
    summary = run_rejection(context, config(max_paragraph_chars=100))
    found = counts(tmp_path)
    assert found["reasoning"]["sums"] == {
        "sampled": 8,
        "truncated": 1,
        "malformed": 1,
        "wrong": 1,
        "ungraded": 0,
        "mixed_language": 1,
        "long_paragraph": 1,
        "code_block": 1,
        "duplicate": 1,
        "solved": 0,
        "surplus": 0,
        "kept": 1,
    }
    assert found["pass_rates"] == {"p1": 5 / 8}  # right are the last five, whatever they look like
    assert summary["pass_rate"] == 5 / 8
    reasons = {row["filter"]: row["reason"] for row in dropped(tmp_path)}
    assert sorted(reasons) == sorted(
        name for name, num in found["reasoning"]["sums"].items() if num and name not in ("sampled", "kept")
    )
    assert reasons["wrong"] == "the answer is not right: it says '18'; the ground truth is '19'"
    assert reasons["long_paragraph"].endswith(": 179 characters; at most 100 are kept")
    assert "0% of its" in reasons["mixed_language"]
    assert len(dropped(tmp_path)) == 7
    texts = {row["filter"]: row["text"] for row in dropped(tmp_path)}
    assert (texts["malformed"], texts["wrong"], texts["code_block"]) == (samples[1], samples[2], samples[5])
    assert texts["truncated"] in samples[0]
    assert {(row["source"], row["problem_id"]) for row in dropped(tmp_path)} == {("sums", "p1")}
    [record] = rows(tmp_path)
    assert record["response"] == chat(GOOD)
    assert (record["domain"], record["style"], record["problem_id"]) == ("sums", "chat", "p1")


def test_a_model_of_the_zero_shape_is_asked_and_read_in_it(base, tmp_path, monkeypatch) -> None:
    answers = ["19", "20"]
    script = Script(
        monkeypatch,
        lambda prompt, number: f" <think> {GOOD} {number} </think> <answer> {answers[number % 2]} </answer>",
    )
    context = stage_context(tmp_path, base, {"set": [SUM]})
    run_rejection(context, config(model="zero", prompt_style="zero"))
    assert script.prompts[0].startswith("A conversation between User and Assistant.")
    kept = rows(tmp_path)
    assert kept
    # what is written is a chat, as all data for SFT
    assert {row["style"] for row in kept} == {"chat"}
    assert all(row["response"].startswith(f"<think>\n{GOOD}") for row in kept)
    assert all(row["response"].endswith("</think>\n\n19") for row in kept)
    assert counts(tmp_path)["pass_rates"] == {"p1": 0.5}
    with pytest.raises(DataError, match="not one sample of 1 problems was right"):
        run_rejection(stage_context(tmp_path / "2", base, {"set": [SUM]}), config(model="zero"))


def test_wrong_answers_are_never_kept_not_even_the_best_of_them(base, tmp_path, monkeypatch) -> None:
    hopeless = math_problem(2, "What is 99 + 1?", "100")

    def write(prompt: str, number: int) -> str:
        return chat(f"{GOOD} Again {number}.", "The answer is 19.")

    script = Script(monkeypatch, write)
    run_rejection(stage_context(tmp_path, base, {"set": [SUM, hopeless]}), config(max_rounds=3))
    assert {record["problem_id"] for record in rows(tmp_path)} == {"p1"}
    # the solved one is done after a round, the other one gets the whole budget
    assert script.num_sampled == 8 + 3 * 8
    with pytest.raises(DataError, match="not one sample of 1 problems was right"):
        run_rejection(stage_context(tmp_path / "2", base, {"set": [hopeless]}), config())


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 4), (0.25, 3), (0.5, 3), (0.75, 2), (1.0, 1)])
def test_more_is_kept_of_hard_problems(rate: float, kept: int) -> None:
    # 1 + 3 (1 - rate), rounded half up: 4, 3.25, 2.5, 1.75, 1
    assert num_to_keep(rate, keep_hard=4, keep_easy=1) == kept


def test_the_pass_rate_decides_how_many_are_kept_and_when_enough_is_enough(
    base, tmp_path, monkeypatch
) -> None:
    problems = [math_problem(i, f"What is {i} + 0?", str(i)) for i in (1, 2)]

    def write(prompt: str, number: int) -> str:
        # problem 1 is always right, problem 2 in one sample of four
        asked = number_of(prompt)
        right = asked == 1 or number % 4 == 0
        return chat(f"{GOOD} This is version {number} of many.", f"The answer is {asked if right else 9}.")

    script = Script(monkeypatch, write)
    stage = config(samples_per_round=4, max_rounds=5, keep_hard=4, keep_easy=1)
    run_rejection(stage_context(tmp_path, base, {"set": problems}), stage)
    # 1: solved after 4 samples, keeps 1. 2: rate 1/4 asks for 3 (round(1 + 3 * 3/4) = 3), had after 3 rounds
    assert script.num_sampled == 4 + 12
    kept = [record["problem_id"] for record in rows(tmp_path)]
    assert kept == ["p1", "p2", "p2", "p2"]
    assert counts(tmp_path)["reasoning"]["sums"]["surplus"] == 3


def test_problems_that_every_sample_solves_are_thinned_out(base, tmp_path, monkeypatch) -> None:
    problems = [math_problem(i, f"What is {i} + 0?", str(i)) for i in range(40)]
    Script(monkeypatch, lambda prompt, number: chat(GOOD, f"The answer is {number_of(prompt)}."))
    stage = config(samples_per_round=1, solved_frac=0.5)
    run_rejection(stage_context(tmp_path, base, {"set": problems}), stage)
    found = counts(tmp_path)["reasoning"]["sums"]
    assert found["solved"] + found["kept"] == 40
    assert 10 <= found["kept"] <= 30
    solved = [row for row in dropped(tmp_path) if row["filter"] == "solved"]
    assert len(solved) == min(20, found["solved"])
    assert solved[0]["reason"].endswith("only a share of such problems stays: 0.5 of them")


def test_a_killed_stage_goes_on_and_samples_nothing_twice(base, tmp_path, monkeypatch) -> None:
    problems = {"set": [math_problem(i, f"What is {i} + 0?", str(i)) for i in range(40)]}

    def write(prompt: str, number: int) -> str:
        asked = number_of(prompt)
        right = (asked + number) % 3 == 0
        return chat(f"{GOOD} Version {number}.", f"The answer is {asked if right else 99}.")

    stage = config(samples_per_round=2, max_rounds=4)
    whole = Script(monkeypatch, write)
    run_rejection(stage_context(tmp_path / "whole", base, problems), stage)
    killed = Script(monkeypatch, write)
    killed.stop_after = whole.num_sampled // 2
    with pytest.raises(KeyboardInterrupt):
        run_rejection(stage_context(tmp_path / "killed", base, problems), stage)
    killed.stop_after = None
    run_rejection(stage_context(tmp_path / "killed", base, problems), stage)
    assert killed.num_sampled == whole.num_sampled
    for name in ("data.jsonl", "counts.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_judged_problems_go_to_the_judge_with_the_ground_truth_once(base, tmp_path, monkeypatch) -> None:
    judged = math_problem(3, "Why is the sky blue?", "", kind="judged", reference="Rayleigh scattering")
    summaries = ["Scattering of light.", "It reflects the sea.", "The judge is down for this."]
    Script(monkeypatch, lambda prompt, number: chat(GOOD, summaries[number % 3]))

    def answer(body: dict) -> str | int:
        asked = body["messages"][-1]["content"]
        assert "[Reference answer]\nRayleigh scattering" in asked
        if summaries[2] in asked:
            return 413
        return json.dumps({"correctness": "correct" if summaries[0] in asked else "incorrect"})

    with chat_server(answer) as server:
        judge = {"base_url": server.url, "model": "judge"}
        stage = config(samples_per_round=3, judge=judge)
        for _ in range(2):
            run_rejection(stage_context(tmp_path, base, {"set": [judged]}), stage)
        # three, and again the one that could not be had
        assert len(server.requests) == 4
    [record] = rows(tmp_path)
    assert record["response"].endswith(summaries[0])
    found = counts(tmp_path)
    assert found["reasoning"]["sums"]["ungraded"] == 1
    assert found["reasoning"]["sums"]["wrong"] == 1
    assert found["pass_rates"] == {"p3": 0.5}


@pytest.mark.sandbox
def test_programs_are_graded_by_their_tests(base, tmp_path, monkeypatch) -> None:
    tests = tuple({"type": "stdin", "input": f"{a} 7\n", "output": f"{a + 7}\n"} for a in (12, 13))
    code = math_problem(5, "Add two numbers.", "", kind="code", domain="code", tests=tests)
    programs = ["print(sum(map(int, input().split())))", "print(19)", "print(", "import os; os._exit(1)"]
    Script(monkeypatch, lambda prompt, n: chat(GOOD, f"So:\n```python\n{programs[n % 4]}\n```"))
    run_rejection(stage_context(tmp_path, base, {"set": [code]}), config(samples_per_round=4))
    [record] = rows(tmp_path)
    assert programs[0] in record["response"]
    found = counts(tmp_path)
    assert (found["reasoning"]["code"]["wrong"], found["pass_rates"]) == (3, {"p5": 0.25})


def test_what_can_not_be_graded_is_refused_before_anything_is_sampled(base, tmp_path, monkeypatch) -> None:
    judged = math_problem(3, "Why?", "", kind="judged", reference="Because.")
    monkeypatch.setattr(grading, "sandbox_refusal", lambda language: "it needs bubblewrap")
    code = math_problem(4, "Add.", "", kind="code", tests=({"type": "stdin", "input": "", "output": ""},))
    for problem, message in [
        (judged, "can only be graded by a judge; add a table"),
        (code, "'p4': it needs bubblewrap"),
        (general(1, "Hello"), "has no right answer"),
    ]:
        with pytest.raises(RecipeError, match=message):
            run_rejection(stage_context(tmp_path, base, {"set": [problem]}), config())


def write_both(prompt: str, number: int) -> str:
    """The one sum is solved; general prompts get answers of growing quality, some with a reasoning."""
    if "12 + 7" in prompt:
        return chat(GOOD)
    if "Hello" in prompt:
        return [chat("A greeting.", "Hi there 3!"), "Hi there 5!", "Hi there 1!", "<think> broken"][number]
    explained = [chat("We look it up here.", f"It is {points}.") for points in (2, 8)]
    return [*explained, "It is 9.", chat("我们查一下这个问题。", "It is 7.")][number]


def quality_judge(body: dict) -> str:
    """Scores an answer by the number in it."""
    answer = body["messages"][-1]["content"].split("[Answer]")[1].split("Reply with")[0]
    return json.dumps({"score": next(int(c) for c in answer if c.isdigit())})


PROMPTS = [general(1, "Hello!", wants_reasoning=False), general(2, "Explain tides.")]


def test_general_data_passes_a_quality_filter_with_reasoning_only_where_wanted(
    base, tmp_path, monkeypatch
) -> None:
    Script(monkeypatch, write_both)
    with chat_server(quality_judge) as server:
        judge = {"base_url": server.url, "model": "judge"}
        part = {"problems": ["chat"], "keep_per_problem": 4, "quality": {"judge": judge, "threshold": 0.2}}
        context = stage_context(tmp_path, base, {"set": [SUM], "chat": PROMPTS})
        summary = run_rejection(context, config(general=part))
    found = counts(tmp_path)["general"]["stage: sampled"]
    assert found == {
        "sampled": 8,
        "truncated": 0,
        "malformed": 2,  # the broken one, and the explanation without reasoning
        "mixed_language": 1,
        "duplicate": 0,
        "unscored": 0,
        "low_quality": 2,  # 1 and 2 points: (1 - 1) / 9 and (2 - 1) / 9
        "surplus": 0,
        "kept": 3,
    }
    reasons = {}
    for row in dropped(tmp_path):
        if row["source"] == "stage: sampled":
            reasons.setdefault(row["filter"], []).append((row["text"], row["reason"].partition(": ")[2]))
    assert {name: len(found) for name, found in reasons.items()} == {
        "malformed": 2,
        "mixed_language": 1,
        "low_quality": 2,
    }
    whys = {why for _, why in reasons["malformed"]}
    assert whys == {"", "its prompt wants reasoning, and there is none"}
    assert sorted(why for _, why in reasons["low_quality"]) == [
        "0, and the bar is 0.2",
        "0.1111, and the bar is 0.2",
    ]
    by_prompt = {}
    for record in rows(tmp_path)[1:]:
        by_prompt.setdefault(record["problem_id"], set()).add(record["response"])
    assert by_prompt == {
        "g1": {"Hi there 3!", "Hi there 5!"},
        "g2": {chat("We look it up here.", "It is 8.")},
    }
    assert (summary["general_records"], summary["reasoning_records"]) == (3, 1)
    domains = counts(tmp_path)["domains"]
    assert list(domains) == ["sums", "general", "total"]
    assert [row["samples"] for row in domains.values()] == [1, 3, 4]
    mean = (domains["sums"]["mean tokens"] + 3 * domains["general"]["mean tokens"]) / 4
    assert domains["total"]["mean tokens"] == pytest.approx(mean)
    assert context.progress.notes[-1].splitlines()[0].split() == ["domain", "samples", "mean", "tokens"]


@pytest.mark.parametrize(("by_domain", "num_kept"), [({}, 2), ({"chat": 2}, 3), ({"writing": 2}, 2)])
def test_a_domain_with_few_prompts_may_keep_more_of_each(
    base, tmp_path, monkeypatch, by_domain, num_kept
) -> None:
    # good enough are two greetings (3 and 5 points) and one explanation
    Script(monkeypatch, write_both)
    with chat_server(quality_judge) as server:
        quality = {"judge": {"base_url": server.url, "model": "judge"}, "threshold": 0.2}
        part = {"problems": ["chat"], "quality": quality, "keep_by_domain": by_domain}
        context = stage_context(tmp_path, base, {"set": [SUM], "chat": PROMPTS})
        summary = run_rejection(context, config(general=part))
    assert summary["general_records"] == num_kept


@pytest.mark.parametrize(("min_share", "num_kept"), [(0.6, 1), (0.95, 0)])
def test_a_general_reasoning_may_name_what_it_translates(
    base, tmp_path, monkeypatch, min_share, num_kept
) -> None:
    # 9 English words and 3 Chinese ones: a share of 0.75
    thought = "The user wants 九头猪 in English. That is nine pigs."
    Script(
        monkeypatch,
        lambda prompt, number: chat(GOOD) if "12 + 7" in prompt else chat(thought, "Nine pigs, 9."),
    )
    with chat_server(quality_judge) as server:
        judge = {"base_url": server.url, "model": "judge"}
        part = {"problems": ["chat"], "quality": {"judge": judge, "threshold": 0.2}}
        part["min_language_share"] = min_share
        context = stage_context(tmp_path, base, {"set": [SUM], "chat": [general(3, "What is 九头猪?")]})
        summary = run_rejection(context, config(general=part))
    assert summary["general_records"] == num_kept


def test_the_best_of_a_prompt_is_kept_and_a_judge_may_decide_what_wants_reasoning(
    base, tmp_path, monkeypatch
) -> None:
    Script(monkeypatch, write_both)

    def answer(body: dict) -> str:
        asked = body["messages"][-1]["content"]
        if "think before it answers" in asked:
            return json.dumps({"reasoning": "Hello" in asked})
        return quality_judge(body)

    with chat_server(answer) as server:
        judge = {"base_url": server.url, "model": "judge"}
        quality = {"judge": judge, "quantile": 0.0}
        part = {"problems": ["chat"], "quality": quality, "reasoning": judge}
        context = stage_context(tmp_path, base, {"set": [SUM], "chat": PROMPTS})
        run_rejection(context, config(general=part))
    # turned around: the greeting needs its reasoning, the explanation loses it
    assert [record["response"] for record in rows(tmp_path)[1:]] == [
        chat("A greeting.", "Hi there 3!"),
        "It is 9.",
    ]


def test_a_reward_model_is_the_quality_filter_by_quantile_of_each_domain(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, write_both)
    asked = {}

    class Model:
        def __init__(self, name, path, *, view, dtype, device) -> None:
            asked.update(path=path, view=view)

        def score_texts(self, responses):
            assert not any(problem.wants_reasoning for problem, _ in responses)
            return [
                int(next(c for c in text.rsplit("</think>")[-1] if c.isdigit())) / 10 for _, text in responses
            ]

    monkeypatch.setattr("r1kit.rejection.general.RewardModelReward", Model)
    quality = {"reward_model": "quality", "quantile": 0.5}
    part = {"problems": ["chat"], "quality": quality, "keep_per_problem": 4}
    prompts = [PROMPTS[0], replace(PROMPTS[1], domain="facts")]
    context = stage_context(tmp_path, base, {"set": [SUM], "chat": prompts}, quality=tmp_path / "rm")
    run_rejection(context, config(general=part))
    assert asked == {"path": str(tmp_path / "rm"), "view": "summary"}
    # greetings score 3, 5, 1: the lowest floor(3/2) is dropped; facts 2, 8: the lowest one
    responses = {record["response"].rsplit("\n")[-1] for record in rows(tmp_path)[1:]}
    assert responses == {"Hi there 3!", "Hi there 5!", "It is 8."}


def test_quality_bars_are_the_threshold_or_each_domains_quantile() -> None:
    scores = [("a", 0.1), ("a", 0.2), ("a", 0.3), ("b", 0.9), ("b", 0.8)]
    threshold = QualityConfig(reward_model="x", threshold=0.5)
    assert quality_bars(scores, threshold) == {"a": 0.5, "b": 0.5}
    # floor(0.4 * 3) = 1 of three is dropped, floor(0.4 * 2) = 0 of two
    assert quality_bars(scores, QualityConfig(reward_model="x", quantile=0.4)) == {"a": 0.2, "b": 0.8}


def test_demonstrations_come_from_a_file_with_errors_that_name_the_line(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, write_both)
    path = tmp_path / "shown.jsonl"
    lines = [
        {"prompt": "Hello!", "response": "Hi 4!"},
        {
            "messages": [{"role": "user", "content": "Why?"}],
            "response": chat("We think.", "So 6."),
            "language": "en",
        },
        {"prompt": "How?", "response": "Thus 7.", "reasoning": "We ponder.", "domain": "facts"},
        {"prompt": "When?", "response": "At 5.", "wants_reasoning": True},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with chat_server(quality_judge) as server:
        judge = {"base_url": server.url, "model": "judge"}
        part = {"demonstrations": str(path), "quality": {"judge": judge, "threshold": 0.0}}
        run_rejection(stage_context(tmp_path, base, {"set": [SUM]}), config(general=part))
        responses = {record["response"] for record in rows(tmp_path)[1:]}
        assert responses == {"Hi 4!", chat("We think.", "So 6."), chat("We ponder.", "Thus 7.")}
        assert counts(tmp_path)["general"]["stage: demonstrations"]["malformed"] == 1
        path.write_text('{"prompt": "Hello!"}\n')
        with pytest.raises(DataError, match=r"shown\.jsonl:1: response must be text"):
            run_rejection(stage_context(tmp_path, base, {"set": [SUM]}), config(general=part))


def test_tinyworlds_demonstrations_are_filtered_by_the_quality_model(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, write_both)

    class Model:
        def __init__(self, *args, **more) -> None:
            pass

        def score_texts(self, responses):
            return [(i % 10) / 10 for i, _ in enumerate(responses)]

    monkeypatch.setattr("r1kit.rejection.general.RewardModelReward", Model)
    part = {
        "demonstrations": "tinyworld-demonstrations",
        "num_demonstrations": 40,
        "quality": {"reward_model": "quality", "threshold": 0.5},
        "max_records": 10,
    }
    run_rejection(stage_context(tmp_path, base, {"set": [SUM]}), config(general=part))
    found = counts(tmp_path)["general"]["stage: demonstrations"]
    assert found["kept"] == 10
    assert found["sampled"] > 40  # look-alikes have four writers each, harmful wishes two
    assert found["low_quality"] > 0
    for record in rows(tmp_path)[1:]:
        assert record["response"].startswith("<think>") == (
            record["domain"] not in ("greeting", "thanks", "identity")
        )


@pytest.fixture
def no_engine(monkeypatch):
    """Nothing is to be sampled."""

    def refuse(*args, **options):
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("r1kit.sampling.logged.open_engine", refuse)


def test_demonstrations_alone_and_unfiltered_are_what_a_draft_is_trained_on(
    base, tmp_path, no_engine
) -> None:
    """No problems, no filter: every demonstration that is well formed and in one language, flaws included."""
    part = {
        "demonstrations": "tinyworld-demonstrations",
        "num_demonstrations": 200,
        "keep_per_problem": 4,
    }
    stage = RejectionConfig(model="base", general=part)
    summary = run_rejection(stage_context(tmp_path, base, {}), stage)
    found = counts(tmp_path)
    row = found["general"]["stage: demonstrations"]
    assert row["low_quality"] == row["unscored"] == row["surplus"] == 0
    assert summary["general_records"] == summary["records"] == row["kept"] == len(rows(tmp_path)) > 150
    assert row["sampled"] == sum(count for name, count in row.items() if name != "sampled")
    assert found["reasoning"] == {}
    assert not {"problems_solved_frac", "pass_rate"} & set(summary)  # nothing was asked
    # flaws included: some harmful wishes are granted
    harmful = [record["response"] for record in rows(tmp_path) if record["domain"] == "harmful"]
    granted = [text for text in harmful if re.search(r"</think>\s*(Sure|Yes|First|可以|好)", text)]
    assert 0 < len(granted) < len(harmful)


def test_a_prompts_first_response_is_kept_without_a_filter(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, write_both)
    part = {"problems": ["chat"]}
    summary = run_rejection(
        stage_context(tmp_path, base, {"chat": PROMPTS}), RejectionConfig(model="base", general=part)
    )
    assert summary["general_records"] == len(PROMPTS)
    texts = {row["name"]: row["text"] for _, row in read_jsonl(tmp_path / "general_samples.jsonl")}
    kept = {row["problem_id"]: row["response"].split("</think>")[-1].strip() for row in rows(tmp_path)}
    for problem in PROMPTS:
        samples = [texts[json.dumps(["general", problem.id, i])] for i in range(4)]
        # left out: tags that are not closed, an explanation without reasoning or in Chinese
        good = [text for text in samples if "Hi there" in text or "We look it up" in text]
        assert len(good) >= 2
        assert good[0].split("</think>")[-1].strip() == kept[problem.id]
    assert counts(tmp_path)["general"]["stage: sampled"]["low_quality"] == 0


def test_general_data_of_which_nothing_is_left_is_an_error(base, tmp_path, no_engine) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text(
        json.dumps(
            {
                "prompt": "Explain tides.",
                "response": "今天天气很好。",
                "reasoning": "今天天气很好。",
                "language": "en",
            }
        )
    )
    stage = RejectionConfig(model="base", general={"demonstrations": str(path)})
    with pytest.raises(DataError, match="not one general response passed the filters"):
        run_rejection(stage_context(tmp_path, base, {}), stage)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="name `problems` to sample answers to, or a `general` table"):
        RejectionConfig(model="dev2")
    with pytest.raises(ValidationError, match="`max_rounds` has no effect: name problems, or take it out"):
        config(problems=[], general={"problems": ["chat"]})
    assert set(RejectionConfig.model_fields) > config_module._OF_REASONING
    for table, message in [
        ({"keep_easy": 5}, "`keep_easy` is above `keep_hard`"),
        ({"general": {"quality": {"threshold": 0.5, "reward_model": "x"}}}, "name `problems` to answer"),
        (
            {"general": {"problems": ["chat"], "quality": {"threshold": 0.5}}},
            "one of `reward_model` and `judge`",
        ),
        (
            {"general": {"problems": ["chat"], "quality": {"reward_model": "x"}}},
            "one of `threshold` and `quantile`",
        ),
    ]:
        with pytest.raises(ValidationError, match=message):
            config(**table)
