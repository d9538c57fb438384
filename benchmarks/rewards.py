"""Rewards per second of each kind, time-outs and crashes survived, and what the language measure costs.

    python benchmarks/rewards.py [--only math,code,...] [--scale 1.0] [--workers 2]

Kinds: math (the exact fast path), math-verify (the slow one), choice, logic, format, language, shaping,
code, model, faults, step. Rewards are called as training calls them, on groups of 16 rollouts that all
differ. Rates are per second of wall-clock time and of processor time (of this process and its workers), which
a busy machine makes little difference to; the load of the machine stands above and below. `faults`
gives verifier and sandbox what hangs, crashes and floods them. `step` samples as the demo does and says what
the language measure takes beside that.
"""

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.making import make_problem, make_rollout

from r1kit.model.loading import load_model, load_tokenizer, save_model
from r1kit.model.scorers import load_reward_model
from r1kit.pipeline.manifest import environment
from r1kit.rewards.accuracy import AccuracyReward
from r1kit.rewards.base import Reward
from r1kit.rewards.language import LanguageReward
from r1kit.rewards.model_rewards import RewardModelReward, RewardScale, write_scale
from r1kit.rewards.rules import FormatReward
from r1kit.rewards.shaping import (
    CosineOptions,
    CosineReward,
    LengthOptions,
    LengthReward,
    OverlongOptions,
    OverlongReward,
    RepetitionOptions,
    RepetitionReward,
    StepsReward,
)
from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.local import make_engine
from r1kit.sampling.rollouts import iter_groups
from r1kit.sandbox import sandbox_refusal
from r1kit.text.template import format_chat, format_zero
from r1kit.tinyworld.problems import make_problems
from r1kit.types import Problem, PromptStyle, Rollout
from r1kit.verify.math_pool import MathPool

GROUP = 16
THOUGHT = (
    "First we add the tens and then the ones. 我们先把十位数相加，再把个位数相加。 So 40 + 10 = 50; "
    "together that makes {number}. Let me check it once more: {number} - 6 = {less}, which is right. "
)
ADD = "print(sum(map(int, input().split())) + {number} - {number})"
HOSTILE_PROGRAMS = {
    "endless loop": "while True: pass",
    "memory": "x = [0] * 10**10",
    "recursion": "def f(): f()\nf()",
    "fork bomb": "import os\nwhile True: os.fork()",
    "segmentation fault": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nprint('escaped')",
    "flood": "while True: print('x' * 10**6)",
    "disk": "f = open('x', 'w')\nwhile True: f.write('x' * 10**6)",
    "no program": "this is no program",
}


