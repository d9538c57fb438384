from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import FallbackEngine, LocalEngine, make_engine, why_unsupported
from r1kit.sampling.local.sampling import Uniforms
from tests.bounds import assert_same, is_a_tie, relative_error
from tests.tiny_models import load_tiny, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.numerical

PROMPTS = [(20, 30, 40), (50, 60, 70, 80, 90, 100), (11,)]


@pytest.fixture
def gpt2(tmp_path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=384, n_positions=128, n_embd=32, n_layer=2, n_head=4)
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model, tiny_tokenizer(tmp_path)


def requests_for(num: int, max_tokens: int = 20) -> list[SampleRequest]:
    return [
        SampleRequest(k, PROMPTS[k % 3], SamplingParams(max_tokens + k, stop_token_ids=(3,)), seed=k)
        for k in range(num)
    ]


def test_an_unknown_architecture_is_sampled_with_its_own_forward(
    gpt2: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = gpt2
    assert "GPT2LMHeadModel is not one of" in (why_unsupported(model) or "")
    engine = make_engine(model, tokenizer, max_rows=4)
    assert isinstance(engine, FallbackEngine)
    requests = requests_for(10)
    for request, completion in zip(requests, sample_all(engine, requests), strict=True):
        ids = torch.tensor([request.prompt_token_ids + completion.token_ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        start = len(request.prompt_token_ids)
        expected = logprobs[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]
        assert_same(torch.tensor(completion.sampler_logprobs), expected, model)
        assert (completion.token_ids[-1] == 3) == (completion.finish_reason == "stop")
        assert 3 not in completion.token_ids[:-1]


def is_drawn_at_a_border(
    model: PreTrainedModel, request: SampleRequest, one: tuple[int, ...], other: tuple[int, ...]
) -> bool:
    """Whether rounding decides the first draw that differs: its number is the border of two shares."""
    i = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    low, high = sorted((one[i], other[i]))
    with torch.no_grad():
        logits = model(torch.tensor([request.prompt_token_ids + one[:i]])).logits[0, -1].double()
    shares = logits.softmax(-1).cumsum(-1)
    uniform = float(Uniforms(request.seed).take(i + 1)[i])
    return all(is_a_tie(float(share), uniform, relative_error(model)) for share in shares[low:high])


def test_both_engines_draw_the_same_sample_for_a_seed(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    requests = requests_for(12)
    fallback = sample_all(FallbackEngine(model, tokenizer), requests)
    local = sample_all(LocalEngine(model, tokenizer), requests)
    num_same = 0
    for request, one, other in zip(requests, fallback, local, strict=True):
        if one.token_ids == other.token_ids:
            assert one.text == other.text
            num_same += 1
        else:
            assert is_drawn_at_a_border(model, request, one.token_ids, other.token_ids)
    assert num_same >= len(requests) - 1


def test_fallback_weights_are_a_copy_and_can_be_replaced(
    gpt2: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = gpt2
    engine = FallbackEngine(model, tokenizer)
    request = requests_for(1)[0]
    before = sample_all(engine, [request])[0]
    original = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert sample_all(engine, [request])[0] == before
    engine.load_weights(model.state_dict().items(), version=3)
    changed = sample_all(engine, [request])[0]
    assert changed.weights_version == 3
    assert changed.sampler_logprobs != before.sampler_logprobs
    engine.load_weights(original.items(), version=4)
    assert sample_all(engine, [request])[0].token_ids == before.token_ids
    with pytest.raises(ModelError, match=r"'extra' is not one of the weights of GPT2LMHeadModel"):
        engine.load_weights([("extra", torch.zeros(1))], version=5)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_any_temperature_can_be_sampled(
    gpt2: tuple[PreTrainedModel, PreTrainedTokenizerBase], temperature: float
) -> None:
    model, tokenizer = gpt2
    params = SamplingParams(5, temperature=temperature, top_p=0.9 if temperature else 1.0)
    (completion,) = sample_all(FallbackEngine(model, tokenizer), [SampleRequest(0, PROMPTS[1], params, 3)])
    ids = torch.tensor([PROMPTS[1] + completion.token_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(PROMPTS[1]) - 1 : -1]
    logprobs = (logits / (temperature or 1.0)).log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    assert float((expected - torch.tensor(completion.sampler_logprobs)).abs().max()) < 1e-4
    if temperature == 0:
        assert completion.token_ids == tuple(logits.argmax(-1).tolist())


def test_of_a_prompt_the_head_gets_the_last_position_alone(
    gpt2: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = gpt2
    engine = FallbackEngine(model, tokenizer)
    seen: list[tuple[int, ...]] = []
    engine._model.lm_head.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    sample_all(engine, [SampleRequest(0, PROMPTS[1], SamplingParams(3), 0)])
    assert seen == [(1, 1, 384)] * 3


def test_a_copy_in_half_precision_keeps_its_rotary_frequencies(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    copied = FallbackEngine(model, tokenizer, dtype=torch.bfloat16)._model
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.bfloat16}
    assert copied.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(copied.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
