"""Logprobs against the model's own logits; batches and their shift by hand."""

import math

import pytest
import torch

from r1kit.model import logprobs as logprobs_module
from r1kit.model.logprobs import collate, completion_logprobs, pack_by_tokens
from tests.bounds import FEW, assert_same, relative_error
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
COMPLETIONS = [[20, 21, 0], [22, 23, 24, 25, 0], [0]]


def expected_logprobs(model, prompt, completion, temperature):
    """One row alone, whole logits, the shift written out: a token is predicted one before it."""
    logits = model(torch.tensor([prompt + completion])).logits[0].double() / temperature
    table = logits.log_softmax(-1)
    return torch.stack([table[len(prompt) + t - 1, token] for t, token in enumerate(completion)])


def test_collate_shifts_once_and_left_aligns_completions():
    batch = collate([[7, 8], [3]], [[9, 2], [4]], pad_id=1)
    assert batch.input_ids_BS.tolist() == [[7, 8, 9, 2], [3, 4, 1, 1]]
    assert batch.attention_mask_BS.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.target_ids_BT.tolist() == [[9, 2], [4, 0]]
    assert batch.source_BT.tolist() == [[1, 2], [0, 0]]
    assert batch.loss_mask_BT.tolist() == [[True, True], [True, False]]
    assert batch.num_trained == 3


def test_collate_takes_loss_masks():
    batch = collate([[7], [7]], [[9, 2], [4]], pad_id=1, loss_masks=[[False, True], [False]])
    assert batch.loss_mask_BT.tolist() == [[False, True], [False, False]]


def test_packs_hold_the_budget_when_padded_and_cover_every_row_once():
    # longest first: 9 alone; 5 5 makes 10; 3 3 3 makes 9; 12 is over the budget and alone
    assert pack_by_tokens([3, 5, 9, 3, 5, 3, 12], max_tokens=10) == [[6], [2], [1, 4], [0, 3, 5]]


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_the_models_own_over_the_whole_vocabulary(tmp_path, architecture, temperature):
    model, tokenizer = load_tiny(tiny_model(tmp_path, architecture, tied=architecture != "llama"))
    batch = collate(PROMPTS, COMPLETIONS, tokenizer.pad_token_id)
    with torch.no_grad():
        logprobs_BT, entropy_BT = completion_logprobs(
            model, batch, temperature=temperature, with_entropy=True
        )
        for b, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
            expected = expected_logprobs(model, prompt, completion, temperature)
            found = logprobs_BT[b, : len(completion)].double()
            assert_same(found, expected, model)
    assert logprobs_BT.dtype == torch.float32
    assert logprobs_BT[~batch.loss_mask_BT].tolist() == [0.0] * 6  # 15 places, 9 tokens
    table = model(torch.tensor([PROMPTS[1]])).logits[0, -1].detach().double().div(temperature).log_softmax(-1)
    assert entropy_BT is not None
    assert float(entropy_BT[1, 0]) == pytest.approx(
        float(-(table.exp() * table).sum()), rel=relative_error(model)
    )


def test_chunks_change_neither_values_nor_gradients(tmp_path, monkeypatch):
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    batch = collate(PROMPTS, COMPLETIONS, tokenizer.pad_token_id)

    def run():
        model.zero_grad()
        logprobs_BT, entropy_BT = completion_logprobs(model, batch, with_entropy=True)
        (logprobs_BT * torch.arange(15.0).view(3, 5)).sum().backward()
        grads = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])
        assert entropy_BT is not None
        assert not entropy_BT.requires_grad
        return logprobs_BT.detach(), entropy_BT, grads

    whole = run()
    monkeypatch.setattr(logprobs_module, "CHUNK_ELEMENTS", 2 * 384)  # two positions a chunk, nine in all
    for one, other in zip(whole, run(), strict=True):
        assert_same(one, other, model)


def test_a_batch_without_trained_tokens_has_no_logprobs_and_no_gradient(tmp_path):
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    batch = collate([[5]], [[6, 7]], tokenizer.pad_token_id, loss_masks=[[False, False]])
    logprobs_BT, _ = completion_logprobs(model, batch)
    assert logprobs_BT.tolist() == [[0.0, 0.0]]
    assert not logprobs_BT.requires_grad


def test_what_families_do_to_logits_after_the_head_is_done(tmp_path):
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    batch = collate([[5, 6]], [[7]], tokenizer.pad_token_id)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6]])).logits[0, -1].double()
        model.config.final_logit_softcapping = 2.0
        found = completion_logprobs(model, batch)[0].item()
    assert found == pytest.approx(
        float((torch.tanh(logits / 2) * 2).log_softmax(-1)[7]), rel=relative_error(model)
    )


def test_the_gradient_of_logprobs_is_one_hot_minus_probabilities_and_entropy_has_none():
    # logits log 1, log 2, log 1: probabilities 1/4, 1/2, 1/4; entropy 2 * 1/4 log 4 + 1/2 log 2 = 1.5 log 2
    logits = torch.tensor([[1.0, 2.0, 1.0], [0.0, 1.0, 1.0]]).log().requires_grad_()  # a forbidden token
    logprobs_N, entropy_N = logprobs_module._LogprobsAndEntropy.apply(logits, torch.tensor([1, 2]))
    assert logprobs_N.tolist() == pytest.approx([-math.log(2)] * 2, abs=FEW)
    assert entropy_N.tolist() == pytest.approx([1.5 * math.log(2), math.log(2)], abs=FEW)
    assert not entropy_N.requires_grad
    (logprobs_N * torch.tensor([2.0, 1.0])).sum().backward()
    expected = torch.tensor([[-0.5, 1.0, -0.5], [0.0, -0.5, 0.5]])
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=FEW)
