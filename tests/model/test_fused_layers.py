"""Layers that run fused in training against transformers' own: the same logprobs and gradients."""

import copy

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from r1kit.model import fused_layers, packing
from r1kit.model.packing import PADDED, SHARED_PROMPTS
from tests.bounds import assert_same
from tests.model.test_packing import COMPLETIONS, PROMPTS, results
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical


def fused_copy(model):
    """Copied twice: the forwards are bound to the copy's modules."""
    copied = copy.deepcopy(model)
    fused_layers.use_fused_layers(copied)
    return copy.deepcopy(copied)


def randomised(model):
    """Norms whose weights are not all 1, so that their order with the rotation counts."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.train()


def assert_as_unfused(model, other_model, batching):
    expected = results(model, batching, PROMPTS, COMPLETIONS)
    for one, other in zip(results(other_model, batching, PROMPTS, COMPLETIONS), expected, strict=True):
        assert_same(one, other, model)
    assert expected[1].abs().max() > 0.01


@pytest.mark.parametrize("architecture", packing.MODEL_TYPES)
def test_packed_rows_give_the_same_logprobs_and_gradients(tmp_path, monkeypatch, architecture):
    model = randomised(load_tiny(tiny_model(tmp_path, architecture))[0])
    copied = fused_copy(model)
    assert_as_unfused(model, copied, SHARED_PROMPTS)

    def refuse(*args, **options):
        raise AssertionError("transformers' own attention ran")

    for module in copied.modules():
        if type(module).__name__.endswith("Attention"):
            monkeypatch.setattr(type(module), "forward", refuse)
    results(copied, SHARED_PROMPTS, PROMPTS, COMPLETIONS)
    with pytest.raises(AssertionError, match="own attention ran"):
        results(copied, PADDED, PROMPTS, COMPLETIONS)


@pytest.mark.parametrize("architecture", [*packing.MODEL_TYPES, "mistral, windowed"])
def test_padded_rows_keep_transformers_attention(tmp_path, architecture):
    model = randomised(load_tiny(tiny_model(tmp_path, architecture))[0])
    assert_as_unfused(model, fused_copy(model), PADDED)


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
    assert_as_unfused(model, fused_copy(model), SHARED_PROMPTS)


def test_frozen_norms_leave_the_other_gradients_as_they_are(tmp_path):
    """As with LoRA, where only the adapter is trained."""
    model = randomised(load_tiny(tiny_model(tmp_path))[0])
    frozen, trained = fused_copy(model), fused_copy(model)
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_("norm" not in name)
    batch = SHARED_PROMPTS.collate(PROMPTS, COMPLETIONS, 1)
    for each in (frozen, trained):
        batch.trained_hidden(each).square().sum().backward()
    for (name, one), other in zip(frozen.named_parameters(), trained.parameters(), strict=True):
        assert other.grad is not None
        assert one.grad is None if "norm" in name else torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("with_norm", [False, True])
def test_the_backward_pass_is_the_derivative(with_norm):
    generator = torch.Generator().manual_seed(2)
    projection = torch.randn(5, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(4, generator=generator, dtype=torch.float64).add(0.5).requires_grad_()
    angles = torch.rand(5, 2, generator=generator, dtype=torch.float64).repeat(1, 2)
    cos, sin = 1.2 * angles.cos(), 1.2 * angles.sin()
    inputs = projection, weight if with_norm else None, cos, sin, 1e-6
    assert torch.autograd.gradcheck(fused_layers._Rotated.apply, inputs)
