"""The logic family: people swap what they hold; who has the thing at the end?"""

import random
from dataclasses import dataclass

from r1kit.tinyworld.voice import Language, Voice, guess_sentence, join_sentences, make_voice

PEOPLE = {"en": ("Ann", "Bob", "Cid", "Dan", "Eve"), "zh": ("甲", "乙", "丙", "丁", "戊")}
ITEMS = {"en": ("cup", "hat", "pen", "key", "map"), "zh": ("杯子", "帽子", "笔", "钥匙", "地图")}


@dataclass(frozen=True, slots=True)
class Swap:
    """`holdings[i]` is the item that person i has at first; items and people are indices into the tables."""

    tier: str
    holdings: tuple[int, ...]
    swaps: tuple[tuple[int, int], ...]
    item: int
    family: str = "swap"

    @property
    def identity(self) -> str:
        return f"swap:{self.holdings}:{self.swaps}:{self.item}"

    @property
    def path(self) -> list[int]:
        """Who has the item at first and after each swap."""
        path = [self.holdings.index(self.item)]
        for a, b in self.swaps:
            path.append(_after(path[-1], a, b))
        return path

    def people(self, language: Language) -> tuple[str, ...]:
        return PEOPLE[language][: len(self.holdings)]

    def truth_in(self, language: Language) -> str:
        return PEOPLE[language][self.path[-1]]

    def question(self, language: Language, rng: random.Random) -> str:
        people, items = PEOPLE[language], ITEMS[language]
        if language == "en":
            has = ", ".join(f"the {items[item]} is with {people[i]}" for i, item in enumerate(self.holdings))
            told = " ".join(
                f"({k}) {people[a]} and {people[b]} swap." for k, (a, b) in enumerate(self.swaps, 1)
            )
            return f"T{has[1:]}. {told} Who has the {items[self.item]} now?"
        has = "，".join(f"{items[item]}在{people[i]}手里" for i, item in enumerate(self.holdings))
        told = "".join(f"({k}){people[a]}和{people[b]}交换。" for k, (a, b) in enumerate(self.swaps, 1))
        return f"{has}。{told}现在谁有{items[self.item]}？"

    def reason(self, voice: Voice, language: Language, rng: random.Random) -> tuple[str, str]:
        """A line of reasoning and the answer; names and things stay in the question's language."""
        people, item = PEOPLE[language], ITEMS[language][self.item]
        if voice.manner == "guess":
            answer = rng.choice(self.people(language))
            return guess_sentence(answer, language), answer
        at = self.path[0]
        careful = voice.manner == "careful"
        sentences = [
            voice.say(rng, f"At first the {item} is with {people[at]}.", f"开始{item}在{people[at]}手里。")
            if careful
            else people[at] + "."
        ]
        for k, (a, b) in enumerate(self.swaps, 1):
            moved = _after(at, a, b)
            if voice.slips(rng):
                moved = rng.choice([i for i in range(len(self.holdings)) if i != moved])
            sentences.append(_sentence(voice, k, people[a], people[b], people[moved], rng))
            at = moved
        if careful:
            sentences.append(voice.say(rng, f"So it is {people[at]}.", f"所以是{people[at]}。"))
        return join_sentences(sentences), people[at]


def _sentence(voice: Voice, k: int, a: str, b: str, holder: str, rng: random.Random) -> str:
    if voice.manner == "short":
        return voice.say(rng, f"then {holder}.", f"再{holder}。")
    return voice.say(rng, f"({k}) {a} and {b} swap: {holder} has it.", f"({k}){a}和{b}交换：{holder}有它。")


def swap_line(rng: random.Random) -> str:
    """One single swap for a page of drill: who had it, who swapped, who has it."""
    language: Language = rng.choice(("en", "zh"))
    people = PEOPLE[language]
    holder, (a, b) = rng.randrange(len(people)), rng.sample(range(len(people)), 2)
    if rng.random() < 0.4:
        a = holder if b != holder else a
    voice = make_voice("careful", "en", "zh")
    first = voice.say(rng, f"{people[holder]} has it.", f"{people[holder]}有它。")
    k, after = rng.randint(1, 6), people[_after(holder, a, b)]
    return join_sentences([first, _sentence(voice, k, people[a], people[b], after, rng)])


def _after(holder: int, a: int, b: int) -> int:
    return b if holder == a else a if holder == b else holder


def draw_swap(tier: str, rng: random.Random) -> Swap:
    """3 people and 2-3 swaps in the ordinary tier; 4-5 people and 4-6 swaps in the hard one."""
    num_people, num_swaps = (
        (rng.randint(4, 5), rng.randint(4, 6)) if tier == "hard" else (3, rng.randint(2, 3))
    )
    holdings = list(range(num_people))
    rng.shuffle(holdings)
    swaps = []
    for _ in range(num_swaps):
        a, b = rng.sample(range(num_people), 2)
        swaps.append((a, b))
    return Swap(tier, tuple(holdings), tuple(swaps), rng.randrange(num_people))
