"""A plan beside the run that it is of: `python benchmarks/plan_accuracy.py RECIPE [--set KEY=VALUE ...]`.

Plans with `r1 plan`, runs with `r1 run` in a folder of its own that is empty at first, plans again in another
empty folder, and prints stage by stage what was planned (the mean of the two plans, as machines that others
use change in between), what it took, and took / planned. Stages that took less than a second are in the sums
alone. With `--log FOLDER` it only prints what a run logged, as `planning/observed_demo.json` holds it.
`--no-earlier-run` plans a copy of a shipped recipe, for which nothing is known of an earlier run.
`--clock cpu` is for a machine that others use too: one process with one thread plans once and runs, and all
times are those of its processor. Workers that verify answers are in neither then.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

R1 = (sys.executable, "-P", "-m", "r1kit")


def plan(recipe: str, options: list[str], output: Path) -> list[dict[str, Any]]:
    """The stages of what `r1 plan --json` says."""
    command = [*R1, "plan", recipe, "--json", "--output", str(output), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    stages: list[dict[str, Any]] = json.loads(done.stdout)["stages"]
    return stages


def plan_and_run(recipe: str, path: Path, shared: list[str], folder: Path) -> list[list[dict[str, Any]]]:
    """Two plans, and between them the run, each in processes of its own."""
    plans = [plan(recipe, shared, folder / "before")]
    command = [*R1, "run", str(path), "--output", str(folder / "run"), *shared]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return [*plans, plan(recipe, shared, folder / "after")]


def plan_and_run_by_cpu(
    recipe: str, path: Path, settings: list[str], stages: list[str] | None, folder: Path
) -> list[list[dict[str, Any]]]:
    """A plan and the run in this process, which takes its processor's time for the time."""
    import dataclasses

    import torch

    from r1kit import terminal
    from r1kit.pipeline.planning.estimate import plan_here
    from r1kit.pipeline.run import open_run, run_recipe

    torch.set_num_threads(1)
    time.monotonic = time.perf_counter = time.process_time
    settings = [*settings, "run.processes=1"]
    context = open_run(Path(recipe), output_dir=folder / "before", settings=settings, writes=False)
    planned = [dataclasses.asdict(stage) for stage in plan_here(context, stages).stages]
    progress = terminal.PlainProgress(lambda line: print(line, file=sys.stderr, flush=True))
    run_recipe(path, output_dir=folder / "run", stages=stages, settings=settings, progress=progress)
    return [planned]


def took(folder: Path, stage: str) -> float:
    """Seconds of a finished stage or evaluation."""
    manifest = json.loads((folder / stage / "manifest.json").read_text(encoding="utf-8"))
    return float(manifest["seconds"])


def row(name: str, planned: float, low: float, high: float, seconds: float) -> str:
    """A row of the table."""
    cells = [name, f"{planned:.1f}", f"{low:.1f}-{high:.1f}", f"{seconds:.1f}", f"{seconds / planned:.2f}"]
    return f"| {' | '.join([*cells, 'yes' if low <= seconds <= high else 'no'])} |"


def print_table(plans: list[list[dict[str, Any]]], folder: Path) -> None:
    """The markdown table of the mean of the plans beside the run, and each plan's sum."""
    print("| stage | planned, s | range | took, s | took / planned | in the range |")
    print("|---|---|---|---|---|---|")
    sums = [0.0] * 4
    for of_stage in zip(*plans, strict=True):
        name = of_stage[0]["name"]
        if any(stage["seconds"] is None for stage in of_stage):
            print(f"| {name} | ? | | {took(folder, name):.1f} | | |")
            continue
        values = [sum(stage[key] for stage in of_stage) / len(plans) for key in ("seconds", "low", "high")]
        values.append(took(folder, name))
        sums = [a + b for a, b in zip(sums, values, strict=True)]
        if values[-1] >= 1:
            print(row(name, *values))
    print(row("all", *sums))
    each = [f"{sum(stage['seconds'] or 0 for stage in stages):.0f}" for stages in plans]
    print(f"\nPlans of {' and '.join(each)} s.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--stages", help="only these and those they depend on")
    parser.add_argument("--no-earlier-run", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="only print what this run logged")
    options = parser.parse_args()
    if options.clock == "cpu":  # before torch is there
        os.environ |= {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    from r1kit.pipeline.planning.observed import observed_json, observed_of
    from r1kit.pipeline.recipe import load_recipe
    from r1kit.pipeline.shipped import find_recipe, shipped_recipes

    path = find_recipe(options.recipe)
    if options.log is not None:
        print(observed_json(observed_of(options.log, load_recipe(path))), end="")
        return
    shared = [part for setting in options.set for part in ("--set", setting)]
    if options.stages:
        shared += ["--stages", options.stages]
    with tempfile.TemporaryDirectory(prefix="plan-accuracy-") as name:
        folder, planned_recipe = Path(name), str(path)
        if options.no_earlier_run and path in shipped_recipes().values():
            planned_recipe = str(folder / "copy.toml")
            Path(planned_recipe).write_bytes(path.read_bytes())
        if options.clock == "cpu":
            stages = options.stages.split(",") if options.stages else None
            plans = plan_and_run_by_cpu(planned_recipe, path, options.set, stages, folder)
        else:
            plans = plan_and_run(planned_recipe, path, shared, folder)
        print_table(plans, folder / "run")


if __name__ == "__main__":
    main()
