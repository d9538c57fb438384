"""SFT: what is trained, in which order, and that a killed run ends with the same weights to the bit."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from r1kit import sft
from r1kit.errors import DataError, StageHalted
from r1kit.model import packing
from r1kit.model.loading import load_model, load_tokenizer
from r1kit.sft import SftConfig, load_examples, plan_batches, run_sft
from r1kit.stage import SilentProgress, StageContext
from r1kit.text.template import format_chat, format_zero
from r1kit.training.losses import LossParts
from r1kit.training.metrics_log import read_metrics
from r1kit.training.trainer import OptimizerConfig, Trainer
from tests.bounds import relative_error, unit_roundoff
from tests.tiny_models import load_tiny, tiny_model, tiny_tokenizer
from tests.training.test_trainer import flat_weights

SETTINGS = {
    "model": "base",
    "data": "cold_start",
    "epochs": 2,
    "optimizer": {"learning_rate": 3e-3},
    "tokens_per_batch": 400,
    "tokens_per_micro_batch": 200,
    "checkpoint_every": 2,
}

LORA = {"rank": 4, "alpha": 8, "dropout": 0.2}


class KillAt(SilentProgress):
    """Ends the run after update `number`, as a killed process would; keeps what was noted."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.notes: list[str] = []
        self.done: list[int] = []

    def step(self, done: int, row: Mapping[str, float]) -> None:
        self.done.append(done)
        if done == self.number:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_data(path: Path, num: int = 24) -> Path:
    rows = []
    for i in range(num):
        question = {"role": "user", "content": f"What is {i} + {i + 1}?"}
        text = f"{i} + {i + 1} = {2 * i + 1}. " * (1 + i % 3)
        zero = i % 2 == 0
        response = format_zero(text, str(2 * i + 1)) if zero else format_chat(text, f"It is {2 * i + 1}.")
        domain = "math" if zero else "general"
        style = "zero" if zero else "chat"
        rows.append({"messages": [question], "response": response, "style": style, "domain": domain})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_context(folder: Path, run: str, progress: SilentProgress | None = None) -> StageContext:
    data, base = folder / "data.jsonl", folder / "base"
    if not base.exists():
        tiny_model(base)
        write_data(data)
    (folder / run).mkdir(exist_ok=True)
    return StageContext(
        name="dev1",
        work_dir=folder / run,
        seed=7,
        dtype="float32",
        device="cpu",
        max_rows=8,
        model_path=lambda name: str(folder / name),
        data_path=lambda name: data if name == "cold_start" else folder / name,
        problems=lambda name: [],
        progress=progress or SilentProgress(),
    )


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_a_tiny_model_learns(tmp_path):
    context = make_context(tmp_path, "run")
    summary = run_sft(context, SftConfig.model_validate({**SETTINGS, "epochs": 8}))
    rows = read_metrics(context.work_dir)
    assert len(rows) == summary["updates"]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0]["loss"] > 5.0  # about log 384 = 5.95 at random
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert {"loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"} <= rows[0].keys()
    assert rows[0]["learning_rate"] == pytest.approx(3e-3)
    assert rows[-1]["learning_rate"] == pytest.approx(3e-4)  # the paper's cosine to a tenth
    assert sum(row["tokens"] for row in rows) == summary["tokens"]
    assert json.loads((context.work_dir / "counts.json").read_text()) == {
        "records": 24,
        "dropped_too_long": 0,
        "examples_by_domain": {"general": 12, "math": 12},
    }
    assert not (context.work_dir / "checkpoints").exists()


