"""Layers that run again in the backward pass: the same gradients to the bit, and less kept for it."""

from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from r1kit.errors import ModelError
from r1kit.model.loading import checkpoint_layers
from r1kit.model.logprobs import completion_logprobs
from r1kit.model.lora import LoraConfig
from r1kit.model.packing import PADDED, SHARED_PROMPTS, Batching, batching_for
from r1kit.training.trainer import OptimizerConfig, Trainer
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

PROMPTS = [[11, 12, 13, 14, 15]] * 4 + [[21, 22]] * 3
COMPLETIONS = [list(range(30, 30 + n)) for n in (9, 8, 3, 1, 12, 7, 2)]


def trained(folder: Path, *, again: bool, lora: bool) -> PreTrainedModel:
    model, _ = load_tiny(folder)
    config = LoraConfig(rank=4) if lora else None
    options = {"total_steps": 1, "lora": config, "gradient_checkpointing": again}
    trainer = Trainer(model, OptimizerConfig(), **options)
    if lora:  # B starts at zero, and with it A's gradient
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return trainer.model


def loss_of(model: PreTrainedModel, batching: Batching) -> torch.Tensor:
    batch = batching.collate(PROMPTS, COMPLETIONS, 1)
    return completion_logprobs(model, batch)[0].square().sum()


def gradients(model: PreTrainedModel, batching: Batching) -> torch.Tensor:
    loss_of(model, batching).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def kept_bytes(model: PreTrainedModel, batching: Batching) -> int:
    """What the forward pass leaves for the backward pass, beside the weights; each storage counted once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # or its place is taken again
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(model, batching)
    return sum(kept.values())


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("batching", [PADDED, SHARED_PROMPTS], ids=["padded", "shared"])
def test_gradients_are_the_same_to_the_bit(tmp_path, batching, lora):
    tiny_model(tmp_path)
    plain = gradients(trained(tmp_path, again=False, lora=lora), batching)
    again = gradients(trained(tmp_path, again=True, lora=lora), batching)
    assert plain.abs().max() > 0.1
    assert torch.equal(plain, again)


def test_less_is_kept_for_the_backward_pass(tmp_path):
    tiny_model(tmp_path, layers=4)
    plain, again = (
        kept_bytes(trained(tmp_path, again=again, lora=False), SHARED_PROMPTS) for again in (False, True)
    )
    # 4 layers keep 23 numbers or so per token and hidden unit each; run again, 1 each
    assert plain > 4.5 * again


def test_shared_prompts_stay_shared(tmp_path):
    tiny_model(tmp_path)
    assert batching_for(trained(tmp_path, again=True, lora=True)) is SHARED_PROMPTS


def test_a_model_without_it_says_so(tmp_path, monkeypatch):
    model, _ = load_tiny(tiny_model(tmp_path))
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ModelError, match="gradient_checkpointing: Qwen3ForCausalLM does not support"):
        checkpoint_layers(model)
