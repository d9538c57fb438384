"""Reward models: a scalar head on a stage's model, trained on preference pairs or on safety labels.

DeepSeek-R1 v2, 3.1: the helpful model is pairwise and reads only the final summary; the safety model is
pointwise and reads the entire response. Texts are encoded as the reward encodes them
(`rewards.model_rewards`). Accuracy and calibration are measured on held-out prompts. Only differences of a
pairwise model's logits have a meaning, so their mean and std on the held-out responses are saved with the
weights, and the reward scales by them. A killed run resumes from its last checkpoint, on a CPU to the same
bits. Not covered: ensembles, and training heads with several labels.
"""

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.config import Config
from r1kit.data.faults import Fault, shown, summarise
from r1kit.data.jsonl import read_jsonl
from r1kit.data.records import messages_from_json
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.evaluate.statistics import calibration_error
from r1kit.model.loading import context_length, num_embeddings, train_without_noise
from r1kit.model.logprobs import pack_by_tokens
from r1kit.model.scorers import load_reward_model, load_scoring_tokenizer
from r1kit.ranks import collectives
from r1kit.ranks.sharding import shard_model, share
from r1kit.rewards.classifiers import View
from r1kit.rewards.model_rewards import RewardScale, encode_for_reward_model, scale_of, write_scale
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.prompts import vocabulary_fault
from r1kit.training.checkpoint import Summary, explain_full_disk, read_finished
from r1kit.training.losses import LossParts, pairwise_loss, pointwise_loss, without_fillers
from r1kit.training.metrics_log import MetricsWriter
from r1kit.training.planned import finish_stage, identity_of, run_updates
from r1kit.training.trackers import Trackers
from r1kit.training.trainer import LoraConfig, OptimizerConfig, Trainer
from r1kit.types import Problem

Objective = Literal["pairwise", "pointwise"]

# DeepSeek-R1 v2, 3.1: 6e-6; the schedule is not published
_PAPER_OPTIMIZER = OptimizerConfig(learning_rate=6e-6, schedule="cosine")
_VIEWS: Mapping[Objective, View] = {"pairwise": "summary", "pointwise": "response"}


class RewardModelConfig(Config):
    """A reward-model stage. `data` names a preferences stage, or a JSONL file of its format."""

    kind: Literal["reward_model"] = "reward_model"
    objective: Objective  # pairwise or pointwise, as the data
    model: str  # DeepSeek-R1 starts from the model that will be trained against the reward model
    data: str  # a preferences stage, or a JSONL file of its format
    view: View | None = None  # None: the paper's, summary for pairs and response for labels
    # For pairs: scores should differ by `margin` x the pair's `difference`, the mean difference of the
    # judgments (Llama 2, 2307.09288, 3.2.2). 0: the plain loss; DeepSeek-R1 mentions no margin.
    margin: float = Field(0.0, ge=0)
    epochs: int = Field(1, ge=1)  # this and the next two: DeepSeek-R1 v2, 3.1
    examples_per_batch: int = Field(256, ge=1)  # pairs or labels in an update
    max_tokens: int = Field(8192, ge=2)  # of a longer text, only the end is read
    optimizer: OptimizerConfig = _PAPER_OPTIMIZER  # learning rate, schedule, clipping
    # An adapter instead of all weights (docs/training.md); learning rates are then ten times as high.
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False  # saves memory by a second forward pass; the same gradients
    tokens_per_micro_batch: int = Field(2_000, ge=1)  # speed and memory; no effect on the gradient
    held_out_frac: float = Field(0.1, ge=0, lt=1)  # of the prompts
    checkpoint_every: int = Field(50, ge=1)  # updates

    @model_validator(mode="after")
    def _a_margin_is_of_pairs(self) -> Self:
        if self.margin and self.objective != "pairwise":
            raise ValueError('`margin` is for pairs; drop it, or set objective = "pairwise"')
        return self

    @field_validator("optimizer", mode="before")
    @classmethod
    def _complete_optimizer(cls, table: Any) -> Any:
        # a recipe that sets only the learning rate keeps the paper's schedule
        return {**_PAPER_OPTIMIZER.model_dump(), **table} if isinstance(table, dict) else table


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """The rows of one pair, the chosen one first, or the one row of a label; `label` is 1 for safe.

    `margin`: how far apart a pair's scores should be.
    """

    rows: tuple[tuple[int, ...], ...]
    label: float
    held_out: bool
    margin: float = 0.0

    @property
    def num_tokens(self) -> int:
        """The number of tokens with all rows padded to the longest."""
        return len(self.rows) * max(len(row) for row in self.rows)


