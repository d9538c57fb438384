"""Micro-batches without padding: rows are concatenated, and a shared prompt is computed once.

The rows of a micro-batch become one sequence: first every distinct prompt, then the completions, whose
positions continue from the end of their prompt. Everything except attention runs once per token. In
`attention`, a prompt attends causally to itself, and a completion to its prompt and causally to itself. Where
no prompt is shared, as in SFT, prompt and completion form one row. Logprobs and gradients equal those of
`logprobs.collate` up to rounding; on a CPU they are equal to the bit in every run.
Covered: the model types in `MODEL_TYPES` with full attention, rotary embeddings that do not depend on the
length, and transformers' `sdpa` attention. Everything else (sliding windows, ALiBi, state-space models, other
attention kernels) uses the padded batches of `logprobs`; `batching_for` decides.

Legend: B rows, S positions of the one sequence, T target positions, N trained positions.

Prompt 7 8 with completions 9 2 and 9 4 5 is the sequence 7 8 | 9 4 | 9 at positions 0 1 | 2 3 | 2: the last
token of a completion predicts nothing, so it is left out.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from r1kit.model import attention
from r1kit.model.attention_layout import Layout, lay_out
from r1kit.model.loading import attention_of
from r1kit.model.logprobs import CompletionBatch, collate, pack_by_tokens

Tokens = Sequence[int]

# Checked against the padded path in tests/model/test_packing.py.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
# Rope types with fixed frequencies; "dynamic" and "longrope" change theirs with the sequence's length.
_FIXED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")

# Attention copies the prompt's keys and values for each row of a block. This bounds the keys of all rows to a
# multiple of the token budget: without it, long prompts with many short completions would run out of memory.
_MAX_KEYS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows become micro-batches: `pack(prompts, completions, max_tokens)` and `collate(.., pad_id)`."""

    pack: Callable[[Sequence[Tokens], Sequence[Tokens], int], list[list[int]]]
    collate: Callable[[Sequence[Tokens], Sequence[Tokens], int], CompletionBatch]


def batching_for(model: PreTrainedModel, *, shared: bool = True) -> Batching:
    """Unpadded rows where they are exact for the model, else padded ones.

    Set `shared` if many completions have the same prompt (GRPO) and clear it if few do (SFT).
    """
    if why_padded(model) is not None:
        return PADDED
    return SHARED_PROMPTS if shared else PACKED_ROWS


def why_padded(model: PreTrainedModel) -> str | None:
    """The reason why this model's rows must be padded, or None if they can be one sequence."""
    config = model.config
    if config.model_type not in MODEL_TYPES:
        return f"model type {config.model_type!r} is not one of {', '.join(MODEL_TYPES)}"
    if model.get_decoder().config is not config:
        return "its layers do not read the model's configuration, so their attention can't be set"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation!r}, not 'sdpa'"
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        return f"it has layers of types {sorted(layer_types)}"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        return f"it attends within a sliding window of {window} tokens"
    rope_type = model.get_decoder().rotary_emb.rope_type
    if rope_type not in _FIXED_ROPE_TYPES:
        return f"its rotary embedding has type {rope_type!r}"
    if any(_forgets_attention(module) for module in model.modules()):
        return "its gradient checkpointing reruns layers in the backward pass with another attention"
    return None


def _forgets_attention(module: torch.nn.Module) -> bool:
    """Whether a layer uses gradient checkpointing that `loading.checkpoint_layers` did not set up."""
    again = getattr(module, "_gradient_checkpointing_func", None)
    is_on = bool(getattr(module, "gradient_checkpointing", False))
    return is_on and "context_fn" not in getattr(again, "keywords", {})


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows in one sequence; `source_BT[b, t]` is the position that predicts token t of row b."""

    input_ids_S: Tensor
    position_ids_S: Tensor
    layout: Layout
    target_ids_BT: Tensor
    source_BT: Tensor
    loss_mask_BT: Tensor

    def to(self, device: str | torch.device) -> "PackedBatch":
        """The same batch on a device."""
        return PackedBatch(
            self.input_ids_S.to(device),
            self.position_ids_S.to(device),
            self.layout.to(device),
            self.target_ids_BT.to(device),
            self.source_BT.to(device),
            self.loss_mask_BT.to(device),
        )

    def trained_hidden(self, model: PreTrainedModel) -> Tensor:
        """The backbone's output [N, hidden] where trained tokens are predicted, row by row."""
        with attention_of(model, attention.NAME):
            hidden_1SH = model.get_decoder()(
                input_ids=self.input_ids_S[None],
                position_ids=self.position_ids_S[None],
                use_cache=False,
                layout=self.layout,
            ).last_hidden_state
        # An embedding: its backward pass sums repeated positions (the ends of prompts) in a fixed order
        return F.embedding(self.source_BT[self.loss_mask_BT], hidden_1SH[0])


