"""Layers that run fused in training against transformers' own: the same logprobs and gradients."""

import copy

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from r1kit import packing
from r1kit.fused import use_fused_layers
from r1kit.packing import PADDED, SHARED_PROMPTS
from tests.test_packing import COMPLETIONS, PROMPTS, results
from tests.tiny_models import load_tiny, tiny_model


def fused_copy(model):
    """Copied twice: the forwards are bound to the copy's modules."""
    fused = copy.deepcopy(model)
    use_fused_layers(fused)
    return copy.deepcopy(fused)


def randomised(model):
    """Norms whose weights are not all 1, so that their order with the rotation counts."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.train()


def assert_same(model, fused, batching):
    expected = results(model, batching, PROMPTS, COMPLETIONS)
    for one, other in zip(results(fused, batching, PROMPTS, COMPLETIONS), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert expected[1].abs().max() > 0.01


@pytest.mark.parametrize("architecture", packing.MODEL_TYPES)
def test_packed_rows_give_the_same_logprobs_and_gradients(tmp_path, monkeypatch, architecture):
    model = randomised(load_tiny(tiny_model(tmp_path, architecture))[0])
    fused = fused_copy(model)
    assert_same(model, fused, SHARED_PROMPTS)

    def refuse(*args, **options):
        raise AssertionError("transformers' own attention ran")

    for module in fused.modules():
        if type(module).__name__.endswith("Attention"):
            monkeypatch.setattr(type(module), "forward", refuse)
    results(fused, SHARED_PROMPTS, PROMPTS, COMPLETIONS)
    with pytest.raises(AssertionError, match="own attention ran"):
        results(fused, PADDED, PROMPTS, COMPLETIONS)


@pytest.mark.parametrize("architecture", [*packing.MODEL_TYPES, "mistral, windowed"])
def test_padded_rows_keep_transformers_attention(tmp_path, architecture):
    model = randomised(load_tiny(tiny_model(tmp_path, architecture))[0])
    assert_same(model, fused_copy(model), PADDED)


def test_a_rotation_that_scales_is_turned_back_as_its_transpose():
    """YaRN multiplies cosine and sine by a factor; gradients are multiplied by it as well."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(5)
    config = Qwen3Config(vocab_size=384, num_key_value_heads=2, head_dim=8, rope_parameters=rope, **sizes)
    model = randomised(Qwen3ForCausalLM(config))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    assert model.get_decoder().rotary_emb.attention_scaling > 1.1
    assert packing.why_padded(model) is None
    assert_same(model, fused_copy(model), SHARED_PROMPTS)


def test_frozen_norms_get_no_gradient(tmp_path):
    """As with LoRA, where only the adapter is trained."""
    model = randomised(load_tiny(tiny_model(tmp_path))[0])
    fused = fused_copy(model)
    for name, parameter in fused.named_parameters():
        parameter.requires_grad_("norm" not in name)
    batch = SHARED_PROMPTS.collate(PROMPTS, COMPLETIONS, 1)
    batch.trained_hidden(fused).square().sum().backward()
    assert all((p.grad is None) == ("norm" in name) for name, p in fused.named_parameters())
