"""Supervised fine-tuning: loss on the response only, including its stop token (DeepSeek-R1 v1, 2.3).

A batch is a random set of examples with about `tokens_per_batch` tokens, from all domains; its micro-batches
are sorted by length. The order is a pure function of (seed, epoch), so a killed run resumes from its last
checkpoint and reaches the same weights (on a CPU to the bit). Not covered: loss on several turns (only the
last response is trained on).
"""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerBase

from r1kit.config import Config
from r1kit.data.faults import Fault, shown, summarise
from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.data.records import messages_from_json
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.model.loading import context_length, load_model, load_tokenizer, num_embeddings, stop_token_ids
from r1kit.model.logprobs import check_head, completion_logprobs
from r1kit.model.packing import batching_for
from r1kit.ranks import collectives
from r1kit.ranks.sharding import shard_model, share
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.prompts import encode_exchange, has_closed_thought, vocabulary_fault
from r1kit.text.template import parse_response
from r1kit.text.turns import end_token_ids
from r1kit.training.checkpoint import Summary, explain_full_disk, read_finished
from r1kit.training.losses import LossParts, next_token_loss, without_fillers
from r1kit.training.planned import finish_stage, identity_of, run_updates
from r1kit.training.trainer import LoraConfig, OptimizerConfig, Trainer
from r1kit.types import Problem, PromptStyle

# DeepSeek-R1 v2, B.4: cosine from 5e-5 to a tenth of that.
_PAPER_OPTIMIZER = OptimizerConfig(learning_rate=5e-5, schedule="cosine")