def run_reward_model(context: StageContext, config: RewardModelConfig) -> Summary:
    """Train and write `model/` and `metrics.jsonl`; the summary has held-out accuracy and calibration.

    With LoRA all weights of the scalar head are trained, and `adapter/` is written, too, including the head.
    Resumes what a killed run left. Raises `StageHalted` if updates are not finite.
    """
    if (finished := read_finished(context.work_dir)) is not None:
        return finished
    path = context.model_path(config.model)
    tokenizer = load_scoring_tokenizer(path)
    seed = derive_seed(context.seed, context.name, "head")
    model = load_reward_model(path, **context.loading, seed=seed)
    if context.shard:
        shard_model(model, device=context.device, dtype=context.dtype)
    max_tokens = min(config.max_tokens, context_length(model))
    examples = load_examples(
        context.data_path(config.data),
        tokenizer,
        config,
        max_tokens=max_tokens,
        num_embeddings=num_embeddings(model.config),
        note=context.progress.note,
    )
    training = [example for example in examples if not example.held_out]
    held_out = [example for example in examples if example.held_out]
    batches = plan_batches(
        len(training), epochs=config.epochs, examples_per_batch=config.examples_per_batch, seed=context.seed
    )
    trainer = Trainer(
        model,
        config.optimizer,
        total_steps=len(batches),
        lora=config.lora,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=derive_seed(context.seed, context.name, "trainer"),
    )
    scored = _Scored(trainer, config, pad_id=cast(int, tokenizer.pad_token_id))
    last_row = run_updates(
        context,
        trainer,
        batches,
        lambda batch: scored.update([training[i] for i in batch]),
        identity=identity_of(context.seed, config, ((e.rows, e.label, e.margin) for e in training)),
        checkpoint_every=config.checkpoint_every,
    )
    found, logits = scored.measure(held_out)
    summary: Summary = {
        "updates": len(batches),
        "examples": len(training),
        "held_out_examples": len(held_out),
        "updates_skipped": trainer.num_skipped,
        **found,
    }
    if collectives.is_main():
        metrics = MetricsWriter(context.work_dir, Trackers(context))
        metrics.write(len(batches), {**last_row, **found})
        metrics.close()
    with explain_full_disk(context.work_dir):
        trainer.save(tokenizer, context.work_dir, dtype=context.dtype)
        if collectives.is_main():
            scale = scale_of(logits) if config.objective == "pairwise" and logits else RewardScale()
            write_scale(context.work_dir / "model", replace(scale, view=view_of(config)))
    if found:
        context.progress.note(_held_out_note(found, len(held_out)))
    return finish_stage(context, summary)


def _held_out_note(found: Mapping[str, float], num: int) -> str:
    accuracy, error = found["held_out/accuracy"], found["held_out/calibration_error"]
    return f"held-out accuracy {accuracy:.3f}, calibration error {error:.3f} on {num} examples"


def view_of(config: RewardModelConfig) -> View:
    """The part of a response that the stage's model reads."""
    return config.view or _VIEWS[config.objective]


