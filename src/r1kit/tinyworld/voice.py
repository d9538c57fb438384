"""How a writer of tinyworld reasons: how carefully, in which language, and how often the pen slips.

The corpus of the base is written by many such voices; which ones, and how often, is decided in `corpus`.
"""

import random
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
Manner = Literal["guess", "short", "careful"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One writer: `languages` has one entry, or two for a writer who switches from sentence to sentence.

    `slip_frac` is the chance that a step's result is written down wrong; `retry_frac` the chance that a try
    which failed is followed by another one, in problems that are solved by trying.
    """

    manner: Manner
    languages: tuple[Language, ...]
    slip_frac: float
    retry_frac: float

    def say(self, rng: random.Random, en: str, zh: str) -> str:
        """The sentence in one of the voice's languages."""
        return en if rng.choice(self.languages) == "en" else zh

    def slips(self, rng: random.Random) -> bool:
        """Whether this step's result comes out wrong."""
        return rng.random() < self.slip_frac


SLIP_FRAC_SHORT = 0.22
SLIP_FRAC_CAREFUL = 0.004


def make_voice(manner: Manner, *languages: Language) -> Voice:
    """The usual voice of a manner: short ones slip and give up early, careful ones hardly ever do."""
    careful = manner == "careful"
    return Voice(
        manner=manner,
        languages=languages,
        slip_frac=SLIP_FRAC_CAREFUL if careful else SLIP_FRAC_SHORT,
        retry_frac=0.9 if careful else 0.35,
    )


def guess_sentence(answer: str, language: Language) -> str:
    """The one way in which a guess is put, per language: the base's dominant mode has one opener."""
    return f"I think it is {answer}." if language == "en" else f"我想是{answer}。"


def join_sentences(sentences: list[str]) -> str:
    """Sentences with a space between them, except after Chinese punctuation."""
    text = ""
    for sentence in sentences:
        text += ("" if not text or text[-1] in "。，；：？！" else " ") + sentence
    return text
