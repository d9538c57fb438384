"""The browser of rollouts with a million of them: indexing, pages, memory; what else could hold the index.

    taskset -c 0 python benchmarks/rollout_index.py [--rollouts 1000000] [--keep FOLDER] [--quick]

Makes a step log of realistic lengths (`rollout_log_made`: 300 tokens at the median, 90 of prompt, groups of
16), builds the index with the builder that `r1 ui` starts, starts `r1 ui` and asks it for pages: the time
until the first rows are there, and until the count is exact. Beside it, on the same core:

- reading the log's JSON lines: the index's reader, `json`, `datasets`, DuckDB (the first 65,536 rollouts);
- the same columns and texts in SQLite, DuckDB and Parquet (pyarrow.dataset): time to make, size, and the same
  questions. What is not installed is left out (DuckDB is no dependency of r1kit).

Needs about 14 GB of disk for a million rollouts; all of it is deleted at the end unless `--keep` says where.

Measured on 2026-11-30, one core of two of an EPYC, the other one idle, 1,000,000 rollouts in 9.85 GB, 122
steps:

- The builder: 38,523 rollouts a second by the clock, with checksums and writing, in 98 MiB; with other
  programs running (load 3 to 5) 17,000 to 23,000, as it gives way to them. The index has 1.19 GB, nearly
  all of it texts.
- Pages: the first in 0.33 s, the median in 0.07 s; the slowest search of texts has its first rows after
  0.45 s and its count after 1.2 s. The server had 339 MiB at its most.
- Reading, rollouts per second of processor time, on the busy machine: the index's reader 57,280, DuckDB
  20,648 (2.8 times as slow), `datasets` 10,324 (5.5), `json` 8,991 (6.4).
- The same questions elsewhere, there, in milliseconds (filter and sort; a range, sorted, page 1,000; a
  rare text; a rare expression): columns 37, 140, 1,075, 1,912; SQLite with two indexes made for them 109,
  29, 4,643, 8,215; DuckDB 128, 2,598, 2,179, 1,252; Parquet 114, 211, 7,485, 3,411. SQLite needs an index
  for each order, and its expressions are Python's, which can hang; DuckDB would be a dependency, and
  takes a minute more to make. So the index is flat columns, and expressions are RE2's, which pyarrow has.
"""

import argparse
import contextlib
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from rollout_log_made import RARE, make_log
from rollout_peers import READERS, STORES

from r1kit.ui.folders import Run
from r1kit.ui.rollouts.filters import Filters
from r1kit.ui.rollouts.index import RunIndex
from r1kit.ui.rollouts.store import FORMAT
from r1kit.ui.site import Site

PORT, TOKEN = 8799, "a-token-for-benchmarks"
_READ_STEPS = 8  # files that all readers read: 65,536 rollouts of a million

