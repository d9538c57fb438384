"""Settings of the rejection-sampling stage. The paper publishes the filters, but not their numbers."""

from typing import Literal

from pydantic import Field, model_validator

from r1kit.config import Config
from r1kit.data.guests import guest_of
from r1kit.judges.config import JudgeRef
from r1kit.rewards.classifiers import ClassifierConfig, View
from r1kit.types import PromptStyle


class QualityConfig(Config):
    """The quality filter of general responses: a reward model or a judge, and the lowest accepted score."""

    # a stage of kind reward_model, a folder or a hub name; or a table with `model` and the label to score
    reward_model: str | ClassifierConfig | None = None
    view: View = "summary"  # what the reward model reads
    judge: JudgeRef | None = None  # a judge by name, or its table
    threshold: float | None = Field(None, ge=0, le=1)  # the lowest score that is kept
    quantile: float | None = Field(None, ge=0, lt=1)  # drops this share of each domain's responses

    @model_validator(mode="after")
    def _one_of_each(self) -> "QualityConfig":
        if (self.reward_model is None) == (self.judge is None):
            raise ValueError("name one of `reward_model` and `judge`")
        if (self.threshold is None) == (self.quantile is None):
            raise ValueError("set one of `threshold` and `quantile`")
        return self


class GeneralConfig(Config):
    """General data (DeepSeek-R1 v1, 2.3.3): sampled from the model, taken from demonstrations, or both."""

    problems: list[str] = Field(default_factory=list)  # problem sets whose prompts the model answers
    samples_per_problem: int = Field(4, gt=0)  # answers to each prompt
    temperature: float = Field(1.0, gt=0)  # of those answers
    demonstrations: str | None = None  # `tinyworld-demonstrations` or another guest's, or a JSONL file
    num_demonstrations: int | None = Field(None, gt=0)  # None: all of the file
    # which prompts get reasoning: decided by the problem's own flag, or by a judge
    reasoning: Literal["flag"] | JudgeRef = "flag"
    # None: all that is well formed and in one language; `keep_per_problem` then keeps the first of a prompt
    quality: QualityConfig | None = None
    # Of the reasoning's words, in the question's language. Lower than for mathematics, because reasoning
    # about a translation uses words of both languages.
    min_language_share: float = Field(0.6, ge=0, le=1)
    keep_per_problem: int = Field(1, gt=0)  # the best of those that pass
    keep_by_domain: dict[str, int] = Field(default_factory=dict)  # replaces it in domains with few prompts
    max_records: int | None = Field(None, gt=0)  # None: all that are good enough

    @model_validator(mode="after")
    def _has_a_source(self) -> "GeneralConfig":
        if not self.problems and self.demonstrations is None:
            raise ValueError("name `problems` to answer, `demonstrations`, or both")
        guest = guest_of(self.demonstrations or "")
        if guest and self.demonstrations in guest.demonstrations and self.num_demonstrations is None:
            raise ValueError(f"{guest.name} makes any number of them; set `num_demonstrations`")
        return self


# Settings that apply only to reasoning data.
_OF_REASONING = {
    "samples_per_round", "max_rounds", "temperature", "keep_hard", "keep_easy", "solved_frac",
    "min_language_share", "min_words", "max_paragraph_chars", "judge", "max_records",
}  # fmt: skip


class RejectionConfig(Config):
    """A rejection-sampling stage: it writes `data.jsonl` for SFT, reasoning and general data together."""

    kind: Literal["rejection"] = "rejection"
    model: str  # the stage that is sampled
    # of prompts and answers; None: the style of the model's training
    prompt_style: PromptStyle | None = None
    # problem sets with answers that can be checked; empty: only general data
    problems: list[str] = Field(default_factory=list)
    samples_per_round: int = Field(4, gt=0)  # of each problem that is not done
    max_rounds: int = Field(4, gt=0)  # the budget; a problem without a right sample then gives nothing
    temperature: float = Field(1.0, gt=0)  # of the samples
    max_new_tokens: int = Field(32_768, gt=0)  # of a sample
    # samples kept of a problem: `keep_hard` at a pass rate near 0, `keep_easy` at 1, linear in between
    keep_hard: int = Field(4, gt=0)
    keep_easy: int = Field(1, ge=0)  # see `keep_hard`
    solved_frac: float = Field(1.0, ge=0, le=1)  # of the problems that every sample solves
    # words of the question's language among all words of the reasoning
    min_language_share: float = Field(0.95, ge=0, le=1)
    min_words: int = Field(3, ge=0)  # a reasoning with fewer has no language
    # languages to recognise in reasoning; None: all, at the cost of rare mistakes in short spans
    languages: list[str] | None = None
    max_paragraph_chars: int = Field(1500, gt=0)  # "long paragraphs": a line of the reasoning
    judge: JudgeRef | None = None  # grades problems of kind judged, with the ground truth
    max_records: int | None = Field(None, gt=0)  # of reasoning data; None: all that is kept
    # required: the stage halts until people have read the records
    review: Literal["none", "required"] = "none"
    general: GeneralConfig | None = None  # a table for general data; none: reasoning data alone

    @property
    def style(self) -> PromptStyle:
        """The style of prompts and answers. Loading a recipe fills it in."""
        return self.prompt_style or "chat"

    @model_validator(mode="after")
    def _has_something_to_do(self) -> "RejectionConfig":
        if not self.problems and self.general is None:
            raise ValueError("name `problems` to sample answers to, or a `general` table, or both")
        return self

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "RejectionConfig":
        idle = sorted(_OF_REASONING & self.model_fields_set)
        if not self.problems and idle:
            raise ValueError(
                f"without `problems` there is no reasoning data, and `{idle[0]}` has no effect: name "
                "problems, or take it out"
            )
        return self

    @model_validator(mode="after")
    def _easy_is_not_kept_more(self) -> "RejectionConfig":
        if self.keep_easy > self.keep_hard:
            raise ValueError("`keep_easy` is above `keep_hard`: more should be kept of hard problems")
        return self
