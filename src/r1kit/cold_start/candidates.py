"""Candidates for cold-start data: sampled from a local model, or requested from a teacher behind a server.

There are three sources (DeepSeek-R1 v1, 2.3.1): few-shot prompts with long worked examples, direct prompts
for reflection and verification, and samples of R1-Zero. All are in Table 1's format or the model's own. A
teacher may also answer in the chat format, or send its reasoning in a separate field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.cold_start.config import CandidateSource
from r1kit.cold_start.examples import Examples, find_examples
from r1kit.data.guests import WorkedExample
from r1kit.judges.ask_log import ask_logged
from r1kit.judges.chat_client import ChatClient, ChatReply
from r1kit.rewards.base import read_rollout
from r1kit.sampling.logged import PlannedSample, plan_samples, stage_sampler
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.language import problem_language
from r1kit.text.prompts import encode_prompt, encode_text
from r1kit.text.template import (
    NEXT_TURN,
    REFLECTION_REQUEST,
    format_chat,
    format_zero,
    parse_response,
    render_zero,
    render_zero_turn,
    reopened,
)
from r1kit.types import Message, Problem, Response

SAMPLES_LOG = "samples.jsonl"
TEACHER_LOG = "teacher.jsonl"

# Table 1's wording, for a teacher that never saw its template.
_TEACHER_FORMAT = (
    "First think about the reasoning process, then give the final answer. The reasoning process and answer "
    "are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning "
    "process here </think> <answer> answer here </answer>. Think in the language of the question."
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A parsed sample of a problem; `name` is unique among all candidates of a stage, `raw` its text."""

    name: str
    problem: Problem
    source: str
    response: Response
    raw: str = ""
    cut_off: bool = False  # it ran out of tokens

    @property
    def reasoning(self) -> str:
        """The reasoning of a well-formed response."""
        assert self.response.reasoning is not None
        return self.response.reasoning

    @property
    def text(self) -> str:
        """All that it says."""
        if not self.response.well_formed:
            return self.raw
        return format_chat(self.response.reasoning, self.response.summary or "")


def find_candidates(
    context: StageContext, source: CandidateSource, label: str, problems: Sequence[Problem]
) -> list[Candidate]:
    """The candidates of one source, in the problems' order. A failed request gives a malformed candidate."""
    examples = find_examples(context, source, label) if source.kind == "few_shot" else None
    if isinstance(source.model, str):
        return _sample(context, source, source.model, label, problems, examples)
    return _ask_teacher(context, source, ChatClient(source.model), label, problems, examples)


def choose_problems(problems: Sequence[Problem], num: int | None, *, seed: int, label: str) -> list[Problem]:
    """`num` of the problems, chosen by the seed, in their order."""
    if num is None or num >= len(problems):
        return list(problems)
    # each problem's place in the draw depends on its id alone, so adding problems keeps most of the choice
    order = sorted(range(len(problems)), key=lambda i: derive_seed(seed, label, problems[i].id))
    return [problems[i] for i in sorted(order[:num])]


def with_instruction(problem: Problem, instruction: str | None) -> Problem:
    """The problem with the instruction after its question.

    None stands for the request to reflect and verify, in the question's language.
    """
    if instruction is None:
        suffix = REFLECTION_REQUEST.get(problem_language(problem) or "en", REFLECTION_REQUEST["en"])
    else:
        suffix = f" {instruction}"
    last: Message = {"role": "user", "content": problem.question + suffix}
    return replace(problem, messages=(*problem.messages[:-1], last))


