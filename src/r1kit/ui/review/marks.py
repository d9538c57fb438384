"""Differences between two texts, by words; by characters where a script has no spaces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from r1kit.ui.text import visible

# Han, kana, Thai: one piece a character. White space is a piece, so that no text is lost, and so is a tag.
_PIECES = re.compile(r"</?\w+>|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
# difflib is quadratic: beyond this, texts are compared by lines, which takes a fraction of a second
_MOST_PIECES = 4000


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text, and whether it is in this one of the two texts only."""

    kind: Literal["same", "only"]
    text: str


def differences(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts as pieces; joined, they are the texts without outer white space.

    White space counts as equal, however much it is.
    """
    before, after = before.strip(), after.strip()
    a, b = _PIECES.findall(before), _PIECES.findall(after)
    if max(len(a), len(b)) > _MOST_PIECES:
        a, b = _LINES.findall(before), _LINES.findall(after)
    left: list[Piece] = []
    right: list[Piece] = []
    matcher = SequenceMatcher(None, _keys(a), _keys(b), autojunk=False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        kind: Literal["same", "only"] = "same" if tag == "equal" else "only"
        _add(left, kind, a[a0:a1])
        _add(right, kind, b[b0:b1])
    return left, right


def _keys(pieces: Sequence[str]) -> list[str]:
    return [" " if piece.isspace() else piece for piece in pieces]


def _add(pieces: list[Piece], kind: Literal["same", "only"], texts: Sequence[str]) -> None:
    if texts:
        pieces.append(Piece(kind, visible("".join(texts))))
