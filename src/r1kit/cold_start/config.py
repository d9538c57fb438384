"""Settings of the cold-start stage. The paper publishes the sources and filters, but not their numbers."""

from typing import Literal

from pydantic import Field, field_validator

from r1kit.config import Config
from r1kit.judges.chat_client import ServerConfig
from r1kit.types import PromptStyle


class CandidateSource(Config):
    """One source of candidates (DeepSeek-R1 v1, 2.3.1): which model, which problems, which kind of prompt.

    few_shot: worked examples come before the problem. direct: an instruction to reflect and verify follows
    the problem. samples: the problem alone. Few-shot prompts are always in Table 1's style, the others in the
    style that the model was trained in.
    """

    # few_shot, direct (asked to reflect and verify) or samples (a stage's own)
    kind: Literal["few_shot", "direct", "samples"]
    model: str | ServerConfig  # `base`, a stage, a folder or hub name; or a server with a teacher
    prompt_style: PromptStyle | None = None  # of prompts and answers; None: the style of the model's training
    problems: str  # the name of a problem set
    num_problems: int | None = Field(None, gt=0)  # None: all of them
    samples_per_problem: int = Field(4, gt=0)  # candidates of each problem
    temperature: float = Field(1.0, gt=0)  # DeepSeek-R1 v2, B.3.2: R1-Zero was sampled at 1.0
    max_new_tokens: int = Field(8192, gt=0)  # of a candidate
    # few_shot: `tinyworld` or another guest, or a JSONL file of question, reasoning, answer and language
    examples: str = "tinyworld"
    num_examples: int = Field(2, gt=0)  # few_shot: solved examples before the problem
    # direct: the instruction; None: to reflect and verify, in the problem's language
    instruction: str | None = None


class ColdStartConfig(Config):
    """A cold-start stage: it samples, filters and rewrites candidates, and writes `data.jsonl` for SFT."""

    kind: Literal["cold_start"] = "cold_start"
    sources: list[CandidateSource] = Field(min_length=1)  # where candidates come from
    min_language_share: float = Field(0.95, ge=0, le=1)  # of the words, in the question's language
    min_words: int = Field(3, ge=0)  # reasoning with fewer counts as mixed_language
    # languages to recognise in reasoning; None: all, at the cost of rare mistakes in short spans
    languages: list[str] | None = None
    repetition_ngram: int = Field(8, gt=1)  # words, digits and marks in an n-gram
    max_repeated_frac: float = Field(0.2, ge=0, le=1)  # n-grams that occurred before, of all n-grams
    min_tokens: int = Field(16, ge=0)  # of the reasoning
    max_tokens: int = Field(8192, gt=0)  # of the reasoning
    keep_per_problem: int = Field(2, gt=0)  # of the candidates that pass, as different as they come
    # by rules, or a table with the server of a model that does it
    rewrite: Literal["rules"] | ServerConfig = "rules"
    # required: the stage halts until people have read the records
    review: Literal["none", "required"] = "none"

    @field_validator("sources")
    @classmethod
    def _examples_are_for_few_shot(cls, sources: list[CandidateSource]) -> list[CandidateSource]:
        for source in sources:
            if source.instruction is not None and source.kind != "direct":
                raise ValueError(f'`instruction` is for kind = "direct", not for {source.kind!r}; drop it')
            if source.prompt_style == "chat" and source.kind == "few_shot":
                raise ValueError("few-shot prompts are in Table 1's style; drop `prompt_style`")
        return sources
