import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from r1kit.errors import DataError
from r1kit.model.loading import load_tokenizer, save_model
from r1kit.model.scorers import load_reward_model
from r1kit.rewards.classifiers import ClassifierConfig, EncodedText, score_rows
from r1kit.rewards.model_rewards import (
    LOWEST_SCORE,
    RewardModelReward,
    RewardScale,
    encode_for_reward_model,
    read_scale,
    reference_responses,
    viewed_text,
    write_scale,
)
from r1kit.text.template import format_chat
from r1kit.types import Problem
from tests.bounds import assert_same, relative_error
from tests.making import make_problem, make_rollout
from tests.tiny_models import tiny_model, tiny_tokenizer

GENERAL = make_problem("general", None, wants_reasoning=True)
SIMPLE = make_problem("general", None, wants_reasoning=False)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random reward model with a head that is not zero."""
    folder = tiny_model(tmp_path_factory.mktemp("base"))
    reward_dir = tmp_path_factory.mktemp("reward") / "model"
    model = load_reward_model(str(folder), seed=1)
    save_model(model, load_tokenizer(str(folder)), reward_dir)
    return reward_dir


@pytest.mark.parametrize(
    ("problem", "text", "summary", "response"),
    [
        (GENERAL, format_chat("bad words", "Hi"), "Hi", format_chat("bad words", "Hi")),
        (GENERAL, "Hi", None, "Hi"),
        (SIMPLE, "Hi", "Hi", "Hi"),
        (GENERAL, "<think>bad words", None, "<think>bad words"),
        (SIMPLE, "<think> </think>", None, None),
        (SIMPLE, " \n", None, None),
        (SIMPLE, "", None, None),
    ],
)
def test_a_view_is_the_summary_or_all(
    problem: Problem, text: str, summary: str | None, response: str | None
) -> None:
    assert viewed_text(problem, text, "summary") == summary
    assert viewed_text(problem, text, "response") == response


def test_the_prompt_the_viewed_text_and_the_end_token_are_encoded(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    text = format_chat("bad words", "Hi")
    summary = encode_for_reward_model(GENERAL, text, tokenizer, "summary")
    response = encode_for_reward_model(GENERAL, text, tokenizer, "response")
    assert summary is not None
    assert response is not None
    assert tokenizer.decode(summary) == "<|user|>What is 45 + 6?<|assistant|>Hi<|endoftext|>"
    assert tokenizer.decode(response) == f"<|user|>What is 45 + 6?<|assistant|>{text}<|endoftext|>"
    assert encode_for_reward_model(GENERAL, "<think>a", tokenizer, "summary") is None


def test_the_reasoning_leaves_the_helpful_score_untouched_and_moves_the_safety_score(model_dir: Path) -> None:
    rollouts = [
        make_rollout(GENERAL, format_chat(reasoning, "The answer is 19."))
        for reasoning in ("be kind", "something else entirely 12")
    ]
    kind, other = RewardModelReward("helpful", model_dir, view="summary")(rollouts)
    assert kind == other
    kind, other = RewardModelReward("safety", model_dir, view="response")(rollouts)
    assert kind != other


@pytest.mark.numerical
def test_scores_are_sigmoids_of_the_logits_in_the_rollouts_order(model_dir: Path) -> None:
    texts = ["Hi", "The answer is 19. " * 5, "12", "答案是19。", "Hi"]
    reward = RewardModelReward("helpful", model_dir, view="summary", tokens_per_batch=60)
    scores = reward([make_rollout(SIMPLE, text) for text in texts])
    model, tokenizer = load_reward_model(str(model_dir)), load_tokenizer(str(model_dir))
    for text, value in zip(texts, scores, strict=True):
        token_ids = encode_for_reward_model(SIMPLE, text, tokenizer, "summary")
        with torch.no_grad():
            logit = model(input_ids=torch.tensor([token_ids])).logits.item()
        # a sigmoid is at most a quarter as steep as its logit, and logits are a few
        assert value == pytest.approx(1 / (1 + math.exp(-logit)), abs=relative_error(model))
        assert 0 < (value or 0) < 1
    assert len({round(score or 0, 6) for score in scores}) == 4


def test_where_there_is_nothing_to_read_the_score_is_the_lowest(model_dir: Path) -> None:
    helpful = RewardModelReward("helpful", model_dir, view="summary")
    rollouts = [
        make_rollout(GENERAL, "no reasoning"),
        make_rollout(SIMPLE, ""),
        make_rollout(SIMPLE, "Hi", finish_reason="length"),
        make_rollout(SIMPLE, "Hi"),
    ]
    scores = helpful(rollouts)
    assert scores[:3] == [LOWEST_SCORE] * 3
    assert (scores[3] or 0) > LOWEST_SCORE
    # the safety model reads what there is, finished or not
    safety = RewardModelReward("safety", model_dir, view="response")
    assert [score == LOWEST_SCORE for score in safety(rollouts)] == [False, True, False, False]


def test_completions_of_the_zero_shape_are_read_as_chats(model_dir: Path) -> None:
    zero, chat = " <think> a </think> <answer> 12 </answer>", "<think>\na\n</think>\n\n12"
    for view in ("summary", "response"):
        as_zero = RewardModelReward("helpful", model_dir, view=view, style="zero")(
            [make_rollout(GENERAL, zero)]
        )
        assert as_zero == RewardModelReward("helpful", model_dir, view=view)([make_rollout(GENERAL, chat)])
        assert as_zero != [LOWEST_SCORE]


@pytest.mark.numerical
def test_padding_does_not_change_a_score(model_dir: Path) -> None:
    model = load_reward_model(str(model_dir))
    rows = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14]]
    together = score_rows(model, [EncodedText(tuple(row)) for row in rows])
    alone = torch.cat([score_rows(model, [EncodedText(tuple(row))]) for row in rows])
    assert_same(together, alone, model, scale=max(1.0, float(alone.abs().max())))


def test_of_a_text_that_is_too_long_the_end_is_read(model_dir: Path) -> None:
    reward = RewardModelReward("helpful", model_dir, view="summary", max_tokens=10)
    same_end = [
        make_rollout(SIMPLE, start + " and this is the same long end of it") for start in ("12", "The")
    ]
    first, second = reward(same_end)
    assert first == second


def test_nothing_to_score_loads_nothing(tmp_path: Path) -> None:
    assert RewardModelReward("helpful", tmp_path / "no_model", view="summary").score_texts([]) == []


def test_the_view_is_the_recipes_else_the_one_that_was_trained_else_the_rewards_own(
    model_dir: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(model_dir, own)
    assert RewardModelReward("safety", own, default_view="response").view == "response"
    write_scale(own, RewardScale(0.5, 2.0, "response"))
    assert read_scale(own) == RewardScale(0.5, 2.0, "response")
    assert RewardModelReward("helpful", own, default_view="summary").view == "response"
    table = ClassifierConfig(model=str(own), view="summary")
    assert RewardModelReward("helpful", table, default_view="response").view == "summary"


def test_a_reference_set_scales_the_scores_of_any_model(model_dir: Path, tmp_path: Path) -> None:
    texts = ["Hi", "The answer is 19.", "12", "答案是19。"]
    turns = [{"role": "user", "content": "What is 45 + 6?"}]
    rows = [
        {"messages": turns, "chosen": texts[0], "rejected": texts[1]},
        {"messages": turns, "response": texts[2], "safe": True},
        {"messages": turns, "response": texts[3], "safe": False},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [text for _, text in reference_responses(path)] == texts
    raw = RewardModelReward("helpful", model_dir).score_texts([(SIMPLE, text) for text in texts])
    logits = [math.log(score / (1 - score)) for score in raw if score is not None]
    mean = math.fsum(logits) / 4
    std = math.sqrt(math.fsum((logit - mean) ** 2 for logit in logits) / 4)
    table = ClassifierConfig(model=str(model_dir), reference=str(path))
    scaled = RewardModelReward("helpful", table).score_texts([(SIMPLE, text) for text in texts])
    expected = [1 / (1 + math.exp(-(logit - mean) / std)) for logit in logits]
    # a logit that is read off a score has the score's rounding, times four or more
    error = 10 * relative_error(load_reward_model(str(model_dir))) / std
    assert scaled == pytest.approx(expected, abs=error)
    # the mean of the reference set is scored 1/2, and one std above it 0.731
    assert min(scaled) < 0.5 < max(scaled)


def test_a_reference_set_that_can_not_be_read_is_refused(model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    turns = [{"role": "user", "content": "Hi?"}]
    path.write_text(json.dumps({"messages": turns, "chosen": 3}) + "\n")
    reward = RewardModelReward("helpful", ClassifierConfig(model=str(model_dir), reference=str(path)))
    with pytest.raises(DataError, match=r"data\.jsonl:1: no `chosen` and `rejected`, and no `response`"):
        reward.score_texts([(SIMPLE, "Hi")])
    path.write_text(json.dumps({"messages": turns, "response": "<think> </think>"}) + "\n")
    with pytest.raises(DataError, match="can read none of its responses"):
        reward.score_texts([(SIMPLE, "Hi")])
