"""Sequence-classification models as they come: r1kit's own reward models, and any of Hugging Face's.

How a problem and a text are written for one:
- r1kit's own: the chat prompt, the text token by token as the policy wrote it, the end token.
- With a chat template: as the template writes a finished turn, which is what such models are trained on;
  where it would change the text (many drop the reasoning), as r1kit's own.
- Without one (BERT and the like): its last question and the text as a pair.
Of what is too long the end is read. What is scored is the log-odds of one label: the logit of a head with one
label or with independent ones, logit - logsumexp(the others) of a head whose labels exclude each other. Not
here: which part of a response is read, and the scale of the score (`model_rewards`). Not covered: models that
run code of their own (`trust_remote_code`).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.config import Config, suggest
from r1kit.errors import ModelError
from r1kit.model.loading import context_length
from r1kit.model.scorers import load_classifier, padded_with
from r1kit.text.prompts import encode_exchange
from r1kit.text.turns import render
from r1kit.types import Problem

View = Literal["summary", "response"]
# DeepSeek-R1 v2, 3.1: both reward models were trained at 8,192 tokens.
MAX_TOKENS = 8192


class ClassifierConfig(Config):
    """A reward model whose name alone does not say enough: `reward_models.safety = { model = ..., ... }`."""

    model: str  # a stage of kind reward_model, a folder or a hub name
    # Of a model with several labels, the one whose probability is the score: its name or its number.
    label: str | int | None = None
    # The label is what is not wanted ("toxic"): the score is the probability of all else.
    negate: bool = False
    view: View | None = None  # what it reads; None: as r1kit trained it, else as the reward has it
    # Preferences (a stage or a file): the logits of their responses give the mean and std that the score is
    # scaled by, in place of the model's own.
    reference: str | None = None


def with_paths(
    model: str | ClassifierConfig, model_path: Callable[[str], str], data_path: Callable[[str], Path]
) -> str | ClassifierConfig:
    """What a recipe says of a reward model, with paths in the place of names."""
    if isinstance(model, str):
        return model_path(model)
    reference = None if model.reference is None else str(data_path(model.reference))
    return model.model_copy(update={"model": model_path(model.model), "reference": reference})


class EncodedText(NamedTuple):
    """A text for a model: token ids, and for models that ask for them which part each belongs to."""

    token_ids: tuple[int, ...]
    types: tuple[int, ...] | None = None


class Classifier:
    """A model with its tokenizer and the label that is asked for. Raises `ModelError` where they don't fit.

    `is_own`: it was trained by r1kit, on texts that are encoded as `encode_own` does.
    """

    def __init__(
        self,
        name: str,
        *,
        label: str | int | None = None,
        is_own: bool = False,
        max_tokens: int = MAX_TOKENS,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.model, self.tokenizer = load_classifier(name, dtype=dtype, device=device)
        self.index = label_index(self.model.config.id2label, label, name)
        self._max_tokens = min(max_tokens, _positions(self.model), self.tokenizer.model_max_length)
        self._is_own = is_own

    def encode(self, problem: Problem, text: str) -> EncodedText:
        """The row that the model is asked about."""
        if not self.tokenizer.chat_template:
            return self._pair(problem.question, text)
        ids = None if self._is_own else _finished_turn(problem, text, self.tokenizer)
        ids = encode_own(problem, text, self.tokenizer) if ids is None else ids
        return EncodedText(ids[-self._max_tokens :])

    def _pair(self, question: str, text: str) -> EncodedText:
        self.tokenizer.truncation_side = "left"
        found = self.tokenizer(
            question, text, truncation="longest_first", max_length=self._max_tokens, padding=False
        )
        types = found.get("token_type_ids")
        return EncodedText(tuple(found["input_ids"]), None if types is None else tuple(types))

    def log_odds(self, rows: Sequence[EncodedText]) -> torch.Tensor:
        """The log-odds of the label for each row, float32 on the CPU, [rows]."""
        return label_log_odds(
            score_rows(self.model, rows), self.index, self.model.config.problem_type or "single_label"
        )


def encode_own(problem: Problem, text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The chat prompt, the text and the end of a turn, as completions are made of tokens."""
    prompt_ids, response_ids = encode_exchange(problem, text, tokenizer, "chat")
    return prompt_ids + response_ids


def _finished_turn(problem: Problem, text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...] | None:
    """The conversation with the text as its last turn; None where the template changes the text."""
    turns: list[Any] = [*problem.messages, {"role": "assistant", "content": text}]
    if text not in render(tokenizer, turns):
        return None
    return tuple(render(tokenizer, turns, tokenize=True))


def label_index(labels: Mapping[int, str], label: str | int | None, name: str) -> int:
    """The number of the label that is asked for. Raises `ModelError` that lists the labels there are."""
    listed = ", ".join(f"{number} {text!r}" for number, text in sorted(labels.items()))
    if label is None:
        if len(labels) == 1:
            return 0
        raise ModelError(
            f"{name} has several labels ({listed}): say whose probability is the score, as in "
            f"{{ model = {name!r}, label = {labels[max(labels)]!r} }}"
        )
    if isinstance(label, int) and label in labels:
        return label
    by_name = {text.casefold(): number for number, text in labels.items()}
    if isinstance(label, str) and label.casefold() in by_name:
        return by_name[label.casefold()]
    hint = suggest(str(label), list(labels.values()))
    raise ModelError(f"{name} has no label {label!r}; it has {listed}; {hint}")


def label_log_odds(logits_BL: torch.Tensor, index: int, problem_type: str) -> torch.Tensor:
    """log(p / (1 - p)) of one label's probability p, [rows].

    Of labels that exclude each other p is the softmax; of one label, or of independent ones
    ("multi_label_classification"), the sigmoid.
    """
    own = logits_BL[:, index]
    if logits_BL.shape[1] == 1 or problem_type == "multi_label_classification":
        return own
    others = torch.cat([logits_BL[:, :index], logits_BL[:, index + 1 :]], dim=1)
    return own - others.logsumexp(dim=1)


@torch.no_grad()
def score_rows(model: PreTrainedModel, rows: Sequence[EncodedText]) -> torch.Tensor:
    """The model's logits of each row, float32 on the CPU, [rows, labels]; rows are padded on the right.

    A decoder finds a row's last token by its padding. Where nothing is padding to it (`load_classifier`),
    that is a token which no row has.
    """
    longest = max(len(row.token_ids) for row in rows)
    pad_id = model.config.pad_token_id
    if pad_id is None:
        used = {token_id for row in rows for token_id in row.token_ids}
        pad_id = next(token_id for token_id in itertools.count() if token_id not in used)
    device = next(model.parameters()).device

    def padded(values: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in values], device=device)

    inputs = {
        "input_ids": padded([row.token_ids for row in rows], pad_id),
        "attention_mask": padded([[1] * len(row.token_ids) for row in rows], 0),
    }
    types = [row.types for row in rows if row.types is not None]
    if types:
        inputs["token_type_ids"] = padded(types, 0)
    with padded_with(model, pad_id):
        logits: torch.Tensor = model(**inputs).logits
    return logits.float().cpu()


def _positions(model: PreTrainedModel) -> int:
    """How many tokens the model can read; tables of positions that begin behind the padding id lose some."""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
            return int(table.num_embeddings) - table.padding_idx - 1
    return context_length(model)
