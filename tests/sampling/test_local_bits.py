"""A request's completion and its log-probabilities are the same to the bit whatever is sampled beside it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine, weights
from r1kit.types import Completion
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

# Lengths on both sides of the padded ones (32, 64, 96), groups of 1 to 30 rows, every kind of sampling.
PROMPT_LENGTHS = (1, 2, 33, 34, 60, 65, 66, 97)
NUM_REQUESTS = 120


MIXED = {
    "use_sliding_window": True,
    "sliding_window": 40,
    "layer_types": ["sliding_attention", "full_attention"],
}
MODELS = [
    ("qwen3", 32, 1, {}),
    ("qwen2", 32, 1, {}),
    ("llama", 128, 1, {}),
    ("llama", 128, 2, {}),
    ("mistral", 64, 1, {"sliding_window": 40}),
    ("qwen3", 64, 2, MIXED),
]


@pytest.fixture(params=["plain", "packed"], autouse=True)
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds with torch's own matrix products, and with packed weights where they are to be had."""
    if request.param == "packed":
        monkeypatch.setattr(weights, "_FEWEST_PACKED", 0)


@pytest.fixture(params=MODELS, ids=str)
def model(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
    """Models of all families and several widths, under one thread and under two."""
    architecture, hidden, num_threads, settings = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    yield load_tiny(tiny_model(tmp_path, architecture, hidden=hidden, **settings))
    torch.set_num_threads(before)


def make_requests() -> list[SampleRequest]:
    generator = torch.Generator().manual_seed(2)
    prompts = [tuple(torch.randint(10, 370, (n,), generator=generator).tolist()) for n in PROMPT_LENGTHS]
    kinds = [{}, {"temperature": 0.6, "top_p": 0.95}, {"top_k": 5}, {"temperature": 0.0}, {"min_p": 0.1}]
    requests = []
    for key in range(NUM_REQUESTS):
        # every tenth row outgrows its first padded length of 32
        max_tokens = 3 + (key * 37) % 10 + 31 * (key % 10 == 9)
        params = SamplingParams(max_tokens, stop_token_ids=(3, 4), **kinds[key % 5])  # type: ignore[arg-type]
        requests.append(SampleRequest(key, prompts[min(key % 11, 7)], params, seed=key))
    return requests


def test_a_sample_does_not_depend_on_its_company(
    model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    requests = make_requests()
    expected = dict(enumerate(sample_all(make_engine(*model, max_rows=256), requests)))
    assert {completion.finish_reason for completion in expected.values()} == {"stop", "length"}
    rng = random.Random(0)
    for max_rows, num_others in ((256, 0), (256, 3), (256, 17), (256, 100), (5, 17), (40, 100)):
        some = rng.sample(requests, 1 + num_others)  # in another order as well
        completions: list[Completion] = sample_all(make_engine(*model, max_rows=max_rows), some)
        for request, completion in zip(some, completions, strict=True):
            assert completion == expected[request.key], (max_rows, num_others, request.key)


def test_a_sample_does_not_depend_on_what_the_engine_did_before(
    model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    requests = make_requests()[:20]
    engine = make_engine(*model, max_rows=8)
    first = sample_all(engine, requests)
    engine.load_weights(model[0].state_dict().items(), version=0)
    assert sample_all(engine, list(reversed(requests))) == list(reversed(first))


def test_another_seed_is_another_sample(model: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    requests = [SampleRequest(seed, (5, 6, 7), SamplingParams(30), seed) for seed in range(40)]
    completions = sample_all(make_engine(*model), requests)
    assert len({completion.token_ids for completion in completions}) == 40