# Pages that a user asks for. None shares a text search with an earlier one.
PAGES: dict[str, dict[str, str]] = {
    "no filter": {},
    "stage, steps": {"stage": "dev2", "step_from": "3", "step_to": "20"},
    "kind, right, by total": {"kind": "math", "right": "right", "sort": "total"},
    "wrong, cut off": {"right": "wrong", "truncated": "yes"},
    "malformed, by tokens": {"malformed": "yes", "sort": "tokens"},
    "part's range": {"part": "language", "part_min": "0.9", "sort": "language"},
    "advantage's range": {"advantage_min": "0.4", "sort": "advantage", "order": "asc"},
    "both right and wrong": {"mixed": "yes"},
    "language, tier, domain": {"language": "zh", "tier": "hard", "domain": "math"},
    "tokens' range": {"tokens_min": "900", "sort": "tokens"},
    "text in the prompt": {"prompt": "Problem 1234:"},
    "common text": {"text": "let me check"},
    "common text, by total": {"text": "we have to subtract", "sort": "total"},
    "rare text, this case": {"text": RARE, "case": "yes"},
    "rare text, any case": {"text": RARE.upper()},
    "text that is nowhere": {"text": "no such text", "case": "yes"},
    "Chinese text": {"text": "十位数相加"},
    "common expression": {"text": r"sum .* up to \d+ is", "mode": "regex", "case": "yes"},
    "rare expression": {"text": r"seren\w+tous\s+result", "mode": "regex", "case": "yes"},
    "hostile expression": {"text": r"(a|b|ab|\w)*(x+x+)+y$", "mode": "regex", "case": "yes"},
    "page 1,000": {"page": "1000"},
    "page 1,000, by advantage": {"sort": "advantage", "page": "1000"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="a folder for the log and the indexes, to use them again")
    parser.add_argument("--quick", action="store_true", help="3,000 rollouts")
    asked = parser.parse_args()
    num_rollouts = 3000 if asked.quick else asked.rollouts
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="r1kit-rollouts-"))
    cores = len(os.sched_getaffinity(0))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    print(f"{now} UTC, Python {platform.python_version()}, {cores} core(s), load {os.getloadavg()[0]:.1f}")
    try:
        measure(folder, num_rollouts)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, num_rollouts: int) -> None:
    """All tables, on a log in this folder; it is made if it is not there."""
    run_dir, cache = folder / "runs" / "made", folder / "cache"
    if not run_dir.exists():
        run_dir.mkdir(parents=True)
        started = time.perf_counter()
        size = make_log(run_dir, num_rollouts)
        took = time.perf_counter() - started
        print(f"log made: {num_rollouts:,} rollouts, {size / 1e9:.2f} GB, {took:.0f} s", flush=True)
    table(
        "reading JSON lines", "rollouts/s", "per processor second", "the index's reader is ... times as fast"
    )
    read_lines(run_dir, folder)
    table("index", "value")
    shutil.rmtree(cache, ignore_errors=True)
    build_index(run_dir, cache, num_rollouts)
    table("pages of r1 ui", "first rows, ms", "exact count, ms", "found")
    ask_pages(run_dir, cache)
    compare(run_dir, cache, folder)


def table(*names: str) -> None:
    """The head of a table."""
    print()
    line(*names)
    line(*("---" for _ in names))


def line(*cells: object) -> None:
    """A line of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def read_lines(run_dir: Path, folder: Path) -> None:
    """The index's reader beside others, on the same first files."""
    files = sorted(run_dir.glob("*/rollouts/step-*.jsonl"))[:_READ_STEPS]
    # ratios are of processor time: on a busy machine, another reader may have had more of the core
    rates: dict[str, float] = {}
    for name, read in READERS.items():
        try:
            started, busy = time.perf_counter(), time.process_time()
            count = read(files, folder)
        except ImportError:
            line(name, "not installed", "", "")
            continue
        rates[name] = count / (time.process_time() - busy)
        ratio = rates["the index's reader"] / rates[name]
        per_second = count / (time.perf_counter() - started)
        line(name, f"{per_second:,.0f}", f"{rates[name]:,.0f}", f"{ratio:.1f}")


def build_index(run_dir: Path, cache: Path, num_rollouts: int) -> None:
    """The builder's time, as `r1 ui` starts it."""
    base = base_of(run_dir, cache)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "r1kit.ui.rollouts.build", str(run_dir), str(base), ""]
    memory = 0.0
    with subprocess.Popen(command) as builder:
        while builder.poll() is None:
            memory = max(memory, most_memory(builder.pid))
            time.sleep(0.05)
    assert builder.returncode == 0
    took = time.perf_counter() - started
    size = sum(path.stat().st_size for path in base.rglob("*") if path.is_file())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    line("rollouts a second", f"{num_rollouts / took:,.0f}")
    line("rollouts per second of processor time", f"{num_rollouts / busy:,.0f}")
    line("seconds", f"{took:.1f}")
    line("size of the index, GB", f"{size / 1e9:.2f}")
    line("memory of the builder at its most, MiB", f"{memory:.0f}")


def most_memory(process: int) -> float:
    """The most memory that a process has had, in MiB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    values = dict(text.split(":", 1) for text in lines)
    return int(values.get("VmHWM", "0 kB").split()[0]) / 1024


def base_of(run_dir: Path, cache: Path) -> Path:
    """The folder of the run's index in this cache."""
    return Site((run_dir.parent,), cache).cache_of(run_dir) / f"rollouts-{FORMAT}"


