"""LoRA: it starts as the base, what is merged computes the same, the base stays, errors name the layer."""

import functools
import sys
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from r1kit.errors import ModelError
from r1kit.model.loading import load_model, load_tokenizer
from r1kit.model.lora import Lora, LoraConfig, is_target, linear_layers
from r1kit.training.trainer import OptimizerConfig, Trainer
from tests.bounds import assert_same
from tests.tiny_models import load_tiny, tiny_model
from tests.training.test_trainer import flat_weights, grpo_rows, packs_of, sft_rows

pytestmark = pytest.mark.numerical

IDS = torch.arange(20, 60)[None]


def adapted(folder: Path, architecture: str = "qwen3", *, updates: int = 0, dtype: str = "float32", **lora):
    """A trainer of a tiny model with an adapter, after so many updates."""
    if not (folder / "config.json").exists():
        tiny_model(folder, architecture, tied=architecture != "llama")
    config = LoraConfig(**({"rank": 4, "alpha": 8.0} | lora))
    model = load_model(str(folder), dtype=dtype)
    trainer = Trainer(model, OptimizerConfig(learning_rate=1e-2), total_steps=9, lora=config, seed=5)
    for _ in range(updates):
        trainer.update(map(functools.partial(sft_rows, trainer.model), packs_of(25)))
    return trainer


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def test_at_the_start_the_model_computes_and_gives_to_the_sampler_what_the_base_does(tmp_path):
    trainer = adapted(tmp_path)
    base, _ = load_tiny(tmp_path)
    assert torch.equal(logits(trainer.model), logits(base))
    own = base.state_dict()
    given = dict(trainer.weights())
    assert given.keys() == own.keys()
    assert all(torch.equal(given[name], own[name]) for name in own)


def test_only_the_adapter_is_trained_and_its_seed_decides_how_it_starts(tmp_path):
    trainer = adapted(tmp_path)
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    # 2 layers of 7 linear ones: 4 of attention, 3 of the MLP; the head is tied to the embedding
    assert len(names) == 2 * 7 * 2
    assert all(".lora_" in name for name in names)
    # q, o 32 -> 32; k, v 32 -> 16; gate, up 32 -> 64, down 64 -> 32; rank 4
    assert sum(p.numel() for p in trainer._parameters) == 2 * 4 * (2 * 64 + 2 * 48 + 3 * 96)
    assert torch.equal(flat_weights(adapted(tmp_path)), flat_weights(trainer))
    model, _ = load_tiny(tmp_path)
    torch.manual_seed(9)
    draw = torch.get_rng_state()
    other = Lora(model, LoraConfig(rank=4, alpha=8.0), seed=6)
    assert torch.equal(torch.get_rng_state(), draw)  # the global generator is left alone
    assert not torch.equal(
        flat_weights(trainer), torch.cat([p.reshape(-1) for p in other.model.parameters()])
    )


def test_a_merged_matrix_by_hand(tmp_path):
    trainer = adapted(tmp_path, rank=2, alpha=6.0)
    name = "model.layers.1.mlp.down_proj"
    layer = trainer.model.get_submodule(name)
    with torch.no_grad():
        layer.lora_A["default"].weight.zero_()[:, 3] = torch.tensor([1.0, 2.0])
        layer.lora_B["default"].weight.zero_()[5] = torch.tensor([10.0, 0.5])
    base = load_tiny(tmp_path)[0].state_dict()[f"{name}.weight"]
    merged = dict(trainer.weights())[f"{name}.weight"]
    # 6 / 2 times (10 * 1 + 0.5 * 2), in one place
    assert float(merged[5, 3] - base[5, 3]) == pytest.approx(33.0, rel=1e-6)
    assert int((merged != base).sum()) == 1


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
def test_the_sampler_gets_merged_weights_that_compute_the_same_and_the_base_is_not_touched(
    tmp_path, architecture
):
    trainer = adapted(tmp_path, architecture, updates=3)
    base, _ = load_tiny(tmp_path)
    before = flat_weights(trainer)
    merged = {name: tensor.clone() for name, tensor in trainer.weights()}
    assert torch.equal(flat_weights(trainer), before)
    assert merged.keys() == base.state_dict().keys()
    with trainer.lora.as_reference():
        assert torch.equal(logits(trainer.model), logits(base))
    start = logits(base)
    base.load_state_dict(merged)
    assert_same(logits(base), logits(trainer.model), base)
    assert (logits(base) - start).abs().max() > 0.1


def test_what_is_merged_is_what_peft_merges(tmp_path):
    trainer = adapted(tmp_path, updates=2)
    merged = {name: tensor.clone() for name, tensor in trainer.weights()}
    theirs = trainer.lora._peft.merge_and_unload().state_dict()
    assert merged.keys() == theirs.keys()
    assert all(torch.equal(merged[name], theirs[name]) for name in merged)


def test_a_stage_leaves_a_plain_model_and_an_adapter_that_peft_loads(tmp_path):
    trainer = adapted(tmp_path / "base", updates=3)
    expected, given = logits(trainer.model), {n: t.clone() for n, t in trainer.weights()}
    trainer.save(load_tokenizer(str(tmp_path / "base")), tmp_path, dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in given.items())
    assert_same(logits(plain), expected, plain)
    loaded = peft.PeftModel.from_pretrained(load_tiny(tmp_path / "base")[0], str(tmp_path / "adapter"))
    assert torch.equal(logits(loaded), expected)
    assert loaded.peft_config["default"].base_model_name_or_path == str(tmp_path / "base")


