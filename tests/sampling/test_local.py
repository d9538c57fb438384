import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError, UserError
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import FallbackEngine, LocalEngine, make_engine, weights, why_unsupported
from r1kit.sampling.local.spec import read_spec
from r1kit.types import Completion
from tests.bounds import is_a_tie, model_roundings, rounding_error
from tests.tiny_models import load_tiny, tiny_model

ARCHITECTURES = [(name, tied) for name in ("llama", "qwen2", "qwen3", "mistral") for tied in (True, False)]
SLIDING, FULL = "sliding_attention", "full_attention"
WINDOWED = [
    ("mistral", {"sliding_window": 16}),  # shorter than most prompts
    ("mistral", {"sliding_window": 48}),  # crossed in the completion by some, passed in the prompt by others
    ("mistral", {"sliding_window": 1}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 20, "layer_types": [SLIDING, FULL]}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 50, "layer_types": [FULL, SLIDING]}),
]


@pytest.fixture(params=["plain", "packed"], autouse=True)
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with torch's own matrix products, and with packed weights where they are to be had."""
    if request.param == "packed":
        monkeypatch.setattr(weights, "_FEWEST_PACKED", 0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_tiny(tiny_model(tmp_path_factory.mktemp("qwen3")))


def make_prompts(*lengths: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    return [tuple(torch.randint(10, 370, (length,), generator=generator).tolist()) for length in lengths]


def reference_logprobs(
    model: PreTrainedModel, prompt: tuple[int, ...], token_ids: tuple[int, ...], t: float
) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + token_ids])).logits[0, len(prompt) - 1 : -1]
    return (logits / t).log_softmax(-1).gather(1, torch.tensor(token_ids)[:, None])[:, 0]


def largest_difference(model: PreTrainedModel, request: SampleRequest, completion: Completion) -> float:
    expected = reference_logprobs(
        model, request.prompt_token_ids, completion.token_ids, request.params.temperature or 1.0
    )
    return float((expected - torch.tensor(completion.sampler_logprobs)).abs().max())


def rounding_of(model: PreTrainedModel, request: SampleRequest, completion: Completion) -> float:
    """How far two computations of the logprobs may lie apart; logits go as far as logprobs do."""
    num_positions = len(request.prompt_token_ids) + len(completion.token_ids)
    largest = -min(completion.sampler_logprobs)
    return rounding_error(model_roundings(model, num_positions), max(largest, 1.0))


def assert_same_logprobs(model: PreTrainedModel, request: SampleRequest, completion: Completion) -> None:
    assert largest_difference(model, request, completion) <= rounding_of(model, request, completion)


