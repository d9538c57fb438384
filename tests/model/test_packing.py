"""Rows that share their prompt against the same rows padded, one prompt each."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from r1kit.model import packing
from r1kit.model.loading import checkpoint_layers
from r1kit.model.logprobs import completion_logprobs
from r1kit.model.packing import PACKED_ROWS, PADDED, SHARED_PROMPTS, batching_for, why_padded
from tests.bounds import assert_same
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

ONE, TWO = list(range(20, 31)), [5, 6, 7]
# groups of odd sizes, their rows mixed: five of ONE, two of TWO, one alone; some completions are one token
PROMPTS = [ONE, TWO, ONE, [9], ONE, TWO, ONE, ONE]
COMPLETIONS = [[*range(40, 40 + n)] for n in (3, 1, 12, 4, 11, 7, 1, 5)]


def results(model, batching, prompts, completions, *, max_tokens=10_000):
    """Logprobs and entropies of every row, and the gradient of a loss that weighs every token differently."""
    model.zero_grad()
    rows = {}
    for indices in batching.pack(prompts, completions, max_tokens):
        batch = batching.collate([prompts[i] for i in indices], [completions[i] for i in indices], 1)
        logprobs_BT, entropy_BT = completion_logprobs(model, batch, temperature=0.8, with_entropy=True)
        weights = torch.arange(1, logprobs_BT.shape[1] + 1) * torch.tensor([[i + 1.0] for i in indices])
        (logprobs_BT * weights).mul(1e-3).sum().backward()
        for b, i in enumerate(indices):
            assert logprobs_BT[b, len(completions[i]) :].abs().sum() == 0
            rows[i] = torch.stack([logprobs_BT[b], entropy_BT[b]]).detach()[:, : len(completions[i])]
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return torch.cat([rows[i] for i in range(len(prompts))], 1), gradient


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return load_tiny(tiny_model(tmp_path_factory.mktemp("model")))[0].train()


@pytest.mark.parametrize("architecture", packing.MODEL_TYPES)
def test_logprobs_and_gradients_are_those_of_padded_rows(tmp_path, architecture):
    model = load_tiny(tiny_model(tmp_path, architecture, tied=architecture != "llama"))[0].train()
    assert batching_for(model) is SHARED_PROMPTS
    assert batching_for(model, shared=False) is PACKED_ROWS
    expected, expected_gradient = results(model, PADDED, PROMPTS, COMPLETIONS)
    for batching in (SHARED_PROMPTS, PACKED_ROWS):
        logprobs, gradient = results(model, batching, PROMPTS, COMPLETIONS)
        assert_same(logprobs, expected, model)
        assert_same(gradient, expected_gradient, model)
        assert gradient.abs().max() > 0.01
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "rows", [[2], [6], [1, 6], [0, 2, 4], [3, 1, 7]], ids=["one", "one token", "only one token", "3", "mixed"]
)
def test_any_part_of_the_groups_gives_the_same(qwen3, rows):
    prompts, completions = [PROMPTS[i] for i in rows], [COMPLETIONS[i] for i in rows]
    found = results(qwen3, SHARED_PROMPTS, prompts, completions)
    for one, other in zip(found, results(qwen3, PADDED, prompts, completions), strict=True):
        assert_same(one, other, qwen3)


def test_groups_that_are_split_over_micro_batches_give_the_same(qwen3):
    whole = results(qwen3, SHARED_PROMPTS, PROMPTS, COMPLETIONS)
    split = results(qwen3, SHARED_PROMPTS, PROMPTS, COMPLETIONS, max_tokens=30)
    for one, other in zip(whole, split, strict=True):
        assert_same(one, other, qwen3)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_same_rows_give_the_same_bits(qwen3, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        first = results(qwen3, SHARED_PROMPTS, PROMPTS, COMPLETIONS)
        for _ in range(3):
            again = results(qwen3, SHARED_PROMPTS, PROMPTS, COMPLETIONS)
            assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    finally:
        torch.set_num_threads(before)


def gemma2():
    """A family that shared prompts don't cover: windows in every other layer, capped attention and logits."""
    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=384, num_key_value_heads=2, head_dim=8, sliding_window=8, **sizes)
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("llama", None),
        ("qwen2", None),
        ("qwen3", None),
        ("mistral", None),
        ("mistral, windowed", "it attends within a sliding window of 8 tokens"),
        ("gemma2", "model type 'gemma2' is not one of"),
    ],
)
def test_at_every_budget_a_row_is_trained_as_it_is_alone(tmp_path, name, why):
    """Packed where that is exact for the family, else padded; the windows are shorter than the rows."""
    model = (gemma2() if name == "gemma2" else load_tiny(tiny_model(tmp_path, name))[0]).train()
    batching = batching_for(model)
    assert batching is (PADDED if why else SHARED_PROMPTS)
    assert why_padded(model) is None if why is None else why_padded(model).startswith(why)
    alone = results(model, PADDED, PROMPTS, COMPLETIONS, max_tokens=1)
    assert alone[1].abs().max() > 0.01
    num_packs = []
    for budget in (1, 24, 40, 10_000):
        num_packs.append(len(batching.pack(PROMPTS, COMPLETIONS, budget)))
        for found, expected in zip(
            results(model, batching, PROMPTS, COMPLETIONS, max_tokens=budget), alone, strict=True
        ):
            assert_same(found, expected, model)
    assert num_packs[0] == len(PROMPTS) > num_packs[1] > num_packs[2] > num_packs[3] == 1


