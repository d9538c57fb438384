"""A long stage's curves in `r1 ui`: what a page costs, beside reading its log once.

    python benchmarks/curves.py [--steps 100000] [--metrics 36] [--repeats 5] [--quick]

A log of so many steps and metrics is written to a temporary folder. Processor time, in one process: to read
it with `json` line by line, as any script would; the first page of the stage, which has to read it too; the
page again; the page after one row was appended; and its largest chart. The ratio is to reading once.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastapi.testclient import TestClient

from r1kit.ui.app import make_app

TOKEN = "a-token-of-the-benchmark"


def write_stage(folder: Path, steps: int, metrics: int) -> Path:
    """A stage of an RL run that drifts as rewards do; the path of its log."""
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"kind": "grpo", "key": {"config": {}, "inputs": {}}}')
    rng = random.Random(0)
    names = ["reward/mean", "policy/entropy", "completion/length_mean", "completion/tokens", "step_seconds"]
    names += [f"other/{i}" for i in range(max(0, metrics - len(names)))]
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, steps + 1):
            row = {name: 1 + math.tanh(step / steps) + rng.gauss(0, 0.1) for name in names}
            file.write(json.dumps({"step": step, **row}) + "\n")
    return folder / "metrics.jsonl"


def seconds(work: Callable[[], object]) -> float:
    """The processor time that something takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def read_once(path: Path) -> None:
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=36)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.repeats = 2_000, 2
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        path = write_stage(root / "run" / "zero", options.steps, options.metrics)
        app = make_app([root / "run"], token=TOKEN, cache=root / "cache")
        with TestClient(app, base_url="http://127.0.0.1:8642") as client:
            client.get(f"/static/ui.css?token={TOKEN}")  # for its cookie; the runs' page would read the log
            measured = measure(client, path, options.repeats)
    print("| what | seconds | to reading once |\n|---|---|---|")
    for name, value in measured.items():
        print(f"| {name} | {value:.4f} | {value / measured['read with json']:.4f} |")


def measure(client: TestClient, path: Path, repeats: int) -> dict[str, float]:
    """Seconds of each kind of request; the least of some, but for what can be measured only once."""
    page = "/runs/run/stages/zero"

    def get(address: str = page) -> None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text

    def least(work: Callable[[], None], before: Callable[[], None] = lambda: None) -> float:
        found = []
        for _ in range(repeats):
            before()
            found.append(seconds(work))
        return min(found)

    last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])

    def append() -> None:
        last["step"] += 1
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(last) + "\n")

    read = least(lambda: read_once(path))
    return {
        "read with json": read,
        "first page": seconds(get),
        "the page again": least(get),
        "the page after a new row": least(get, append),
        "a large chart, smoothed": least(lambda: get(f"{page}?chart=reward/mean&smooth=ema"), append),
    }


if __name__ == "__main__":
    main()
