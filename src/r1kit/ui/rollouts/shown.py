"""Text of models and files made fit for a page: nothing invisible acts, nothing breaks the page's encoding.

Markup is harmless because templates escape it; this is for what escaping leaves: terminal codes, characters
that turn the direction of text, halves of surrogate pairs.
"""

import re

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_TURNING = {
    code: f"⟨U+{code:04X}⟩" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_BROKEN = {code: "\ufffd" for code in (*range(0x80, 0xA0), 0xFFFE, 0xFFFF)}
_TABLE: dict[int, int | str] = {**_PICTURES, **_TURNING, **_BROKEN}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s+")


def visible(text: str) -> str:
    """The text with control characters as pictures (`␛`), turning marks by name; all else as it is."""
    return _SURROGATE.sub("\ufffd", text.translate(_TABLE))


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
