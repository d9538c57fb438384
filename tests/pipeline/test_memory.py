"""The plan before a run: by hand at a real model's shape, and against what updates of a tiny model take."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config

from r1kit.model.loading import load_model
from r1kit.model.logprobs import CompletionBatch, completion_logprobs
from r1kit.model.lora import LoraConfig
from r1kit.model.packing import PACKED_ROWS, SHARED_PROMPTS
from r1kit.pipeline.memory import StageMemory, format_bytes, plan_memory
from r1kit.pipeline.run import open_run
from r1kit.pipeline.shipped import find_recipe
from r1kit.training.losses import LossParts, next_token_loss
from r1kit.training.trainer import OptimizerConfig, Trainer
from tests.tiny_models import tiny_model, tiny_tokenizer

RECIPE = """\
[run]
name = "plan"

[model]
base = "model"
device = "cpu"
dtype = "{dtype}"

[engine]
max_rows = 128

[problems.sums]
source = "sums.jsonl"
columns = {{ question = "q", answer = "a" }}

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = {{ sums = 1.0 }}
rewards = {{ accuracy = 1.0 }}
steps = {steps}
problems_per_step = 32
mini_batches = 2
max_new_tokens = {length}
tokens_per_micro_batch = {tokens}
{more}

[stages.dev]
kind = "sft"
model = "zero"
data = "sft.jsonl"
max_tokens = {length}
tokens_per_micro_batch = {tokens}
{more}
"""


def planned(
    folder: Path, *, dtype="float32", tokens=1000, length=100, steps=500, more="", run=""
) -> dict[str, StageMemory]:
    (folder / "sft.jsonl").write_text("{}\n")
    path = folder / "recipe.toml"
    text = RECIPE.format(dtype=dtype, tokens=tokens, length=length, steps=steps, more=more)
    path.write_text(text.replace("[run]\n", f"[run]\n{run}", 1))
    return {row.stage: row for row in plan_memory(open_run(path))}


def sizes(row: StageMemory) -> dict[str, int]:
    return {part.name: part.num_bytes for part in row.parts}


def like_qwen(folder: Path) -> None:
    """The configuration of Qwen2.5-1.5B, without its weights."""
    tiny_tokenizer(folder / "model")
    Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(folder / "model")
    (folder / "model" / "model.safetensors").touch()


def test_all_weights_of_a_1_5b_model_in_float32_by_hand(tmp_path):
    like_qwen(tmp_path)
    row = planned(tmp_path, tokens=16_000, length=768)["zero"]
    assert row.num_weights == row.num_trained == 1_543_714_304  # as the model card's 1.54B
    found = sizes(row)
    for name, num_bytes in {
        "weights": 4,
        "gradients": 4,
        "optimizer": 8,
        "reference": 4,
        "sampler": 4,
    }.items():
        assert found[name] == num_bytes * row.num_weights
    # 128 rows x 768 tokens x keys and values x 28 layers x 2 heads of 128 x 4 bytes
    assert found["sampler cache"] == 128 * 768 * 2 * 28 * 256 * 4
    # by layer and token: norms 6 x 1536, q 3 x 1536, kv 2 x 256, MLP 4 x 8960, packed 2 x (1536 + 256)
    layer = (6 * 1536 + 3 * 1536 + 2 * 256 + 4 * 8960 + 2 * (1536 + 256)) * 4
    logits = 2**24 * 4 * 4
    assert found["activations"] == 16_000 * (28 * layer + 4 * 1536 * 4) + logits
    assert row.num_bytes == 24 * row.num_weights + found["activations"]  # larger than the cache


def test_what_lora_bfloat16_and_checkpointing_save_by_hand(tmp_path):
    like_qwen(tmp_path)
    more = "gradient_checkpointing = true\nlora = { rank = 16 }"
    rows = planned(tmp_path, dtype="bf16-mixed", tokens=16_000, length=768, more=more)
    row = rows["zero"]
    # 16 x (in + out): q, o 1536 + 1536; k, v 1536 + 256; gate, up, down 1536 + 8960; 28 layers
    trained = 28 * 16 * (2 * 3072 + 2 * 1792 + 3 * 10_496)
    found = sizes(row)
    assert row.num_trained == trained
    assert found["weights"] == 2 * (row.num_weights + trained)
    assert (found["masters"], found["gradients"], found["optimizer"]) == (
        4 * trained,
        4 * trained,
        8 * trained,
    )
    assert found["reference"] == 2 * trained  # refreshed every 400 of 1,000 updates
    # norms 2 x (4 + 2 + 2) x 1536
    layer = 16 * 1536 + (3 * 1536 + 2 * 256 + 4 * 8960 + 2 * (1536 + 256)) * 2
    kept = 16_000 * (28 * 1536 * 2 + 4 * 1536 * 4)
    assert found["activations"] == kept + 16_000 * layer
    assert row.num_bytes < 12 * 2**30
    assert "reference" not in sizes(rows["dev"])
    assert (
        rows["zero"].advice
        == "learning_rate 3e-06 is low for LoRA: about ten times that of all weights is usual"
    )
    assert rows["dev"].advice == ""
    never = planned(tmp_path, more="lora = {}", steps=100)  # 200 updates
    assert sizes(never["zero"])["reference"] == 0


def test_what_a_rank_of_eight_holds_of_a_sharded_model_by_hand(tmp_path):
    like_qwen(tmp_path)
    options = {"dtype": "bf16-mixed", "tokens": 16_000, "length": 768}
    row = planned(tmp_path, run="processes = 8\nshard = true\n", **options)["zero"]
    found, eighth = sizes(row), row.num_weights // 8
    assert row.num_weights % 8 == 0
    assert (found["weights"], found["gradients"], found["optimizer"], found["reference"]) == (
        4 * eighth,
        4 * eighth,
        8 * eighth,
        4 * eighth,
    )
    assert "masters" not in found  # the shards are the masters
    # q, o 1536 x 1536; k, v 1536 x 256; biases 1536 + 2 x 256; MLP 3 x 1536 x 8960; two norms
    layer = 2 * 1536**2 + 2 * 1536 * 256 + 1536 + 2 * 256 + 3 * 1536 * 8960 + 2 * 1536
    assert found["gathered"] == (row.num_weights - 26 * layer) * 2 * 2
    assert found["sampler"] == 2 * row.num_weights
    alone = planned(tmp_path, run="shard = true\n", **options)["zero"]  # one process has all of it
    assert alone == planned(tmp_path, **options)["zero"]


def test_a_model_that_is_not_here_is_said_and_nothing_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    rows = planned(tmp_path)
    assert "there is no config.json in it" in rows["zero"].fault
    assert rows["dev"].fault == rows["zero"].fault


def peak_of_update(trainer: Trainer, batch: CompletionBatch, *, with_entropy: bool) -> int:
    """The most that is allocated at once in a first update: gradients and optimizer state are made in it."""

    def loss(batch: CompletionBatch) -> LossParts:
        logprobs, _ = completion_logprobs(trainer.model, batch, with_entropy=with_entropy)
        return next_token_loss(logprobs, batch.loss_mask_BT, denominator=1000)

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        trainer.update(map(loss, [batch]))
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize(
    ("stage", "lora", "again"),
    [("zero", False, False), ("zero", True, True), ("dev", False, True), ("dev", True, False)],
)
def test_an_update_takes_what_was_planned(tmp_path, stage, lora, again):
    tiny_model(tmp_path / "model", hidden=64, layers=4)
    batching = SHARED_PROMPTS if stage == "zero" else PACKED_ROWS
    batch = batching.collate([[11] * 10 + [i // 8] for i in range(16)], [list(range(30, 90))] * 16, 1)
    tokens = batch.input_ids_S.numel()
    more = f"gradient_checkpointing = {str(again).lower()}\n" + ("lora = { rank = 4 }" if lora else "")
    row = planned(tmp_path, tokens=tokens, more=more)[stage]
    trainer = Trainer(
        load_model(str(tmp_path / "model")),
        OptimizerConfig(),
        total_steps=1,
        lora=LoraConfig(rank=4) if lora else None,
        gradient_checkpointing=again,
    )
    assert row.num_trained == sum(p.numel() for p in trainer._parameters)
    found = sizes(row)
    assert found["weights"] == sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    expected = found["gradients"] + found["optimizer"] + found["activations"]
    assert 1 / 1.5 < expected / peak_of_update(trainer, batch, with_entropy=stage == "zero") < 1.5
    states = trainer.state_dict()["optimizer"]["state"].values()
    assert found["optimizer"] == sum(s["exp_avg"].nbytes + s["exp_avg_sq"].nbytes for s in states)


def test_numbers_are_written_to_be_read():
    assert [format_bytes(n) for n in (12, 2048, 3 * 2**20, 45 * 2**30)] == [
        "12 bytes",
        "2 kB",
        "3 MB",
        "45 GB",
    ]


def test_the_shipped_recipe_has_a_plan_for_every_stage_that_trains_reward_models_too(tmp_path):
    rows = {row.stage: row for row in plan_memory(open_run(find_recipe("tiny"), output_dir=tmp_path / "run"))}
    assert {"zero", "dev1", "dev2", "quality", "dev3", "helpful", "safety", "r1", "distill"} <= set(rows)
    # the tied embedding of 1,024 x 128 stays, and a head of 128 weights comes to it
    assert rows["helpful"].num_weights == rows["zero"].num_weights + 128
