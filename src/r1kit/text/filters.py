"""Filters on the text of a sample, whatever its answer: language, repetition, form.

DeepSeek-R1 drops cold-start samples that mix languages or repeat themselves (v2, B.3.2), and from the 800k
set those with mixed languages, long paragraphs or code blocks in the reasoning (v1, 2.3.3). It publishes no
thresholds; the caller chooses them. Not here: correctness (`rewards`).
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from r1kit.text.dropped import DroppedSamples
from r1kit.text.language import language_consistency, problem_language
from r1kit.types import Problem

# A Chinese character, a digit and a punctuation mark are one token each; other letters form words.
_TOKEN = re.compile(r"[\u3400-\u9fff]|\d|[^\W\d_]+|[^\w\s]")
_CODE = re.compile(r"```|^~~~|<code>", re.MULTILINE)


def is_one_language(
    problem: Problem,
    reasoning: str,
    *,
    min_share: float,
    min_words: int,
    languages: Sequence[str] | None = None,
) -> bool:
    """Whether the reasoning has enough words, and a large enough share of them in the problem's language."""
    target = problem_language(problem, languages)
    if target is None:
        return False
    found = language_consistency(reasoning, target, languages)
    return found.num_words >= min_words and found.share >= min_share


def repeated_frac(text: str, ngram: int) -> float:
    """The fraction of n-grams of words, digits and marks that repeat an earlier one; 0 if there are none."""
    tokens = _TOKEN.findall(text)
    grams = [tuple(tokens[i : i + ngram]) for i in range(len(tokens) - ngram + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_paragraph(text: str) -> int:
    """The number of characters in the longest line."""
    return max((len(line.strip()) for line in text.splitlines()), default=0)


def has_code_block(text: str) -> bool:
    """Whether there is a fenced block or a <code> tag."""
    return _CODE.search(text) is not None


def content_key(text: str) -> str:
    """A key that is equal for texts that differ only in white space and case."""
    return re.sub(r"\s+", "", text).casefold()


def word_pairs(text: str) -> frozenset[tuple[str, str]]:
    """The set of adjacent token pairs in a text, by which two texts are compared."""
    tokens = _TOKEN.findall(text.casefold())
    return frozenset(itertools.pairwise(tokens))


def pick_diverse(texts: Sequence[str], num: int) -> list[int]:
    """Indices of `num` diverse texts: the first, then repeatedly the one least similar to those picked.
    Similarity is the Jaccard index of the word pairs. Ties go to the earlier text.
    """
    if len(texts) <= num:
        return list(range(len(texts)))
    pairs = [word_pairs(text) for text in texts]
    picked = [0] if num else []
    while len(picked) < num:
        rest = [i for i in range(len(texts)) if i not in picked]
        # the similarity to a set is that to its most similar member
        picked.append(min(rest, key=lambda i: max(_likeness(pairs[i], pairs[j]) for j in picked)))
    return sorted(picked)


def _likeness(a: frozenset[tuple[str, str]], b: frozenset[tuple[str, str]]) -> float:
    return len(a & b) / len(a | b) if a | b else 1.0


class Counts:
    """How many samples of each source were sampled, dropped by each filter, and kept.

    `dropped` has some of those that were dropped.
    """

    def __init__(self, filters: Sequence[str]) -> None:
        self.dropped = DroppedSamples()
        self._filters = tuple(filters)
        self._counts: dict[str, Counter[str]] = {}

    def add(self, source: str, what: str, num: int = 1) -> None:
        """Count `num` samples of a source as `sampled`, `kept`, or dropped by the filter of this name."""
        assert what in ("sampled", "kept", *self._filters), what
        self._counts.setdefault(source, Counter())[what] += num

    def drop(
        self, source: str, what: str, problem: Problem, text: str, detail: Callable[[], str] | str = ""
    ) -> None:
        """Count a sample as dropped by the filter `what`, and show it to `dropped`."""
        self.add(source, what)
        self.dropped.add(source, what, problem, text, detail)

    def table(self) -> dict[str, dict[str, int]]:
        """Per source: sampled, each filter in order (even if it dropped nothing), kept."""
        names = ("sampled", *self._filters, "kept")
        return {source: {name: counts[name] for name in names} for source, counts in self._counts.items()}


def format_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as an aligned text table."""
    lines = [list(columns), *[[_cell(row.get(name, "")) for name in columns] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
