"""All benchmarks of speed after one another, into one Markdown file of tables.

    python benchmarks/all.py [--output benchmarks/results.md] [--only rollout ranks] [--quick]
                             [--vllm-python ENVIRONMENT/bin/python]

On two idle cores an hour or more. Each part is a program of its own with the options in `PARTS`, and its
output goes into the file as it is, with its command and its seconds. TRL has to be installed (`make
peers`). A part that fails is reported, the others run all the same; the exit status is 1 then.
"""

import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

import contest

HERE = Path(__file__).parent
PARTS: dict[str, tuple[list[str], ...]] = {
    "rollout": (["rollout.py"],),
    # at 10M a step of TRL with 256 tokens takes minutes: fewer repeats there, on the same work
    "grpo_step": (
        ["grpo_step.py", "--sizes", "0.9M", "2M"],
        ["grpo_step.py", "--sizes", "10M", "--lengths", "128", "natural", "--repeats", "2"],
        ["grpo_step.py", "--sizes", "10M", "--lengths", "256", "--repeats", "1"],
    ),
    "sft": (["sft.py"],),
    "ranks": (["ranks.py"],),
    "ui_beside_training": (["ui_beside_training.py"],),
    "scaling": (["scaling.py", "--svg", "docs/images/scaling.svg"],),
}


def run(command: list[str], options: argparse.Namespace) -> tuple[bool, str]:
    """Whether a part succeeded, and its section of the file."""
    script, *rest = command
    if options.quick:
        rest = ["--quick"]
    shown = " ".join(["python", f"benchmarks/{script}", *rest])
    environment = dict(os.environ)
    if options.vllm_python:
        environment["R1KIT_VLLM_PYTHON"] = options.vllm_python
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / script), *rest],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        env=environment,
    )
    taken = time.perf_counter() - start
    output = done.stdout if done.returncode == 0 else f"{done.stdout}\nfailed:\n\n{done.stderr[-3000:]}"
    print(f"{shown}: {taken:.0f} s{'' if done.returncode == 0 else ', FAILED'}", flush=True)
    return done.returncode == 0, f"`{shown}` ({taken:.0f} s)\n\n{output.strip()}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--vllm-python", default=os.environ.get("R1KIT_VLLM_PYTHON"))
    parser.add_argument("--quick", action="store_true", help="each part on very little work, as a check")
    options = parser.parse_args()
    today = datetime.date.today().isoformat()
    sections = [f"# Measured on {today}\n\n{contest.machine()}\n"]
    good = True
    for name in options.only:
        for command in PARTS[name][:1] if options.quick else PARTS[name]:
            succeeded, section = run(command, options)
            good = good and succeeded
            sections.append(f"## {name}\n\n{section}")
            options.output.write_text("\n".join(sections), encoding="utf-8")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
