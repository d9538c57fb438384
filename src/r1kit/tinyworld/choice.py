"""The multiple-choice family: which of these sums comes out largest, or smallest?"""

import random
from dataclasses import dataclass

from r1kit.tinyworld.numbers import OPERATIONS, apply, careful_step, slipped
from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences, make_voice

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Choice:
    """Options are (left, operation, right) with results that all differ."""

    tier: str
    wants_largest: bool
    options: tuple[tuple[int, str, int], ...]
    family: str = "choice"

    @property
    def identity(self) -> str:
        listed = ",".join(f"{a}{op}{b}" for a, op, b in self.options)
        return f"choice:{'max' if self.wants_largest else 'min'}:{listed}"

    @property
    def results(self) -> list[int]:
        return [apply(*option) for option in self.options]

    @property
    def truth(self) -> str:
        pick = max if self.wants_largest else min
        return LETTERS[self.results.index(pick(self.results))]

    @property
    def option_texts(self) -> list[str]:
        return [f"{a}{op}{b}" for a, op, b in self.options]

    def question(self, language: Language, rng: random.Random) -> str:
        listed = " ".join(
            f"{letter}. {text}" for letter, text in zip(LETTERS, self.option_texts, strict=False)
        )
        if language == "en":
            return f"Which is the {'largest' if self.wants_largest else 'smallest'}? {listed}"
        return f"哪个最{'大' if self.wants_largest else '小'}？{listed}"

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """A line of reasoning and the letter that it ends with."""
        letters = LETTERS[: len(self.options)]
        if voice.manner == "guess":
            answer = rng.choice(letters)
            return guess_sentence(answer, language), answer
        sentences: list[str] = []
        best: tuple[int, str] | None = None
        for letter, (a, op, b) in zip(letters, self.options, strict=True):
            result = apply(a, op, b)
            if voice.slips(rng):
                result = slipped(result, rng)
            better = best is None or (result > best[0] if self.wants_largest else result < best[0])
            if voice.manner == "short":
                sentences.append(voice.say(rng, f"{letter} is {result}.", f"{letter}得{result}。"))
                if best is not None and voice.slips(rng):
                    better = not better
            else:
                sentences.append(self.careful(voice, letter, (a, op, b, result), best, rng))
            if better or best is None:
                best = (result, letter)
        assert best is not None
        if voice.manner == "careful":
            sentences.append(voice.say(rng, f"So the answer is {best[1]}.", f"所以选{best[1]}。"))
        return join_sentences(sentences), best[1]

    def careful(
        self,
        voice: Voice,
        letter: str,
        step: tuple[int, str, int, int],
        best: tuple[int, str] | None,
        rng: random.Random,
    ) -> str:
        """`Option B is 22+63=85, 85<105, largest A 105.`: what is wanted is said again at every option."""
        work, result = careful_step(*step), step[3]
        leads = best is None or (result > best[0] if self.wants_largest else result < best[0])
        value, leader = (result, letter) if leads or best is None else best
        en = f"{'largest' if self.wants_largest else 'smallest'} {leader} {value}."
        zh = f"最{'大' if self.wants_largest else '小'}{leader} {value}。"
        if best is not None:
            seen = f"{result}{'<' if result < best[0] else '>' if result > best[0] else '='}{best[0]}"
            en, zh = f"{seen}, {en}", f"{seen}，{zh}"
        return voice.say(rng, f"Option {letter} is {work}, {en}", f"选项{letter}是{work}，{zh}")


def draw_choice(tier: str, rng: random.Random) -> Choice:
    """3 options of about one size in the ordinary tier, 4 with larger numbers in the hard one."""
    num_options = 4 if tier == "hard" else 3
    largest = 900 if tier == "hard" else 200
    center = rng.randint(60, largest - 40)
    options: list[tuple[int, str, int]] = []
    seen: set[int] = set()
    while len(options) < num_options:
        op = rng.choice(OPERATIONS)
        result = max(10, center + rng.randint(-50, 50))
        if op == "*":
            b = rng.randint(2, 9)
            a = max(2, round(result / b))
            if a > 199:
                continue
        else:
            b = rng.randint(5, max(6, min(99, result - 2)))
            a = result - b if op == "+" else result + b
        value = apply(a, op, b)
        if value not in seen and 0 < value <= 999 and a <= 999:
            seen.add(value)
            options.append((a, op, b))
    return Choice(tier, rng.random() < 0.5, tuple(options))


def choice_line(rng: random.Random) -> str:
    """One comparison with the best so far, for a page of drill: `largest A 105. Option C is 97, ...`."""
    choice = draw_choice(rng.choice(("ordinary", "hard")), rng)
    first, second = sorted(rng.sample(range(len(choice.options)), 2))
    voice = make_voice("careful", "en", "zh")
    value = choice.results[first]
    wanted_en, wanted_zh = ("largest", "最大") if choice.wants_largest else ("smallest", "最小")
    before = voice.say(
        rng, f"{wanted_en} {LETTERS[first]} {value}.", f"{wanted_zh}{LETTERS[first]} {value}。"
    )
    step = (*choice.options[second], choice.results[second])
    best = (value, LETTERS[first])
    return join_sentences([before, choice.careful(voice, LETTERS[second], step, best, rng)])