def test_the_reference_is_the_start_then_the_adapter_of_the_last_refresh(tmp_path):
    trainer = adapted(tmp_path, updates=1)
    lora, start = trainer.lora, logits(load_tiny(tmp_path)[0])

    def step() -> dict[str, float]:
        return trainer.update(grpo_rows(trainer.model, pack) for pack in packs_of(25))

    def reference() -> torch.Tensor:
        with lora.as_reference():
            return logits(trainer.model)

    assert torch.equal(reference(), start)
    assert lora.reference_state() is None
    for _ in range(2):
        expected = logits(trainer.model)
        lora.refresh_reference()
        assert step()["grad_norm"] > 0
        assert torch.equal(reference(), expected)
        assert not torch.equal(logits(trainer.model), expected)
    # the frozen adapter is neither trained nor saved, nor merged
    assert not any("reference" in name for name in trainer.state_dict()["model"])
    assert all(".reference." in name for name in lora.reference_state())
    assert dict(trainer.weights()).keys() == load_tiny(tmp_path)[0].state_dict().keys()
    assert len(trainer._parameters) == sum(p.requires_grad for p in trainer.model.parameters())


def test_a_checkpoint_holds_the_adapter_alone_and_goes_on_to_the_bit(tmp_path):
    whole = adapted(tmp_path, updates=2)
    whole.lora.refresh_reference()
    state = {
        k: v if k != "model" else {n: t.clone() for n, t in v.items()} for k, v in whole.state_dict().items()
    }
    torch.save((state, whole.lora.reference_state()), tmp_path / "state.pt")
    assert set(state["model"]) == {n for n, p in whole.model.named_parameters() if p.requires_grad}
    resumed = adapted(tmp_path)
    state, frozen = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(state)
    resumed.lora.load_reference_state(frozen)
    for trainer in (whole, resumed):
        for _ in range(2):
            trainer.update(map(functools.partial(sft_rows, trainer.model), packs_of(25)))
    assert torch.equal(flat_weights(whole), flat_weights(resumed))


def test_dropout_is_seeded_by_update_and_micro_batch(tmp_path):
    def row(trainer: Trainer) -> float:
        return trainer.update(map(functools.partial(sft_rows, trainer.model), packs_of(25)))["grad_norm"]

    first, second = adapted(tmp_path, updates=1, dropout=0.5), adapted(tmp_path, updates=1, dropout=0.5)
    torch.rand(7)  # whatever else draws in between
    norms = row(first)
    torch.manual_seed(3)
    assert row(second) == norms
    assert torch.equal(flat_weights(first), flat_weights(second))
    assert norms != row(adapted(tmp_path, updates=1))
    # the same update again drops something else
    first.load_state_dict(state := second.state_dict())
    again = row(first)
    first.load_state_dict({**state, "num_updates": 7})
    assert row(first) != again


def test_in_bfloat16_the_adapter_has_masters_and_is_merged_in_float32(tmp_path):
    trainer = adapted(tmp_path, updates=3, dtype="bfloat16")
    layer = trainer.model.get_submodule("model.layers.0.self_attn.q_proj")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.dtype == b.dtype == torch.bfloat16
    assert {p.dtype for p in trainer._parameters} == {torch.float32}
    base = load_model(str(tmp_path)).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    expected = (base.bfloat16().float() + 8.0 / 4.0 * (b.float() @ a.float())).bfloat16()
    assert torch.equal(dict(trainer.weights())["model.layers.0.self_attn.q_proj.weight"], expected)


def test_layers_are_named_by_the_ends_of_their_names(tmp_path):
    trainer = adapted(tmp_path, target_modules=["q_proj", "mlp.down_proj"])
    found = [name for name, _ in trainer.lora._layers()]
    assert found == [
        f"model.layers.{i}.{part}" for i in range(2) for part in ("self_attn.q_proj", "mlp.down_proj")
    ]
    model, _ = load_tiny(tmp_path)
    config = LoraConfig(target_modules=["q_proj", "mlp.down_proj"])
    assert [name for name in linear_layers(model) if is_target(name, config)] == found


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_porj"], r"names 'q_porj', which is not one of the linear layers .*did you mean `q_proj`\?"),
        (["q_proj", "lm_head"], r"names 'lm_head', .*known here: down_proj, gate_proj, k_proj"),
        (["embed_tokens"], r"names 'embed_tokens'"),
    ],
)
def test_a_layer_that_can_not_be_adapted_is_named(tmp_path, targets, message):
    with pytest.raises(ModelError, match=message):
        adapted(tmp_path, target_modules=targets)


def test_without_peft_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"LoRA needs peft.*pip install 'r1kit\[lora\]'"):
        adapted(tmp_path)


def test_sharded_parameters_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("r1kit.model.lora.DTensor", torch.nn.Parameter)
    with pytest.raises(ModelError, match="LoRA on sharded parameters"):
        adapted(tmp_path)