def pack_shared(prompts: Sequence[Tokens], completions: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
    """Row indices in micro-batches of at most `max_tokens`, counting a prompt once in each.

    Rows of one prompt stay together if they fit into one micro-batch. The longest come first, so a budget
    that does not fit in memory fails immediately. A row longer than the budget gets its own micro-batch.
    """
    batches: list[list[int]] = []
    room = keys = 0
    groups = _by_prompt(prompts, completions)
    for prompt, indices in groups:
        whole = len(prompt) + sum(len(completions[i]) for i in indices)
        is_new_prompt = True
        for i in indices:
            length, num_keys = len(completions[i]), len(prompt) + len(completions[i])
            # A group that fits into one micro-batch is not split, so its first row asks for room for all
            needed = whole if is_new_prompt and whole <= max_tokens else num_keys if is_new_prompt else length
            if not batches or needed > room or num_keys > keys:
                batches.append([])
                # a new micro-batch repeats the prompt
                room, keys, is_new_prompt = max_tokens, _MAX_KEYS_PER_TOKEN * max_tokens, True
            batches[-1].append(i)
            room -= num_keys if is_new_prompt else length
            keys -= num_keys
            is_new_prompt = False
    return batches


def collate_shared(prompts: Sequence[Tokens], completions: Sequence[Tokens], pad_id: int) -> PackedBatch:
    """The rows as one sequence; targets and masks stay in the rows' order. `pad_id` is unused."""
    groups = _by_prompt(prompts, completions)
    by_length = sorted(groups, key=lambda group: -len(group[0]))  # prompts form blocks of similar length, too
    input_ids = [token for prompt, _ in by_length for token in prompt]
    positions = [position for prompt, _ in by_length for position in range(len(prompt))]
    # prompt -> the position just past its last token in the sequence
    ends = dict(
        zip(
            (prompt for prompt, _ in by_length),
            itertools.accumulate(len(p) for p, _ in by_length),
            strict=True,
        )
    )
    rows = [((0, 0), [len(prompt) for prompt, _ in by_length])]
    target_ids, source, loss_mask = _targets(completions)
    for prompt, indices in groups:
        assert prompt, "a completion's first token is predicted at the prompt's last: it can't be empty"
        for i in indices:
            completion, length = completions[i], len(completions[i])
            # Token t > 0 is predicted at token t - 1 of the completion, token 0 at the prompt's last
            source[i, :length] = torch.arange(length) + len(input_ids) - 1
            source[i, :1] = ends[prompt] - 1
            input_ids += completion[:-1]
            positions += range(len(prompt), len(prompt) + length - 1)
        own = [len(completions[i]) - 1 for i in indices]
        rows.append(((ends[prompt] - len(prompt), ends[prompt]), own))
    layout = lay_out(rows)
    return PackedBatch(
        torch.tensor(input_ids), torch.tensor(positions), layout, target_ids, source, loss_mask
    )


def pack_rows(prompts: Sequence[Tokens], completions: Sequence[Tokens], max_tokens: int) -> list[list[int]]:
    """Row indices in micro-batches of at most `max_tokens`, longest first. A longer row gets its own."""
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not batches or lengths[i] > room:
            batches.append([])
            room = max_tokens
        batches[-1].append(i)
        room -= lengths[i]
    return batches


def collate_rows(prompts: Sequence[Tokens], completions: Sequence[Tokens], pad_id: int) -> PackedBatch:
    """The rows one after another, longest first, sharing nothing. `pad_id` is unused."""
    target_ids, source, loss_mask = _targets(completions)
    input_ids: list[int] = []
    lengths: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]) - len(completions[i]), i)):
        prompt, completion = prompts[i], completions[i]
        assert prompt, "a completion's first token is predicted at the prompt's last: it can't be empty"
        assert completion, "an empty completion has no last token to leave out"
        # token 0 of the completion is predicted at the prompt's last token
        source[i, : len(completion)] = torch.arange(len(completion)) + len(input_ids) + len(prompt) - 1
        input_ids += [*prompt, *completion[:-1]]
        lengths.append(len(prompt) + len(completion) - 1)
    positions = torch.tensor([position for length in lengths for position in range(length)])
    layout = lay_out([((0, 0), lengths)])
    return PackedBatch(torch.tensor(input_ids), positions, layout, target_ids, source, loss_mask)


def _targets(completions: Sequence[Tokens]) -> tuple[Tensor, Tensor, Tensor]:
    """Target ids, zeros for their source positions, and the loss mask, each [B, T]."""
    shape = len(completions), max(len(completion) for completion in completions)
    target_ids, source = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    loss_mask = torch.zeros(shape, dtype=torch.bool)
    for i, completion in enumerate(completions):
        target_ids[i, : len(completion)] = torch.tensor(completion, dtype=torch.long)
        loss_mask[i, : len(completion)] = True
    return target_ids, source, loss_mask


def _pack_padded(
    prompts: Sequence[Tokens], completions: Sequence[Tokens], max_tokens: int
) -> list[list[int]]:
    return pack_by_tokens([len(p) + len(c) for p, c in zip(prompts, completions, strict=True)], max_tokens)


PADDED = Batching(_pack_padded, collate)
SHARED_PROMPTS = Batching(pack_shared, collate_shared)
PACKED_ROWS = Batching(pack_rows, collate_rows)


def _by_prompt(
    prompts: Sequence[Tokens], completions: Sequence[Tokens]
) -> list[tuple[tuple[int, ...], list[int]]]:
    """Each distinct prompt with its rows' indices; rows and prompts ordered by (longest) row, descending."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]) - len(completions[i]), i))
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in order:
        groups.setdefault(tuple(prompts[i]), []).append(i)
    return list(groups.items())
