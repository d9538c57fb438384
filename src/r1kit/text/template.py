"""How prompts are rendered and responses are parsed: Table 1's template, and one strict parser.

There are two formats. `zero` (DeepSeek-R1 v1, Table 1) is exactly `<think> reasoning </think> <answer> answer
</answer>`. `chat` (DeepSeek-R1 v1, 2.3.1) is `<think>` reasoning `</think>`, then a summary for the reader. A
missing, nested, repeated or misplaced tag is a fault, and so is text where none belongs, or a turn marker
(`<|user|>`), after which a model talks to itself. A prompt that ends with `<think>` has begun the response:
the parser then reads the complete response. Not covered: extracting an answer from a summary
(`verify.answers`), chat templates (`prompts`).
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from r1kit.types import PromptStyle, Response

# DeepSeek-R1 v1, Table 1, verbatim.
ZERO_TEMPLATE = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
    "The assistant first thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
    "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
    "User: {question}. Assistant:"
)

_TURN = "User: "
# After few-shot examples, a model may write this and ask itself the next question.
NEXT_TURN = "\nUser:"

# Direct prompting for reflection and verification (DeepSeek-R1 v1, 2.3.1): appended to the question.
REFLECTION_REQUEST: Mapping[str, str] = {
    "en": " Think step by step and check your answer.",
    "zh": "请一步一步思考并检查答案。",
}

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile("|".join(TAGS))
# A chat template's marker in a completion: the model also plays the other side. DeepSeek's have a wide bar;
# Gemma's, Llama 2's and Mistral's have no bar.
_MARKER = re.compile(r"<[|｜][^\s<>|｜]{1,40}[|｜]>|</?(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]")
# The end of a prompt that has begun the response: an open thought, or one that is closed and empty.
_OPENING = re.compile(r"<think>\s*$")
_CLOSED_THOUGHT = re.compile(r"<think>\s*</think>\s*$")
# Letters and symbols by category, but invisible: Hangul fillers, the empty Braille pattern.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_ZERO_SHAPE = list(TAGS)
_CHAT_SHAPE = ["<think>", "</think>"]
_SHOWN_SHAPE: Mapping[PromptStyle, str] = {
    "zero": "<think> reasoning </think> <answer> answer </answer>",
    "chat": "<think> reasoning </think> summary",
}
_EXCERPT = 40  # characters of stray text that a sentence quotes


def render_zero(question: str) -> str:
    """The R1-Zero prompt for a question. Its closing punctuation replaces the template's period."""
    question = question.strip()
    before, after = ZERO_TEMPLATE.split("{question}")
    return before + question + (after.removeprefix(".") if question.endswith(tuple(".?!。？！")) else after)


def render_zero_turn(question: str) -> str:
    """A further question of the same conversation: the end of the template, without its introduction."""
    rendered = render_zero(question)
    return rendered[rendered.index(_TURN) :]


def format_zero(reasoning: str, answer: str) -> str:
    """A completion in the zero format, as it follows the prompt of `render_zero`."""
    return f" <think> {reasoning} </think> <answer> {answer} </answer>"


def format_chat(reasoning: str | None, summary: str) -> str:
    """A completion in the chat format; without reasoning, the bare summary."""
    return summary if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{summary}"


def opening_of(prompt: str) -> str:
    """The part of the response that a prompt's end has opened: `<think>` and white space, or ""."""
    found = _OPENING.search(prompt)
    return found.group() if found else ""


def closes_thought(prompt: str) -> bool:
    """Whether a prompt ends with an empty, closed thought: the response can then have no reasoning."""
    return _CLOSED_THOUGHT.search(prompt) is not None


def whole_response(opening: str, text: str) -> str:
    """The complete response, if the prompt ended with `opening` and the model continued with `text`.

    A closed thought without content is dropped: this is how such a response begins if it has no reasoning.
    """
    if not opening:
        return text
    thought, closing, summary = text.partition("</think>")
    if closing and not _is_visible(thought):
        return summary.lstrip()
    return opening + text


def after_opening(opening: str, response: str) -> str:
    """The rest of a response whose prompt ended with `opening`: the inverse of `whole_response`.

    A response without reasoning first closes the thought; one that starts inside the thought is unchanged.
    """
    if not opening:
        return response
    if "<think>" not in response:
        if "</think>" in response:
            return response
        response = format_chat("", response)
    before, tag, rest = response.partition("<think>")
    return rest.removeprefix(opening.removeprefix(tag)) if not before.strip() else response


def reopened(reply: str) -> str:
    """A reply with `<think>` restored, if the prompt opened it and only the end of the thought came back."""
    first = _TAG.search(reply)
    return f"<think>\n{reply}" if first is not None and first.group() == "</think>" else reply


