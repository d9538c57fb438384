"""Two families of chained steps: bare arithmetic, and word problems that tell the same chain as a story."""

import random
from dataclasses import dataclass

from r1kit.tinyworld.numbers import apply, careful_step, plain_step, slipped
from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences

LARGEST = 999

NAMES = {"en": ("Tom", "Ann", "Ben", "Lily", "Sam"), "zh": ("小明", "小红", "小刚", "小丽", "小华")}
THINGS = (("apples", "苹果"), ("books", "书"), ("coins", "硬币"), ("eggs", "鸡蛋"), ("pens", "笔"))

_STORY = {
    ("en", "+"): ("{name} buys {n} more.", "{name} finds {n} more.", "A friend gives {name} {n}."),
    ("en", "-"): ("{name} gives away {n}.", "{name} loses {n}.", "{name} sells {n}."),
    ("en", "*"): ("Then {name} has {n} times as many.", "The number becomes {n} times as large."),
    ("zh", "+"): ("{name}又买了{n}个。", "{name}又找到{n}个。", "朋友给了{name}{n}个。"),
    ("zh", "-"): ("{name}送走{n}个。", "{name}丢了{n}个。", "{name}卖掉{n}个。"),
    ("zh", "*"): ("然后{name}有原来的{n}倍。", "数量变成{n}倍。"),
}
_ORDER = {
    ("en", "+"): "add {n}",
    ("en", "-"): "subtract {n}",
    ("en", "*"): "multiply by {n}",
    ("zh", "+"): "加上{n}",
    ("zh", "-"): "减去{n}",
    ("zh", "*"): "乘以{n}",
}


@dataclass(frozen=True, slots=True)
class Chain:
    """A start and a list of (operation, operand); every intermediate result lies in 0..999."""

    family: str
    tier: str
    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def identity(self) -> str:
        """The numbers and structure; the same for both families, so that neither leaks into the other."""
        return f"chain:{self.start}" + "".join(f"{op}{n}" for op, n in self.steps)

    @property
    def values(self) -> list[int]:
        """The start and the result after each step."""
        values = [self.start]
        for op, n in self.steps:
            values.append(apply(values[-1], op, n))
        return values

    @property
    def truth(self) -> str:
        return str(self.values[-1])

    def question(self, language: Language, rng: random.Random) -> str:
        return self._story(language, rng) if self.family == "word" else self._exercise(language, rng)

    def _story(self, language: Language, rng: random.Random) -> str:
        name, thing = rng.choice(NAMES[language]), rng.choice(THINGS)
        told = [rng.choice(_STORY[language, op]).format(name=name, n=n) for op, n in self.steps]
        if language == "en":
            body = " ".join([f"{name} has {self.start} {thing[0]}.", *told])
            return f"{body} How many {thing[0]} does {name} have now?"
        return f"{name}有{self.start}个{thing[1]}。" + "".join(told) + f"现在{name}有多少个{thing[1]}？"

    def _exercise(self, language: Language, rng: random.Random) -> str:
        if rng.random() < 0.4:
            text = str(self.start)
            for i, (op, n) in enumerate(self.steps):
                text = f"({text}{op}{n})" if i < len(self.steps) - 1 else f"{text}{op}{n}"
            return f"What is {text}?" if language == "en" else f"{text}等于多少？"
        orders = [_ORDER[language, op].format(n=n) for op, n in self.steps]
        if language == "en":
            return f"Start with {self.start}, {', '.join(orders)}. What is the result?"
        return f"从{self.start}开始，{'，'.join(orders)}。结果是多少？"

    def guess(self, rng: random.Random) -> str:
        """An answer without working it out: sometimes right, else some number of about the size."""
        if rng.random() < 0.1:
            return self.truth
        return str(max(0, round(self.values[-1] * rng.uniform(0.5, 1.5)) + rng.randint(-9, 9)))

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """A line of reasoning and the answer that it ends with."""
        if voice.manner == "guess":
            answer = self.guess(rng)
            return guess_sentence(answer, language), answer
        value, sentences = self.start, []
        for i, (op, n) in enumerate(self.steps):
            if value < n and op == "-":  # after a slip the rest may not work out: the writer stops there
                break
            result = apply(value, op, n)
            if voice.slips(rng):
                result = slipped(result, rng)
            sentences.append(_sentence(voice, i, value, op, n, result, rng))
            value = result
        if voice.manner == "careful":
            sentences.append(voice.say(rng, f"So the answer is {value}.", f"所以答案是{value}。"))
        return join_sentences(sentences), str(value)


_SHORT = {
    "+": ("add {n}: {v}.", "加{n}得{v}。"),
    "-": ("minus {n}: {v}.", "减{n}得{v}。"),
    "*": ("times {n}: {v}.", "乘{n}得{v}。"),
}
_CAREFUL = {
    "+": ("{lead} we add {n}: {work}.", "{lead}加上{n}：{work}。"),
    "-": ("{lead} we subtract {n}: {work}.", "{lead}减去{n}：{work}。"),
    "*": ("{lead} we multiply by {n}: {work}.", "{lead}乘以{n}：{work}。"),
}


def _sentence(voice: Voice, i: int, value: int, op: str, n: int, result: int, rng: random.Random) -> str:
    if voice.manner == "short":
        en, zh = _SHORT[op]
        first = f"{value} " if i == 0 else ""
        return voice.say(rng, first + en.format(n=n, v=result), first.strip() + zh.format(n=n, v=result))
    en, zh = _CAREFUL[op]
    work = careful_step(value, op, n, result)
    lead_en = "First" if i == 0 else rng.choice(("Then", "Next"))
    lead_zh = "首先" if i == 0 else rng.choice(("然后", "接着"))
    return voice.say(rng, en.format(lead=lead_en, n=n, work=work), zh.format(lead=lead_zh, n=n, work=work))


def draw_chain(family: str, tier: str, rng: random.Random) -> Chain:
    """A random chain: 2-3 steps in the ordinary tier; 4-6 (stories 4-5) in the hard one."""
    hard = tier == "hard"
    num_steps = rng.randint(4, 5 if family == "word" else 6) if hard else rng.randint(2, 3)
    start = rng.randint(3, 99)
    value, steps = start, []
    for _ in range(num_steps):
        op, n = _draw_step(value, hard, rng)
        steps.append((op, n))
        value = apply(value, op, n)
    return Chain(family, tier, start, tuple(steps))


def _draw_step(value: int, hard: bool, rng: random.Random) -> tuple[str, int]:
    while True:
        op = rng.choice(("+", "-", "*", "*"))
        n = rng.randint(2, 9) if op == "*" else rng.randint(2, 199 if hard and rng.random() < 0.3 else 99)
        if 2 <= apply(value, op, n) <= LARGEST and not (op == "*" and value > 199):
            return op, n


def step_line(rng: random.Random) -> str:
    """One single step for a page of drill."""
    op, n = _draw_step(left := rng.randint(2, LARGEST if rng.random() < 0.4 else 199), True, rng)
    result = apply(left, op, n)
    return careful_step(left, op, n, result) if rng.random() < 0.7 else plain_step(left, op, n, result)