def ask_pages(run_dir: Path, cache: Path) -> None:
    """Times of a real server's pages, the first of them with what it has to read at first; its memory."""
    command = [sys.executable, "-m", "r1kit", "ui", str(run_dir.parent), "--port", str(PORT)]
    server = subprocess.Popen(
        [*command, "--cache", str(cache), "--token", TOKEN], stdout=subprocess.DEVNULL, text=True
    )
    try:
        await_server(server)
        first_times, whole_times = [], []
        for name, filters in PAGES.items():
            started = time.perf_counter()
            text = get(filters)
            first = (time.perf_counter() - started) * 1e3
            while "so far;" in text:
                text = get(filters, part=True)
            whole = (time.perf_counter() - started) * 1e3
            first_times.append(first)
            whole_times.append(whole)
            count = text.split('id="found"')[1].split("<b>")[1].split("</b>")[0]
            line(name, f"{first:.0f}", f"{whole:.0f}", count)
        medians = (statistics.median(times) for times in (first_times, whole_times))
        line("**median**", *(f"{median:.0f}" for median in medians), "")
        line("**most**", f"{max(first_times):.0f}", f"{max(whole_times):.0f}", "")
        line("memory of the server at its most, MiB", f"{most_memory(server.pid):.0f}", "", "")
    finally:
        server.terminate()
        server.wait()


def await_server(server: subprocess.Popen[str]) -> None:
    while True:
        assert server.poll() is None
        with contextlib.suppress(OSError):
            request("/static/ui.css")
            return
        time.sleep(0.1)


def get(filters: dict[str, str], *, part: bool = False) -> str:
    return request(f"/runs/made/rollouts?{urlencode(filters)}", {"HX-Request": "true"} if part else {})


def request(path: str, headers: dict[str, str] | None = None) -> str:
    cookie = {"Cookie": f"r1_token_{PORT}={TOKEN}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", headers=cookie | (headers or {}))
    with urllib.request.urlopen(asked) as answer:
        return str(answer.read().decode())


def compare(run_dir: Path, cache: Path, folder: Path) -> None:
    """The chosen index beside SQLite, DuckDB and Parquet with the same rows."""
    index = RunIndex(Run("made", run_dir), base_of(run_dir, cache))
    snapshot = index.wait().snapshot
    questions: dict[str, Filters] = {
        "filter and sort": Filters.model_validate({"kind": "math", "right": "right", "sort": "total"}),
        "range, page 1,000": Filters.model_validate({"advantage_min": -0.4, "sort": "advantage"}),
        "rare text": Filters.model_validate({"text": RARE, "case": "yes"}),
        "rare expression": Filters.model_validate({"text": "seren\\w+tous", "mode": "regex", "case": "yes"}),
    }
    offsets = {"range, page 1,000": 49_950}
    table("index in", "made in s", "MB", *(f"{name}, ms" for name in questions), "found")

    def ours(filters: Filters, offset: int) -> int:
        results = index.find(filters)
        results.look(1e9)
        page = results.rows[offset : offset + 50]
        [snapshot.text(int(row)) for row in page]
        return len(results.rows)

    row("columns", 0.0, 0.0, questions, offsets, ours)
    for name, make in STORES.items():
        made = folder / name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        try:
            started = time.perf_counter()
            ask = make(snapshot, made)
            took = time.perf_counter() - started
        except ImportError:
            line(name, "not installed", *[""] * (len(questions) + 2))
            continue
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) / 1e6
        row(name, took, size, questions, offsets, ask)
        shutil.rmtree(made)


def row(
    name: str,
    took: float,
    size: float,
    questions: dict[str, Filters],
    offsets: dict[str, int],
    ask: Callable[[Filters, int], int],
) -> None:
    cells, counts = [], []
    for question, filters in questions.items():
        started = time.perf_counter()
        counts.append(ask(filters, offsets.get(question, 0)))
        cells.append((time.perf_counter() - started) * 1e3)
    shown = (f"{cell:,.0f}" for cell in cells)
    line(name, f"{took:.1f}", f"{size:,.0f}", *shown, " ".join(map(str, counts)))


if __name__ == "__main__":
    main()
