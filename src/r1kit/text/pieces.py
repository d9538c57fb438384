"""Streamed text in pieces that tell the reasoning from the rest, for whoever shows it as it comes."""

from collections.abc import Iterator
from dataclasses import dataclass

from r1kit.text.template import TAGS

# The tag that starts the dimmed part, and the tag that ends it.
_DIM_FROM, _DIM_TO = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer; `dim` inside the reasoning."""

    text: str
    dim: bool


def split_reasoning(chunks: Iterator[str]) -> Iterator[Piece]:
    """Split chunks of text into pieces; the reasoning and its tags are dim."""
    dim, held = False, ""  # `held`: text that may end in the beginning of a tag
    for chunk in chunks:
        held += chunk
        while (found := _first_tag(held)) is not None:
            start, tag = found
            if start:
                yield Piece(held[:start], dim)
            # switched on before the tag and off after it, so that both tags are dim
            dim = dim or tag == _DIM_FROM
            yield Piece(tag, dim)
            dim = dim and tag != _DIM_TO
            held = held[start + len(tag) :]
        ready = len(held) - _unfinished_tag(held)
        if ready:
            yield Piece(held[:ready], dim)
            held = held[ready:]
    if held:
        yield Piece(held, dim)


def _first_tag(text: str) -> tuple[int, str] | None:
    found = [(text.index(tag), tag) for tag in TAGS if tag in text]
    return min(found) if found else None


def _unfinished_tag(text: str) -> int:
    """The length of the longest suffix of the text that could become a tag."""
    return max(
        (n for tag in TAGS for n in range(1, len(tag)) if text.endswith(tag[:n])),
        default=0,
    )
