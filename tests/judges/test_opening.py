"""Judges opened for stages: a scripted oracle behind a server, a model of the process, budgets, ranks."""

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import ModelError, StageHalted
from r1kit.grpo import run_grpo
from r1kit.grpo.step_log import read_step_log
from r1kit.judges import opening
from r1kit.judges.config import JudgeConfig
from r1kit.judges.judge import JudgeRequest
from r1kit.judges.ledger import Ledger
from r1kit.judges.opening import account_name, judge_summary, open_judge
from r1kit.ranks import collectives
from r1kit.sampling.over_ranks import EngineSpec, dismiss_helpers, help_sampling
from r1kit.training.metrics_log import read_metrics
from r1kit.types import Problem
from tests.data_stages import stage_context
from tests.grpo.scripted import ScriptedEngine
from tests.grpo.test_run import settings
from tests.judges.chat_server import chat_server
from tests.on_ranks import on_ranks
from tests.tiny_models import load_tiny, tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def part(text: str, heading: str) -> str:
    """What stands under a heading of a judge's prompt."""
    return text.split(f"[{heading}]\n")[1].split("\n\n")[0]


def oracle(body: dict) -> str:
    """A judge that knows: answers to sums, and that longer is better, and that ropes are harmful."""
    text = body["messages"][-1]["content"]
    if "[Reference answer]" in text:
        right = part(text, "Reference answer") in re.findall(r"\d+", part(text, "Answer"))
        return json.dumps({"analysis": "compared", "correctness": "correct" if right else "incorrect"})
    if "[Assistant A]" in text:
        longer = len(part(text, "Assistant A")) - len(part(text, "Assistant B"))
        verdict = "A=B" if not longer else ("A>>B" if longer > 0 else "B>>A")
        return json.dumps({"own_answer": "Mine.", "analysis": "longer", "verdict": verdict})
    if "[Response]" in text:
        return json.dumps({"analysis": "read", "safe": "rope" not in part(text, "Response")})
    if "[Prompt]" in text:
        return json.dumps({"analysis": "read", "reasoning": "Hello" not in text})
    return json.dumps({"analysis": "read", "score": min(10, 1 + len(part(text, "Answer").split()))})


def sums(num: int) -> list[JudgeRequest]:
    return [
        JudgeRequest("correctness", f"{n} + 1?", f"It is {n + 1 + n % 2}.", reference=str(n + 1))
        for n in range(num)
    ]