def as_chat(text: str, style: PromptStyle, *, reasoning_required: bool = True) -> str:
    """A completion in the chat format, which reward models read; a malformed one is unchanged."""
    if style == "chat":
        return text
    response = parse_response(text, style, reasoning_required=reasoning_required)
    return text if response.summary is None else format_chat(response.reasoning, response.summary)


def parse_response(text: str, style: PromptStyle, *, reasoning_required: bool = True) -> Response:
    """Parse a completion's text. Anything that is not exactly in the format is malformed.

    Empty reasoning or an empty answer is a fault. In the chat style, a text without tags is well formed if no
    reasoning is required ("hello"); all of it is the summary.
    """
    tags = _TAG.findall(text)
    pieces = [piece.strip() for piece in _TAG.split(text)]
    if _MARKER.search(text):
        return Response(reasoning=_loose_reasoning(text), summary=None, well_formed=False)
    if style == "zero":
        # pieces: before <think>, reasoning, between </think> and <answer>, answer, after </answer>
        is_clean = tags == _ZERO_SHAPE and not (pieces[0] or pieces[2] or pieces[4])
        if is_clean and _is_visible(pieces[1]) and _is_visible(pieces[3]):
            return Response(reasoning=pieces[1], summary=pieces[3], well_formed=True)
    elif tags == _CHAT_SHAPE:
        if not pieces[0] and _is_visible(pieces[1]) and _is_visible(pieces[2]):
            return Response(reasoning=pieces[1], summary=pieces[2], well_formed=True)
    elif not tags and not reasoning_required and _is_visible(pieces[0]):
        return Response(reasoning=None, summary=pieces[0], well_formed=True)
    return Response(reasoning=_loose_reasoning(text), summary=None, well_formed=False)


def explain_format(
    text: str, style: PromptStyle, *, reasoning_required: bool = True, cut_off: bool = False
) -> str | None:
    """Which rule of the format a completion breaks, as a sentence; None if it is well formed.

    The first fault that `parse_response` stops at. `cut_off`: the completion reached its token limit, and so
    is malformed however its text reads.
    """
    fault = None
    if not parse_response(text, style, reasoning_required=reasoning_required).well_formed:
        fault = _format_fault(text, style)
    if not cut_off:
        return fault
    end = "it was cut off at its last allowed token, before the model ended it."
    return f"{fault[:-1]}; {end}" if fault else f"{end[0].upper()}{end[1:]}"


def _format_fault(text: str, style: PromptStyle) -> str:
    """The sentence for a malformed text."""
    if marker := _MARKER.search(text):
        return f"After {marker.group()!r}, a turn marker, the model would be talking to itself."
    shape = _ZERO_SHAPE if style == "zero" else _CHAT_SHAPE
    tags = _TAG.findall(text)
    if not tags:
        what = "It is empty" if not _is_visible(text) else "It has none of the tags"
        return f"{what}; the format is {_SHOWN_SHAPE[style]}."
    if fault := _tags_fault(tags, shape):
        return fault
    pieces = [piece.strip() for piece in _TAG.split(text)]
    # what may stand in the pieces around and between the tags: nothing, or something that can be seen
    places = ["before <think>", "reasoning", "between </think> and <answer>", "answer", "after </answer>"]
    if style == "chat":
        places = ["before <think>", "reasoning", "summary"]
    for place, piece in zip(places, pieces, strict=True):
        if " " in place and piece:
            return f"Text {place}, where none belongs: {_excerpt(piece)}."
        if " " not in place and not _is_visible(piece):
            after = "<answer>" if place == "answer" else "</think>" if place == "summary" else "<think>"
            return f"The {place} is empty: nothing visible follows {after}."
    raise AssertionError(f"no fault in {text!r}")


def _tags_fault(tags: Sequence[str], shape: Sequence[str]) -> str | None:
    """What is wrong with a text's tags, of which there are some; None if they are those of the shape."""
    for tag in dict.fromkeys(tags):
        if tag not in shape:
            return f"{tag} does not belong into the chat format, where the summary has no tags."
        if tags.count(tag) > 1:
            return f"{tag} comes {tags.count(tag)} times; it may come once."
    for tag in shape:
        if tag not in tags:
            return f"{tag} is missing."
    for tag, expected in zip(tags, shape, strict=True):
        if tag != expected:
            return f"{tag} comes before {expected}."
    return None


def _excerpt(text: str) -> str:
    """The beginning of a text, quoted, on one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…")


def _is_visible(text: str) -> bool:
    """Whether the text has a visible character: zero-width, blank or combining ones do not count."""
    return any(
        unicodedata.category(character)[0] not in "CZM" and character not in _BLANK for character in text
    )


def _loose_reasoning(text: str) -> str | None:
    """The text after the first <think>, up to the next tag or marker; None if there is none."""
    _, tag, rest = text.partition("<think>")
    end = re.search(f"{_TAG.pattern}|{_MARKER.pattern}", rest)
    return (rest[: end.start()] if end else rest).strip() or None if tag else None