def test_a_completion_sees_nothing_of_another(qwen3):
    def first_row(other):
        batch = SHARED_PROMPTS.collate([ONE, ONE], [[50, 51, 52], other], 1)
        with torch.no_grad():
            return completion_logprobs(qwen3, batch)[0][0]

    assert torch.equal(first_row([60, 61, 62]), first_row([70, 71, 72]))


def test_the_sequence_by_hand():
    batch = SHARED_PROMPTS.collate([(7, 8), (3,), (7, 8)], [(9, 2), (6, 2), (9, 4, 5)], 1)
    # prompts 7 8 and 3, the longest row's first; then 9 4 of row 2, 9 of row 0, 6 of row 1
    assert batch.input_ids_S.tolist() == [7, 8, 3, 9, 4, 9, 6]
    assert batch.position_ids_S.tolist() == [0, 1, 0, 2, 3, 2, 1]
    assert batch.target_ids_BT.tolist() == [[9, 2, 0], [6, 2, 0], [9, 4, 5]]
    assert batch.source_BT.tolist() == [[1, 5, 0], [2, 6, 0], [1, 3, 4]]
    assert batch.loss_mask_BT.tolist() == [[True, True, False], [True, True, False], [True] * 3]


def test_rows_that_share_nothing_by_hand():
    batch = PACKED_ROWS.collate([(7, 8), (7,)], [(9, 2), (6, 5, 4, 2)], 1)
    # the longest first, each without its last token
    assert batch.input_ids_S.tolist() == [7, 6, 5, 4, 7, 8, 9]
    assert batch.position_ids_S.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.target_ids_BT.tolist() == [[9, 2, 0, 0], [6, 5, 4, 2]]
    assert batch.source_BT.tolist() == [[5, 6, 0, 0], [0, 1, 2, 3]]
    assert batch.loss_mask_BT.tolist() == [[True, True, False, False], [True] * 4]
    # 4 + 3 fit into 7, padding is not counted; 9 does not fit and is alone
    lengths = [2, 3, 1, 8]
    assert PACKED_ROWS.pack([(1,)] * 4, [[0] * n for n in lengths], 7) == [[3], [1, 0], [2]]


def test_packs_count_a_prompt_once_and_keep_a_group_together_where_it_fits():
    prompts = [[1] * 4] * 3 + [[2] * 4] * 2 + [[3] * 9]
    completions = [[0] * n for n in (3, 2, 1, 4, 4, 9)]
    # [3]: 9 + 9 = 18 > 14, alone. [2]: 4 + 4 + 4 = 12. [1]: 4 + 3 + 2 + 1 = 10, too many for the 2 left
    assert SHARED_PROMPTS.pack(prompts, completions, 14) == [[5], [3, 4], [0, 1, 2]]
    # one group of 12 is over the budget of 9: 4 + 4 and 4 + 4; the other is 4 + 3 + 2 and 4 + 1
    assert SHARED_PROMPTS.pack(prompts[:5], completions[:5], 9) == [[3], [4], [0, 1], [2]]


def test_copies_of_a_long_prompts_keys_are_bounded():
    # 20 + 10 * 1 tokens fit into 40, but each row attends over 21 keys: 7 rows are 147 of 4 * 40, 8 are 168
    packs = SHARED_PROMPTS.pack([[1] * 20] * 10, [[0]] * 10, 40)
    assert [len(pack) for pack in packs] == [7, 3]


def test_models_that_cant_share_keep_padded_rows(tmp_path):
    def qwen2(**fields):
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        return Qwen2ForCausalLM(Qwen2Config(vocab_size=16, intermediate_size=8, **sizes, **fields))

    assert why_padded(qwen2()) is None
    windowed = qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert "sliding_attention" in why_padded(windowed)
    assert batching_for(windowed) is PADDED
    assert "'eager'" in why_padded(qwen2(attn_implementation="eager"))
    growing = qwen2(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    assert "'dynamic'" in why_padded(growing)
    checkpointing = qwen2()
    checkpointing.model.gradient_checkpointing = True
    assert "backward" in why_padded(checkpointing)
    checkpoint_layers(checkpointing)  # which runs them under the same attention
    assert why_padded(checkpointing) is None
    other = qwen2()
    other.config.model_type = "mamba"
    assert "'mamba'" in why_padded(other)
