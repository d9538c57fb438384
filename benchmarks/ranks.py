"""What a second core is worth: one process with two threads, one with one thread, two ranks with one each.

    python benchmarks/ranks.py [--steps 4] [--repeats 2] [--problems 16] [--group 16] [--max-tokens 256]
                               [--no-load]

Each contestant is `r1 run` on the same recipe: a zero stage on tinyworld's base, as in `tiny.toml`, from
the same seed, in turn in one run; first on the machine as it is, then beside a second program that keeps
one core busy with matrix products (a process of this script, one thread, ordinary priority). The first step
of each is left out (it warms up), the others' seconds are the median within a repeat. A ratio is taken
within each repeat, against one thread under the same load: above 1 is faster; its smallest and largest are
shown. Two ranks also sample the same completions as one process of one thread in the first step, so that
the work is the same; later steps differ by rounding.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import contest
import torch

from r1kit.training.metrics_log import read_metrics

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


def keep_busy() -> None:
    """Matrix products on one thread, until the process is ended."""
    torch.set_num_threads(1)
    square = torch.randn(512, 512)
    while True:
        torch.mm(square, square)


@contextmanager
def second_program(wanted: bool) -> Iterator[None]:
    """Another program that uses one core, where it is wanted."""
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=keep_busy, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def show(found: Mapping[Contestant, list[dict[str, float]]], load: str) -> None:
    """A row for each contestant."""
    base = [repeat["step_seconds"] for repeat in found[CONTESTANTS[0]]]
    for contestant, repeats in found.items():
        times = [statistics.median(repeat[name] for repeat in repeats) for name in TIMES]
        speed = contest.ratio(base, [repeat["step_seconds"] for repeat in repeats])
        contest.row(contestant.name, load, *(f"{time:.2f}" for time in times), speed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--no-load", action="store_true", help="leave out the runs beside a second program")
    parser.add_argument("--quick", action="store_true", help="the same on very little work, as a check")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.repeats, options.problems, options.group, options.max_tokens = 2, 1, 2, 2, 16
    if options.steps < 2:
        parser.error("--steps: at least 2, for the first is left out")
    print(f"{contest.machine()}\n")
    contest.header(
        "contestant", "second program", "s/step", "sampling", "scoring", "training", "speed against 1 thread"
    )
    with tempfile.TemporaryDirectory(prefix="r1kit-ranks-benchmark-") as name:
        recipe = Path(name) / "ranks.toml"
        recipe.write_text(RECIPE.format(**vars(options)), encoding="utf-8")
        for load in ("none", "one busy core")[: 1 if options.no_load else 2]:
            found: dict[Contestant, list[dict[str, float]]] = {contestant: [] for contestant in CONTESTANTS}
            for repeat in range(options.repeats):
                for number, contestant in enumerate(CONTESTANTS):
                    folder = Path(name) / f"{load}-{repeat}-{number}"
                    with second_program(load != "none"):
                        found[contestant].append(seconds_of(contestant, recipe, folder))
            show(found, load)


if __name__ == "__main__":
    main()
