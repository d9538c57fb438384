"""The result of one check of a recipe: what is in order, what stops a run, what a person should know."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from r1kit.errors import UserError


@dataclass(frozen=True)
class Check:
    """One check: what is in order (`found`), and one sentence for each fault.

    A warning does not stop a run, but affects what its numbers mean, such as training on a test set.
    """

    subject: str
    found: str = ""
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def guarded(subject: str, look: Callable[..., Check | str], *arguments: Any) -> Check:
    """The check's result; if it raised a `UserError`, each line of that is a fault."""
    try:
        result = look(*arguments)
    except UserError as error:
        lines = str(error).splitlines()
        return Check(
            subject, faults=[line if line.startswith(subject) else f"{subject}: {line}" for line in lines]
        )
    return result if isinstance(result, Check) else Check(subject, result)
