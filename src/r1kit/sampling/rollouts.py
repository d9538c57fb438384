"""Sample groups: several completions of each problem, with any engine.

A row's seed is a function of (seed, stage, step, wave, problem, sample) only, so a sample does not depend on
other samples, on the order in which they finish, or on the number of ranks. Not here: scoring (`rewards`) and
uses of rollouts (`grpo`, `rejection`, `cold_start`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams, iter_samples
from r1kit.seeds import derive_seed
from r1kit.text.prompts import encode_prompt, encode_response
from r1kit.text.template import format_chat, format_zero
from r1kit.types import Completion, Problem, PromptStyle, Rollout


def iter_groups(
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
) -> Iterator[tuple[int, list[Rollout]]]:
    """Sample `group_size` rollouts of each problem, or of those in `only`; yield (index, rollouts) per group.

    Groups come as they finish; `index` is the position in `problems`. A problem that occurs again continues
    its sample numbers: with a group size of 4 its second group has samples 4 to 7, and so different seeds.
    """
    wanted = range(len(problems)) if only is None else only
    rows = _rows(problems, group_size)  # over all problems, so that `only` does not change sample numbers
    prompts = {index: encode_prompt(problems[index], tokenizer, style) for index in wanted}
    requests = {
        row: SampleRequest(
            row, prompts[index], params, derive_seed(seed, stage, step, wave, problems[index].id, sample)
        )
        for row, (index, sample) in enumerate(rows)
        if index in prompts
    }
    finished: defaultdict[int, dict[int, Rollout]] = defaultdict(dict)
    for results in iter_samples(engine, list(requests.values())):
        for result in results:
            index, sample = rows[result.key]
            finished[index][sample] = Rollout(
                problem=problems[index],
                step=step,
                group=first_group + index,
                sample=sample,
                seed=requests[result.key].seed,
                prompt_token_ids=prompts[index],
                completion=result.completion,
            )
            if len(finished[index]) == group_size:
                yield index, [rollout for _, rollout in sorted(finished.pop(index).items())]


def _rows(problems: Sequence[Problem], group_size: int) -> list[tuple[int, int]]:
    """The (problem index, sample number) of every completion, group by group."""
    rows: list[tuple[int, int]] = []
    seen: Counter[str] = Counter()
    for index, problem in enumerate(problems):
        first = seen[problem.id] * group_size
        seen[problem.id] += 1
        rows += [(index, sample) for sample in range(first, first + group_size)]
    return rows


def made_rollouts(
    problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, style: PromptStyle
) -> list[Rollout]:
    """Two made-up rollouts per problem: one stopped and in the style's format, one truncated.

    For trying a function of rollouts before any exist.
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