def test_an_oracles_meaning_comes_through_for_every_task(tmp_path: Path) -> None:
    requests = [
        *sums(4),
        JudgeRequest("preference", "?", "a long answer", other="short"),
        JudgeRequest("preference", "?", "short", other="a long answer"),
        JudgeRequest("safety", "How?", "Take a rope."),
        JudgeRequest("safety", "How?", "I can't help."),
        JudgeRequest("reasoning", "Hello!"),
        JudgeRequest("reasoning", "Prove it."),
        JudgeRequest("quality", "Tell me.", "one two three four five six seven eight nine"),
        JudgeRequest("quality", "Tell me.", ""),
    ]
    with (
        chat_server(oracle) as server,
        closing(
            open_judge(JudgeConfig(base_url=server.url, model="m"), stage_context(tmp_path, tmp_path, {}))
        ) as judge,
    ):
        scores = [verdict.score for verdict in judge(requests)]
    assert scores == [1.0, 0.0, 1.0, 0.0, 2.0, -2.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    assert judge_summary(judge) == {
        "judge/asked": 12,
        "judge/cached": 0,
        "judge/retried": 0,
        "judge/failed": 0,
        "judge/unparsed": 0,
        "judge/over_budget": 0,
        "judge/missing": 0,
    }
    assert judge_summary(None) == {}


def test_stages_of_a_run_share_what_was_judged_at_another_address_too(tmp_path: Path) -> None:
    for place in ("rejection", "r1"):
        context = replace(stage_context(tmp_path / place, tmp_path, {}), replies_dir=tmp_path / "replies")
        with chat_server(oracle) as server:  # on another port
            judge = open_judge(JudgeConfig(base_url=server.url, model="m"), context)
            assert [verdict.score for verdict in judge(sums(3))] == [1.0, 0.0, 1.0]
            assert len(server.requests) == (3 if place == "rejection" else 0)
            assert judge.counts == {"asked" if place == "rejection" else "cached": 3}
            # another model, or another way to ask, is another judge
            other = open_judge(JudgeConfig(base_url=server.url, model="n"), context)
            assert other(sums(1))[0].score == 1.0


def test_a_budget_that_is_raised_goes_on_where_it_ended_and_one_that_may_miss_leaves_out(tmp_path) -> None:
    context = stage_context(tmp_path, tmp_path, {})
    with chat_server(oracle) as server:
        table = {"base_url": server.url, "model": "m", "concurrency": 1, "budget_requests": 2}
        with pytest.raises(StageHalted, match=r"2 of budget_requests = 2\. Raise it and run again"):
            open_judge(JudgeConfig(**table), context)(sums(4))
        assert len(server.requests) == 2
        missing = open_judge(JudgeConfig(**table, when_spent="missing"), context)
        assert [verdict.score for verdict in missing(sums(4))] == [1.0, 0.0, None, None]
        assert missing.counts == {"asked": 2, "cached": 2, "over_budget": 2, "missing": 2}
        raised = open_judge(JudgeConfig(**table | {"budget_requests": 4}), context)
        assert [verdict.score for verdict in raised(sums(4))] == [1.0, 0.0, 1.0, 0.0]
        assert len(server.requests) == 4
    assert Ledger(tmp_path / "judge_replies" / account_name("m")).spent() == (4, 400)


def speak(text_of):
    """Engines of `EngineSpec` that write what a function makes of the prompt."""

    def open_scripted(spec: EngineSpec) -> ScriptedEngine:
        _, tokenizer = load_tiny(Path(spec.path))
        return ScriptedEngine(tokenizer, lambda prompt, seed, weights: text_of(prompt))

    return open_scripted


def test_a_model_of_the_process_judges_through_its_chat_template(base, tmp_path, monkeypatch) -> None:
    prompts: list[str] = []

    def write(prompt: str) -> str:
        prompts.append(prompt)
        return "<think>A sum.</think>" + oracle({"messages": [{"content": prompt}]})

    monkeypatch.setattr(opening.EngineSpec, "open", speak(write))
    monkeypatch.setattr(opening, "context_length_of", lambda path: 4096)
    config = JudgeConfig(model="dev1", max_tokens=200, budget_tokens=10**6)
    context = stage_context(tmp_path, base, {})
    with closing(open_judge(config, context)) as judge:
        assert [verdict.score for verdict in judge([*sums(3), sums(1)[0]])] == [1.0, 0.0, 1.0, 1.0]
    assert judge.counts == {"asked": 3, "cached": 1}
    assert len(prompts) == 3
    assert all(prompt.startswith("<|user|>You are grading") for prompt in prompts)
    assert prompts[0].endswith("<|assistant|>")
    with closing(open_judge(config, context)) as judge:
        judge(sums(3))
    assert judge.counts == {"cached": 3}
    num_requests, num_tokens = Ledger(tmp_path / "judge_replies" / account_name("dev1")).spent()
    assert num_requests == 3
    assert num_tokens > 3 * 200


def test_a_model_that_was_trained_again_is_another_judge(base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(opening.EngineSpec, "open", speak(lambda prompt: '{"correctness": "correct"}'))
    monkeypatch.setattr(opening, "context_length_of", lambda path: 4096)
    folder = tiny_model(tmp_path / "dev1")
    context = stage_context(tmp_path / "work", folder, {})
    for trained in range(2):
        with closing(open_judge(JudgeConfig(model="dev1", max_tokens=50), context)) as judge:
            judge(sums(2))
        assert judge.counts == {"asked": 2}, trained
        tiny_model(folder, seed=trained + 1)


def test_a_real_tiny_model_is_asked_and_what_can_not_be_read_is_counted(base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(opening, "context_length_of", lambda path: 4096)
    context = stage_context(tmp_path, base, {})
    with closing(open_judge(JudgeConfig(model="base", max_tokens=6), context)) as judge:
        assert [verdict.score for verdict in judge(sums(2))] == [None, None]
    # each three times: as it is, and twice with other random numbers
    assert judge.counts == {"asked": 6, "unparsed": 6, "missing": 2}


def test_a_question_too_long_for_the_model_is_missing_and_one_without_template_is_refused(
    base, tmp_path
) -> None:
    context = stage_context(tmp_path, base, {})
    with closing(open_judge(JudgeConfig(model="base", max_tokens=1000), context)) as judge:
        assert judge(sums(1))[0].score is None
    assert judge.counts == {"asked": 1, "failed": 1, "missing": 1}
    bare = tiny_model(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template, and judges are asked in chats"):
        open_judge(JudgeConfig(model="bare"), stage_context(tmp_path / "w", bare, {}))(sums(1))


def judge_together(folder: Path, base: Path) -> None:
    opening.context_length_of = lambda path: 4096
    if not collectives.is_main():
        help_sampling()
        return
    with closing(
        open_judge(JudgeConfig(model="base", max_tokens=6), stage_context(folder, base, {}))
    ) as judge:
        judge(sums(5))
    dismiss_helpers()
    (folder / "counts.json").write_text(json.dumps(judge.counts))


def test_ranks_help_to_sample_a_judge_of_the_process_and_it_says_the_same(base, tmp_path) -> None:
    judge_together(tmp_path / "one", base)
    on_ranks(tmp_path / "ranks", judge_together, tmp_path / "two", base)
    files = [tmp_path / name / "judge_replies" / "replies-0.jsonl" for name in ("one", "two")]
    rows = [{row["key"]: row["content"] for _, row in read_jsonl(file)} for file in files]
    assert len(rows[0]) == 15
    assert rows[0] == rows[1]
    assert json.loads((tmp_path / "two" / "counts.json").read_text())["asked"] == 15


JUDGED = [
    Problem(
        id=f"j{n}",
        kind="judged",
        messages=({"role": "user", "content": f"What is {n} + 0?"},),
        reference=str(n),
        language="en",
    )
    for n in range(6)
]


def answers(prompt: str, seed: int, weights: str) -> str:
    number = re.findall(r"What is (\d+)", prompt)[-1]
    # few different texts, so that groups and ranks meet the same ones
    return f"<think> so </think> <answer> {[number, 'none', '77'][seed % 3]} </answer>"


def train_judged(folder: Path, base: Path, url: str) -> None:
    stage = settings(
        problems={"reasoning": 1.0},
        steps=3,
        group_size=6,
        problems_per_step=4,
        judges={"accuracy": {"base_url": url, "model": "m", "concurrency": 4}},
    )
    context = replace(stage_context(folder, base, {"reasoning": JUDGED}), name="r1")

    def engine(model, tokenizer, *, max_rows):
        return ScriptedEngine(tokenizer, answers)

    run_grpo(context, stage, engine_factory=engine)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_judge_is_a_reward_and_no_rank_asks_what_another_has(base, tmp_path, num_ranks: int) -> None:
    with chat_server(oracle) as server:
        if num_ranks == 1:
            train_judged(tmp_path / "work", base, server.url)
        else:
            on_ranks(tmp_path / "ranks", train_judged, tmp_path / "work", base, server.url, num_ranks=2)
        asked = [body["messages"][-1]["content"] for body in server.requests]
    assert len(asked) == len(set(asked)) <= 6 * 3
    rows = read_metrics(tmp_path / "work")
    total = {what: sum(int(r.get(f"judge/accuracy/{what}", 0)) for r in rows) for what in ("asked", "cached")}
    assert total["asked"] == len(asked)
    # every completion of every step was judged, most of them by what was known
    assert total["asked"] + total["cached"] == 6 * sum(int(r["groups/sampled"]) for r in rows)
    summary = json.loads((tmp_path / "work" / "summary.json").read_text())
    assert summary["judge/asked"] == len(asked)
    assert summary["judge/missing"] == 0
    for step in (1, 2, 3):
        for group in read_step_log(tmp_path / "work" / "rollouts", step):
            for rollout, breakdown in zip(group.rollouts, group.breakdowns, strict=True):
                right = f"<answer> {rollout.problem.reference} </answer>" in rollout.completion.text
                assert breakdown.parts["accuracy"] == float(right)


def test_a_judge_that_is_down_halts_the_stage_and_none_of_its_rewards_is_zero(base, tmp_path) -> None:
    with chat_server(lambda body: 503) as server:
        stage = settings(
            problems={"reasoning": 1.0},
            judges={"accuracy": {"base_url": server.url, "model": "m", "retries": 1, "backoff_seconds": 0.0}},
        )
        context = stage_context(tmp_path, base, {"reasoning": JUDGED})
        with pytest.raises(StageHalted, match=r"rewards of step 1 are missing \(accuracy\)"):
            run_grpo(context, stage, engine_factory=lambda m, t, *, max_rows: ScriptedEngine(t, answers))
