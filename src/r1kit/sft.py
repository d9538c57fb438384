"""Supervised fine-tuning: loss on the response alone, its stop token included (DeepSeek-R1 v1, 2.3).

A batch is a random set of examples of about `tokens_per_batch` tokens, domains mixed as they come; inside
it, micro-batches are sorted by length. The order is a pure function of (seed, epoch), so a killed run goes
on from its last checkpoint to the same weights, to the bit.
Not covered: several turns with a loss (the last response is trained).
"""

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerBase

from r1kit import distributed
from r1kit.checkpoint import Summary, explain_full_disk, read_finished
from r1kit.config import Config
from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.data.records import messages_from_json
from r1kit.errors import DataError
from r1kit.logprobs import completion_logprobs
from r1kit.losses import LossParts, next_token_loss
from r1kit.models import context_length, load_model, load_tokenizer
from r1kit.packing import batching_for
from r1kit.prompts import check_chat_template, encode_prompt, encode_response
from r1kit.seeds import derive_seed
from r1kit.sharding import shard_model, share, without_fillers
from r1kit.stage import StageContext
from r1kit.train import LoraConfig, OptimizerConfig, Trainer
from r1kit.types import Problem, PromptStyle
from r1kit.updates import finish_stage, identity_of, run_updates

# DeepSeek-R1 v2, B.4: cosine from 5e-5 to a tenth of it.
_PAPER_OPTIMIZER = OptimizerConfig(learning_rate=5e-5, schedule="cosine")


class SftConfig(Config):
    """An SFT stage. `data` names a stage that wrote `data.jsonl`, or a JSONL file, or several of either."""

    kind: Literal["sft"] = "sft"
    model: str
    data: str | list[str]
    epochs: int = Field(default=2, ge=1)  # DeepSeek-R1 v1, 2.3.3
    optimizer: OptimizerConfig = _PAPER_OPTIMIZER
    tokens_per_batch: int = Field(
        default=640_000, ge=1
    )  # batch 128 at the 800k set's mean of about 5,000 tokens
    # An adapter in place of all weights (docs/training.md); learning rates are then ten times as high.
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False  # less memory for a second forward pass; the same gradients
    # fastest on a CPU (docs/performance.md); no effect on the gradient
    tokens_per_micro_batch: int = Field(default=4_000, ge=1)
    max_tokens: int = Field(
        default=32_768, ge=2
    )  # the paper's context; longer examples are dropped and counted
    checkpoint_every: int = Field(default=50, ge=1)

    @field_validator("optimizer", mode="before")
    @classmethod
    def _complete_optimizer(cls, table: Any) -> Any:
        # a recipe that sets the learning rate alone keeps the paper's schedule
        return {**_PAPER_OPTIMIZER.model_dump(), **table} if isinstance(table, dict) else table


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the response that is trained, as tokens."""

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    domain: str

    @property
    def num_tokens(self) -> int:
        """Prompt and response together."""
        return len(self.prompt_token_ids) + len(self.response_token_ids)


def run_sft(context: StageContext, config: SftConfig) -> Summary:
    """Train `config.model`; writes `model/`, `metrics.jsonl`, `counts.json`, with LoRA `adapter/`.

    Goes on from what a killed run left. Raises `StageHalted` where updates are not finite.
    """
    if (finished := read_finished(context.work_dir)) is not None:
        return finished
    model_path = context.model_path(config.model)
    tokenizer = load_tokenizer(model_path)
    model = load_model(model_path, **context.loading)
    if context.shard:
        shard_model(model, device=context.device, dtype=context.dtype)
    names = [config.data] if isinstance(config.data, str) else config.data
    max_tokens = min(config.max_tokens, context_length(model))
    examples, counts = load_examples([context.data_path(name) for name in names], tokenizer, max_tokens)
    if counts["dropped_too_long"]:
        context.progress.note(
            f"{counts['dropped_too_long']} of {counts['records']} examples are longer than {max_tokens} "
            "tokens and are left out"
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
    paths: Sequence[Path], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[Example], dict[str, Any]]:
    """The examples of all files, and counts: `records`, `dropped_too_long`, `examples_by_domain`.

    Raises `DataError` with file and line for a record that can't be used, and where nothing is left.
    """
    examples: list[Example] = []
    num_records, template_checked = 0, False
    for path in paths:
        for line, row in read_jsonl(path):
            num_records += 1
            if row.get("style") == "chat" and not template_checked:
                check_chat_template(tokenizer)
                template_checked = True
            try:
                example = _example(row, tokenizer)
            except DataError as error:
                raise DataError(f"{path}:{line}: {error}") from None
            if example.num_tokens <= max_tokens:
                examples.append(example)
    files = ", ".join(str(path) for path in paths)
    if not num_records:
        raise DataError(f"{files}: no records to train on")
    if not examples:
        raise DataError(
            f"{files}: all {num_records} examples are longer than {max_tokens} tokens, the smaller of "
            "max_tokens and the model's context"
        )
    return examples, {
        "records": num_records,
        "dropped_too_long": num_records - len(examples),
        "examples_by_domain": dict(sorted(Counter(example.domain for example in examples).items())),
    }


def _example(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Example:
    for key in ("messages", "response", "style"):
        if key not in row:
            raise DataError(f"the record has no `{key}`; it needs messages, response and style")
    response, style = row["response"], row["style"]
    if not isinstance(response, str) or not response.strip():
        raise DataError(f"response must be text that is not empty, not {response!r}")
    if style not in ("zero", "chat"):
        raise DataError(f"style must be zero or chat, not {style!r}")
    problem = Problem(id="", kind="general", messages=messages_from_json(row["messages"]))
    response_ids = encode_response(response, tokenizer)
    if tokenizer.eos_token_id in response_ids[:-1]:
        raise DataError(f"the response holds the end token {tokenizer.eos_token}, which is added by itself")
    prompt_ids = encode_prompt(problem, tokenizer, cast(PromptStyle, style))
    return Example(prompt_ids, response_ids, str(row.get("domain") or ""))


def plan_batches(lengths: Sequence[int], *, epochs: int, tokens_per_batch: int, seed: int) -> list[list[int]]:
    """The example indices of every batch of all epochs: each epoch is its own permutation of all examples.

    An epoch is cut into batches of as even a number of tokens as whole examples allow, so that no small
    remainder gets an update of its own.
    """
    total = sum(lengths)
    num_batches = min(len(lengths), max(1, round(total / tokens_per_batch)))
    batches: list[list[int]] = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "sft", epoch))
        order = torch.randperm(len(lengths), generator=generator).tolist()
        # the batch of an example is where its middle token falls
        ends = itertools.accumulate(lengths[i] for i in order)
        places = [
            int((end - lengths[i] / 2) * num_batches / total) for i, end in zip(order, ends, strict=True)
        ]
        by_place: dict[int, list[int]] = {}
        for i, place in zip(order, places, strict=True):
            by_place.setdefault(place, []).append(i)
        batches.extend(by_place.values())
    return batches


def _update(trainer: Trainer, batch: Sequence[Example], config: SftConfig, pad_id: int) -> dict[str, float]:
    """One update on a batch of examples; the metrics row."""
    started = time.perf_counter()
    num_tokens = sum(example.num_tokens for example in batch)
    num_trained = sum(len(example.response_token_ids) for example in batch)
    budget = distributed.even_budget(num_tokens, config.tokens_per_micro_batch)
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
