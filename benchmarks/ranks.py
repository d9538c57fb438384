"""What a second core is worth: one process with two threads, one with one thread, two ranks with one each.

    python benchmarks/ranks.py [--steps 4] [--repeats 2] [--problems 16] [--group 16] [--max-tokens 256]

Each contestant is `r1 run` on the same recipe: a zero stage on tinyworld's base, as in `tiny.toml`, from the
same seed, in turn in one run. The first step of each is left out (it warms up), the others' seconds are the
median within a repeat. A ratio is taken within each repeat, against one thread: above 1 is faster; its
smallest and largest are shown. Two ranks also sample the same completions as one process of one thread in the
first step, so that the work is the same; later steps differ by rounding.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from r1kit.metrics import read_metrics

RECIPE = """\
[run]
name = "ranks"

[model]
base = "tinyworld"
device = "cpu"

[problems.reasoning]
source = "tinyworld"
split = "train"
num_problems = 500

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = {{ reasoning = 1.0 }}
rewards = {{ accuracy = 1.0, format = 1.0 }}
languages = ["en", "zh"]
steps = {steps}
problems_per_step = {problems}
group_size = {group}
mini_batches = 1
max_new_tokens = {max_tokens}
clip_eps = 0.2
kl_coef = 0.0
optimizer = {{ learning_rate = 7e-4 }}
"""
TIMES = ("step_seconds", "sampling_seconds", "scoring_wait_seconds", "training_seconds")


@dataclass(frozen=True)
class Contestant:
    """How many processes, each with how many threads."""

    name: str
    processes: int
    threads: int


CONTESTANTS = (
    Contestant("1 process, 1 thread", 1, 1),
    Contestant("1 process, 2 threads", 1, 2),
    Contestant("2 ranks, 1 thread", 2, 1),
)


def seconds_of(contestant: Contestant, recipe: Path, folder: Path) -> dict[str, float]:
    """The median seconds of a step and of its parts, the first step left out."""
    command = [sys.executable, "-m", "r1kit", "run", str(recipe), "--output", str(folder)]
    command += ["--processes", str(contestant.processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(contestant.threads)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    rows = [row for row in read_metrics(folder / "zero") if row["step"] > 1]
    return {name: statistics.median(row[name] for row in rows) for name in TIMES}


def show(found: Mapping[Contestant, list[dict[str, float]]]) -> None:
    """A row for each contestant."""
    print("                        s/step  sampling  scoring  training   speed against 1 thread (range)")
    base = [repeat["step_seconds"] for repeat in found[CONTESTANTS[0]]]
    for contestant, repeats in found.items():
        times = [statistics.median(repeat[name] for repeat in repeats) for name in TIMES]
        ratios = [alone / repeat["step_seconds"] for alone, repeat in zip(base, repeats, strict=True)]
        print(
            f"{contestant.name:<22} {times[0]:7.2f}  {times[1]:8.2f} {times[2]:8.2f} {times[3]:9.2f}   "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps: at least 2, for the first is left out")
    found: dict[Contestant, list[dict[str, float]]] = {contestant: [] for contestant in CONTESTANTS}
    with tempfile.TemporaryDirectory(prefix="r1kit-ranks-benchmark-") as name:
        recipe = Path(name) / "ranks.toml"
        recipe.write_text(RECIPE.format(**vars(options)), encoding="utf-8")
        for repeat in range(options.repeats):
            for number, contestant in enumerate(CONTESTANTS):
                folder = Path(name) / f"{repeat}-{number}"
                found[contestant].append(seconds_of(contestant, recipe, folder))
    show(found)


if __name__ == "__main__":
    main()
