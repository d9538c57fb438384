"""Settings of the preferences stage: pairs for the helpful reward model, labels for the safety one."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticKnownError

from r1kit.config import Config
from r1kit.data.guests import find_oracle, guest_names
from r1kit.data.preference_sources import PreferenceSource
from r1kit.judges.config import JudgeRef
from r1kit.types import PromptStyle


def _has_oracle(name: str) -> str:
    if find_oracle(name) is None:
        known = " or ".join(repr(guest) for guest in guest_names() if find_oracle(guest) is not None)
        raise PydanticKnownError("literal_error", {"expected": known})
    return name


OracleRef = Annotated[
    str, AfterValidator(_has_oracle), WithJsonSchema({"const": "tinyworld", "type": "string"})
]
"""The name of a guest with an oracle. The schema for editors lists only the one that comes with r1kit."""


class PreferencesConfig(Config):
    """A preferences stage (DeepSeek-R1 v2, 3.1): it writes `data.jsonl` for reward models.

    Candidates are sampled from `model`, which will be trained against the reward model, and then labelled.
    Instead, `source` may name existing pairs or labels.
    """

    kind: Literal["preferences"] = "preferences"
    # pairwise: chosen and rejected; pointwise: safe or unsafe
    objective: Literal["pairwise", "pointwise"] = "pairwise"
    model: str | None = None  # the stage whose responses are labelled
    prompt_style: PromptStyle | None = None  # of prompts and answers; None: the style of the model's training
    problems: list[str] = Field(default_factory=list)  # sets of prompts
    label: OracleRef | JudgeRef = "tinyworld"  # the oracle of tinyworld or another guest, or a judge
    source: PreferenceSource | None = None  # pairs or labels that exist already, in place of sampling
    samples_per_problem: int = Field(4, gt=0)  # responses to each prompt
    temperature: float = Field(1.0, gt=0)  # of the responses
    max_new_tokens: int = Field(8192, gt=0)  # of a response
    noise: float = Field(0.1, ge=0, lt=0.5)  # the share of an oracle's labels that are reversed
    pairs_per_problem: int = Field(2, gt=0)  # pairwise: at most this many per prompt
    judgments: int = Field(4, gt=0)  # DeepSeek-R1 v2, 3.1: four, with A and B in random order
    min_difference: float = Field(1.0, ge=0, lt=2)  # and pairs kept whose mean verdict, in [-2, 2], exceeds 1
    # mean length gap, relative to the mean length of both sides; the paper says only "balanced over the set"
    max_length_gap_frac: float = Field(0.02, gt=0)
    # of pairs with a stock phrase on one side only: the surplus of one side, as a share of all pairs
    max_phrase_gap_frac: float = Field(0.02, gt=0)
    # a sentence that ends at least this share of the responses is a stock phrase
    min_phrase_frac: float = Field(0.02, gt=0)
    phrases: list[str] = Field(default_factory=list)  # more stock phrases, anywhere in a response
    # required: the stage halts until people have decided on the pairs or labels, before pairs are balanced
    review: Literal["none", "required"] = "none"

    @model_validator(mode="after")
    def _has_candidates(self) -> "PreferencesConfig":
        if (self.source is None) == (self.model is None):
            raise ValueError("name one of `model`, to sample candidates, and `source`, for existing data")
        if self.model is not None and not self.problems:
            raise ValueError("name the `problems` to sample candidates for")
        if self.objective == "pairwise" and self.model is not None and self.samples_per_problem < 2:
            raise ValueError("a pair needs `samples_per_problem` of 2 or more")
        return self
