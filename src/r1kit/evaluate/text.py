"""Counts in a reasoning that need no knowledge of the problem: its steps, and words of reflection.

An evaluation measures reflection in two ways: here by words, in any problem, and in tinyworld's search family
as check-and-retry (`tinyworld.problems.count_tries`), the form that the paper's "aha moment" takes there.
Words as such are counted by the language reward's measure, not here.
"""

import re

# The paper counts such words over training (DeepSeek-R1 v2, B.2); the Chinese ones are their equivalents.
REFLECTION_WORDS = (
    "wait",
    "hmm",
    "check",
    "recheck",
    "double-check",
    "verify",
    "try again",
    "let me try",
    "not right",
    "wrong",
    "mistake",
    "actually",
    "no,",
    "no.",
    "不对",
    "再试",
    "重试",
    "试试",
    "检查",
    "验算",
    "核对",
    "重新",
    "等等",
    "等一下",
)


# "unchecked" and "check-in" do not count, "checks" and "checked" do; Chinese has no word boundaries
def _pattern(word: str) -> str:
    edge_before = r"(?<![a-z-])" if word[0].isascii() else ""
    edge_after = r"(?:s|ed|ing)?(?![a-z-])" if word[-1].isascii() and word[-1].isalpha() else ""
    return edge_before + re.escape(word) + edge_after


# longer words first: "double-check" counts once, not twice
_REFLECTION = re.compile(
    "|".join(_pattern(word) for word in sorted(REFLECTION_WORDS, key=len, reverse=True)), re.I
)
# a full stop followed by a digit does not end a step: 3.5 is one number
_STEP_END = re.compile(r"[\n。；！？;!?]+|\.(?!\d)")
_CONTENT = re.compile(r"\w")


def count_reflections(text: str) -> int:
    """The number of reflection words in a text, inflected forms ("checked") included."""
    return len(_REFLECTION.findall(text))


def count_steps(text: str) -> int:
    """The number of lines or sentences with content in a reasoning; 0 only if it has no content at all."""
    return sum(1 for step in _STEP_END.split(text) if _CONTENT.search(step))