def processor_seconds() -> float:
    """Of this process, its workers, and theirs, so far."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return seconds


def rate(
    name: str, reward: Reward, rollouts: Sequence[Rollout], *, per_rollout: int = 1, is_caged: bool = False
) -> None:
    """Call the reward on groups, once to warm it up, and print how many rollouts a second it does.

    What cages take of the processor can't be known: they are killed with all that is in them.
    """
    reward(rollouts[:GROUP])
    wall, cpu = time.perf_counter(), processor_seconds()
    for start in range(0, len(rollouts), GROUP):
        reward(rollouts[start : start + GROUP])
    wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
    num = per_rollout * len(rollouts)
    of_processor = "" if is_caged else f"{num / cpu:12,.1f}"
    print(f"{name:44} {num:7,} {num / wall:12,.1f} {of_processor}", flush=True)


def rollouts_of(num: int, make: Callable[[int], tuple[Problem, str]]) -> list[Rollout]:
    pairs = [make(i) for i in range(num)]
    return [make_rollout(problem, text, sample=i, seed=i) for i, (problem, text) in enumerate(pairs)]


def thought(number: int) -> str:
    return (THOUGHT * 4).format(number=number, less=number - 6)


def numeric(i: int) -> tuple[Problem, str]:
    """Every other answer is right."""
    return make_problem("math", str(i), language="en"), format_zero(
        thought(i), f"The answer is {i + i % 2:,}."
    )


def expression(i: int) -> tuple[Problem, str]:
    problem = make_problem("math", f"\\frac{{x^2 + {i}}}{{{i + 2}}}")
    return problem, format_zero("so", f"\\boxed{{\\frac{{{i + i % 2} + x^2}}{{{i + 2}}}}}")


def choice(i: int) -> tuple[Problem, str]:
    problem = make_problem("choice", "B", options=[str(i + n) for n in range(4)])
    return problem, format_zero("so", f"The answer is {'ABCD'[i % 4]}.")


def logic(i: int) -> tuple[Problem, str]:
    if i % 3 == 0:
        return make_problem("logic", "knight", choices=["knight", "knave"]), format_zero(
            "so", "He is a knight."
        )
    if i % 3 == 1:
        return make_problem("logic", f"{i}, 3", verifier="multiset"), format_zero("so", f"3 and {i}")
    problem = make_problem("logic", f"{i} * 8", verifier="expression", numbers=[i, 8], target=8 * i)
    return problem, format_zero("so", f"8 * {i} = {8 * i}")


def rule_rates(only: set[str], scale: float, workers: int) -> None:
    num = int(4_000 * scale)
    if "math" in only:
        rate(
            "math, plain numbers (exact, no math-verify)",
            AccuracyReward("zero"),
            rollouts_of(4 * num, numeric),
        )
    if "math-verify" in only:
        pool = MathPool(num_workers=workers)
        reward = AccuracyReward("zero", pool=pool)
        rate(
            f"math, expressions (math-verify x {workers})",
            reward,
            rollouts_of(num // 20, expression),
        )
        pool.close()
    if "choice" in only:
        rate("choice", AccuracyReward("zero"), rollouts_of(num, choice))
    if "logic" in only:
        rate("logic (words, multisets, expressions)", AccuracyReward("zero"), rollouts_of(num, logic))
    if "format" in only:
        rate("format", FormatReward("zero"), rollouts_of(4 * num, numeric))
    if "language" in only:
        rollouts = rollouts_of(num // 2, numeric)
        rate("language, en and zh named", LanguageReward("zero", languages=["en", "zh"]), rollouts)
        rate("language, open", LanguageReward("zero"), rollouts)
    if "shaping" in only:
        rollouts = rollouts_of(num, numeric)
        accuracy = AccuracyReward("zero")
        for reward in (
            OverlongReward(OverlongOptions(max_tokens=100, cache_tokens=50)),
            RepetitionReward(RepetitionOptions(unit="words")),
            LengthReward(accuracy, LengthOptions()),
            CosineReward(accuracy, CosineOptions()),
            StepsReward(),
        ):
            rate(f"{reward.name}", reward, rollouts)


def code_rate(scale: float) -> None:
    """Programs of twenty tests each: a run is one test."""
    if refusal := sandbox_refusal():
        print(f"code: {refusal}")
        return
    tests = tuple({"type": "stdin", "input": f"{i} 1\n", "output": str(i + 1)} for i in range(20))
    problem = make_problem("code", None, tests=tests)
    num = GROUP * max(1, int(scale))
    programs = [make_rollout(problem, format_zero("so", ADD.format(number=i)), sample=i) for i in range(num)]
    rate(
        "code, runs of a test, twenty a program",
        _Again(AccuracyReward),
        programs,
        per_rollout=len(tests),
        is_caged=True,
    )


class _Again:
    """A new reward for every call: accuracy remembers what it was asked last."""

    name = "accuracy"

    def __init__(self, make: Callable[[PromptStyle], AccuracyReward]) -> None:
        self._make = make

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return self._make("zero")(rollouts)


def model_rate(scale: float) -> None:
    """tinyworld's base with an untrained head: its speed is that of a trained one."""
    problem = make_problem("general", None, wants_reasoning=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model = load_reward_model("tinyworld")
        save_model(model, load_tokenizer("tinyworld"), path)
        write_scale(path, RewardScale())
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        texts = [format_chat(thought(i), f"It is {i}.") for i in range(int(256 * scale))]
        rollouts = [make_rollout(problem, text, sample=i) for i, text in enumerate(texts)]
        for name in ("helpful", "safety"):
            view = "summary" if name == "helpful" else "response"
            rate(f"reward model ({size:.1f}M), {view}", RewardModelReward(name, path, view=view), rollouts)


def faults(workers: int) -> None:
    """What hangs, crashes and floods: every score is 0, and each fault is counted."""
    pool = MathPool(num_workers=workers, time_limit_seconds=2.0, command=[sys.executable, "-c", HANGS])
    truth = make_problem("math", "x^2 + 1")
    answers = ["x^2 + 7", "x^2 + 8", "x^2 + 9", "1 + x^2"]
    start = time.perf_counter()
    scores = AccuracyReward("zero", pool=pool)(
        [make_rollout(truth, format_zero("so", f"\\boxed{{{answer}}}")) for answer in answers]
    )
    seconds = time.perf_counter() - start
    print(
        f"math: three answers on which the worker hangs and a right one in {seconds:.1f} s, limit 2 s each: "
        f"scores {scores}; counted: {dict(pool.counts)}"
    )
    killer = MathPool(num_workers=workers, command=[sys.executable, "-c", CRASHES])
    verdicts = killer.check([("1", str(i)) for i in range(20)])
    print(
        f"math: 20 answers that crash their worker (signal 11): {dict(Counter(verdicts))}; counted: "
        f"{dict(killer.counts)}"
    )
    pool.close()
    killer.close()
    if refusal := sandbox_refusal():
        print(f"code: {refusal}")
        return
    tests = ({"type": "stdin", "input": "1 2\n", "output": "3"},)
    problem = make_problem("code", None, tests=tests, limits={"cpu_seconds": 1.0})
    reward = AccuracyReward("zero")
    programs = [*HOSTILE_PROGRAMS.values(), ADD.format(number=1)]
    start = time.perf_counter()
    found = reward([make_rollout(problem, format_zero("so", program)) for program in programs])
    print(
        f"code: {len(HOSTILE_PROGRAMS)} hostile programs ({', '.join(HOSTILE_PROGRAMS)}) and a right one in "
        f"{time.perf_counter() - start:.1f} s: scores {found}; counted: "
        f"{ {name: count for name, count in reward.counts.items() if name.startswith('code/')} }"
    )


# The worker, in which math-verify hangs on some answers: as it did, for hours, on towers of powers, on large
# powers of sums, on products of many factors and on factorials of factorials.
HANGS = """
import time
import math_verify
verify = math_verify.verify
def hanging(truths, answers, **options):
    while str(answers[0])[-1] in "789": pass
    return verify(truths, answers, **options)
math_verify.verify = hanging
from r1kit.verify.math_worker import main
main(60)
"""
CRASHES = """
import os, signal, sys
print('{"ready": true}', flush=True)
for line in sys.stdin:
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def step(scale: float) -> None:
    """A step's sampling on the embedded base, as in the demo, and its rewards, by processor time."""
    model, tokenizer = load_model("tinyworld"), load_tokenizer("tinyworld")
    engine = make_engine(model, tokenizer, max_rows=128)
    params = SamplingParams(max_tokens=256, temperature=1.0, stop_token_ids=(int(tokenizer.eos_token_id),))
    problems = make_problems("train", max(1, int(8 * scale)), seed=0)
    start = time.process_time()
    finished = iter_groups(
        engine, tokenizer, problems, group_size=GROUP, params=params, style="zero", seed=0, stage="benchmark"
    )
    rollouts = [rollout for _, group in finished for rollout in group]
    sampling = time.process_time() - start
    engine.close()
    tokens = sum(len(rollout.completion.token_ids) for rollout in rollouts)
    print(
        f"step: {len(rollouts)} completions, {tokens:,} tokens sampled in {sampling:.1f} s of processor time"
    )
    for reward in (
        AccuracyReward("zero"),
        FormatReward("zero"),
        LanguageReward("zero", languages=["en", "zh"]),
    ):
        start = time.process_time()
        for group in [rollouts[i : i + GROUP] for i in range(0, len(rollouts), GROUP)]:
            reward(group)
        seconds = time.process_time() - start
        print(
            f"  {reward.name:9} {seconds * 1000:7.1f} ms, {100 * seconds / sampling:.2f}% of sampling alone"
        )


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{environment()['cpu']}, Python {platform.python_version()}, load {load} (1, 5, 15 minutes)"


KINDS = (
    "math",
    "math-verify",
    "choice",
    "logic",
    "format",
    "language",
    "shaping",
    "code",
    "model",
    "faults",
    "step",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rollouts")
    parser.add_argument("--workers", type=int, default=2, help="of math-verify")
    given = parser.parse_args()
    only = set(given.only.split(","))
    if unknown := sorted(only - set(KINDS)):
        parser.error(f"--only {','.join(unknown)}: should be of {', '.join(KINDS)}")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine()}")
    print(f"{'':44} {'rollouts':>7} {'a second':>11} {'of processor':>12}")
    rule_rates(only, given.scale, given.workers)
    if "code" in only:
        code_rate(given.scale)
    if "model" in only:
        model_rate(given.scale)
    if "faults" in only:
        faults(given.workers)
    if "step" in only:
        step(given.scale)
    print(f"at the end: {machine()}")


if __name__ == "__main__":
    main()
