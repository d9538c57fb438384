"""Rewards from a sequence classification model: helpful (summary only) and safety (entire response).

DeepSeek-R1 v2, 3.1: the helpful model scores the final summary only, the safety model the entire response,
reasoning included. A model that r1kit trained with another view keeps its own. `encode_for_reward_model` is
the only place where a response is rendered for r1kit's models; their trainer uses it too, so that a model
sees what it was trained on. The score is sigmoid((logit - mean) / std): bounded, because it is summed with
rule-based rewards. Mean and std are those of the logits on a reference set: the held-out responses of the
model's training, stored in `reward_scale.json` beside its weights, or the responses of the preference data
that the recipe names (`reference`). The sigmoid of a pointwise model is already a probability: mean 0 and std
1, as for a third-party model without a reference. The paper does not say how it normalised. Not covered:
training.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.data.jsonl import read_jsonl
from r1kit.data.records import messages_from_json
from r1kit.errors import DataError, ModelError
from r1kit.rewards.classifiers import MAX_TOKENS, Classifier, ClassifierConfig, EncodedText, View, encode_own
from r1kit.text.template import TAGS, as_chat, parse_response
from r1kit.types import Problem, PromptStyle, Rollout

# For a completion with nothing to read: below every sigmoid.
LOWEST_SCORE = 0.0

SCALE_NAME = "reward_scale.json"
# The number of reference responses to score: the mean is then known to 0.03 std.
_MAX_REFERENCE = 1000


@dataclass(frozen=True, slots=True)
class RewardScale:
    """Mean and std of a model's logits on its reference set; the view it was trained with."""

    mean: float = 0.0
    std: float = 1.0
    view: View | None = None


def scale_of(logits: Sequence[float]) -> RewardScale:
    """The scale of a reference set's logits (population std); std is 1 if they have no spread."""
    mean = math.fsum(logits) / len(logits)
    std = math.sqrt(math.fsum((logit - mean) ** 2 for logit in logits) / len(logits))
    return RewardScale(mean, std if std > 1e-6 else 1.0)


def write_scale(model_dir: Path, scale: RewardScale) -> None:
    """Write the scale beside the model's weights."""
    (model_dir / SCALE_NAME).write_text(json.dumps(asdict(scale)), encoding="utf-8")


def is_own(model_dir: str | Path) -> bool:
    """Whether r1kit trained the model."""
    return (Path(model_dir) / SCALE_NAME).is_file()


def read_scale(model_dir: str | Path) -> RewardScale:
    """The scale beside a model's weights; mean 0 and std 1 if there is none."""
    path = Path(model_dir) / SCALE_NAME
    if not is_own(model_dir):
        return RewardScale()
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        view = row.get("view")
        if view not in (None, "summary", "response"):
            raise ValueError(f"view is {view!r}")
        scale = RewardScale(float(row["mean"]), float(row["std"]), view)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no mean and std can be read ({error}); train the model again") from None
    if not (scale.std > 0 and math.isfinite(scale.mean)):
        raise ModelError(f"{path}: std must be positive and mean finite; train the model again")
    return scale


