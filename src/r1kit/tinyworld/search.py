"""The search family: problems that are solved by guessing, checking and trying again.

Two kinds: two numbers with a given sum and product, and countdown (an expression of three given numbers that
makes a target). Both may have several right answers; `metadata["verifier"]` names the exact check.
"""

import itertools
import random
import re
from dataclasses import dataclass

from r1kit.tinyworld.numbers import apply, careful_step, slipped
from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences

MOST_TRIES = 9


_VERDICT = re.compile(r"too small|too big|, yes|太小|太大|，对")


def count_tries(text: str) -> int:
    """How many candidates a reasoning checks: each check ends with a verdict."""
    return len(_VERDICT.findall(text))


@dataclass(frozen=True, slots=True)
class SumProduct:
    """Two numbers, 2 <= small <= 9 and small < large."""

    tier: str
    small: int
    large: int
    family: str = "search"

    @property
    def identity(self) -> str:
        return f"sum_product:{self.small},{self.large}"

    @property
    def truth(self) -> str:
        return f"{self.small} {self.large}"

    def question(self, language: Language, rng: random.Random) -> str:
        total, product = self.small + self.large, self.small * self.large
        if language == "en":
            return rng.choice(
                (
                    f"Find two numbers with sum {total} and product {product}.",
                    f"Two numbers add up to {total} and multiply to {product}. What are they?",
                )
            )
        return rng.choice(
            (f"两个数的和是{total}，积是{product}。是哪两个数？", f"找出和为{total}、积为{product}的两个数。")
        )

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """Tries with a verdict each, until one fits or the writer gives up with the last one."""
        total, product = self.small + self.large, self.small * self.large
        low, high = 2, min(9, (total - 1) // 2)
        if voice.manner == "guess":
            answer = _pair(rng.randint(low, high), total, language)
            return guess_sentence(answer, language), answer
        sentences: list[str] = []
        while True:
            a = rng.randint(low, high)
            b = total - a
            result = a * b
            if voice.slips(rng):
                result = slipped(result, rng)
            work = careful_step(b, "*", a, result) if voice.manner == "careful" else f"{result}"
            sentences.append(_try(voice, _pair_en(a, b), f"{a}和{b}", work, result, product, rng))
            if result == product or low == high or not rng.random() < voice.retry_frac:
                break
            low, high = (min(a + 1, high), high) if result < product else (low, max(a - 1, low))
        answer = _pair(a, total, language)
        if voice.manner == "careful":
            sentences.append(voice.say(rng, f"So they are {_pair_en(a, b)}.", f"所以是{a}和{b}。"))
        return join_sentences(sentences), answer


def _pair_en(a: int, b: int) -> str:
    return f"{a} and {b}"


def _pair(a: int, total: int, language: Language) -> str:
    return _pair_en(a, total - a) if language == "en" else f"{a}和{total - a}"


def _try(voice: Voice, en: str, zh: str, work: str, result: int, target: int, rng: random.Random) -> str:
    """`Let me try 7 and 31: 31*7=210+7=217, 217<240, too small.`; short: `Maybe 7 and 31: 217, too small.`"""
    sign, verdict_en, verdict_zh = (
        ("=", "yes", "对")
        if result == target
        else ("<", "too small", "太小")
        if result < target
        else (">", "too big", "太大")
    )
    if voice.manner == "short":
        return voice.say(rng, f"Maybe {en}: {work}, {verdict_en}.", f"也许{zh}：{work}，{verdict_zh}。")
    seen = f"{result}{sign}{target}"
    return voice.say(
        rng, f"Let me try {en}: {work}, {seen}, {verdict_en}.", f"我来试{zh}：{work}，{seen}，{verdict_zh}。"
    )


@dataclass(frozen=True, slots=True)
class Expression:
    """`left op right` with a third number behind it, the first two perhaps in brackets."""

    text: str
    first: tuple[int, str, int]
    second: tuple[int, str, int]

    @property
    def value(self) -> int:
        return apply(*self.second)

    def work(self, result: int) -> str:
        """Both steps, one after the other: `24+12=36, 36*5=30*5+6*5=150+30=180`."""
        return f"{careful_step(*self.first, apply(*self.first))}, {careful_step(*self.second, result)}"


def expressions(numbers: tuple[int, int, int], tier: str) -> list[Expression]:
    """Every candidate of the tier: `a*b+c`, `a*b-c` and sums; in the hard tier `(a+b)*c`, `(a-b)*c` for sums.

    Only a number below ten multiplies: a writer can then take the product apart.
    """
    found: dict[str, Expression] = {}
    for a, b, c in itertools.permutations(numbers):
        if a < b:
            continue
        shapes = [("*", "+"), ("*", "-")] if b < 10 else []
        shapes += [("+", "-")] if tier == "ordinary" else [("+", "*"), ("-", "*")] if c < 10 else []
        for first, second in shapes:
            middle = apply(a, first, b)
            inner = f"{a}{first}{b}"
            text = f"({inner}){second}{c}" if second == "*" else f"{inner}{second}{c}"
            candidate = Expression(text, (a, first, b), (middle, second, c))
            if 0 < candidate.value <= 999:
                found.setdefault(text, candidate)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Countdown:
    """Three numbers and a target that at least one candidate expression makes."""

    tier: str
    numbers: tuple[int, int, int]
    target: int
    family: str = "search"

    @property
    def identity(self) -> str:
        return f"countdown:{sorted(self.numbers)}:{self.target}"

    @property
    def truth(self) -> str:
        return next(e.text for e in expressions(self.numbers, self.tier) if e.value == self.target)

    def question(self, language: Language, rng: random.Random) -> str:
        a, b, c = self.numbers
        if language == "en":
            return rng.choice(
                (f"Use {a}, {b} and {c} to make {self.target}.", f"Make {self.target} from {a}, {b} and {c}.")
            )
        return rng.choice((f"用{a}、{b}和{c}算出{self.target}。", f"怎样用{a}、{b}、{c}得到{self.target}？"))

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """Tries expressions, likelier ones first, until one makes the target or the writer gives up."""
        candidates = expressions(self.numbers, self.tier)
        if voice.manner == "guess":
            answer = rng.choice(candidates).text
            return guess_sentence(answer, language), answer
        sentences: list[str] = []
        for _ in range(MOST_TRIES):
            weights = [1 / (10 + abs(e.value - self.target)) for e in candidates]
            tried = rng.choices(candidates, weights)[0]
            candidates.remove(tried)
            result = tried.value
            if voice.slips(rng):
                result = slipped(result, rng)
            work = tried.work(result) if voice.manner == "careful" else f"{result}"
            sentences.append(_try(voice, tried.text, tried.text, work, result, self.target, rng))
            if result == self.target or not candidates or not rng.random() < voice.retry_frac:
                break
        if voice.manner == "careful":
            sentences.append(voice.say(rng, f"So it is {tried.text}.", f"所以是{tried.text}。"))
        return join_sentences(sentences), tried.text


def draw_search(tier: str, rng: random.Random) -> SumProduct | Countdown:
    """Half of each kind; the hard tier has larger numbers, and brackets."""
    if rng.random() < 0.5:
        small = rng.randint(2, 9)
        large = rng.randint(40, 99) if tier == "hard" else rng.randint(small + 1, 39)
        return SumProduct(tier, small, large)
    while True:
        numbers = tuple(rng.sample(range(2, 60), 1) + rng.sample(range(2, 10), 2))
        candidates = expressions(numbers, tier) if len(set(numbers)) == 3 else []  # type: ignore[arg-type]
        wanted = [e for e in candidates if tier == "ordinary" or e.text.startswith("(")]
        if wanted:
            target = rng.choice(wanted)
            return Countdown(tier, numbers, target.value)  # type: ignore[arg-type]


def check_line(rng: random.Random) -> str:
    """One single check for a page of drill: a candidate, worked out and compared."""
    instance = draw_search(rng.choice(("ordinary", "hard")), rng)
    language: Language = rng.choice(("en", "zh"))
    reasoning, _answer = instance.reason(Voice("careful", ("en", "zh"), 0.0, retry_frac=0.3), language, rng)
    return f"{instance.question(language, rng)} {reasoning}"


def comparison_line(rng: random.Random) -> str:
    """`217<240`."""
    a = rng.randint(2, 999)
    b = max(1, a + rng.choice((rng.randint(-60, 60), rng.randint(-400, 400))))
    return f"{a}{'<' if a < b else '>' if a > b else '='}{b}"
