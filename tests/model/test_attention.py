"""Attention of rows in one sequence, over tiles and by torch's kernel, against a loop over tokens."""

import pytest
import torch

from r1kit.model import attention, attention_layout
from r1kit.model.attention_layout import lay_out

pytestmark = pytest.mark.numerical

# a prompt of 5 alone and one of 3 with completions of 4, 4 and 2; then 1 behind the prompt of 5
ROWS = [((0, 0), [5, 3]), ((5, 8), [4, 4, 2]), ((0, 5), [1])]
LONG = [((0, 0), [90, 70]), ((0, 90), [150, 140, 40, 1]), ((90, 160), [33])]


class Module(torch.nn.Module):
    """What transformers' attention function asks a layer for."""

    is_causal = True

    def __init__(self, num_key_value_groups):
        super().__init__()
        self.num_key_value_groups = num_key_value_groups


def seen_by(rows):
    """For each position of the sequence the positions that it sees, by hand."""
    seen, start = [], 0
    for prompt, lengths in rows:
        for length in lengths:
            seen += [[*range(*prompt), *range(start, start + n + 1)] for n in range(length)]
            start += length
    return seen


def by_hand(query_1HSD, key_1JSD, value_1JSD, rows):
    group = query_1HSD.shape[1] // key_1JSD.shape[1]
    key, value = (x[0].repeat_interleave(group, 0) for x in (key_1JSD, value_1JSD))
    outputs = []
    for position, keys in enumerate(seen_by(rows)):
        scores = torch.einsum("hd,hkd->hk", query_1HSD[0, :, position], key[:, keys])
        weights = (scores * query_1HSD.shape[-1] ** -0.5).softmax(-1)
        outputs.append(torch.einsum("hk,hkd->hd", weights, value[:, keys]))
    return torch.stack(outputs)[None]


def inputs(rows, heads, key_heads, dtype, width=8):
    generator = torch.Generator().manual_seed(3)
    num_positions = sum(sum(lengths) for _, lengths in rows)

    def draw(num_heads):
        # as projections give them: a token's heads lie together
        drawn = torch.randn(1, num_positions, num_heads, width, generator=generator, dtype=dtype)
        return drawn.transpose(1, 2).requires_grad_()

    return draw(heads), draw(key_heads), draw(key_heads)


def output_and_gradients(function, tensors):
    output = function(*tensors)
    weights = torch.arange(output.numel()).view_as(output).sin().to(output.dtype)
    return output.detach(), *torch.autograd.grad((output * weights).sum(), tensors)


def attended(rows, **options):
    layout = lay_out(rows)

    def run(query, key, value):
        module = Module(query.shape[1] // key.shape[1])
        return attention.attend(module, query, key, value, None, layout=layout, **options)[0]

    return run


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize("rows", [ROWS, LONG], ids=["short", "long"])
@pytest.mark.parametrize("scores", [2**19, 3000], ids=["whole", "cut"])
def test_tiles_are_attention_to_the_prompt_and_the_row_so_far(monkeypatch, rows, heads, key_heads, scores):
    """Rows of several tiles, tiles of some of the heads, padding: outputs and gradients in float64."""
    monkeypatch.setattr(attention, "_TILE_SCORES", scores)
    tensors = inputs(rows, heads, key_heads, torch.float64)
    found = output_and_gradients(attended(rows), tensors)
    expected = output_and_gradients(lambda *parts: by_hand(*parts, rows), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert all(gradient.abs().max() > 0.1 for gradient in found[1:])


@pytest.mark.parametrize("rows", [ROWS, LONG], ids=["short", "long"])
def test_torchs_kernel_gives_the_same(monkeypatch, rows):
    """What a GPU runs, and what computes dropout."""
    tensors = inputs(rows, 4, 2, torch.float64)
    tiled = output_and_gradients(attended(rows), tensors)
    monkeypatch.setattr(attention, "_is_tiled", lambda query, dropout: False)
    found = output_and_gradients(attended(rows), tensors)
    for one, other in zip(tiled, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    # in bfloat16 up to its rounding: 8 bits, added up over a prompt's rows in float32
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]
    for one, other in zip(found, output_and_gradients(attended(rows), rounded), strict=True):
        assert other.dtype == torch.bfloat16
        assert (one - other).norm() < 0.02 * one.norm()


@pytest.mark.parametrize("rows", [ROWS, LONG], ids=["short", "long"])
def test_bfloat16_is_computed_in_float32_on_a_cpu(rows):
    """Only inputs, outputs and gradients are rounded, to 8 bits; a prompt's gradients add up before."""
    tensors = [tensor.detach().bfloat16().requires_grad_() for tensor in inputs(rows, 4, 2, torch.float64)]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found = output_and_gradients(attended(rows), tensors)
    for one, other in zip(output_and_gradients(attended(rows), exact), found, strict=True):
        assert other.dtype == torch.bfloat16
        # the output's rounding also reaches the gradients of the test's own loss
        assert (one - other).norm() < 2 * 2**-8 * one.norm()


def test_scores_are_scaled_as_the_layer_says():
    query, key, value = inputs(ROWS, 2, 2, torch.float64)
    scaled = attended(ROWS, scaling=0.7)(query, key, value)
    by_default = attended(ROWS)(query * (0.7 * 8**0.5), key, value)
    torch.testing.assert_close(scaled, by_default)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_same_bits_each_time(num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        tensors = inputs(LONG, 4, 2, torch.float32)
        first = output_and_gradients(attended(LONG), tensors)
        again = output_and_gradients(attended(LONG), tensors)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    finally:
        torch.set_num_threads(before)


def test_blocks_by_hand(monkeypatch):
    monkeypatch.setattr(attention_layout, "_MAX_PADDING", 0)
    blocks = lay_out([((0, 0), [10, 2]), ((10, 12), [5, 4, 3, 0])]).blocks
    # 2 is less than 0.8 x 10; 4 is 0.8 x 5, and 3 is not; nothing is left of an empty row
    assert [(block.start, block.prompt) for block in blocks] == [
        (0, (0, 0)), (10, (0, 0)), (12, (10, 12)), (21, (10, 12)),
    ]  # fmt: skip
    two = blocks[2]
    assert two.position_KL.tolist() == [[12, 13, 14, 15, 16], [17, 18, 19, 20, 20]]
    assert two.padding_KL is not None
    assert two.padding_KL.tolist() == [[False] * 5, [False] * 4 + [True]]
    assert two.slot_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert two.key_positions().tolist() == [[10, 11, 12, 13, 14, 15, 16], [10, 11, 17, 18, 19, 20, 20]]
    assert blocks[0].padding_KL is None


def test_short_rows_are_padded_rather_than_cut_into_blocks():
    assert len(lay_out([((0, 0), [70, 60, 40, 10])]).blocks) == 1
    assert len(lay_out([((0, 0), [700, 560, 559])]).blocks) == 2


def test_padding_is_at_most_as_much_as_there_are_tokens():
    # 60 + 6 are 66 tokens at 120 places, 60 + 6 + 6 would be 72 at 180
    blocks = lay_out([((0, 0), [60, 6, 6, 6])]).blocks
    assert [len(block.position_KL) for block in blocks] == [2, 2]
    for block in lay_out([((0, 0), [60, *[2] * 30])]).blocks:
        assert block.position_KL.numel() <= 2 * len(block.slot_N)
