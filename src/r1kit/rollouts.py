"""Sampling groups: several completions of each problem, through any engine.

A row's seed is a function of (seed, stage, step, wave, problem, sample) alone, so that a sample does not
depend on what else is sampled, in which order it finishes, or on the number of ranks. Not here: scoring
(`rewards`), and what is done with the rollouts (`grpo`, `rejection`, `cold_start`).
"""

from collections import Counter
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from r1kit.engines.base import RolloutEngine, SampleRequest, SampleResult, SamplingParams, sample_all
from r1kit.prompts import encode_prompt, encode_response
from r1kit.seeds import derive_seed
from r1kit.template import format_chat, format_zero
from r1kit.types import Completion, Problem, PromptStyle, Rollout


def sample_rollouts(
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    group_size: int,
    params: SamplingParams,
    style: PromptStyle,
    seed: int,
    stage: str,
    step: int = 0,
    wave: int = 0,
    first_group: int = 0,
    only: Sequence[int] | None = None,
    on_group: Callable[[int, list[Rollout]], None] | None = None,
) -> list[list[Rollout]]:
    """`group_size` rollouts of each problem, in the problems' order; of those in `only` where it is given.

    `on_group(index, rollouts)` is called as soon as the group of `problems[index]` is complete, in the order
    in which groups finish. A problem that occurs again continues its sample numbers: with a group size of 4
    its second group has the samples 4 to 7, and so other seeds.
    """
    requests, samples = _requests(
        tokenizer,
        problems,
        group_size,
        params,
        style,
        lambda *row: derive_seed(seed, stage, step, wave, *row),
    )
    groups: list[list[Rollout | None]] = [[None] * group_size for _ in problems]
    num_open = [group_size] * len(problems)

    def rollout(row: int, completion: Completion) -> Rollout:
        index = row // group_size
        return Rollout(
            problem=problems[index],
            step=step,
            group=first_group + index,
            sample=samples[row],
            seed=requests[row].seed,
            prompt_token_ids=requests[row].prompt_token_ids,
            completion=completion,
        )

    def collect(results: list[SampleResult]) -> None:
        for result in results:
            index, place = divmod(result.key, group_size)
            groups[index][place] = rollout(result.key, result.completion)
            num_open[index] -= 1
            if num_open[index] == 0 and on_group is not None:
                on_group(index, complete(index))

    def complete(index: int) -> list[Rollout]:
        return [row for row in groups[index] if row is not None]

    wanted = range(len(problems)) if only is None else only
    rows = [requests[index * group_size + place] for index in wanted for place in range(group_size)]
    sample_all(engine, rows, on_results=collect)
    return [complete(index) for index in wanted]


def _requests(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    group_size: int,
    params: SamplingParams,
    style: PromptStyle,
    seed_of: Callable[[str, int], int],
) -> tuple[list[SampleRequest], list[int]]:
    """The requests of all groups, one group after another, and each one's sample number."""
    requests: list[SampleRequest] = []
    samples: list[int] = []
    seen: Counter[str] = Counter()
    for problem in problems:
        prompt_token_ids = encode_prompt(problem, tokenizer, style)
        first_sample = seen[problem.id] * group_size
        seen[problem.id] += 1
        for sample in range(first_sample, first_sample + group_size):
            request = SampleRequest(len(requests), prompt_token_ids, params, seed_of(problem.id, sample))
            requests.append(request)
            samples.append(sample)
    return requests, samples


def made_rollouts(
    problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, style: PromptStyle
) -> list[Rollout]:
    """Two rollouts of each problem that nothing sampled: one that stopped, in the style's shape, one cut off.

    What a function of rollouts is tried on before there are any.
    """
    text = format_zero("One and one.", "2") if style == "zero" else format_chat("One and one.", "2")
    whole = encode_response(text, tokenizer)
    cut = whole[: len(whole) // 2]
    stopped = Completion(whole, (-1.0,) * len(whole), text, "stop", 0)
    truncated = Completion(cut, (-1.0,) * len(cut), str(tokenizer.decode(list(cut))), "length", 0)
    return [
        Rollout(problem, 1, group, sample, sample, encode_prompt(problem, tokenizer, style), completion)
        for group, problem in enumerate(problems)
        for sample, completion in enumerate((stopped, truncated))
    ]
