"""The code family: a small function, found from a few of its values and checked by running it.

A linear function of one or two numbers. What is given determines it; the tests call it with other numbers
too, so that a table of the given values fails. It needs the sandbox, and so is not among the families that a
recipe gets without naming them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.tinyworld.numbers import plain_step, slipped
from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences

FUNCTION = "f"
NAMES = ("x", "y")
MOST_ATTEMPTS = 3
_CALLED_WITH = {
    1: ((0,), (1,), (3,), (8,), (20,), (-5,)),
    2: ((0, 0), (1, 0), (0, 1), (3, 4), (12, 7), (-2, 5)),
}


@dataclass(frozen=True, slots=True)
class Linear:
    """`factors[0]*x + factors[1]*y + constant`; `given` are the arguments whose values are told.

    The first ones are what it is worked out from - 0 and the steps of one from it, or two neighbours - and
    the last one is left to check with.
    """

    tier: str
    factors: tuple[int, ...]
    constant: int
    given: tuple[tuple[int, ...], ...]
    family: str = "code"

    @property
    def identity(self) -> str:
        return f"linear:{','.join(map(str, self.factors))}:{self.constant}"

    @property
    def truth(self) -> str:
        return _program(self.factors, self.constant)

    @property
    def tests(self) -> tuple[dict[str, Any], ...]:
        """Calls of the function, also with numbers that the question does not tell."""
        return tuple(
            {"type": "call", "function": FUNCTION, "arguments": list(at), "output": self.value(at)}
            for at in _CALLED_WITH[len(self.factors)]
        )

    def value(self, at: Sequence[int]) -> int:
        """The function's value."""
        return sum(factor * x for factor, x in zip(self.factors, at, strict=True)) + self.constant

    def question(self, language: Language, rng: random.Random) -> str:
        told = [f"{_call(at)}={self.value(at)}" for at in self.given]
        head = _call(NAMES[: len(self.factors)])
        if language == "en":
            lead = rng.choice(
                (f"Write a linear {head} in Python with ", f"In Python, write a linear {head}: ")
            )
            return f"{lead}{', '.join(told)}."
        lead = rng.choice((f"用Python写一次函数{head}：", f"写出Python的一次函数{head}，使"))
        return f"{lead}{'，'.join(told)}。"

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """The factors one by one; careful writers check with the last value, and start over if it fails."""
        if voice.manner == "guess":
            factors = tuple(rng.randint(2, 9) for _ in self.factors)
            constant = rng.randint(1, 99)
            return guess_sentence(_formula(factors, constant), language), _program(factors, constant)
        sentences: list[str] = []
        for _ in range(MOST_ATTEMPTS):
            worked, factors, constant = self._work_out(voice, rng)
            sentences += worked
            if voice.manner == "short":
                break
            check, fits = self._check(voice, factors, constant, rng)
            sentences.append(check)
            if fits or not rng.random() < voice.retry_frac:
                break
        if voice.manner == "careful":
            formula = _formula(factors, constant)
            sentences.append(voice.say(rng, f"So it is {formula}.", f"所以是{formula}。"))
        return join_sentences(sentences), _program(factors, constant)

    def _work_out(self, voice: Voice, rng: random.Random) -> tuple[list[str], tuple[int, ...], int]:
        """The sentences that find the factors and the constant, and what they find."""
        if any(self.given[0]):
            return self._from_neighbours(voice, rng)
        constant = self.value(self.given[0])
        sentences = [self._found(voice, rng, self.given[0], "", "add", "加", constant)]
        factors = []
        for i, at in enumerate(self.given[1:-1]):
            value = self.value(at)
            factor = self._result(voice, value - constant, rng)
            work = plain_step(value, "-", constant, factor)
            sentences.append(self._found(voice, rng, at, work, f"{NAMES[i]} times", f"{NAMES[i]}乘", factor))
            factors.append(factor)
        return sentences, tuple(factors), constant

    def _from_neighbours(self, voice: Voice, rng: random.Random) -> tuple[list[str], tuple[int, ...], int]:
        (n,), upper = self.given[0], self.given[1]
        first, second = self.value((n,)), self.value(upper)
        factor = self._result(voice, second - first, rng)
        sentences = [
            self._found(voice, rng, upper, plain_step(second, "-", first, factor), "x times", "x乘", factor)
        ]
        product = factor * n
        constant = self._result(voice, first - product, rng)
        work = f"{plain_step(factor, '*', n, product)}, {plain_step(first, '-', product, constant)}"
        sentences.append(self._found(voice, rng, (n,), work, "add", "加", constant))
        return sentences, (factor,), constant

    def _result(self, voice: Voice, value: int, rng: random.Random) -> int:
        return slipped(value, rng) if voice.slips(rng) and value > 0 else value

    def _found(
        self, voice: Voice, rng: random.Random, at: tuple[int, ...], work: str, en: str, zh: str, number: int
    ) -> str:
        """`Given f(1)=5, 5-3=2, x times 2.`; short: `x times 2.`"""
        if voice.manner == "short":
            return voice.say(rng, f"{en} {number}.", f"{zh}{number}。")
        told, work = f"{_call(at)}={self.value(at)}", f"{work}, " if work else ""
        return voice.say(rng, f"Given {told}, {work}{en} {number}.", f"由{told}, {work}{zh}{number}。")

    def _check(
        self, voice: Voice, factors: tuple[int, ...], constant: int, rng: random.Random
    ) -> tuple[str, bool]:
        """`Check f(2,4): 2*3=6, 4*5=20, 6+20=26, 26+7=33, yes.`, and whether it fits."""
        at = self.given[-1]
        products = [factor * x for factor, x in zip(factors, at, strict=True)]
        steps = [plain_step(x, "*", f, p) for x, f, p in zip(at, factors, products, strict=True)]
        total = products[0]
        for number in (*products[1:], constant):
            steps.append(plain_step(total, "+", number, total + number))
            total += number
        fits = total == self.value(at)
        work = ", ".join(steps)
        en, zh = ("yes", "对") if fits else ("no", "不对")
        return voice.say(rng, f"Check {_call(at)}: {work}, {en}.", f"检查{_call(at)}: {work}, {zh}。"), fits


def _call(arguments: Sequence[object]) -> str:
    return f"{FUNCTION}({','.join(map(str, arguments))})"


def _formula(factors: Sequence[int], constant: int) -> str:
    return "+".join([f"{f}*{name}" for f, name in zip(factors, NAMES, strict=False)] + [str(constant)])


def _program(factors: Sequence[int], constant: int) -> str:
    return f"def {_call(NAMES[: len(factors)])}: return {_formula(factors, constant)}"


def draw_program(tier: str, rng: random.Random) -> Linear:
    """One number, told from 0 on, in the ordinary tier; in the hard one two, or one told from elsewhere."""
    constant = rng.randint(1, 99)
    if tier == "hard" and rng.random() < 0.5:
        factors: tuple[int, ...] = (rng.randint(2, 9), rng.randint(2, 9))
        given: tuple[tuple[int, ...], ...] = ((0, 0), (1, 0), (0, 1), (rng.randint(2, 9), rng.randint(2, 9)))
        return Linear(tier, factors, constant, given)
    n = rng.randint(2, 6) if tier == "hard" else 0
    return Linear(tier, (rng.randint(2, 9),), constant, ((n,), (n + 1,), (n + rng.randint(2, 4),)))
