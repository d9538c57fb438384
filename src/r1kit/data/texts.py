"""What no text may hold: half of a surrogate pair, which JSON can write and no tokenizer can encode."""

from collections.abc import Mapping, Sequence
from typing import Any


def surrogate_fault(value: Any, field: str) -> str | None:
    """Which text of a value, or of what is nested in it, holds half a character; None where none does.

    `field` is the value's name: the sentence goes on from it as `messages[0].content`.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return (
                f"`{field}` holds {value[error.start]!a} at character {error.start + 1}, half of a surrogate "
                "pair, which is no character: write the whole one, or take it out"
            )
        return None
    if isinstance(value, Mapping):
        parts: list[tuple[str, Any]] = [(f"{field}.{name}", part) for name, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        parts = [(f"{field}[{i}]", part) for i, part in enumerate(value)]
    else:
        return None
    return next((fault for name, part in parts if (fault := surrogate_fault(part, name))), None)
