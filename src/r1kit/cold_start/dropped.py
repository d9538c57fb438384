"""Why a cold-start candidate was dropped, with the numbers that the filter saw."""

from transformers import PreTrainedTokenizerBase

from r1kit.cold_start.candidates import Candidate
from r1kit.cold_start.config import ColdStartConfig
from r1kit.text.dropped import language_detail
from r1kit.text.filters import repeated_frac
from r1kit.types import Problem, Response
from r1kit.verify.answers import extract_answer


def drop_detail(
    config: ColdStartConfig, tokenizer: PreTrainedTokenizerBase, candidate: Candidate, reason: str
) -> str:
    """What the filter of this name found in a candidate, in words; "" if its name says it all."""
    if reason == "malformed":
        return "it was cut off" if candidate.cut_off else "" if candidate.raw else "there is no reply"
    return response_detail(config, tokenizer, candidate.problem, candidate.response, reason)


def response_detail(
    config: ColdStartConfig,
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    response: Response,
    reason: str,
) -> str:
    """The same of a response, one from rewriting for example."""
    reasoning = response.reasoning or ""
    if reason == "wrong":
        answer = extract_answer(response, problem)
        found = "no answer was found in it" if answer is None else f"it says {answer[:200]!r}"
        return f"{found}; the ground truth is {(problem.ground_truth or 'in its tests')[:200]!r}"
    if reason == "mixed_language":
        return language_detail(
            problem,
            reasoning,
            min_share=config.min_language_share,
            min_words=config.min_words,
            languages=config.languages,
        )
    if reason == "repetitive":
        share = repeated_frac(reasoning, config.repetition_ngram)
        return (
            f"{share:.0%} of its runs of {config.repetition_ngram} words occurred before; "
            f"at most {config.max_repeated_frac:.0%} may"
        )
    if reason == "length":
        num_tokens = len(tokenizer.encode(reasoning, add_special_tokens=False))
        return f"{num_tokens} tokens; {config.min_tokens} to {config.max_tokens} are asked for"
    return ""
