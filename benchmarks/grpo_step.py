"""Whole GRPO steps against TRL's GRPOTrainer: rollout, rewards, reference, update, KL on.

    python benchmarks/grpo_step.py [--sizes 0.9M 2M 10M] [--lengths 128 256 natural] [--threads 2]
                                   [--repeats 3] [--problems 16] [--trl-rows 16] [--processes 1]

16 problems x 16 samples, prompts of 96 tokens, temperature 1, KL 0.001 against a reference, one update a
step. Both get the same weights, prompts and lengths ("natural": each row its own end, most of them early,
the longest 192 tokens), and the same rewards of the sampled tokens, which differ within each group. Speed
is trained tokens per second: completion tokens over the seconds of the step. `update` is ours alone: tokens
per second, and its share of the machine's matrix-product peak, where forward and backward count as three
forward passes and the reference as one. The second row of a size has TRL in bfloat16 where a small step is
faster so; our updates are float32 at any rate (pure bfloat16 weights learn nothing at this size). How TRL
is set: `trl_peer.py`. With `--processes 2` both run in two ranks, the threads divided among them.
"""

import argparse
import copy
import statistics
from collections.abc import Sequence

import contest
from transformers import PreTrainedModel

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Group, scored_group
from r1kit.grpo.learner import Learner
from r1kit.grpo.step import advantages_of, train_step
from r1kit.ranks import collectives
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import make_engine
from r1kit.types import Completion, Problem, RewardBreakdown, Rollout

NATURAL_TOKENS = 192
Run = dict[str, float]


def reward(token_ids: Sequence[int]) -> float:
    """Differs within a group: the last digit of the first token."""
    return token_ids[0] % 10 / 10


