"""The bounds hold for other orders of the sums, and nothing that is wrong is within them."""

import copy

import pytest
import torch

from r1kit.model import logprobs as logprobs_module
from r1kit.model.packing import PADDED, SHARED_PROMPTS
from tests import bounds, reordered
from tests.bounds import assert_same, relative_error, rounding_error, sum_error, unit_roundoff
from tests.model.test_packing import COMPLETIONS, PROMPTS, results
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

SEEDS = range(5)


@pytest.fixture(scope="module", params=["qwen3", "qwen2", "llama"])
def model(request, tmp_path_factory):
    return load_tiny(tiny_model(tmp_path_factory.mktemp("model"), request.param))[0].train()


def run(model, batching=PADDED):
    return results(model, batching, PROMPTS, COMPLETIONS)


def test_a_sum_of_any_order_is_within_its_bound():
    terms = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    exact, scale = terms.double().sum(), float(terms.abs().sum())
    one_by_one = torch.zeros(())
    for term in terms:
        one_by_one = one_by_one + term
    sums = [terms.sum(), terms.flip(0).sum(), terms.sort().values.cumsum(0)[-1], one_by_one]
    apart = [abs(float(found - exact)) for found in sums]
    # each of the two has half of it; sorted, and one after the other, is the worst of the usual ones
    assert max(apart) <= rounding_error(1000, scale) / 2 <= sum_error(1000, scale) / 2
    assert max(apart) > unit_roundoff() * abs(float(exact))  # and they do differ


@pytest.mark.parametrize("batching", [PADDED, SHARED_PROMPTS], ids=["padded", "shared"])
def test_other_orders_and_float64_are_within_a_tenth_of_the_models_bound(model, batching, monkeypatch):
    """What another processor would do, with room: none that was tried came near it."""
    expected = run(model)
    found = [run(copy.deepcopy(model).double())]
    for seed in SEEDS:
        monkeypatch.setattr(reordered, "SEED", seed)
        with reordered.Reordered():
            found.append(run(model, batching))
    for both in found:
        for one, other in zip(both, expected, strict=True):
            apart = float((one - other).abs().max())
            assert 0 < apart < 0.1 * relative_error(model) * float(other.abs().max())
    # and the bound is no wide one: of numbers of size one it lets the fifth digit go
    assert relative_error(model) < 5e-5


def flipped_sign(module, monkeypatch):
    """One layer's values are subtracted from the residual."""
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight.neg_()


def open_mask(module, monkeypatch):
    """Every position sees what is behind it."""
    for layer in module.model.layers:
        layer.self_attn.is_causal = False


def forgotten_temperature(module, monkeypatch):
    head = logprobs_module._head
    monkeypatch.setattr(logprobs_module, "_head", lambda model, temperature: head(model, 1.0))


def shifted_targets(module, monkeypatch):
    """Hidden states of one position later."""
    trained_hidden = logprobs_module.TokenBatch.trained_hidden

    def late(self, model):
        return trained_hidden(self, model).roll(-1, 0)

    monkeypatch.setattr(logprobs_module.TokenBatch, "trained_hidden", late)


def bfloat16_head(module, monkeypatch):
    """Logits rounded to eight bits, as mixed precision without care does."""
    head = logprobs_module._head

    def rounded(model, temperature):
        logits_of = head(model, temperature)
        return lambda hidden: logits_of(hidden).bfloat16().float()

    monkeypatch.setattr(logprobs_module, "_head", rounded)


def one_weight_off(module, monkeypatch):
    """A single weight of 20,000 that is wrong by a hundredth."""
    with torch.no_grad():
        module.model.layers[0].self_attn.o_proj.weight[3, 5] += 0.01


MISTAKES = [
    flipped_sign,
    open_mask,
    forgotten_temperature,
    shifted_targets,
    bfloat16_head,
    one_weight_off,
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_far_outside_the_bound(model, mistake, monkeypatch):
    expected = run(model)
    broken = copy.deepcopy(model)
    mistake(broken, monkeypatch)
    for one, other in zip(run(broken), expected, strict=True):
        with pytest.raises(AssertionError):
            assert_same(one, other, model)
        apart = float((one - other).abs().max())
        assert apart > 3 * relative_error(model) * float(other.abs().max())


@pytest.mark.parametrize("wrong", ["a chunk left out", "a chunk twice", "entropy of the wrong sign"])
def test_mistakes_of_chunks_are_outside_it(model, wrong, monkeypatch):
    expected = run(model)
    monkeypatch.setattr(logprobs_module, "CHUNK_ELEMENTS", 2 * 384)
    inner, calls = logprobs_module._head_logprobs, []

    def broken(logits_of, hidden, targets, with_entropy):
        calls.append(len(targets))
        logprobs, entropy = inner(logits_of, hidden, targets, with_entropy)
        if wrong == "entropy of the wrong sign":
            return logprobs, -entropy
        if calls[0] and len(calls) == 3:
            factor = 0.0 if wrong == "a chunk left out" else 2.0
            logprobs = logprobs.detach() + factor * (logprobs - logprobs.detach())
        return logprobs, entropy

    monkeypatch.setattr(logprobs_module, "_head_logprobs", broken)
    index = 0 if wrong == "entropy of the wrong sign" else 1
    with pytest.raises(AssertionError):
        assert_same(run(model)[index], expected[index], model)


def test_what_is_no_number_is_within_no_bound(model):
    tensor = torch.ones(3)
    with pytest.raises(AssertionError):
        assert_same(torch.tensor([1.0, float("nan"), 1.0]), tensor, model)
    assert bounds.is_a_tie(1.0, 1.0 + 1e-9, 1e-8)
    assert not bounds.is_a_tie(1.0, float("nan"), 1e-8)
