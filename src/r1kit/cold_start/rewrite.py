"""Rewrites candidates into the readable pattern: reasoning in the first person, and a summary for the reader.

Rules add line breaks between steps, an opener, and a templated summary in the question's language. A teacher
rewrites freely, and translates the thinking into the question's language (DeepSeek-R1 v2, B.3.2). The caller
verifies the result. Not here: edits by people (`review`).
"""

import re
from collections.abc import Mapping, Sequence

from r1kit.cold_start.candidates import Candidate, read_reply
from r1kit.judges.chat_client import ChatClient, ChatReply
from r1kit.seeds import derive_seed
from r1kit.text.language import problem_language
from r1kit.text.template import format_zero
from r1kit.types import Message, Problem, Response
from r1kit.verify.answers import extract_answer
from r1kit.verify.code import language_of

_OPENERS: Mapping[str, Sequence[str]] = {
    "en": ("Let me work this out.", "Let me think it through.", "I'll take it step by step."),
    "zh": ("我来算一下。", "我来想一想。", "我一步一步来。"),
}
_FIRST_PERSON: Mapping[str, re.Pattern[str]] = {
    "en": re.compile(r"(?:let me|let's|i|i'll|i'm|we|first,? (?:i|let))\b", re.IGNORECASE),
    "zh": re.compile(r"我|让我|咱|好"),
}
_SUMMARIES: Mapping[str, Sequence[str]] = {
    "en": ("The answer is {answer}.", "So the answer is {answer}.", "In short, the answer is {answer}."),
    "zh": ("答案是{answer}。", "所以答案是{answer}。", "也就是说，答案是{answer}。"),
}
_CHOICES: Mapping[str, Sequence[str]] = {
    "en": ("The answer is {answer}.", "The right option is {answer}.", "So the answer is option {answer}."),
    "zh": ("答案是{answer}。", "正确的选项是{answer}。", "所以应该选{answer}。"),
}
# the program is fenced, so that the verifier does not take the sentence for a part of it
_PROGRAMS: Mapping[str, Sequence[str]] = {
    "en": ("Here is the program:", "This does it:", "The program is:"),
    "zh": ("程序是：", "这样写：", "程序如下："),
}
_AND: Mapping[str, str] = {"en": " and ", "zh": "和"}

# After the end of a sentence that another one follows; not inside 3.5, and not before a closing bracket.
_STEP_END = re.compile(r"(?<=[.!?;])[ \t]+(?=[^\s.)\]])|(?<=[。！？；])[ \t]*(?=[^\s）」』])")

_REWRITE = """\
Below are a question and a draft of a solution. Rewrite the solution so that a person likes to read it:
- the thinking in the first person, conversational, in {language}, the language of the question; translate \
what is in another language;
- keep the mathematics exactly as it is, every step of it, mistakes and their corrections included;
- then a short summary for the reader that states the result.

[Question]
{question}

[Draft]
{draft}

Reply with <think>the thinking</think> followed by the summary, and nothing else."""


def rewrite_by_rules(candidate: Candidate, *, seed: int) -> Response:
    """The candidate with one step per line, an opener, and a summary. The seed draws the wording."""
    problem = candidate.problem
    language = problem_language(problem) or ""
    draw = derive_seed(seed, "rewrite", candidate.name)
    reasoning = _readable(candidate.reasoning)
    openers = _OPENERS.get(language, ())
    if openers and not _FIRST_PERSON[language].match(reasoning):
        reasoning = f"{openers[draw % len(openers)]}\n{reasoning}"
    summary = _summary(problem, candidate.response, language, draw)
    return Response(reasoning=reasoning, summary=summary, well_formed=True)


def _readable(reasoning: str) -> str:
    """The reasoning with one step per line, and without superfluous spaces."""
    lines = _STEP_END.sub("\n", reasoning).splitlines()
    stripped = [re.sub(r"[ \t]+", " ", line).strip() for line in lines]
    return "\n".join(line for line in stripped if line)


def _summary(problem: Problem, response: Response, language: str, draw: int) -> str:
    """A sentence with the answer, or a fenced program; the bare answer in languages without templates."""
    answer = extract_answer(response, problem) or ""
    if problem.kind == "code":
        leads = _PROGRAMS.get(language, ("",))
        return (
            f"{leads[draw // 7919 % len(leads)]}\n```{language_of(problem)}\n{answer.strip()}\n```".lstrip()
        )
    if problem.metadata.get("verifier") == "multiset":
        answer = _AND.get(language, ", ").join(answer.split())
    if "\\" in answer:
        answer = f"$\\boxed{{{answer}}}$"  # LaTeX is boxed, so that it is extracted unchanged
    sentences = (_CHOICES if problem.kind == "choice" else _SUMMARIES).get(language, ("{answer}",))
    # `// 7919`: another part of the draw than the opener's, so that the two are independent
    return sentences[draw // 7919 % len(sentences)].replace("{answer}", answer)


def ask_for_rewrite(candidate: Candidate) -> list[Message]:
    """The conversation that asks a teacher to rewrite the candidate."""
    summary = candidate.response.summary or ""
    text = _REWRITE.format(
        question=candidate.problem.question,
        draft=format_zero(candidate.reasoning, summary).strip(),
        language=problem_language(candidate.problem) or "the question's language",
    )
    return [{"role": "user", "content": text}]


def rewrite_by_teacher(client: ChatClient, candidates: Sequence[Candidate]) -> list[ChatReply | None]:
    """A teacher's rewriting of each candidate, in order; `read_rewrite` parses it."""
    return client([ask_for_rewrite(candidate) for candidate in candidates])


def read_rewrite(reply: ChatReply | None) -> Response:
    """Parse a rewritten response. A reasoning field holds the teacher's own thinking, and is dropped."""
    if reply is None:
        return read_reply(None)
    return read_reply(ChatReply(reply.content, None, reply.finish_reason))