def num_equal(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = zip(one, other, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(one))


def spread_vectors(model: PreTrainedModel) -> None:
    """Make biases and the weights of norms matter: they are zeros and ones in a new model."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))


@pytest.mark.parametrize(
    ("architecture", "settings"), [*((name, {"tied": tied}) for name, tied in ARCHITECTURES), *WINDOWED]
)
@pytest.mark.numerical
def test_logprobs_equal_those_of_transformers(
    tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path, architecture, **settings))
    spread_vectors(model)
    assert {name.rsplit(".", 1)[1] for name, _ in model.named_parameters()} >= (
        {"weight", "bias"} if architecture == "qwen2" else {"weight"}
    )
    engine = make_engine(model, tokenizer, max_rows=9)
    assert isinstance(engine, LocalEngine)
    # 1: no prefix at all; 33, 65: one past a padded length; several rows per prompt, and refilling (9 rows)
    prompts = make_prompts(1, 2, 33, 65, 100)
    requests = [
        SampleRequest(
            k, prompts[k % 5], SamplingParams(20 + 3 * k, temperature=0.7 if k % 2 else 1.0), seed=k
        )
        for k in range(20)
    ]
    completions = sample_all(engine, requests)
    for request, completion in zip(requests, completions, strict=True):
        assert len(completion.token_ids) == request.params.max_tokens
        assert_same_logprobs(model, request, completion)


@pytest.mark.numerical
def test_biases_and_scaled_rotary_embeddings_are_computed(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path, "llama"))
    config = model.config
    config.attention_bias = config.mlp_bias = True
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    torch.manual_seed(3)
    biased = type(model)(config).eval()
    for parameter in biased.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    engine = make_engine(biased, tokenizer)
    assert isinstance(engine, LocalEngine)
    request = SampleRequest(0, make_prompts(150)[0], SamplingParams(60), seed=5)
    assert_same_logprobs(biased, request, sample_all(engine, [request])[0])


@pytest.mark.numerical
def test_long_completions_cross_every_padded_length(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    engine = make_engine(*tiny)
    requests = [
        SampleRequest(k, make_prompts(300)[0], SamplingParams(600 - 100 * k), seed=k) for k in range(3)
    ]
    for request, completion in zip(requests, sample_all(engine, requests), strict=True):
        assert_same_logprobs(tiny[0], request, completion)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        *((name, {}) for name in ("llama", "qwen2", "qwen3", "mistral")),
        *(w for w in WINDOWED if w[1] != {"sliding_window": 1}),
    ],
)
@pytest.mark.numerical
def test_greedy_equals_generate(tmp_path: Path, architecture: str, settings: dict[str, Any]) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path, architecture, **settings))
    prompts = make_prompts(7, 40)
    requests = [
        SampleRequest(k, prompt, SamplingParams(50, temperature=0.0), seed=k)
        for k, prompt in enumerate(prompts)
    ]
    for request, completion in zip(
        requests, sample_all(make_engine(model, tokenizer), requests), strict=True
    ):
        ids = torch.tensor([request.prompt_token_ids])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=50,
            eos_token_id=None,
            pad_token_id=0,
        )
        num_same = num_equal(completion.token_ids, expected[0, ids.shape[1] :].tolist())
        if num_same < 50:  # only where rounding decides which logit is the largest
            prefix = torch.tensor([request.prompt_token_ids + completion.token_ids[:num_same]])
            first, second = model(prefix).logits[0, -1].topk(2).values.tolist()
            assert is_a_tie(first, second, 2 * rounding_of(model, request, completion))
        # greedy log-probabilities are those at temperature 1
        assert_same_logprobs(model, request, completion)


def test_a_stop_token_ends_the_completion_and_is_its_last_token(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    engine = make_engine(*tiny)
    (prompt,) = make_prompts(12)
    free = sample_all(engine, [SampleRequest(0, prompt, SamplingParams(40), seed=3)])[0]
    assert (free.finish_reason, len(free.token_ids)) == ("length", 40)
    stop = free.token_ids[17]
    first = free.token_ids.index(stop)
    params = SamplingParams(40, stop_token_ids=(stop, 383))
    stopped = sample_all(engine, [SampleRequest(0, prompt, params, seed=3)])[0]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert stopped.sampler_logprobs == free.sampler_logprobs[: first + 1]
    assert stopped.text == tiny[1].decode(free.token_ids[:first])


def test_poll_hands_out_every_result_once_and_then_nothing(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    engine = make_engine(*tiny, max_rows=4)
    prompts = make_prompts(5, 9, 30)
    for key in range(25):
        engine.submit(SampleRequest(key, prompts[key % 3], SamplingParams(1 + key), seed=key))
    keys = []
    while results := engine.poll():
        keys.extend(result.key for result in results)
        assert all(len(result.completion.token_ids) == 1 + result.key for result in results)
    assert sorted(keys) == list(range(25))
    assert engine.poll() == []


def test_load_weights_changes_what_is_sampled_and_its_version(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path / "a", seed=0))
    other, _ = load_tiny(tiny_model(tmp_path / "b", seed=1))
    engine = make_engine(model, tokenizer)
    request = SampleRequest(0, make_prompts(20)[0], SamplingParams(30), seed=0)
    before = sample_all(engine, [request])[0]
    assert (engine.weights_version, before.weights_version) == (0, 0)
    engine.load_weights(other.state_dict().items(), version=7)
    after = sample_all(engine, [request])[0]
    assert (engine.weights_version, after.weights_version) == (7, 7)
    assert after.token_ids == sample_all(make_engine(other, tokenizer), [request])[0].token_ids
    assert after.token_ids != before.token_ids
    # `named_parameters` leaves a tied head out; that is enough
    engine.load_weights(model.named_parameters(), version=8)
    assert sample_all(engine, [request])[0].token_ids == before.token_ids


def test_training_the_model_on_does_not_change_the_engine(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    engine = make_engine(model, tokenizer)
    request = SampleRequest(0, make_prompts(20)[0], SamplingParams(30), seed=0)
    before = sample_all(engine, [request])[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert sample_all(engine, [request])[0] == before


def test_wrong_weights_are_refused_by_name(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    engine = make_engine(*tiny)
    weights = dict(tiny[0].state_dict())
    with pytest.raises(ModelError, match=r"'model.layers.9.mlp.up_proj.weight'"):
        engine.load_weights(
            {**weights, "model.layers.9.mlp.up_proj.weight": torch.zeros(1)}.items(), version=1
        )
    with pytest.raises(ModelError, match=r"shape \(32,\).*has \(384, 32\)"):
        engine.load_weights({**weights, "model.embed_tokens.weight": torch.zeros(32)}.items(), version=1)
    del weights["model.norm.weight"]
    with pytest.raises(ModelError, match=r"1 weights are missing.*'model.norm.weight'"):
        engine.load_weights(weights.items(), version=1)
    assert engine.weights_version == 0


def test_weights_are_not_loaded_under_requests(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    engine = make_engine(*tiny)
    engine.submit(SampleRequest(0, (5, 6), SamplingParams(4), seed=0))
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.load_weights(tiny[0].state_dict().items(), version=1)


def test_weights_that_are_not_finite_are_reported_and_leave_nothing_behind(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    engine = make_engine(*tiny)
    request = SampleRequest(0, make_prompts(20)[0], SamplingParams(30), seed=0)
    good = sample_all(engine, [request])[0]
    broken = {name: torch.full_like(weight, float("nan")) for name, weight in tiny[0].state_dict().items()}
    engine.load_weights(broken.items(), version=1)
    with pytest.raises(ModelError, match=r"not finite \(weights version 1\)"):
        sample_all(engine, [request])
    engine.load_weights(tiny[0].state_dict().items(), version=2)
    assert sample_all(engine, [request])[0] == dataclasses.replace(good, weights_version=2)


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ((), SamplingParams(4), "empty prompt"),
        ((5, 384), SamplingParams(4), "token id 384 is not in the vocabulary of 384"),
        ((5,) * 1000, SamplingParams(25), "make 1025, above the model's max_position_embeddings of 1024"),
        ((5,), SamplingParams(0), "max_tokens = 0"),
        ((5,), SamplingParams(4, temperature=-1.0), "temperature = -1.0"),
        ((5,), SamplingParams(4, top_p=0.0), "top_p = 0.0"),
        ((5,), SamplingParams(4, stop_strings=("a", "")), r"stop_strings = \('a', ''\) must be strings that"),
    ],
)
@pytest.mark.parametrize("engine_class", [LocalEngine, FallbackEngine])
def test_what_cannot_be_sampled_is_refused_at_submission(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    engine_class: type[LocalEngine] | type[FallbackEngine],
    prompt: tuple[int, ...],
    params: SamplingParams,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        engine_class(*tiny).submit(SampleRequest(0, prompt, params, seed=0))


@pytest.mark.numerical
def test_a_request_may_fill_the_context_to_its_end(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    request = SampleRequest(0, make_prompts(1000)[0], SamplingParams(24), seed=0)
    completion = sample_all(make_engine(*tiny), [request])[0]
    assert_same_logprobs(tiny[0], request, completion)


@pytest.mark.parametrize("engine_class", [LocalEngine, FallbackEngine])
def test_the_pieces_of_a_stream_make_the_text_of_the_completion(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    engine_class: type[LocalEngine] | type[FallbackEngine],
) -> None:
    engine = engine_class(*tiny)
    (prompt,) = make_prompts(10)
    # a random byte-level model makes broken and whole characters of several bytes, and added tokens
    for seed in range(6):
        params = SamplingParams(60, stop_token_ids=(0,))
        pieces = list(engine.stream(prompt, params, seed))
        assert "".join(pieces) == sample_all(engine, [SampleRequest(0, prompt, params, seed)])[0].text


@pytest.mark.parametrize("engine_class", [LocalEngine, FallbackEngine])
def test_streams_side_by_side_give_what_each_gives_alone(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    engine_class: type[LocalEngine] | type[FallbackEngine],
) -> None:
    engine = engine_class(*tiny)
    (prompt,) = make_prompts(10)
    # a step for the longer one also finishes the shorter one
    asked = [
        SampleRequest(key, prompt, SamplingParams(length), seed=key) for key, length in enumerate((7, 40))
    ]
    alone = [sample_all(engine, [request])[0] for request in asked]
    streams = {r.key: engine.stream(prompt, r.params, r.seed) for r in asked}
    texts, ended = {0: "", 1: ""}, {}
    for turn in itertools.cycle((1, 1, 0)):
        if turn in streams:
            try:
                texts[turn] += next(streams[turn])
            except StopIteration as end:
                ended[turn] = end.value
                del streams[turn]
        if not streams:
            break
    assert [ended[0], ended[1]] == alone
    assert [texts[0], texts[1]] == [completion.text for completion in alone]


def test_a_stream_that_is_left_early_is_no_longer_in_flight(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    engine = make_engine(*tiny)
    engine.submit(SampleRequest(4, (5, 6, 7), SamplingParams(30), seed=4))
    stream = engine.stream((5, 6, 7), SamplingParams(50), 1)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert [result.key for result in engine.poll()] == [4]
    engine.load_weights(tiny[0].state_dict().items(), version=1)


@pytest.mark.numerical
def test_bfloat16_stays_near_float32(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    engine = make_engine(*tiny, dtype=torch.bfloat16)
    request = SampleRequest(0, make_prompts(40)[0], SamplingParams(40), seed=0)
    assert 0 < largest_difference(tiny[0], request, sample_all(engine, [request])[0]) < 0.1


@pytest.mark.parametrize(
    ("settings", "windowed"),
    [
        ({"sliding_window": 1024}, set()),  # as long as the context: it never closes
        ({"sliding_window": None}, set()),
        ({"sliding_window": 1023}, {0, 1}),
    ],
)
def test_a_window_counts_where_it_is_shorter_than_the_context(
    tmp_path: Path, settings: dict[str, Any], windowed: set[int]
) -> None:
    model, _ = load_tiny(tiny_model(tmp_path, "mistral", **settings))
    spec = read_spec(model)
    assert (spec.windowed, spec.window) == (windowed, 1023 if windowed else None)


def test_layers_of_an_unknown_type_are_left_to_transformers(tmp_path: Path) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path))
    model.config.layer_types = [FULL, "chunked_attention"]
    reason = "layers of types ['chunked_attention', 'full_attention']"
    assert reason in (why_unsupported(model) or "")
    assert isinstance(make_engine(model, tokenizer), FallbackEngine)
    with pytest.raises(ModelError, match=re.escape(reason)):
        LocalEngine(model, tokenizer)
    model.config.layer_types = [FULL, SLIDING]
    assert why_unsupported(model) == "it has layers of type 'sliding_attention' and no `sliding_window`"


def test_packed_weights_replace_the_plain_ones(tmp_path: Path, products: None) -> None:
    model, tokenizer = load_tiny(tiny_model(tmp_path, "llama", hidden=64))
    engine = make_engine(model, tokenizer)
    held = engine._decoder.weights
    up = held.layers[0].up
    if not held.packs:  # the small model's rule, or another processor
        assert up.packed is None
        assert torch.equal(up.weight, model.model.layers[0].mlp.up_proj.weight)
        return
    assert up.packed is not None
    assert up.weight.untyped_storage().size() == 0
    # a tied head is packed, and its rows are still there to be read as embeddings
    assert model.config.tie_word_embeddings == held.spec.tied
    assert torch.equal(held.embed, model.model.embed_tokens.weight)
    engine.load_weights(model.named_parameters(), 1)  # into weights that are packed already
    assert up.weight.untyped_storage().size() == 0