def load_examples(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    config: RewardModelConfig,
    *,
    max_tokens: int,
    num_embeddings: int = sys.maxsize,
    note: Callable[[str], None] | None = None,
) -> list[LabelledExample]:
    """The examples of a file. A prompt's examples are all held out or all trained on.

    Pairs whose sides are equal in the part that is read teach nothing and are left out; `note` reports them
    and the number of texts that are cut. Raises `DataError` for records that can't be used, with file and
    line, by kind, and if nothing can be learned from the rest.
    """
    examples: list[LabelledExample] = []
    faults: list[Fault] = []
    equal: list[Fault] = []
    num_records = num_cut = 0
    for line, row in read_jsonl(path):
        num_records += 1
        place = f"{path}:{line}"
        try:
            rows, label = _encode(row, tokenizer, config)
            if fault := vocabulary_fault(itertools.chain(*rows), tokenizer, num_embeddings):
                raise DataError(fault)
        except DataError as error:
            faults.append(Fault(place, str(error)))
            continue
        cut = tuple(ids[-max_tokens:] for ids in rows)
        num_cut += any(len(ids) > max_tokens for ids in rows)
        if len(cut) == 2 and cut[0] == cut[1]:
            equal.append(Fault(place, _why_equal(row, rows, config, max_tokens)))
            continue
        prompt = json.dumps(row["messages"], ensure_ascii=False, sort_keys=True)
        # decided by a hash of the prompt alone: it is stable when records are added or the seed changes
        held_out = derive_seed("reward-model", prompt) % 10_000 < 10_000 * config.held_out_frac
        margin = config.margin * row["difference"] if config.margin else 0.0
        examples.append(LabelledExample(cut, label, held_out, margin))
    if faults:
        raise DataError("\n".join(summarise(faults, fix="fix the rows, or take them out")))
    if not num_records:
        raise DataError(f"{path}: no records to train on")
    if not examples:
        raise DataError("\n".join([f"{path}: no pair is left to train on", *summarise(equal)]))
    if config.objective == "pointwise" and len({example.label for example in examples}) == 1:
        which = "safe" if examples[0].label else "not safe"
        raise DataError(f"{path}: every response in it is {which}; a safety model needs both kinds")
    if all(example.held_out for example in examples):
        raise DataError(f"{path}: no example is left to train on; lower `held_out_frac`")
    if note is not None:
        for text in summarise(equal):
            note(f"left out, because nothing can be learned from it: {text}")
        if num_cut:
            note(f"{num_cut} of {num_records} records exceed {max_tokens} tokens; only their end is read")
    return examples


def _why_equal(
    row: Mapping[str, Any], rows: Sequence[tuple[int, ...]], config: RewardModelConfig, max_tokens: int
) -> str:
    if row["chosen"] == row["rejected"]:
        return "chosen and rejected are the same text"
    if rows[0] != rows[1]:
        return f"chosen and rejected differ only before their last {max_tokens} tokens: raise max_tokens"
    if view_of(config) == "summary":
        return 'chosen and rejected have the same summary, which is all that is read: set view = "response"'
    return "chosen and rejected are the same tokens"


def _encode(
    row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, config: RewardModelConfig
) -> tuple[list[tuple[int, ...]], float]:
    names = ("chosen", "rejected") if config.objective == "pairwise" else ("response",)
    needed = ("messages", *names) if config.objective == "pairwise" else ("messages", *names, "safe")
    for name in needed:
        if name not in row:
            raise DataError(f"no `{name}`; a {config.objective} record has {', '.join(needed)}")
    if config.margin:
        _check_difference(row)
    label = row["safe"] if config.objective == "pointwise" else 1
    if label not in (0, 1):
        raise DataError(f"safe must be true or false, not {label!r}")
    # a response without reasoning is accepted: whether it needs some is for the format reward to judge
    problem = Problem(
        id="", kind="general", messages=messages_from_json(row["messages"]), wants_reasoning=False
    )
    view = view_of(config)
    rows: list[tuple[int, ...]] = []
    for name in names:
        if not isinstance(row[name], str):
            raise DataError(f"{name} must be text, not {shown(row[name])}")
        if fault := surrogate_fault(row[name], name):
            raise DataError(fault)
        ids = encode_for_reward_model(problem, row[name], tokenizer, view)
        if ids is None:
            raise DataError(f"{name} contains nothing that can be read (view {view}): {shown(row[name])}")
        rows.append(ids)
    return rows, float(label)


