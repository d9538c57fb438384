"""Micro-batches in which completions of one prompt share a single copy of it.

The rows of a micro-batch become one sequence without padding: first every distinct prompt, then the
completions, with positions that go on where the prompt ends. Everything but attention runs once per token.
In attention a prompt attends to itself, causally; its completions attend to the prompt's keys and, causally,
to their own, in blocks of similar length. Logprobs and gradients are those of `logprobs.collate` up to
rounding, and the same to the bit each time.
Covered: the model types in `MODEL_TYPES` with full attention, rotary embeddings that are the same at every
length, and transformers' `sdpa` attention, which has to have been the choice. Everything else (sliding
windows, alibi, state spaces, attention kernels of another name) keeps the padded batches of `logprobs`:
`batching_for` decides.

Legend: B rows, S positions of the one sequence, T target positions, N trained positions, K rows of a block,
L positions of its longest row, H heads, D width of a head.

Prompt 7 8 with completions 9 2 and 9 4 5 is the sequence 7 8 | 9 4 | 9 at positions 0 1 | 2 3 | 2: the last
token of a completion predicts nothing, so it is not in it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from r1kit.logprobs import CompletionBatch, collate, pack_by_tokens
from r1kit.models import attention_of

Tokens = Sequence[int]

# Checked against the padded path in tests/test_packing.py.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
# Their frequencies are fixed when the model is made; "dynamic" and "longrope" change them with the length.
_FIXED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")

_ATTENTION = "r1kit_shared_prompt"
# A block's rows are at least this long, as a share of its longest: less is padding, more is small blocks.
_MIN_LENGTH_FRAC = 0.8
# Every row of a block has its own copy of the prompt's keys and values in attention. This bounds their
# tokens to a multiple of the budget, for the memory of long prompts with many short completions.
_MAX_KEYS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows become micro-batches: `pack(prompts, completions, max_tokens)` and `collate(.., pad_id)`."""

    pack: Callable[[Sequence[Tokens], Sequence[Tokens], int], list[list[int]]]
    collate: Callable[[Sequence[Tokens], Sequence[Tokens], int], CompletionBatch]


def batching_for(model: PreTrainedModel) -> Batching:
    """Shared prompts where they are exact for the model, else padded rows."""
    return PADDED if why_not_shared(model) is not None else SHARED_PROMPTS


def why_not_shared(model: PreTrainedModel) -> str | None:
    """The reason why completions can't share their prompt under this model, or None where they can."""
    config = model.config
    if config.model_type not in MODEL_TYPES:
        return f"model type {config.model_type!r} is not one of {', '.join(MODEL_TYPES)}"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation!r}, not 'sdpa'"
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        return f"it has layers of the types {sorted(layer_types)}"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        return f"it attends within a sliding window of {window} tokens"
    rope_type = model.get_decoder().rotary_emb.rope_type
    if rope_type not in _FIXED_ROPE_TYPES:
        return f"its rotary embedding is of the type {rope_type!r}"
    if any(_forgets_attention(module) for module in model.modules()):
        return "its layers run again in the backward pass, under another attention"
    return None


def _forgets_attention(module: torch.nn.Module) -> bool:
    """Whether a layer runs again in the backward pass, but not as `models.checkpoint_layers` has it."""
    again = getattr(module, "_gradient_checkpointing_func", None)
    is_on = bool(getattr(module, "gradient_checkpointing", False))
    return is_on and "context_fn" not in getattr(again, "keywords", {})


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows that attend at once; `mask` [1, 1, L, prompt + L] is 0 where a token sees a key, else -inf."""

    prompt: int
    num_rows: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where prompts and completions are in the sequence.

    `padded_index` takes the completions' tokens into rows of their block's length, one block after
    another; `packed_index` takes them back. `lengths` are those of the prompts, then of all completions.
    """

    lengths: list[int]
    blocks: list[_Block]
    padded_index: Tensor
    packed_index: Tensor

    def to(self, device: str | torch.device) -> "_Layout":
        return _Layout(
            self.lengths,
            [replace(block, mask=block.mask.to(device)) for block in self.blocks],
            self.padded_index.to(device),
            self.packed_index.to(device),
        )


