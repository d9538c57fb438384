"""Rewards read off a sequence-classification model: helpful (summary only) and safety (whole response).

DeepSeek-R1 v2, 3.1: the helpful model scores the final summary only, the safety model the whole response,
reasoning included. `encode_for_reward_model` is the one place where a response is rendered for such a model;
the trainer of reward models uses it too, so that a model is asked about what it was trained on. The score is
sigmoid((logit - mean) / std): bounded, because it is summed with rule rewards. Mean and std are those of the
logits of a reference set, the held-out responses of the model's training, and lie in `reward_scale.json`
beside its weights; a model without that file (a pointwise one, whose sigmoid is a probability already, or
somebody else's) has mean 0 and std 1. The paper does not say how it normalised. Not covered: training.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.models import load_reward_model, load_tokenizer
from r1kit.prompts import encode_prompt, encode_response
from r1kit.template import TAGS, parse_response
from r1kit.types import Problem, Rollout

View = Literal["summary", "response"]

# What there is nothing to read of: below every sigmoid.
LOWEST_SCORE = 0.0
# DeepSeek-R1 v2, 3.1: both reward models were trained at 8,192 tokens.
MAX_TOKENS = 8192


SCALE_NAME = "reward_scale.json"


@dataclass(frozen=True, slots=True)
class RewardScale:
    """Mean and std of a model's logits on its reference set."""

    mean: float = 0.0
    std: float = 1.0


def scale_of(logits: Sequence[float]) -> RewardScale:
    """The scale of a reference set's logits (population std); one without any spread keeps the unit."""
    mean = math.fsum(logits) / len(logits)
    std = math.sqrt(math.fsum((logit - mean) ** 2 for logit in logits) / len(logits))
    return RewardScale(mean, std if std > 1e-6 else 1.0)


def write_scale(model_dir: Path, scale: RewardScale) -> None:
    """Put the scale beside the model's weights."""
    (model_dir / SCALE_NAME).write_text(json.dumps(asdict(scale)), encoding="utf-8")


def read_scale(model_dir: str | Path) -> RewardScale:
    """The scale beside a model's weights; mean 0 and std 1 where there is none."""
    path = Path(model_dir) / SCALE_NAME
    if not path.is_file():
        return RewardScale()
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        scale = RewardScale(float(row["mean"]), float(row["std"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no mean and std can be read ({error}); train the model again") from None
    if not (scale.std > 0 and math.isfinite(scale.mean)):
        raise ModelError(f"{path}: std must be positive and mean finite; train the model again")
    return scale


def viewed_text(problem: Problem, response_text: str, view: View) -> str | None:
    """The part of a chat response that a model with this view reads; None where there is nothing to read.

    "summary": what follows the reasoning; a response that is not well formed has no summary. "response": all
    of it as it stands, well formed or not, as long as it holds more than tags.
    """
    if view == "summary":
        return parse_response(response_text, "chat", reasoning_required=problem.wants_reasoning).summary
    bare = response_text
    for tag in TAGS:
        bare = bare.replace(tag, "")
    return response_text.strip() if bare.strip() else None


def encode_for_reward_model(
    problem: Problem, response_text: str, tokenizer: PreTrainedTokenizerBase, view: View
) -> tuple[int, ...] | None:
    """Token ids of the chat prompt, the viewed text and the end token; None where there is nothing to read.

    The response follows the generation prompt token by token, as the policy wrote it: rendered as a finished
    turn, many chat templates would drop the reasoning that the safety model must see.
    """
    text = viewed_text(problem, response_text, view)
    if text is None:
        return None
    return encode_prompt(problem, tokenizer, "chat") + encode_response(text, tokenizer)


class RewardModelReward:
    """The sigmoid of a reward model's scaled logit, in (0, 1); `LOWEST_SCORE` where there is nothing to read.

    The model is loaded at the first call. Any one-label sequence-classification model will do. A truncated
    completion has no finished summary to read. Of a text longer than the model can take, the end is read.
    """

    def __init__(
        self,
        name: str,
        model_dir: str | Path,
        *,
        view: View,
        max_tokens: int = MAX_TOKENS,
        tokens_per_batch: int = 8192,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.name = name
        self.view = view
        self._model_dir = str(model_dir)
        self._max_tokens = max_tokens
        self._tokens_per_batch = tokens_per_batch
        self._dtype = dtype
        self._device = device
        self._scale = RewardScale()
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        truncated_is_unreadable = self.view == "summary"
        return self.score_texts(
            [
                (
                    rollout.problem,
                    ""
                    if truncated_is_unreadable and rollout.completion.finish_reason == "length"
                    else rollout.completion.text,
                )
                for rollout in rollouts
            ]
        )

    def score_texts(self, responses: Sequence[tuple[Problem, str]]) -> list[float | None]:
        """The score of each (problem, response text), in order."""
        if not responses:
            return []
        model, tokenizer = self._load()
        # equal texts get equal scores, to the bit: the rows of one batch would differ in the last ones
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for i, (problem, text) in enumerate(responses):
            token_ids = encode_for_reward_model(problem, text, tokenizer, self.view)
            if token_ids is not None:
                rows_of.setdefault(token_ids[-self._max_tokens :], []).append(i)
        scores: list[float | None] = [LOWEST_SCORE] * len(responses)
        # length-sorted, so that little of a batch is padding
        for batch in _batches(sorted(rows_of, key=lambda ids: (len(ids), ids)), self._tokens_per_batch):
            logits = score_token_ids(model, batch)
            probabilities = torch.sigmoid((logits - self._scale.mean) / self._scale.std).tolist()
            for token_ids, probability in zip(batch, probabilities, strict=True):
                for i in rows_of[token_ids]:
                    scores[i] = probability
        return scores

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None:
            tokenizer = load_tokenizer(self._model_dir)
            model = load_reward_model(self._model_dir, dtype=self._dtype, device=self._device)
            context = getattr(model.config, "max_position_embeddings", None)
            self._max_tokens = min(self._max_tokens, context or self._max_tokens)
            self._scale = read_scale(self._model_dir)
            self._loaded = (model.eval(), tokenizer)
        return self._loaded


@torch.no_grad()
def score_token_ids(model: PreTrainedModel, token_ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """The model's logit of each row, float32 on the CPU, [rows]; rows are padded on the right.

    The model finds a row's last token by its padding, so `model.config.pad_token_id` must be set
    (`load_reward_model` sees to it).
    """
    longest = max(len(row) for row in token_ids)
    pad_id = model.config.pad_token_id
    input_ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in token_ids])
    attention_mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in token_ids])
    device = next(model.parameters()).device
    logits = model(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device)).logits
    return logits[:, 0].float().cpu()  # type: ignore[no-any-return]


def _batches(rows: Sequence[tuple[int, ...]], tokens_per_batch: int) -> list[list[tuple[int, ...]]]:
    """Rows, sorted by length, in batches of at most `tokens_per_batch` padded tokens (at least one row)."""
    batches: list[list[tuple[int, ...]]] = []
    for row in rows:
        if batches and (len(batches[-1]) + 1) * len(row) <= tokens_per_batch:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
