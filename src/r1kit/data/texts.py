"""Half of a surrogate pair must not occur in any text: JSON can write it, and no tokenizer can encode it."""

from collections.abc import Mapping, Sequence
from typing import Any


def surrogate_fault(value: Any, field: str) -> str | None:
    """The fault of a text in a value, at any depth, that contains half a character; None if there is none.

    `field` is the value's name: the message extends it to a path, such as `messages[0].content`.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return (
                f"`{field}` holds {value[error.start]!a} at character {error.start + 1}, half of a surrogate "
                "pair, which is not a character: write the complete pair, or remove it"
            )
        return None
    if isinstance(value, Mapping):
        parts: list[tuple[str, Any]] = [(f"{field}.{name}", part) for name, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        parts = [(f"{field}[{i}]", part) for i, part in enumerate(value)]
    else:
        return None
    return next((fault for name, part in parts if (fault := surrogate_fault(part, name))), None)
