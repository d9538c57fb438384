"""What one look at a recipe gives: what was found in order, what stops a run, what a person should know."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from r1kit.errors import UserError


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found in order, and each fault in a sentence of its own.

    A warning is what a run can do and what its numbers would not say, such as a test set that is trained on.
    """

    subject: str
    found: str = ""
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def guarded(subject: str, look: Callable[..., Check | str], *arguments: Any) -> Check:
    """The check, or the user error that it ended in, a line of which is a fault."""
    try:
        result = look(*arguments)
    except UserError as error:
        lines = str(error).splitlines()
        return Check(
            subject, faults=[line if line.startswith(subject) else f"{subject}: {line}" for line in lines]
        )
    return result if isinstance(result, Check) else Check(subject, result)