def encode_few_shot(
    problem: Problem, examples: Sequence[WorkedExample], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The tokens of one Table 1 conversation: each example is a solved turn, and the problem is the last."""
    text = ""
    for question, solved in [
        *((e.question, format_zero(e.reasoning, e.answer)) for e in examples),
        (problem.question, ""),
    ]:
        text += (f"\n{render_zero_turn(question)}" if text else render_zero(question)) + solved
    return encode_text(text, tokenizer)


def _sample(
    context: StageContext,
    source: CandidateSource,
    model: str,
    label: str,
    problems: Sequence[Problem],
    examples: Examples | None,
) -> list[Candidate]:
    style = source.prompt_style or "zero"
    sampler = stage_sampler(
        context,
        model,
        context.work_dir / SAMPLES_LOG,
        max_new_tokens=source.max_new_tokens,
        temperature=source.temperature,
        # after few-shot examples, a base model would invent the next question
        stop_strings=(NEXT_TURN,) if examples is not None else (),
    )

    def encode(problem: Problem) -> tuple[int, ...]:
        if examples is not None:
            return encode_few_shot(problem, examples(problem), sampler.tokenizer)
        if source.kind == "direct":
            problem = with_instruction(problem, source.instruction)
        return encode_prompt(problem, sampler.tokenizer, style)

    planned = plan_samples(
        problems, encode, range(source.samples_per_problem), label=[label], seed=context.seed
    )
    with sampler:
        rollouts = sampler.sample(planned)
    return [
        _candidate(
            sample,
            label,
            read_rollout(rollout, style),
            rollout.completion.text,
            rollout.completion.finish_reason,
        )
        for sample, rollout in zip(planned, rollouts, strict=True)
    ]


def _ask_teacher(
    context: StageContext,
    source: CandidateSource,
    client: ChatClient,
    label: str,
    problems: Sequence[Problem],
    examples: Examples | None,
) -> list[Candidate]:
    # no prompt tokens: the server encodes the messages; names and seeds are used
    planned = plan_samples(
        problems, lambda problem: (), range(source.samples_per_problem), label=[label], seed=context.seed
    )

    def ask(batch: Sequence[tuple[list[Message], int]]) -> list[ChatReply | None]:
        return client(
            [messages for messages, _ in batch],
            temperature=source.temperature,
            seeds=[seed for _, seed in batch],
        )

    replies = ask_logged(
        {sample.name: (_conversation(sample.problem, source, examples), sample.seed) for sample in planned},
        ask,
        context.work_dir / TEACHER_LOG,
        to_json=reply_to_json,
        from_json=reply_from_json,
        progress=context.progress,
        stage=context.name,
    )
    candidates: list[Candidate] = []
    for sample in planned:
        reply = replies[sample.name]
        finish = None if reply is None else reply.finish_reason
        candidates.append(_candidate(sample, label, read_reply(reply), _text(reply), finish))
    return candidates


def _candidate(
    sample: PlannedSample, label: str, response: Response, text: str, finish_reason: str | None
) -> Candidate:
    return Candidate(sample.name, sample.problem, label, response, text, finish_reason == "length")


def _conversation(problem: Problem, source: CandidateSource, examples: Examples | None) -> list[Message]:
    if source.kind == "direct":
        problem = with_instruction(problem, source.instruction)
    turns: list[Message] = [{"role": "system", "content": _TEACHER_FORMAT}]
    for example in examples(problem) if examples is not None else ():
        solved = format_zero(example.reasoning, example.answer).strip()
        turns.append({"role": "user", "content": example.question})
        turns.append({"role": "assistant", "content": solved})
    return [*turns, *problem.messages]


def read_reply(reply: ChatReply | None) -> Response:
    """Parse a teacher's reply: reasoning in a field of its own, Table 1's format, or the chat format."""
    nothing = Response(reasoning=None, summary=None, well_formed=False)
    if reply is None or reply.finish_reason == "length":
        return nothing  # a reply that was cut off may lack its answer
    if reply.reasoning is not None:
        text = f"<think>\n{reply.reasoning}\n</think>\n\n{reply.content}"
        return parse_response(text, "chat")
    # where the prompt opened the thought, the server's reply begins after the <think> tag
    content = reopened(reply.content)
    response = parse_response(content, "zero")
    return response if response.well_formed else parse_response(content, "chat")


def _text(reply: ChatReply | None) -> str:
    """A teacher's reply as one text, a reasoning in a field of its own included; "" without a reply."""
    if reply is None or reply.reasoning is None:
        return "" if reply is None else reply.content
    return f"<think>\n{reply.reasoning}\n</think>\n\n{reply.content}"


def reply_to_json(reply: ChatReply) -> dict[str, Any]:
    """A reply as a row of the log."""
    return {
        "content": reply.content,
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish_reason,
    }


def reply_from_json(row: Mapping[str, Any]) -> ChatReply:
    """The reply in a row that `reply_to_json` wrote."""
    return ChatReply(row["content"], row["reasoning"], row["finish_reason"])
