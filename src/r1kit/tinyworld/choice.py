"""The multiple-choice family: which of these sums comes out largest, or smallest?"""

import random
from dataclasses import dataclass

from r1kit.tinyworld.numbers import OPERATIONS, apply, careful_step, slipped
from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences

LETTERS = "ABCDE"


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
                sentences.append(self._careful(voice, letter, (a, op, b, result), best, rng))
            if better or best is None:
                best = (result, letter)
        assert best is not None
        if voice.manner == "careful":
            sentences.append(voice.say(rng, f"So the answer is {best[1]}.", f"所以选{best[1]}。"))
        return join_sentences(sentences), best[1]

    def _careful(
        self,
        voice: Voice,
        letter: str,
        step: tuple[int, str, int, int],
        best: tuple[int, str] | None,
        rng: random.Random,
    ) -> str:
        """`Option B is 22+63=85, 85<105, best A 105.`"""
        work, result = careful_step(*step), step[3]
        if best is None:
            return voice.say(rng, f"Option {letter} is {work}.", f"选项{letter}是{work}。")
        leads = result > best[0] if self.wants_largest else result < best[0]
        value, leader = (result, letter) if leads else best
        seen = f"{result}{'<' if result < best[0] else '>' if result > best[0] else '='}{best[0]}"
        return voice.say(
            rng,
            f"Option {letter} is {work}, {seen}, best {leader} {value}.",
            f"选项{letter}是{work}，{seen}，最好{leader} {value}。",
        )


def draw_choice(tier: str, rng: random.Random) -> Choice:
    """3 options of about one size in the ordinary tier, 4-5 with larger numbers in the hard one."""
    num_options = rng.randint(4, 5) if tier == "hard" else 3
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
