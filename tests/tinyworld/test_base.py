"""The shipped base checkpoint: stock architecture, and the starting point that the recipe is about."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1kit.evaluate.run import EvalConfig, evaluate_model
from r1kit.grpo import GrpoConfig, run_grpo
from r1kit.stage import SilentProgress, StageContext
from r1kit.tinyworld.checkpoints import base_dir
from r1kit.tinyworld.problems import make_problems
from r1kit.training.metrics_log import read_metrics


def test_the_base_loads_with_nothing_of_ours():
    model = AutoModelForCausalLM.from_pretrained(base_dir(), dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(base_dir())
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert 850_000 < model.num_parameters() < 1_000_000
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("<think> 12+7=19 </think>").input_ids) == "<think> 12+7=19 </think>"


@pytest.mark.slow
def test_the_base_is_poor_at_low_temperature_and_knows_more_than_it_says(tmp_path):
    problems = {"held_out": make_problems("held_out", 100, seed=1)}
    config = EvalConfig(problems=["held_out"], samples=8, max_new_tokens=256, languages=["en", "zh"])
    summary = evaluate_model(
        str(base_dir()),
        problems,
        config,
        style="zero",
        seed=0,
        dtype="float32",
        device="cpu",
        max_rows=256,
        work_dir=tmp_path,
    )
    solved = summary["reasoning"]
    assert 0.05 < solved["pass@1"]["value"] <= 0.30
    assert solved["pass@k"]["8"] > 2 * solved["pass@1"]["value"]


@pytest.mark.slow
def test_a_few_steps_of_zero_raise_the_reward_for_real(tmp_path):
    problems = {"train": make_problems("train", 400, seed=0)}
    context = StageContext(
        name="zero",
        work_dir=tmp_path,
        seed=0,
        dtype="float32",
        device="cpu",
        max_rows=256,
        model_path=lambda name: str(base_dir()),
        data_path=lambda name: tmp_path / name,
        problems=lambda name: problems[name],
        progress=SilentProgress(),
    )
    config = GrpoConfig(
        model="base",
        prompt_style="zero",
        problems={"train": 1.0},
        rewards={"accuracy": 1.0, "format": 1.0},
        steps=16,
        problems_per_step=8,
        mini_batches=1,
        max_new_tokens=256,
        clip_eps=0.2,
        kl_coef=0.0,
        languages=["en", "zh"],
        optimizer={"learning_rate": 1e-3},
    )
    run_grpo(context, config)
    rewards = [row["reward/mean"] for row in read_metrics(tmp_path) if "reward/mean" in row]
    assert len(rewards) == 16
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.15
