"""A plan beside the run that it is of: `python benchmarks/plan_accuracy.py RECIPE [--set KEY=VALUE ...]`.

Plans with `r1 plan`, runs with `r1 run` in a folder of its own that is empty at first, plans again in another
empty folder, and prints stage by stage what was planned (the mean of the two plans, as machines that others
use change in between), what it took, and took / planned. Stages that took less than a second are in the sums
alone. With `--log FOLDER` it only prints what a run logged, as `planning/observed_demo.json` holds it.
`--no-earlier-run` plans a copy of a shipped recipe, for which nothing is known of an earlier run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from r1kit.pipeline.planning.observed import observed_json, observed_of
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.shipped import find_recipe

R1 = (sys.executable, "-P", "-m", "r1kit")


def plan(recipe: str, options: list[str], output: Path) -> dict[str, Any]:
    """What `r1 plan --json` says."""
    command = [*R1, "plan", recipe, "--json", "--output", str(output), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def took(folder: Path, stage: str) -> float:
    """Seconds of a finished stage or evaluation."""
    manifest = json.loads((folder / stage / "manifest.json").read_text(encoding="utf-8"))
    return float(manifest["seconds"])


def row(name: str, planned: float, low: float, high: float, seconds: float) -> str:
    cells = [name, f"{planned:.1f}", f"{low:.1f}-{high:.1f}", f"{seconds:.1f}", f"{seconds / planned:.2f}"]
    return f"| {' | '.join([*cells, 'yes' if low <= seconds <= high else 'no'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--stages", help="only these and those they depend on")
    parser.add_argument("--no-earlier-run", action="store_true")
    parser.add_argument("--keep", type=Path, help="an empty folder for the run, which is kept")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="only print what this run logged")
    options = parser.parse_args()
    shared = [part for setting in options.set for part in ("--set", setting)]
    if options.stages:
        shared += ["--stages", options.stages]
    path = find_recipe(options.recipe)
    if options.log is not None:
        print(observed_json(observed_of(options.log, load_recipe(path))), end="")
        return
    with tempfile.TemporaryDirectory(prefix="plan-accuracy-") as name:
        planned_recipe, folder = str(path), options.keep or Path(name) / "run"
        if options.no_earlier_run:
            copy = path.with_name(f".{path.stem}-copy.toml")
            copy.write_bytes(path.read_bytes())
            planned_recipe = str(copy)
        try:
            plans = [plan(planned_recipe, shared, Path(name) / "before")]
            started = time.perf_counter()
            subprocess.run(
                [*R1, "run", str(path), "--output", str(folder), *shared], check=True, stdout=sys.stderr
            )
            whole = time.perf_counter() - started
            plans.append(plan(planned_recipe, shared, Path(name) / "after"))
        finally:
            if options.no_earlier_run:
                copy.unlink()
        print_table(plans, folder, whole, ranks=load_recipe(path, options.set).run.processes)


def print_table(plans: list[dict[str, Any]], folder: Path, whole: float, *, ranks: int) -> None:
    """The markdown table, and the seconds that are in no stage."""
    print(f"{plans[0]['on']}; {ranks} processes\n")
    print("| stage | planned, s | range | took, s | took / planned | in the range |")
    print("|---|---|---|---|---|---|")
    sums = [0.0] * 4
    for both in zip(*(found["stages"] for found in plans), strict=True):
        name = both[0]["name"]
        if any(stage["seconds"] is None for stage in both):
            print(f"| {name} | ? | | {took(folder, name):.1f} | | |")
            continue
        values = [sum(stage[key] for stage in both) / 2 for key in ("seconds", "low", "high")]
        values.append(took(folder, name))
        sums = [a + b for a, b in zip(sums, values, strict=True)]
        if values[-1] >= 1:
            print(row(name, *values))
    print(row("all", *sums))
    print(
        f"\nPlans of {' and '.join(format(found['seconds']['seconds'], '.0f') for found in plans)} s.",
        end=" ",
    )
    print(f"The run took {whole:.0f} s from its start, {whole - sums[-1]:.0f} of them in no stage.")


if __name__ == "__main__":
    main()
