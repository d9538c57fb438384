"""Sequence classification models, used as they are: r1kit's own reward models, and any from Hugging Face.

How a problem and a text are encoded:
- For r1kit's own: the chat prompt, the text token by token as the policy wrote it, the end token.
- With a chat template: as the template renders a finished turn, which is what such models are trained on. If
  that would change the text (many templates drop the reasoning), as for r1kit's own.
- Without one (BERT and the like): the last question and the text as a pair.
Of a sequence that is too long, the end is read. The score is the log-odds of one label: the logit itself if
the head has one label or independent ones, logit - logsumexp(the others) if the labels exclude each other.
Not here: which part of a response is read, and the scale of the score (`model_rewards`). Not covered: models
that need their own code (`trust_remote_code`).
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
    """A reward model that needs more than a name: `reward_models.safety = { model = ..., ... }`."""

    model: str  # a stage of kind reward_model, a folder or a hub name
    # For a model with several labels: the one whose probability is the score, by name or number.
    label: str | int | None = None
    # The label is the undesired one ("toxic"): the score is the probability of all others.
    negate: bool = False
    view: View | None = None  # what it reads; None: as r1kit trained it, else the reward's default
    # Preference data (a stage or a file): the mean and std of the logits of its responses scale the score,
    # instead of the model's own.
    reference: str | None = None


def with_paths(
    model: str | ClassifierConfig, model_path: Callable[[str], str], data_path: Callable[[str], Path]
) -> str | ClassifierConfig:
    """A recipe's reward model, with paths in place of names."""
    if isinstance(model, str):
        return model_path(model)
    reference = None if model.reference is None else str(data_path(model.reference))
    return model.model_copy(update={"model": model_path(model.model), "reference": reference})


class EncodedText(NamedTuple):
    """A text for a model: token ids and, for models that use them, the segment of each token."""

    token_ids: tuple[int, ...]
    types: tuple[int, ...] | None = None


class Classifier:
    """A model with its tokenizer and the label to score. Raises `ModelError` if they don't fit together.

    `is_own`: r1kit trained it, on texts encoded by `encode_own`.
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
        """The model's input for a text."""
        if not self.tokenizer.chat_template:
            return self._pair(problem.question, text)
        ids = None if self._is_own else _finished_turn(problem, text, self.tokenizer)
        ids = encode_own(problem, text, self.tokenizer) if ids is None else ids
        return EncodedText(ids[-self._max_tokens :])

    def _pair(self, question: str, text: str) -> EncodedText:
        self.tokenizer.truncation_side = "left"  # keep the end
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
    """The chat prompt, the text and the end-of-turn token, tokenized the way completions are."""
    prompt_ids, response_ids = encode_exchange(problem, text, tokenizer, "chat")
    return prompt_ids + response_ids


def _finished_turn(problem: Problem, text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...] | None:
    """The conversation with the text as its last turn; None if the template changes the text."""
    turns: list[Any] = [*problem.messages, {"role": "assistant", "content": text}]
    if text not in render(tokenizer, turns):
        return None
    return tuple(render(tokenizer, turns, tokenize=True))


def label_index(labels: Mapping[int, str], label: str | int | None, name: str) -> int:
    """The index of the label to score. Raises `ModelError` that lists the labels."""
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

    For labels that exclude each other, p is the softmax; for a single label or independent ones
    ("multi_label_classification"), the sigmoid.
    """
    own = logits_BL[:, index]
    if logits_BL.shape[1] == 1 or problem_type == "multi_label_classification":
        return own
    others = torch.cat([logits_BL[:, :index], logits_BL[:, index + 1 :]], dim=1)
    return own - others.logsumexp(dim=1)


@torch.no_grad()
def score_rows(model: PreTrainedModel, rows: Sequence[EncodedText]) -> torch.Tensor:
    """The model's logits for each row, float32 on the CPU, [rows, labels]; rows are padded on the right.

    A decoder finds the last token of a row by the padding id. If the model has none (`load_classifier`), a
    token id that occurs in no row is used.
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
    """The number of tokens the model can read; position tables that start after the padding id hold fewer."""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
            return int(table.num_embeddings) - table.padding_idx - 1
    return context_length(model)