def _check_difference(row: Mapping[str, Any]) -> None:
    if "difference" not in row:
        raise DataError(
            "no `difference`, which a margin needs: map its column in the preferences stage "
            "(`columns = { difference = ... }`), label the pairs again, or set margin = 0"
        )
    value = row["difference"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise DataError(f"difference must be a number of 0 or more, not {value!r}")


def plan_batches(num: int, *, epochs: int, examples_per_batch: int, seed: int) -> list[list[int]]:
    """The indices in every batch of all epochs; each epoch is a permutation, split as evenly as possible."""
    num_batches = max(1, round(num / examples_per_batch))
    batches: list[list[int]] = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derive_seed(seed, "reward_model", epoch))
        order = torch.randperm(num, generator=generator).tolist()
        batches += [order[i * num // num_batches : (i + 1) * num // num_batches] for i in range(num_batches)]
    return batches


def score_rows(model: PreTrainedModel, rows: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    """The model's scalar for each row, [rows], with gradient; rows are padded on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    device = next(model.parameters()).device
    output = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
    return cast(Tensor, output.logits[:, 0])


class _Scored:
    """The model in training, with the losses of its scores."""

    def __init__(self, trainer: Trainer, config: RewardModelConfig, *, pad_id: int) -> None:
        self.trainer = trainer
        self.config = config
        self.pad_id = pad_id

    def update(self, batch: Sequence[LabelledExample]) -> dict[str, float]:
        """One update on a batch of examples; the metrics row."""
        started = time.perf_counter()
        packs = [[batch[i] for i in pack] for pack in self._packs(batch)]
        own, num_real = share(self.trainer.model, packs)
        # lazy: each micro-batch's backward pass frees its memory before the next forward pass
        losses = (self._parts(self._scores(examples), examples, len(batch)) for examples in own)
        row = self.trainer.update(without_fillers(losses, num_real))
        num_tokens = sum(len(ids) for example in batch for ids in example.rows)
        return {**row, "tokens_per_second": num_tokens / (time.perf_counter() - started)}

    def measure(self, examples: Sequence[LabelledExample]) -> tuple[dict[str, float], list[float]]:
        """Loss, accuracy and calibration on held-out examples, and the logits of all their rows."""
        if not examples:
            return {}, []
        # every rank measures all of them: a sharded model's forward pass needs all ranks
        self.trainer.model.eval()
        sums: dict[str, float] = {}
        logits: list[float] = []
        probabilities: list[float] = []
        labels: list[float] = []
        with torch.no_grad():
            for pack in self._packs(examples):
                batch = [examples[i] for i in pack]
                scores = self._scores(batch)
                parts = self._parts(scores, batch, len(examples))
                for name, value in {"loss": parts.loss, **parts.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                logits += scores.float().tolist()
                probabilities += self._probabilities(scores)
                labels += [example.label for example in batch]
        train_without_noise(self.trainer.model)
        found = {f"held_out/{name}": value for name, value in sums.items()}
        found["held_out/calibration_error"] = calibration_error(probabilities, labels)
        return found, logits

    def _packs(self, examples: Sequence[LabelledExample]) -> list[list[int]]:
        lengths = [example.num_tokens for example in examples]
        budget = collectives.even_budget(sum(lengths), self.config.tokens_per_micro_batch)
        return pack_by_tokens(lengths, budget)

    def _scores(self, examples: Sequence[LabelledExample]) -> Tensor:
        rows = [ids for example in examples for ids in example.rows]
        return score_rows(self.trainer.model, rows, self.pad_id)

    def _parts(self, scores: Tensor, examples: Sequence[LabelledExample], denominator: int) -> LossParts:
        """The loss of a micro-batch, as its share of a batch of `denominator` examples."""
        if self.config.objective == "pairwise":
            margins = torch.tensor([example.margin for example in examples], device=scores.device)
            # rows alternate: chosen, rejected
            return pairwise_loss(scores[0::2], scores[1::2], denominator=denominator, margins_B=margins)
        labels = torch.tensor([example.label for example in examples], device=scores.device)
        return pointwise_loss(scores, labels, denominator=denominator)

    def _probabilities(self, scores: Tensor) -> list[float]:
        """That each pair's chosen side is better (Bradley-Terry), or that each labelled response is safe."""
        scores = scores.float()
        differences = scores[0::2] - scores[1::2] if self.config.objective == "pairwise" else scores
        return [float(p) for p in torch.sigmoid(differences)]