def viewed_text(problem: Problem, response_text: str, view: View) -> str | None:
    """The part of a chat response that a model with this view reads; None if there is nothing to read.

    "summary": the text after the reasoning; a malformed response has no summary. "response": the entire text,
    well formed or not, unless it is only tags.
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
    """Token ids of the chat prompt, the viewed text and the end token; None if there is nothing to read.

    The response follows the generation prompt token by token, as the policy wrote it. Rendered as a finished
    turn, many chat templates would drop the reasoning, which the safety model must see.
    """
    text = viewed_text(problem, response_text, view)
    if text is None:
        return None
    return encode_own(problem, text, tokenizer)


class RewardModelReward:
    """The sigmoid of a reward model's scaled logit, in (0, 1); `LOWEST_SCORE` if there is nothing to read.

    `model` is a folder, a hub name or a recipe's table. The view is the recipe's, else `view`, else the one
    that the model was trained with, else `default_view`. The model is loaded at the first call. A truncated
    completion has no finished summary to read. Completions in the zero format are converted to the chat
    format, which the model was trained on. Of a text that is too long for the model, the end is read.
    """

    def __init__(
        self,
        name: str,
        model: ClassifierConfig | str | Path,
        *,
        style: PromptStyle = "chat",
        default_view: View = "summary",
        view: View | None = None,
        max_tokens: int = MAX_TOKENS,
        tokens_per_batch: int = 8192,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.name = name
        self._style = style
        self._config = model if isinstance(model, ClassifierConfig) else ClassifierConfig(model=str(model))
        self._scale = read_scale(self._config.model)
        self.view: View = self._config.view or view or self._scale.view or default_view
        self._max_tokens = max_tokens
        self._tokens_per_batch = tokens_per_batch
        self._dtype = dtype
        self._device = device
        self._loaded: Classifier | None = None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        truncated_is_unreadable = self.view == "summary"
        return self.score_texts(
            [
                (
                    rollout.problem,
                    ""
                    if truncated_is_unreadable and rollout.completion.finish_reason == "length"
                    else as_chat(rollout.completion.text, self._style),
                )
                for rollout in rollouts
            ]
        )

    def score_texts(self, responses: Sequence[tuple[Problem, str]]) -> list[float | None]:
        """The score of each (problem, response text), in order."""
        if not responses:
            return []
        classifier, scale = self._load(), self._scale
        return [
            LOWEST_SCORE if logit is None else _sigmoid((logit - scale.mean) / scale.std)
            for logit in self._logits(classifier, responses)
        ]

    def _logits(self, classifier: Classifier, responses: Sequence[tuple[Problem, str]]) -> list[float | None]:
        """The log-odds behind the score; None if there is nothing to read."""
        # identical texts get bit-identical scores: rows of one batch can differ in the last bits
        places: dict[EncodedText, list[int]] = {}
        for i, (problem, response) in enumerate(responses):
            text = viewed_text(problem, response, self.view)
            if text is not None:
                places.setdefault(classifier.encode(problem, text), []).append(i)
        sign = -1.0 if self._config.negate else 1.0
        logits: list[float | None] = [None] * len(responses)
        # sorted by length, to reduce padding
        ordered = sorted(places, key=lambda row: (len(row.token_ids), row.token_ids))
        for batch in _batches(ordered, self._tokens_per_batch):
            for row, logit in zip(batch, classifier.log_odds(batch).tolist(), strict=True):
                for i in places[row]:
                    logits[i] = sign * logit
        return logits

    def _load(self) -> Classifier:
        if self._loaded is None:
            classifier = Classifier(
                self._config.model,
                label=self._config.label,
                is_own=is_own(self._config.model),
                max_tokens=self._max_tokens,
                dtype=self._dtype,
                device=self._device,
            )
            if self._config.reference is not None:
                responses = reference_responses(Path(self._config.reference))
                found = [x for x in self._logits(classifier, responses) if x is not None]
                if not found:
                    raise DataError(
                        f"{self._config.reference}: the reward `{self.name}` can read none of its responses "
                        f"(view {self.view}), so they give no scale"
                    )
                self._scale = scale_of(found)
            self._loaded = classifier
        return self._loaded


def reference_responses(path: Path) -> list[tuple[Problem, str]]:
    """At most `_MAX_REFERENCE` responses of preference data, evenly over the file: pairs (both) or labelled.

    Raises `DataError` with file and line for an unusable record.
    """
    responses: list[tuple[Problem, str]] = []
    for line, row in read_jsonl(path):
        try:
            responses += [(_reference_problem(row), row[side]) for side in _sides(row)]
        except DataError as error:
            raise DataError(f"{path}:{line}: {error}") from None
    step = max(1, -(-len(responses) // _MAX_REFERENCE))
    return responses[::step]


def _reference_problem(row: Mapping[str, Any]) -> Problem:
    messages = messages_from_json(row.get("messages"))
    return Problem(id="", kind="general", messages=messages, wants_reasoning=False)


def _sides(row: Mapping[str, Any]) -> tuple[str, ...]:
    sides = tuple(name for name in ("chosen", "rejected", "response") if isinstance(row.get(name), str))
    if not sides:
        raise DataError("no `chosen` and `rejected`, and no `response`, that is text")
    return sides


def _sigmoid(x: float) -> float:
    # never exactly 0, which is the score of unreadable responses
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _batches(rows: Sequence[EncodedText], tokens_per_batch: int) -> list[list[EncodedText]]:
    """Batches of rows sorted by length: at most `tokens_per_batch` padded tokens, at least one row each."""
    batches: list[list[EncodedText]] = []
    for row in rows:
        if batches and (len(batches[-1]) + 1) * len(row.token_ids) <= tokens_per_batch:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
