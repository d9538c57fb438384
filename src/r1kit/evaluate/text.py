"""What can be counted in a reasoning without knowing the problem: its steps, and words of reflection.

Reflection is counted twice in an evaluation: here by words in any problem, and in tinyworld's search family
as check-and-retry (`tinyworld.problems.count_tries`), which is what the paper's "aha moment" comes down to
there. Words are counted by the language reward's own measure, not here.
"""

import re

# The paper counts such words over training (DeepSeek-R1 v2, B.2); the Chinese ones are the same thoughts.
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


def _pattern(word: str) -> str:
    edge_before = r"(?<![a-z-])" if word[0].isascii() else ""
    edge_after = r"(?:s|ed|ing)?(?![a-z-])" if word[-1].isascii() and word[-1].isalpha() else ""
    return edge_before + re.escape(word) + edge_after


# longer first: "double-check" is one word of reflection, not two
_REFLECTION = re.compile(
    "|".join(_pattern(word) for word in sorted(REFLECTION_WORDS, key=len, reverse=True)), re.I
)
# a full stop ends a step only where no digit follows: 3.5 is one number
_STEP_END = re.compile(r"[\n。；！？;!?]+|\.(?!\d)")
_CONTENT = re.compile(r"\w")


def count_reflections(text: str) -> int:
    """How many words of reflection a text has, in their forms too ("checked")."""
    return len(_REFLECTION.findall(text))


def count_steps(text: str) -> int:
    """How many lines or sentences with content a reasoning has: 0 only where it has none at all."""
    return sum(1 for step in _STEP_END.split(text) if _CONTENT.search(step))
