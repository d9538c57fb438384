"""What two problems have in common that ask the same: the text of the prompt without its spacing and case."""

from collections.abc import Iterable

from r1kit.types import Problem


def question_key(problem: Problem) -> str:
    """What two problems have in common that ask the same."""
    return text_key(message["content"] for message in problem.messages)


def text_key(texts: Iterable[str]) -> str:
    """Texts as one, without their spacing and case."""
    return " ".join(" ".join(texts).split()).casefold()