@dataclass(frozen=True, slots=True)
class SharedPromptBatch:
    """Rows in one sequence; `source_BT[b, t]` is the position that predicts token t of row b."""

    input_ids_S: Tensor
    position_ids_S: Tensor
    layout: _Layout
    target_ids_BT: Tensor
    source_BT: Tensor
    loss_mask_BT: Tensor

    def to(self, device: str | torch.device) -> "SharedPromptBatch":
        """The same batch on a device."""
        return SharedPromptBatch(
            self.input_ids_S.to(device),
            self.position_ids_S.to(device),
            self.layout.to(device),
            self.target_ids_BT.to(device),
            self.source_BT.to(device),
            self.loss_mask_BT.to(device),
        )

    def trained_hidden(self, model: PreTrainedModel) -> Tensor:
        """The backbone's output [N, hidden] where trained tokens are predicted, row by row."""
        with attention_of(model, _ATTENTION):
            hidden_1SH = model.get_decoder()(
                input_ids=self.input_ids_S[None],
                position_ids=self.position_ids_S[None],
                use_cache=False,
                layout=self.layout,
            ).last_hidden_state
        return _take(hidden_1SH[0], self.source_BT[self.loss_mask_BT])


def pack_shared(prompts: Sequence[Tokens], completions: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
    """Indices in micro-batches of `max_tokens` at most, a prompt counted once in each.

    Rows of one prompt stay together where they fit into one micro-batch. The longest come first, so that a
    budget that is too large for memory fails at once. A row longer than the budget is alone.
    """
    batches: list[list[int]] = []
    room = keys = 0
    groups = _by_prompt(prompts, completions)
    for prompt, indices in groups:
        whole = len(prompt) + sum(len(completions[i]) for i in indices)
        is_new_prompt = True
        for i in indices:
            length, num_keys = len(completions[i]), len(prompt) + len(completions[i])
            needed = whole if is_new_prompt and whole <= max_tokens else num_keys if is_new_prompt else length
            if not batches or needed > room or num_keys > keys:
                batches.append([])
                room, keys, is_new_prompt = max_tokens, _MAX_KEYS_PER_TOKEN * max_tokens, True
            batches[-1].append(i)
            room -= num_keys if is_new_prompt else length
            keys -= num_keys
            is_new_prompt = False
    return batches


def collate_shared(
    prompts: Sequence[Tokens], completions: Sequence[Tokens], pad_id: int
) -> SharedPromptBatch:
    """The rows as one sequence; targets and masks stay in the rows' order. `pad_id` is not needed."""
    groups = _by_prompt(prompts, completions)
    input_ids = [token for prompt, _ in groups for token in prompt]
    positions = [position for prompt, _ in groups for position in range(len(prompt))]
    shape = len(prompts), max(len(completion) for completion in completions)
    target_ids, source = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    loss_mask = torch.zeros(shape, dtype=torch.bool)
    prompt_end = 0
    for prompt, indices in groups:
        assert prompt, "a completion's first token is predicted at the prompt's last: it can't be empty"
        prompt_end += len(prompt)
        for i in indices:
            completion, length = completions[i], len(completions[i])
            target_ids[i, :length] = torch.tensor(completion, dtype=torch.long)
            source[i, :length] = torch.arange(length) + len(input_ids) - 1
            source[i, :1] = prompt_end - 1
            loss_mask[i, :length] = True
            input_ids += completion[:-1]
            positions += range(len(prompt), len(prompt) + length - 1)
    layout = _layout([(len(prompt), [len(completions[i]) - 1 for i in rows]) for prompt, rows in groups])
    return SharedPromptBatch(
        torch.tensor(input_ids), torch.tensor(positions), layout, target_ids, source, loss_mask
    )


def _pack_padded(
    prompts: Sequence[Tokens], completions: Sequence[Tokens], max_tokens: int
) -> list[list[int]]:
    return pack_by_tokens([len(p) + len(c) for p, c in zip(prompts, completions, strict=True)], max_tokens)


PADDED = Batching(_pack_padded, collate)
SHARED_PROMPTS = Batching(pack_shared, collate_shared)


def _by_prompt(prompts: Sequence[Tokens], completions: Sequence[Tokens]) -> list[tuple[Tokens, list[int]]]:
    """Each distinct prompt with its rows' indices; rows and prompts by the longest row, that one first."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]) - len(completions[i]), i))
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in order:
        groups.setdefault(tuple(prompts[i]), []).append(i)
    return list(groups.items())


def _layout(groups: Sequence[tuple[int, list[int]]]) -> _Layout:
    """The layout of prompts of a length, each with its completions' lengths in descending order."""
    blocks: list[_Block] = []
    padded: list[Tensor] = []
    packed: list[Tensor] = []
    token = slot = 0
    for p, (prompt_length, lengths) in enumerate(groups):
        lengths = [length for length in lengths if length > 0]
        for first, last in _spans(lengths):
            longest = lengths[first]
            # padding stands behind a row's tokens, so that none of them sees it; any token will do
            for length in lengths[first:last]:
                padded.append(token + torch.arange(longest).clamp(max=length - 1))
                packed.append(slot + torch.arange(length))
                token, slot = token + length, slot + longest
            # as numbers: of truth values the kernel would make numbers again in every layer
            mask = torch.full((longest, prompt_length + longest), -torch.inf).triu(prompt_length + 1)
            blocks.append(_Block(p, last - first, mask[None, None]))
    none = torch.zeros(0, dtype=torch.long)
    return _Layout(
        [length for length, _ in groups] + [token],
        blocks,
        torch.cat([none, *padded]),
        torch.cat([none, *packed]),
    )


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and past-last index of each block of descending lengths."""
    starts = [0] if lengths else []
    for i, length in enumerate(lengths):
        if length < _MIN_LENGTH_FRAC * lengths[starts[-1]]:
            starts.append(i)
    return pairwise([*starts, len(lengths)])


def _take(values_SX: Tensor, index: Tensor) -> Tensor:
    """Rows by index, as an embedding: its backward adds up repeated rows in a fixed order on any number of
    threads, that of `values_SX[index]` does not.
    """
    return F.embedding(index, values_SX)


def _attend(
    module: torch.nn.Module,
    query_1HSD: Tensor,
    key_1HSD: Tensor,
    value_1HSD: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: _Layout,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function for a sequence of a layout: [1, S, H, D]."""
    assert attention_mask is None
    # the last piece of each is that of all completions
    heads = [_split(x, layout.lengths) for x in (query_1HSD, key_1HSD, value_1HSD)]
    outputs = [
        sdpa_attention_forward(module, *prompt, None, **options)[0]
        for prompt in zip(*(pieces[:-1] for pieces in heads), strict=True)
    ]
    own = [_rows_of_blocks(pieces[-1], layout) for pieces in heads]
    blocks = []
    for block, query, own_key, own_value in zip(layout.blocks, *own, strict=True):
        key, value = (
            torch.cat([pieces[block.prompt].expand(block.num_rows, -1, -1, -1), rows], 2)
            for pieces, rows in zip(heads[1:], (own_key, own_value), strict=True)
        )
        mask = block.mask.to(query.dtype)
        blocks.append(sdpa_attention_forward(module, query, key, value, mask, **options)[0].flatten(0, 1))
    if blocks:
        padded = torch.cat(blocks)
        outputs.append(_take(padded.flatten(1), layout.packed_index).view(1, -1, *padded.shape[1:]))
    return torch.cat(outputs, 1), None


def _rows_of_blocks(heads_1HSD: Tensor, layout: _Layout) -> list[Tensor]:
    """The completions' heads of each block, [K, H, L, D]."""
    _, num_heads, _, width = heads_1HSD.shape
    padded = _take(heads_1HSD[0].transpose(0, 1).flatten(1), layout.padded_index)
    sizes = [block.num_rows * block.mask.shape[2] for block in layout.blocks]
    return [
        rows.view(block.num_rows, -1, num_heads, width).transpose(1, 2)
        for block, rows in zip(layout.blocks, _split(padded, sizes, 0), strict=True)
    ]


def _split(values: Tensor, sizes: list[int], dim: int = 2) -> Sequence[Tensor]:
    return torch.split(values, sizes, dim) if sizes else ()


AttentionInterface.register(_ATTENTION, _attend)
