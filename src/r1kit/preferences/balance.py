"""Balances pairs over the set, so that neither length nor stock phrases tell chosen from rejected.

DeepSeek-R1 v2, 3.1 balances lengths; a policy hacks a reward model that has learned to prefer "longer" or "I
hope this helps!". Pairs are dropped until the gaps are small enough, first those that widen a gap the most.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SENTENCES = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")


@dataclass(frozen=True, slots=True)
class Sides:
    """The features of a pair that are balanced: lengths in tokens, and the stock phrases in each side."""

    chosen_length: int
    rejected_length: int
    chosen_phrases: frozenset[str]
    rejected_phrases: frozenset[str]

    @property
    def length_gap(self) -> int:
        """By how many tokens the chosen side is longer."""
        return self.chosen_length - self.rejected_length

    def phrase_gap(self, phrase: str) -> int:
        """1 if the phrase is only in the chosen side, -1 if only in the rejected side, else 0."""
        return (phrase in self.chosen_phrases) - (phrase in self.rejected_phrases)


def last_sentence(text: str) -> str:
    """The sentence that ends a text of at least two sentences; "" for shorter texts."""
    sentences = [found.strip() for found in _SENTENCES.findall(text) if found.strip()]
    return sentences[-1] if len(sentences) > 1 else ""


def stock_phrases(texts: Sequence[str], *, min_frac: float) -> list[str]:
    """The sentences that end at least `min_frac` of the texts (and at least two of them), by frequency."""
    counts = Counter(sentence for text in texts if (sentence := last_sentence(text)))
    enough = max(2, min_frac * len(texts))
    return [sentence for sentence, count in counts.most_common() if count >= enough]


def balance(sides: Sequence[Sides], *, max_length_gap_frac: float, max_phrase_gap_frac: float) -> list[int]:
    """The indices of the pairs to keep, in order.

    The mean length gap may be at most `max_length_gap_frac` of the mean length, and every phrase's surplus on
    one side at most `max_phrase_gap_frac` of the pairs. A pair is dropped only if that narrows the gap it is
    dropped for, so a gap that no drop can narrow stays.
    """
    kept = dict(enumerate(sides))
    phrases = sorted(frozenset().union(*(s.chosen_phrases | s.rejected_phrases for s in sides)))
    # narrowing one gap can widen another, so repeat until nothing is dropped
    while True:
        num_before = len(kept)
        for phrase in phrases:
            _narrow_phrase_gap(kept, phrase, max_phrase_gap_frac)
        _narrow_length_gap(kept, max_length_gap_frac)
        if len(kept) == num_before:
            return sorted(kept)


def _narrow_phrase_gap(kept: dict[int, Sides], phrase: str, max_frac: float) -> None:
    """Drop pairs with the phrase only on its surplus side, first those that also widen the length gap."""
    surplus = sum(pair.phrase_gap(phrase) for pair in kept.values())
    sign = 1 if surplus > 0 else -1
    # of the pairs to drop, take first those that the length balance would drop anyway
    longer = 1 if sum(pair.length_gap for pair in kept.values()) > 0 else -1
    guilty = [i for i, pair in kept.items() if pair.phrase_gap(phrase) == sign]
    guilty.sort(key=lambda i: (-longer * kept[i].length_gap, i))
    for i in guilty:
        if abs(surplus) <= max_frac * len(kept):  # `kept` shrinks, and the bound with it
            break
        surplus -= sign
        del kept[i]


def _narrow_length_gap(kept: dict[int, Sides], max_frac: float) -> None:
    """Drop the pairs that widen the gap most, but none so unequal that the gap would only be reversed."""
    gap = sum(pair.length_gap for pair in kept.values())
    total = sum(pair.chosen_length + pair.rejected_length for pair in kept.values()) / 2
    sign = 1 if gap > 0 else -1
    guilty = [i for i, pair in kept.items() if sign * pair.length_gap > 0]
    guilty.sort(key=lambda i: (-sign * kept[i].length_gap, i))
    for i in guilty:
        if sign * gap <= max_frac * total:
            break
        own = kept[i].length_gap
        # a pair whose own gap is twice the total or more would only reverse the total
        if abs(gap - own) < abs(gap):
            gap -= own
            total -= (kept[i].chosen_length + kept[i].rejected_length) / 2
            del kept[i]


def imbalance(sides: Sequence[Sides]) -> dict[str, Any]:
    """The counts to report: pairs, mean lengths, and the share of each side with each phrase."""
    num = len(sides)
    phrases = sorted(frozenset().union(*(s.chosen_phrases | s.rejected_phrases for s in sides)))
    return {
        "pairs": num,
        "chosen_mean_tokens": sum(s.chosen_length for s in sides) / num if num else 0.0,
        "rejected_mean_tokens": sum(s.rejected_length for s in sides) / num if num else 0.0,
        "phrases": {
            phrase: {
                "chosen_frac": sum(phrase in s.chosen_phrases for s in sides) / num,
                "rejected_frac": sum(phrase in s.rejected_phrases for s in sides) / num,
            }
            for phrase in phrases
        },
    }