class Ours:
    """The steps of `grpo.run`, without its log and metrics files."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[tuple[int, ...]],
        ends: Sequence[int],
        clock: contest.Clock,
        *,
        group_size: int = contest.GROUP_SIZE,
    ) -> None:
        """`prompts` and `ends` are those of all rows, group by group."""
        self._prompts, self._ends, self._clock = prompts, ends, clock
        self._group_size = group_size
        self._config = GrpoConfig(
            model="base",
            prompt_style="zero",
            problems={"all": 1.0},
            rewards={"digit": 1.0},
            steps=1_000,
            problems_per_step=len(ends) // group_size,
            group_size=group_size,
            mini_batches=1,
            max_new_tokens=max(ends),
            clip_eps=0.2,
            kl_coef=0.001,
            reference_refresh_every=0,
            optimizer={"learning_rate": 1e-6},
        )
        self._learner = Learner(model, self._config, pad_id=contest.EOS_ID, seed=0)
        self._engine = make_engine(model, contest.make_tokenizer(), max_rows=len(ends))
        self._step = 0

    def step(self) -> Run:
        """One step; its seconds, and those of its update."""
        self._step += 1
        start = self._clock()
        self._engine.load_weights(self._learner.policy.state_dict().items(), self._step)
        requests = [
            SampleRequest(i, self._prompts[i], SamplingParams(self._ends[i]), seed=1000 * self._step + i)
            for start in collectives.shard(range(0, len(self._ends), self._group_size))
            for i in range(start, start + self._group_size)
        ]
        own = sample_all(self._engine, requests)
        sampled = {request.key: completion for request, completion in zip(requests, own, strict=True)}
        for others in collectives.gather(sampled):
            sampled |= others
        groups = self._groups([sampled[i] for i in range(len(self._ends))])
        advantages = advantages_of(groups, self._config)
        before_update = self._clock()
        train_step(self._learner, self._step, groups, advantages)
        end = self._clock()
        return {"step": end - start, "update": end - before_update}

    def _groups(self, completions: Sequence[Completion]) -> list[Group]:
        rows = []
        for i, (prompt, completion) in enumerate(zip(self._prompts, completions, strict=True)):
            group, sample = divmod(i, self._group_size)
            problem = Problem(id=str(group), kind="general", messages=())
            rollout = Rollout(problem, self._step, group, sample, i, prompt, completion)
            parts = {"digit": reward(completion.token_ids)}
            rows.append((rollout, RewardBreakdown(parts, self._config.rewards)))
        size = self._group_size
        starts = range(0, len(rows), size)
        return [
            scored_group("all", 0, *zip(*rows[start : start + size], strict=True), constant="accuracy")
            for start in starts
        ]


def update_gflop(model: PreTrainedModel, ends: Sequence[int]) -> float:
    """Operations of an update: forward and backward of the policy, forward of the reference."""
    return 4 * contest.rollout_flops(model, ends) / 1e9


def words(prompt: Sequence[int]) -> str:
    """A prompt as text, for TRL."""
    return " ".join(f"w{token}" for token in prompt)


def trl(
    model: PreTrainedModel,
    ends: Sequence[int],
    options: argparse.Namespace,
    clock: contest.Clock,
    *,
    bf16: bool,
):  # type: ignore[no-untyped-def]
    """TRL's trainer on its own copy of the weights."""
    from trl_peer import TrlGrpo

    prompts = [
        words(prompt) for prompt in contest.random_ids(len(ends) // contest.GROUP_SIZE, contest.PROMPT_TOKENS)
    ]
    rows = min(options.trl_rows, len(ends))
    tokenizer = contest.make_tokenizer()
    return TrlGrpo(model, tokenizer, prompts, ends, reward, rows=rows, bf16=bf16, clock=clock)


def trl_precisions(model: PreTrainedModel, options: argparse.Namespace, clock: contest.Clock) -> list[str]:
    """float32, and bfloat16 where a small step is faster with it."""
    times = {}
    for name in contest.DTYPES:
        peer = trl(model, [16] * 4 * contest.GROUP_SIZE, options, clock, bf16=name == "bfloat16")
        peer.step()
        times[name] = peer.step()
    times = collectives.broadcast(times)
    return list(contest.DTYPES) if times["bfloat16"] < times["float32"] else ["float32"]


def compare(name: str, options: argparse.Namespace, clock: contest.Clock, peak: float) -> None:
    """The rows of the table for one size."""
    model = contest.make_model(contest.SIZES[name])
    num_rows = options.problems * contest.GROUP_SIZE
    precisions = ["float32"] if options.quick else trl_precisions(model, options, clock)
    for kind in options.lengths:
        natural = contest.natural_ends(num_rows, 12 if options.quick else NATURAL_TOKENS)
        ends = natural if kind == "natural" else [int(kind)] * num_rows
        for precision in precisions:
            ours = Ours(copy.deepcopy(model), contest.group_prompts(num_rows), ends, clock)
            theirs = trl(model, ends, options, clock, bf16=precision == "bfloat16")
            ours.step()  # warms up; TRL's first step does little that its later ones don't
            updates: list[float] = []

            def step(ours: Ours = ours, updates: list[float] = updates, num_tokens: int = sum(ends)) -> float:
                run = ours.step()
                updates.append(num_tokens / run["update"])
                return num_tokens / run["step"]

            speeds = contest.take_turns(
                {"ours": step, "trl": lambda theirs=theirs, ends=ends: sum(ends) / theirs.step()},
                options.repeats,
            )
            update = statistics.median(updates)
            contest.row(
                name,
                kind,
                precision,
                *(f"{statistics.median(speeds[who]):,.0f}" for who in ("ours", "trl")),
                contest.ratio(speeds["ours"], speeds["trl"]),
                f"{update:,.0f}",
                f"{update_gflop(model, ends) / sum(ends) * update / peak:.0%}",
            )


def main() -> None:
    parser = contest.parser(__doc__)
    parser.add_argument("--lengths", nargs="+", default=["128", "256", "natural"])
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--trl-rows", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.problems, options.repeats = options.sizes[:1], 2, 1
        options.lengths = ["8", "natural"]
    clock = contest.start(options)
    peak = contest.peak_gflops(clock)
    rows = f"{options.problems} problems x {contest.GROUP_SIZE} samples"
    print(f"{rows}; matrix-product peak {peak:.0f} GFLOP/s\n")
    contest.header(
        "size", "lengths", "TRL's precision", "ours, trained tokens/s", "TRL", "ours / TRL",
        "our update, tokens/s", "its share of the peak",
    )  # fmt: skip
    for name in options.sizes:
        compare(name, options, clock, peak)
    print(f"\nmatrix-product peak after: {contest.peak_gflops(clock):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
