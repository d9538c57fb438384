"""Differences between two texts, by words; by characters where a script has no spaces."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import takewhile
from typing import Literal

from r1kit.ui.text import visible

# A tag, a character of Han, kana or Thai, a word, or a sign, each with the white space behind it.
_PIECES = re.compile(r"(?:</?\w+>|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s])\s*")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
# difflib looks at each pair of equal pieces, and more than once: beyond these, it would hold the server
_MOST_PIECES = 2000
_MOST_CHARS = 200_000
_MOST_PAIRS = 100_000

Kind = Literal["same", "only", "unmarked"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text, and whether it is in this one of the two texts only.

    `unmarked`: the texts are too long, and repeat themselves too much, to tell.
    """

    kind: Kind
    text: str


@lru_cache(maxsize=32)  # a page, and each check of a text that is being typed, ask for the same again
def differences(before: str, after: str) -> tuple[Sequence[Piece], Sequence[Piece]]:
    """Both texts as pieces; joined, they are the texts without outer white space.

    White space counts as equal, however much it is.
    """
    before, after = before.strip(), after.strip()
    found = None
    if max(len(before), len(after)) <= _MOST_CHARS:
        found = _compared(_PIECES.findall(before), _PIECES.findall(after), str.rstrip)
    if found is None:
        found = _compared(_LINES.findall(before), _LINES.findall(after), str.strip)
        if found is None or all(piece.kind == "only" for piece in found[0]):  # a line may be a whole text
            found = [_piece("unmarked", [before])], [_piece("unmarked", [after])]
    return found


def _compared(
    a: Sequence[str], b: Sequence[str], key_of: Callable[[str], str]
) -> tuple[list[Piece], list[Piece]] | None:
    """The pieces, marked; None if that would take too long."""
    keys_a, keys_b = list(map(key_of, a)), list(map(key_of, b))
    # mostly a few words are changed: the rest need not be compared
    start = _num_equal(zip(keys_a, keys_b, strict=False))
    most = min(len(a), len(b)) - start
    end = min(most, _num_equal(zip(reversed(keys_a), reversed(keys_b), strict=False)))
    middle_a, middle_b = keys_a[start : len(a) - end], keys_b[start : len(b) - end]
    counts = Counter(middle_b)
    num_pairs = sum(counts[key] for key in middle_a)
    if max(len(middle_a), len(middle_b)) > _MOST_PIECES or num_pairs > _MOST_PAIRS:
        return None
    left: list[Piece] = []
    right: list[Piece] = []
    _add(left, "same", a[:start])
    _add(right, "same", b[:start])
    for tag, a0, a1, b0, b1 in SequenceMatcher(None, middle_a, middle_b, autojunk=False).get_opcodes():
        kind: Kind = "same" if tag == "equal" else "only"
        _add(left, kind, a[start + a0 : start + a1])
        _add(right, kind, b[start + b0 : start + b1])
    _add(left, "same", a[len(a) - end :])
    _add(right, "same", b[len(b) - end :])
    return left, right


def _num_equal(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _add(pieces: list[Piece], kind: Kind, texts: Sequence[str]) -> None:
    if not texts:
        return
    if pieces and pieces[-1].kind == kind:  # equal pieces at the edge of what was compared
        pieces[-1] = Piece(kind, pieces[-1].text + visible("".join(texts)))
    else:
        pieces.append(_piece(kind, texts))


def _piece(kind: Kind, texts: Sequence[str]) -> Piece:
    return Piece(kind, visible("".join(texts)))
