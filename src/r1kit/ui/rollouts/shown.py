"""Excerpts of completions, fit for a page."""

import re

from r1kit.ui.text import visible

_SPACE = re.compile(r"\s+")


def excerpt(text: str, around: tuple[int, int] | None = None, most: int = 150) -> tuple[str, str, str]:
    """A line of the text in three pieces: before, what was looked for, after.

    `around` are the first and last character of what was looked for; without it, the middle piece is empty
    and the line has the text's beginning and end.
    """
    if around is None:
        whole = _SPACE.sub(" ", text if len(text) < 4000 else f"{text[:2000]} … {text[-2000:]}").strip()
        if len(whole) > most:
            whole = f"{whole[: most * 3 // 5]} … {whole[-most * 2 // 5 :]}"
        return visible(whole), "", ""
    start, end = around
    end = min(end, start + most)
    before = _SPACE.sub(" ", text[max(0, start - most // 2) : start])
    after = _SPACE.sub(" ", text[end : end + most // 2])
    return (
        ("…" if start > most // 2 else "") + visible(before),
        visible(_SPACE.sub(" ", text[start:end])),
        visible(after) + ("…" if end + most // 2 < len(text) else ""),
    )


def cut(text: str, most: int) -> tuple[str, int]:
    """The text up to so many characters, fit for a page, and how many are left out."""
    return visible(text[:most]), max(0, len(text) - most)
