"""What ten open pages of `r1 ui` cost a training run beside them.

    python benchmarks/ui_beside_training.py [--steps 60] [--repeats 4] [--processes 1] [--threads 1]

The same GRPO stage on tinyworld's base, from the same seed, in turns: alone, and with `r1 ui` on the run's
folder and ten of its pages open in a real Chromium, each in a window of its own, so that all of them follow
the run. Both do the same work to the bit, so each step is compared with the same step. The steps before the
pages were open are left out. A ratio is taken within each repeat: 1.03 is 3% slower; its median, smallest and
largest are shown, and beside them the CPU time of the server and of the browser per second of training.

On two cores that training fills (`--processes 2`), the browser's own drawing takes part of one: that is what
a user feels who looks at ten pages at once on such a machine. With one core left, only the pages' requests
are measured. Chromium: $R1KIT_CHROMIUM, the system's or Playwright's own.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import contest

RECIPE = """\
[run]
name = "ui"

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
TOKEN = "a-token-for-this-benchmark"
NUM_PAGES = 10
# of a run whose id is `run`; what this version does not have is left out, and the others are opened twice
PAGES = (
    "/",
    "/runs/run",
    "/runs/run/stages/zero",
    "/runs/run/rollouts",
    "/runs/run/stages",
    "/runs/run/data",
    "/runs/run/report",
    "/runs/run/review",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Seconds of each step, by step; CPU seconds of others per second while the pages were open."""

    seconds: dict[int, float]
    first_step: int = 1  # the first that began with all pages open
    server_cpu: float = 0.0
    browser_cpu: float = 0.0


def metrics_file(folder: Path) -> Path:
    """The stage's log, which moves when the stage is done."""
    done = folder / "zero" / "metrics.jsonl"
    return done if done.is_file() else folder / ".work" / "zero" / "metrics.jsonl"


def step_seconds(folder: Path) -> dict[int, float]:
    """The seconds of each step in the log so far."""
    from r1kit.ui.folders import read_rows  # reads a log that is being written

    rows, _ = read_rows(metrics_file(folder))
    return {int(row["step"]): float(row["step_seconds"]) for row in rows if "step_seconds" in row}


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and of all that it started and that still run."""
    total, parents = 0.0, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS)
    for child, (_, spent) in parents.items():
        at = child
        while at > 1 and at != pid:
            at = parents.get(at, (0, 0.0))[0]
        total += spent if at == pid else 0.0
    return total


@contextmanager
def training(recipe: Path, folder: Path, options: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    """The run, as a process."""
    command = [sys.executable, "-m", "r1kit", "run", str(recipe), "--output", str(folder)]
    command += ["--processes", str(options.processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def wait_until(done: Callable[[], bool], run: subprocess.Popen[bytes]) -> None:
    """Wait until this is so. Ends with an error if the run fails first."""
    while not done():
        if run.poll() not in (None, 0):
            sys.exit(f"the training run failed with status {run.returncode}")
        time.sleep(0.2)


def alone(recipe: Path, folder: Path, options: argparse.Namespace) -> Measured:
    """The run with nothing beside it."""
    with training(recipe, folder, options) as run:
        wait_until(lambda: run.poll() is not None, run)
    return Measured(step_seconds(folder))


def with_pages(recipe: Path, folder: Path, options: argparse.Namespace) -> Measured:
    """The run with the server and ten pages in a browser, from its first steps on."""
    with ExitStack() as stack:
        run = stack.enter_context(training(recipe, folder, options))
        wait_until(lambda: bool(step_seconds(folder)) or run.poll() is not None, run)
        server, address = stack.enter_context(serving(folder))
        browser = stack.enter_context(chromium())
        paths = [path for path in PAGES if exists(address + path)]
        for number in range(NUM_PAGES):
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{address}/?token={TOKEN}")
            page.goto(address + paths[number % len(paths)], wait_until="load")
        first_step = max(step_seconds(folder), default=0) + 2  # the one that is going on counts for nobody
        begun, others = time.perf_counter(), (cpu_seconds(server.pid), browser_cpu(server, run))
        while run.poll() is None:
            page.wait_for_timeout(500)  # Playwright's own loop has to turn for the pages
        passed = time.perf_counter() - begun
        spent = (cpu_seconds(server.pid) - others[0], browser_cpu(server, run) - others[1])
        wait_until(lambda: run.poll() is not None, run)
    return Measured(step_seconds(folder), first_step, spent[0] / passed, spent[1] / passed)


def browser_cpu(server: subprocess.Popen[bytes], run: subprocess.Popen[bytes]) -> float:
    """The CPU time of all that this script started but the server and the run: Chromium and Playwright."""
    return cpu_seconds(os.getpid()) - cpu_seconds(server.pid) - cpu_seconds(run.pid)


def exists(address: str) -> bool:
    """Whether the server has this page."""
    request = urllib.request.Request(address, headers={"Cookie": f"{cookie_name(address)}={TOKEN}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def cookie_name(address: str) -> str:
    """As the server's guard names it."""
    return f"r1_token_{address.split(':')[2].split('/')[0]}"


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`r1 ui` on the run's folder, as a process, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "r1kit", "ui", str(folder), "--port", str(port), "--token", TOKEN]
    command += ["--cache", str(folder.parent / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if exists(address + "/"):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("`r1 ui` did not start")
        yield process, address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def chromium() -> Iterator["object"]:
    """A real Chromium."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("R1KIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="the same on very little work, as a check")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.repeats, options.problems, options.group, options.max_tokens = 60, 1, 4, 4, 32
    print(f"{contest.machine()}\n")
    alone_repeats: list[Measured] = []
    page_repeats: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="r1kit-ui-benchmark-") as name:
        recipe = Path(name) / "ui.toml"
        recipe.write_text(RECIPE.format(**vars(options)), encoding="utf-8")
        for repeat in range(options.repeats):
            turns = [(alone, alone_repeats, "alone"), (with_pages, page_repeats, "pages")]
            for measure, into, kind in turns if repeat % 2 == 0 else turns[::-1]:
                folder = Path(name) / f"{kind}-{repeat}" / "run"
                folder.parent.mkdir()
                into.append(measure(recipe, folder, options))
                shutil.rmtree(folder.parent)
    first = max(found.first_step for found in page_repeats)
    if first >= options.steps:
        sys.exit(f"the pages were open after step {first} only: give more --steps")
    totals = [
        [sum(seconds for step, seconds in found.seconds.items() if step >= first) for found in repeats]
        for repeats in (alone_repeats, page_repeats)
    ]
    num = options.steps - first + 1
    contest.header("beside the run", "steps", "steps/s", "time against alone", "server, CPU", "browser, CPU")
    contest.row("nothing", num, f"{num / statistics.median(totals[0]):.3f}", "1", "-", "-")
    contest.row(
        f"{NUM_PAGES} pages",
        num,
        f"{num / statistics.median(totals[1]):.3f}",
        contest.ratio(totals[1], totals[0]),
        f"{statistics.median(found.server_cpu for found in page_repeats):.1%}",
        f"{statistics.median(found.browser_cpu for found in page_repeats):.1%}",
    )


if __name__ == "__main__":
    main()
