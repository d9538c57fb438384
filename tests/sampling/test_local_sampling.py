import math

import pytest
import torch

from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.local.sampling import RowParams, Uniforms, sample_tokens
from tests.bounds import FEW, rounding_error

pytestmark = pytest.mark.numerical

CPU = torch.device("cpu")


def draw(
    logits: torch.Tensor, params: SamplingParams, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [params] * len(uniforms)
    return sample_tokens(logits.expand(len(uniforms), -1).clone(), RowParams.of(rows, CPU), uniforms)


def kept_tokens(probs: list[float], params: SamplingParams) -> set[int]:
    """The tokens that evenly spaced uniforms reach."""
    uniforms = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    tokens, _ = draw(torch.tensor(probs).log(), params, uniforms)
    return set(tokens.tolist())


def test_the_token_is_where_the_cumulative_share_passes_the_uniform() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    uniforms = torch.tensor(
        [0.0, 0.0999, 0.1001, 0.2999, 0.3001, 0.5999, 0.6001, 1 - 2**-53], dtype=torch.float64
    )
    tokens, logprobs = draw(logits, SamplingParams(1), uniforms)
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.allclose(logprobs, logits[tokens], rtol=0, atol=FEW)


def test_frequencies_follow_the_softmax_at_the_temperature() -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(23)
    num = 40_000
    uniforms = Uniforms(seed=5).take(num)
    for temperature in (1.0, 0.5):
        tokens, _ = draw(logits, SamplingParams(1, temperature=temperature), uniforms)
        expected = num * (logits / temperature).softmax(-1)
        counts = torch.bincount(tokens, minlength=23)
        large = expected >= 5
        chi_square = ((counts - expected)[large] ** 2 / expected[large]).sum()
        # with 22 degrees of freedom at most, 48.3 is passed once in a thousand
        assert chi_square < 48.3


def test_tokens_of_probability_zero_are_never_drawn() -> None:
    logits = torch.full((100,), float("-inf"))
    logits[[7, 50, 98]] = 0.0
    uniforms = torch.cat(
        [torch.linspace(0, 1 - 2**-53, 999, dtype=torch.float64), torch.tensor([1 - 2**-53])]
    )
    tokens, logprobs = draw(logits, SamplingParams(1), uniforms)
    assert set(tokens.tolist()) == {7, 50, 98}
    assert torch.allclose(logprobs, torch.full_like(logprobs, -math.log(3)), rtol=0, atol=FEW)


def test_a_large_vocabulary_keeps_its_tail() -> None:
    # half of the mass is on token 0, the rest is spread over 150,000 tokens of 3.3e-6 each
    logits = torch.zeros(150_001)
    logits[0] = math.log(150_000)
    uniforms = 0.5 + (torch.arange(64, dtype=torch.float64) + 0.5) / 128
    tokens, _ = draw(logits, SamplingParams(1), uniforms)
    expected = 1 + (uniforms - 0.5) * 2 * 150_000
    assert float((tokens - expected).abs().max()) < 15  # of 150,000: 1e-4 of the tail


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(1, top_k=2), {1, 3}),
        (SamplingParams(1, top_p=0.39), {1}),  # the token that reaches the mass belongs to it
        (SamplingParams(1, top_p=0.41), {1, 3}),
        (SamplingParams(1, top_p=0.71), {1, 3, 2}),
        (SamplingParams(1, min_p=0.3), {1, 3, 2}),  # 0.3 * 0.4 = 0.12 <= 0.15
        (SamplingParams(1, min_p=0.5), {1, 3}),
        (SamplingParams(1, top_k=3, top_p=0.5), {1, 3}),  # of 0.4 + 0.3 + 0.15 = 0.85: 0.4 is 47%
        (SamplingParams(1, top_k=1, min_p=0.01, top_p=0.99), {1}),
        (SamplingParams(1, temperature=0.01, top_p=0.999), {1}),
        (SamplingParams(1), {0, 1, 2, 3, 4}),
    ],
)
def test_top_k_top_p_and_min_p_keep_the_right_tokens(params: SamplingParams, kept: set[int]) -> None:
    assert kept_tokens([0.1, 0.4, 0.15, 0.3, 0.05], params) == kept


@pytest.mark.parametrize("top_p", [0.5, 0.9, 0.99])
def test_a_nucleus_of_many_tokens_is_found(top_p: float) -> None:
    torch.manual_seed(1)
    probs = (0.3 * torch.randn(500)).softmax(-1)
    ordered = probs.sort(descending=True)
    num = int((ordered.values.double().cumsum(0) - ordered.values < top_p).sum())
    assert num > 128  # more than the first two numbers of candidates
    uniforms = (torch.arange(8_000, dtype=torch.float64) + 0.5) / 8_000
    tokens, logprobs = draw(probs.log(), SamplingParams(1, top_p=top_p), uniforms)
    assert set(tokens.tolist()) == set(ordered.indices[:num].tolist())
    # log-probabilities are those of the whole distribution
    bound = rounding_error(500, float(probs.log().abs().max()))
    assert torch.allclose(logprobs, probs.log()[tokens], rtol=0, atol=bound)


def test_rows_with_other_parameters_do_not_change_a_row() -> None:
    torch.manual_seed(2)
    logits = torch.randn(4, 300)
    uniforms = torch.tensor([0.3, 0.6, 0.2, 0.9], dtype=torch.float64)
    kinds = [
        SamplingParams(1),
        SamplingParams(1, temperature=0.3),
        SamplingParams(1, top_p=0.5),
        SamplingParams(1, temperature=0.0),
    ]
    together = sample_tokens(logits.clone(), RowParams.of(kinds, CPU), uniforms)
    for row, params in enumerate(kinds):
        alone = sample_tokens(
            logits[row : row + 1].clone(), RowParams.of([params], CPU), uniforms[row : row + 1]
        )
        assert alone[0].item() == together[0][row].item()
        assert alone[1].item() == together[1][row].item()
    assert together[0][3] == logits[3].argmax()


def test_uniforms_are_one_stream_however_they_are_taken() -> None:
    whole = Uniforms(2**63 - 1).take(100)
    parts = Uniforms(2**63 - 1)
    assert torch.equal(whole, torch.cat([parts.take(1), parts.take(31), parts.take(68)]))
    assert not torch.equal(whole, Uniforms(0).take(100))