class SftConfig(Config):
    """An SFT stage. `data` is a stage that wrote `data.jsonl`, a JSONL file, or a list of these."""

    kind: Literal["sft"] = "sft"
    model: str  # where training starts: a stage, `base`, a folder or a hub name
    data: str | list[str]  # a stage that writes records, a JSONL file, or several
    epochs: int = Field(default=2, ge=1)  # DeepSeek-R1 v1, 2.3.3
    optimizer: OptimizerConfig = _PAPER_OPTIMIZER  # learning rate, schedule, clipping
    tokens_per_batch: int = Field(
        default=640_000, ge=1
    )  # batch 128 at the 800k set's mean of about 5,000 tokens
    # Train an adapter instead of all weights (docs/training.md); learning rates are then ten times as high.
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False  # a second forward pass for less memory; same gradients
    # fastest on a CPU (docs/performance.md); no effect on the gradient
    tokens_per_micro_batch: int = Field(default=4_000, ge=1)
    max_tokens: int = Field(
        default=32_768, ge=2
    )  # the paper's context; longer examples are dropped and counted
    checkpoint_every: int = Field(default=50, ge=1)  # updates

    @field_validator("optimizer", mode="before")
    @classmethod
    def _complete_optimizer(cls, table: Any) -> Any:
        # a recipe that sets only the learning rate keeps the paper's schedule
        return {**_PAPER_OPTIMIZER.model_dump(), **table} if isinstance(table, dict) else table


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the response to train on, as tokens."""

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    domain: str

    @property
    def num_tokens(self) -> int:
        """The number of tokens in prompt and response."""
        return len(self.prompt_token_ids) + len(self.response_token_ids)


def run_sft(context: StageContext, config: SftConfig) -> Summary:
    """Train `config.model`; write `model/`, `metrics.jsonl`, `counts.json`, and with LoRA `adapter/`.

    Resumes from what a killed run left. Raises `StageHalted` if updates are not finite.
    """
    if (finished := read_finished(context.work_dir)) is not None:
        return finished
    model_path = context.model_path(config.model)
    tokenizer = load_tokenizer(model_path)
    model = load_model(model_path, **context.loading)
    check_head(model)
    if context.shard:
        shard_model(model, device=context.device, dtype=context.dtype)
    names = [config.data] if isinstance(config.data, str) else config.data
    max_tokens = min(config.max_tokens, context_length(model))
    paths = [context.data_path(name) for name in names]
    examples, counts = load_examples(
        paths,
        tokenizer,
        max_tokens,
        num_embeddings=num_embeddings(model.config),
        stop_token_ids=stop_token_ids(model_path, tokenizer),
        note=context.progress.note,
    )
    write_jsonl(context.work_dir / "counts.json", [counts])
    batches = plan_batches(
        [example.num_tokens for example in examples],
        epochs=config.epochs,
        tokens_per_batch=config.tokens_per_batch,
        seed=context.seed,
    )
    trainer = Trainer(
        model,
        config.optimizer,
        total_steps=len(batches),
        lora=config.lora,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=derive_seed(context.seed, context.name, "trainer"),
    )
    pad_id = cast(int, tokenizer.pad_token_id)
    last_row = run_updates(
        context,
        trainer,
        batches,
        lambda batch: _update(trainer, [examples[i] for i in batch], config, pad_id),
        identity=identity_of(
            context.seed, config, ((e.prompt_token_ids, e.response_token_ids) for e in examples)
        ),
        checkpoint_every=config.checkpoint_every,
    )
    summary: Summary = {
        "updates": len(batches),
        "examples": len(examples),
        "dropped_too_long": counts["dropped_too_long"],
        "tokens": config.epochs * sum(example.num_tokens for example in examples),
        "updates_skipped": trainer.num_skipped,
    }
    if "loss" in last_row:
        summary["loss"] = last_row["loss"]
    with explain_full_disk(context.work_dir):
        trainer.save(tokenizer, context.work_dir, dtype=context.dtype)
    return finish_stage(context, summary)


def load_examples(
    paths: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    *,
    num_embeddings: int = sys.maxsize,
    stop_token_ids: Sequence[int] | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[list[Example], dict[str, Any]]:
    """The examples of all files, and counts: `records`, `dropped_too_long`, `examples_by_domain`.

    Drops rows of more than `max_tokens`; `note` gets these and the duplicates. Raises `DataError` with file
    and line, grouped by kind, for records that can't be used, and if no example is left. A record can't be
    used if a token is beyond the model's `num_embeddings` rows, or if its response has one of
    `stop_token_ids` (all that may end a response; None: those that the tokenizer knows) before its end.
    """
    ends = end_token_ids(tokenizer) if stop_token_ids is None else stop_token_ids
    examples: list[Example] = []
    too_long: list[Fault] = []
    repeated: list[Fault] = []
    faults: list[Fault] = []
    seen: set[Example] = set()
    num_records = 0
    for place, row in ((f"{path}:{line}", row) for path in paths for line, row in read_jsonl(path)):
        num_records += 1
        try:
            example = _encode(*_read_record(row), tokenizer, num_embeddings, ends)
        except DataError as error:
            faults.append(Fault(place, str(error)))
            continue
        if example.num_tokens > max_tokens:
            too_long.append(Fault(place, f"{example.num_tokens} tokens"))
            continue
        if example in seen:
            repeated.append(Fault(place, "the same as an earlier row"))
        seen.add(example)
        examples.append(example)
    if faults:
        raise DataError("\n".join(summarise(faults, fix="fix the rows, or remove them")))
    files = ", ".join(str(path) for path in paths)
    if not num_records:
        raise DataError(f"{files}: no records to train on")
    limit = f"longer than {max_tokens} tokens"
    if not examples:
        raise DataError(
            f"{files}: all {num_records} examples are {limit}, the smaller of max_tokens and the model's "
            "context"
        )
    for what, rows in ((f"{limit} and are left out", too_long), ("duplicates", repeated)):
        if rows and note is not None:
            note(f"{len(rows)} of {num_records} examples are {what}: {'; '.join(summarise(rows))}")
    return examples, {
        "records": num_records,
        "dropped_too_long": len(too_long),
        "examples_by_domain": dict(sorted(Counter(example.domain for example in examples).items())),
    }


def _record_advice(row: Mapping[str, Any]) -> str:
    """How to fix a record that has another format."""
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        return "remove the assistant's last turn from messages, and make its text the response"
    return (
        'it needs messages and response: {"messages": [{"role": "user", "content": "..."}], '
        '"response": "..."}'
    )


def _read_record(row: Mapping[str, Any]) -> tuple[Problem, str, PromptStyle]:
    for key in ("messages", "response"):
        if key not in row:
            raise DataError(f"the record has no `{key}`; {_record_advice(row)}")
    response, style, domain = row["response"], row.get("style"), row.get("domain") or ""
    if not isinstance(response, str) or not response.strip():
        raise DataError(f"response must be non-empty text, not {shown(response)}")
    if fault := surrogate_fault(response, "response"):
        raise DataError(fault)
    if style is None:  # Table 1's format needs its prompt; any other response is a chat turn
        style = "zero" if parse_response(response, "zero").well_formed else "chat"
    if style not in ("zero", "chat"):
        raise DataError(f"style must be zero or chat, not {shown(style)}; or leave it out")
    messages = messages_from_json(row["messages"])
    return (
        Problem(id="", kind="general", messages=messages, domain=str(domain)),
        response,
        cast(PromptStyle, style),
    )


def _encode(
    problem: Problem,
    response: str,
    style: PromptStyle,
    tokenizer: PreTrainedTokenizerBase,
    num_embeddings: int,
    stop_token_ids: Sequence[int],
) -> Example:
    prompt_ids, response_ids = encode_exchange(problem, response, tokenizer, style)
    if found := [token_id for token_id in response_ids[:-1] if token_id in stop_token_ids]:
        end = tokenizer.convert_ids_to_tokens(found[0])
        raise DataError(f"the response contains the end token {end}, which is added automatically")
    if "<think>" in response and has_closed_thought(prompt_ids, tokenizer):
        raise DataError(
            "the response contains reasoning, but the chat template closes an empty thought in the prompt; "
            "remove the thought from the template's generation prompt"
        )
    if fault := vocabulary_fault((*prompt_ids, *response_ids), tokenizer, num_embeddings):
        raise DataError(fault)
    return Example(prompt_ids, response_ids, problem.domain)


def plan_batches(lengths: Sequence[int], *, epochs: int, tokens_per_batch: int, seed: int) -> list[list[int]]:
    """The example indices of each batch, over all epochs; each epoch is a new permutation of all examples.

    Batches have as even a number of tokens as complete examples allow, so that no small remainder gets its
    own update.
    """
    total = sum(lengths)
    num_batches = min(len(lengths), max(1, round(total / tokens_per_batch)))
    batches: list[list[int]] = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "sft", epoch))
        order = torch.randperm(len(lengths), generator=generator).tolist()
        # an example belongs to the batch that its middle token falls into
        ends = itertools.accumulate(lengths[i] for i in order)
        places = [
            int((end - lengths[i] / 2) * num_batches / total) for i, end in zip(order, ends, strict=True)
        ]
        # an example longer than a batch may leave another batch empty; that one is skipped
        by_place: dict[int, list[int]] = {}
        for i, place in zip(order, places, strict=True):
            by_place.setdefault(place, []).append(i)
        batches.extend(by_place.values())
    return batches


def _update(trainer: Trainer, batch: Sequence[Example], config: SftConfig, pad_id: int) -> dict[str, float]:
    """Do one update on a batch of examples; return the metrics row."""
    started = time.perf_counter()
    num_tokens = sum(example.num_tokens for example in batch)
    num_trained = sum(len(example.response_token_ids) for example in batch)  # of the batch, on all ranks
    budget = collectives.even_budget(num_tokens, config.tokens_per_micro_batch)
    batching = batching_for(trainer.model, shared=False)
    prompts = [example.prompt_token_ids for example in batch]
    responses = [example.response_token_ids for example in batch]
    packs = batching.pack(prompts, responses, budget)

    def loss(pack: list[int]) -> LossParts:
        rows = [prompts[i] for i in pack], [responses[i] for i in pack]
        micro_batch = batching.collate(*rows, pad_id).to(trainer.device)
        logprobs_BT, _ = completion_logprobs(trainer.model, micro_batch)
        return next_token_loss(logprobs_BT, micro_batch.loss_mask_BT, denominator=num_trained)

    own, num_real = share(trainer.model, packs)
    row = trainer.update(without_fillers(map(loss, own), num_real))
    seconds = time.perf_counter() - started
    return {**row, "tokens": num_tokens, "tokens_per_second": num_tokens / seconds}