def test_with_lora_a_plain_model_and_its_adapter_are_left(tmp_path):
    context = make_context(tmp_path, "run")
    more = {"epochs": 4, "lora": LORA, "optimizer": {"learning_rate": 2e-2}}
    run_sft(context, SftConfig.model_validate({**SETTINGS, **more}))
    rows = read_metrics(context.work_dir)
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    base = load_file(tmp_path / "base" / "model.safetensors")
    trained = final_weights(context.work_dir)
    assert base.keys() == trained.keys()
    changed = {name for name in base if not torch.equal(base[name], trained[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    adapter = peft.PeftModel.from_pretrained(load_tiny(tmp_path / "base")[0], context.work_dir / "adapter")
    merged = adapter.merge_and_unload().state_dict()
    assert all(torch.equal(merged[name], trained[name]) for name in trained)


@pytest.mark.parametrize(
    ("killed_after", "more"), [(1, {}), (2, {}), (5, {}), (3, {"lora": LORA, "gradient_checkpointing": True})]
)
def test_a_killed_run_ends_with_the_same_weights_to_the_bit(tmp_path, killed_after, more):
    config = SftConfig.model_validate({**SETTINGS, **more})
    run_sft(make_context(tmp_path, "whole"), config)
    with pytest.raises(KeyboardInterrupt):
        run_sft(make_context(tmp_path, "killed", KillAt(killed_after)), config)
    progress = KillAt()
    run_sft(make_context(tmp_path, "killed", progress), config)
    assert (
        progress.done[0] == killed_after - killed_after % 2 + 1
    )  # from the last checkpoint, every 2 updates
    whole, killed = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rows = [[row["step"] for row in read_metrics(tmp_path / run)] for run in ("whole", "killed")]
    assert rows[0] == rows[1] == list(range(1, progress.done[-1] + 1))


def test_a_run_killed_after_its_last_update_only_writes_the_model(tmp_path):
    config = SftConfig.model_validate(SETTINGS)
    summary = run_sft(make_context(tmp_path, "whole"), config)
    with pytest.raises(KeyboardInterrupt):
        run_sft(make_context(tmp_path, "killed", KillAt(int(summary["updates"]))), config)
    progress = KillAt()
    assert run_sft(make_context(tmp_path, "killed", progress), config) == summary
    assert progress.done == []
    whole, killed = final_weights(tmp_path / "whole"), final_weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_stage_killed_after_its_export_is_not_trained_again(tmp_path, monkeypatch):
    config = SftConfig.model_validate(SETTINGS)
    summary = run_sft(make_context(tmp_path, "run"), config)
    monkeypatch.setattr(Trainer, "update", None)  # would fail
    assert run_sft(make_context(tmp_path, "run"), config) == summary


def test_updates_that_are_not_finite_never_reach_the_weights_and_halt_the_stage(tmp_path, monkeypatch):
    update, weights = Trainer.update, []

    def poisoned(self, losses):
        def spoilt(parts):
            return LossParts(parts.loss * math.nan, parts.metrics) if self.num_updates >= 3 else parts

        weights.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return update(self, map(spoilt, losses))

    monkeypatch.setattr(Trainer, "update", poisoned)
    config = SftConfig.model_validate(SETTINGS)
    with pytest.raises(StageHalted, match=r"update 6 had loss nan.*not finite 3 times in a row") as halted:
        run_sft(make_context(tmp_path, "run"), config)
    # updates 4, 5 and 6 changed nothing; the checkpoint of update 4 would be of a skipped one
    assert all(torch.equal(weights[3][name], weights[5][name]) for name in weights[3])
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000002"
    assert f"The last good checkpoint: {checkpoint}. The same data and settings" in str(halted.value)
    assert [row["update/skipped"] for row in read_metrics(tmp_path / "run")] == [0, 0, 0, 1, 1]


def test_a_checkpoint_of_another_configuration_is_not_gone_on_from(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_sft(make_context(tmp_path, "run", KillAt(4)), SftConfig.model_validate(SETTINGS))
    progress = KillAt()
    run_sft(
        make_context(tmp_path, "run", progress),
        SftConfig.model_validate({**SETTINGS, "tokens_per_batch": 300}),
    )
    assert progress.done[0] == 1
    assert any("starting over" in note for note in progress.notes)


@pytest.mark.numerical
def test_an_update_on_packed_rows_is_that_on_padded_ones(tmp_path, monkeypatch):
    """Rows of which few share a prompt are packed one after another, and give the same weights."""
    base = tiny_model(tmp_path / "base")
    tokenizer = load_tokenizer(str(base))
    examples, _ = load_examples([write_data(tmp_path / "data.jsonl")], tokenizer, 1000)
    results = []
    for batching in (packing.PACKED_ROWS, packing.PADDED):
        if batching is packing.PADDED:
            monkeypatch.setattr("r1kit.sft.batching_for", lambda _, shared: packing.PADDED)
        trainer = Trainer(load_model(str(base)), OptimizerConfig(learning_rate=0.1), total_steps=1)
        assert sft.batching_for(trainer.model, shared=False) is batching
        start = flat_weights(trainer)
        # Adam's first update is the gradient's sign where it is far from 0: plain descent shows its size
        trainer._optimizer = torch.optim.SGD(trainer.model.parameters())
        row = sft._update(trainer, examples, SftConfig(**SETTINGS), pad_id=1)
        results.append((flat_weights(trainer), row["loss"], row["grad_norm"]))
    # by the gradient, at the optimizer's own rate of 1e-3, and rounded to the weights' digits
    digits = 2 * unit_roundoff() * float(start.abs().max())
    moved = [after - start for after, *_ in results]
    assert moved[0].abs().max() > 1e-4
    error = relative_error(trainer.model)
    torch.testing.assert_close(*moved, rtol=0, atol=digits + error * float(moved[0].abs().max()))
    assert results[0][1:] == pytest.approx(results[1][1:], rel=error)


def test_only_the_response_is_trained_and_its_stop_token_is(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    examples, _ = load_examples([write_data(tmp_path / "data.jsonl", num=2)], tokenizer, 1000)
    zero, chat = examples
    assert (
        tokenizer.decode(zero.response_token_ids)
        == " <think> 0 + 1 = 1.  </think> <answer> 1 </answer>" + "<|endoftext|>"
    )
    assert tokenizer.decode(chat.prompt_token_ids) == "<|user|>What is 1 + 2?<|assistant|>"
    assert chat.response_token_ids[-1] == tokenizer.eos_token_id


def test_long_examples_are_dropped_and_counted_never_cut(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    path = write_data(tmp_path / "data.jsonl")
    everything, _ = load_examples([path], tokenizer, 10_000)
    limit = sorted(example.num_tokens for example in everything)[10]
    kept, counts = load_examples([path], tokenizer, limit)
    assert kept == [example for example in everything if example.num_tokens <= limit]
    assert counts["dropped_too_long"] == 24 - len(kept) > 0
    with pytest.raises(DataError, match="all 24 examples are longer than 5 tokens"):
        load_examples([path], tokenizer, 5)


def test_the_models_context_limits_examples_too(tmp_path):
    progress = KillAt()
    context = make_context(tmp_path, "run", progress)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["max_position_embeddings"] = 100
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    summary = run_sft(context, SftConfig.model_validate({**SETTINGS, "epochs": 1}))
    assert 0 < summary["dropped_too_long"] < 24
    assert any(
        f"{summary['dropped_too_long']} of 24 examples are longer than 100" in note for note in progress.notes
    )


def test_several_files_are_mixed(tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    paths = [write_data(tmp_path / "a.jsonl", num=3), write_data(tmp_path / "b.jsonl", num=5)]
    examples, counts = load_examples(paths, tokenizer, 1000)
    assert len(examples) == counts["records"] == 8


GOOD = {"messages": [{"role": "user", "content": "Hi"}], "response": "Hello.", "style": "chat"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": GOOD["messages"], "style": "chat"}, "no `response`; it needs messages and response: "),
        ({"prompt": "Hi", "completion": "Hello."}, r'no `messages`; .*{"role": "user", "content": "..."}'),
        (
            {"messages": [*GOOD["messages"], {"role": "assistant", "content": "Hello."}]},
            "remove the assistant's last turn from messages",
        ),
        ({**GOOD, "response": " "}, "response must be non-empty text"),
        ({**GOOD, "response": "a<|endoftext|>b"}, "contains the end token"),
        ({**GOOD, "style": "r1"}, "style must be zero or chat, not 'r1'"),
        ({**GOOD, "messages": []}, "messages"),
        ({**GOOD, "messages": [{"role": "bot", "content": "x"}]}, "role"),
    ],
)
def test_a_record_that_can_not_be_used_is_named_by_file_and_line(tmp_path, row, message):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        load_examples([path], tiny_tokenizer(tmp_path), 1000)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match=r"data\.jsonl: no records"):
        load_examples([path], tiny_tokenizer(tmp_path), 1000)


def test_every_epoch_is_a_permutation_in_even_batches_of_random_lengths():
    lengths = [10 + (i * 37) % 90 for i in range(200)]
    batches = plan_batches(lengths, epochs=2, tokens_per_batch=1000, seed=0)
    num_batches = round(sum(lengths) / 1000)
    assert len(batches) == 2 * num_batches
    first, second = batches[:num_batches], batches[num_batches:]
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(200))
    assert first != second
    sizes = [sum(lengths[i] for i in batch) for batch in batches]
    assert max(sizes) - min(sizes) < 200  # of 1000: two of the longest examples
    # not bucketed: each batch has short and long examples
    assert all(
        min(lengths[i] for i in batch) < 40 and max(lengths[i] for i in batch) > 70 for batch in batches
    )


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = [50] * 30
    long = plan_batches(lengths, epochs=3, tokens_per_batch=500, seed=1)
    assert plan_batches(lengths, epochs=2, tokens_per_batch=500, seed=1) == long[:6]
    assert plan_batches(lengths, epochs=3, tokens_per_batch=500, seed=2) != long
    assert plan_batches([50, 60], epochs=1, tokens_per_batch=1, seed=0) in ([[0], [1]], [[1], [0]])
