"""`r1 run` killed with SIGKILL at random moments, started again until it ends, compared with an unkilled run.

    python benchmarks/kills.py [--kills 100] [--seed 0] [--fresh] [--keep FOLDER]

The recipe is the tests' tiny one: SFT, GRPO, cold start, pairs, a reward model, rejection sampling, labels,
an evaluation. Half of the kills fall at a random time, half at a random write of a file: in the middle of a
checkpoint, of the log of steps, of metrics, of the export, of a manifest. At the end all weights, rollouts,
data files, generations and metrics (but times) have to be equal to the bit, and nothing that was in a log
when a process began may have been sampled again; else the exit code is 1. Shown are where the kills fell, how
many completions were sampled twice, and the seconds that a kill cost.

Each run is a process of its own, forked from one that has the libraries loaded; with `--fresh` each starts
Python anew, as a user does, and a kill costs the imports too.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Of each stage a part of the kills, in the order in which they are made.
STAGES = {
    "warm": 4,
    "zero": 8,
    "cold_start": 2,
    "pairs": 1,
    "helpful": 4,
    "rejection": 3,
    "labels": 2,
    "eval": 1,
}
# A file event by what is in its path, and what is being written then; the first that fits.
PLACES = (
    ("checkpoints", "checkpoint write"),
    ("rollouts", "step log"),
    ("metrics.jsonl", "metrics"),
    ("manifest.json", "manifest"),
    ("summary.json", "export"),
    ("model", "export"),
    ("samples.jsonl", "log of samples"),
    ("completions.jsonl", "log of samples"),
    (".jsonl", "data file"),
)
LAST_WORDS = {"start": "loading", "sampled": "rollout", "update": "update", "updated": "between updates"}


# --- in the process that is killed -----------------------------------------------------------------------


def child(argv: Sequence[str], trace_path: str, aim: Mapping[str, Any] | None) -> None:
    """`r1` with these arguments; traces what it does, and dies where `aim` says."""
    trace = os.open(trace_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    # a kill by time counts from the first sample or update: loading takes longer than all that comes after
    fuse = [aim["delay"]] if aim and aim["place"] is None else []

    def say(*words: object) -> None:
        os.write(trace, (" ".join(map(str, words)) + "\n").encode())
        if fuse and words[0] in ("sampled", "update"):
            die(fuse.pop())

    from r1kit import cli
    from r1kit.sampling.local import engine
    from r1kit.training.trainer import Trainer

    submit, poll, update = engine.LocalEngine.submit, engine.LocalEngine.poll, Trainer.update
    seeds: dict[object, int] = {}

    def submit_traced(self: Any, request: Any) -> None:
        seeds[request.key] = request.seed
        submit(self, request)

    def poll_traced(self: Any) -> Any:
        results = poll(self)
        for result in results:
            say("sampled", seeds[result.key], result.completion.weights_version)
        return results

    def update_traced(self: Any, *args: Any) -> Any:
        say("update")
        row = update(self, *args)
        say("updated")
        return row

    engine.LocalEngine.submit, engine.LocalEngine.poll = submit_traced, poll_traced
    Trainer.update = update_traced
    left = Counter({aim["place"]: aim["number"]} if aim and aim["place"] is not None else {})

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.mkdir", "os.remove") or not isinstance(
            args[0], str | os.PathLike
        ):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        place = place_of(str(args[0]))
        if place is None:
            return
        say("file", place)
        if left[place] > 0:
            left[place] -= 1
            if left[place] == 0:
                die(aim["delay"] if aim else 0.0)

    say("start")
    sys.addaudithook(hook)
    sys.argv = ["r1", *argv]
    cli.main()


def place_of(path: str) -> str | None:
    """What is being written at this path, or None where it is nothing of a stage."""
    inside = path.rpartition("/.work/")[2] if "/.work/" in path else None
    return None if inside is None else next((place for part, place in PLACES if part in inside), None)


def die(delay: float) -> None:
    """SIGKILL after so many seconds: in the middle of the write rather than before it."""
    if delay == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def nursery() -> None:
    """Fork a child for each request on stdin; its id, and then its exit status, on stdout."""
    import r1kit.cli
    import r1kit.pipeline.run
    import r1kit.terminal  # noqa: F401 - loaded for the children

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            try:
                child(request["argv"], request["trace"], request["aim"])
            except SystemExit as error:
                os._exit(int(error.code or 0))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


# --- in the process that kills ---------------------------------------------------------------------------


@dataclass
class Runs:
    """Starts `r1` and says how it ended; `start` is what it takes."""

    folder: Path
    fresh: bool
    nursery: subprocess.Popen[str] | None = None
    seconds: float = 0.0

    def run(
        self,
        argv: Sequence[str],
        trace: Path,
        *,
        aim: Mapping[str, Any] | None = None,
        after: float | None = None,
    ) -> int:
        """The exit code; -9 where it was killed, `after` so many seconds or by its `aim`."""
        request = {"argv": list(argv), "trace": str(trace), "aim": aim, "log": str(self.folder / "r1.log")}
        started = time.monotonic()
        code = self._fresh(request, after) if self.fresh else self._forked(request, after)
        self.seconds += time.monotonic() - started
        return code

    def _fresh(self, request: Mapping[str, Any], after: float | None) -> int:
        command = [sys.executable, __file__, "--child", json.dumps(request)]
        with (
            (self.folder / "r1.log").open("a") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as run,
        ):
            try:
                return run.wait(after)
            except subprocess.TimeoutExpired:
                run.kill()
            return run.wait()

    def _forked(self, request: Mapping[str, Any], after: float | None) -> int:
        assert self.nursery is not None
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        print(json.dumps(request), file=self.nursery.stdin, flush=True)
        pid = int(self.nursery.stdout.readline())
        timer = threading.Timer(after or 0.0, os.kill, (pid, signal.SIGKILL))
        if after is not None:
            timer.start()
        code = int(self.nursery.stdout.readline())
        timer.cancel()
        return code


@contextmanager
def runs_in(folder: Path, *, fresh: bool = False) -> Iterator[Runs]:
    """A way to start `r1`, with its libraries loaded unless `fresh`."""
    if fresh:
        yield Runs(folder, True)
        return
    command = [sys.executable, __file__, "--nursery"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Runs(folder, False, process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Killed:
    """What came of it."""

    kills: list[str] = field(default_factory=list)  # where each fell: "zero: checkpoint write"
    sampled_twice: int = 0
    sampled_though_logged: int = 0  # must be 0
    num_sampled: int = 0


def kill_and_resume(
    runs: Runs, recipe: Path, output: Path, whole: Path, kills: Mapping[str, int], *, seed: int
) -> Killed:
    """Run the recipe into `output`, with so many kills by stage; `whole` is an unkilled run to aim by."""
    rng = random.Random(seed)
    result = Killed()
    seen: Counter[str] = Counter()
    for stage, number in kills.items():
        target = [] if stage == "eval" else ["--stages", stage]
        names = [stage] if stage != "eval" else [path.name for path in sorted((whole / "eval").iterdir())]
        seconds = sum(_manifest(_finished(whole, stage, name))["seconds"] for name in names)
        is_done = False
        for i in range(number):
            aim, after = _aim(rng, stage, i), None
            if i % 2:  # at a time: so that on average the kills of a stage reach to its end
                aim = {"place": None, "delay": rng.uniform(0.0, 2.0) * seconds / number}
            if i % 8 == 7:  # also in the loading
                aim, after = None, rng.uniform(0.0, 2.0) * seconds / number
            logged = logged_seeds(output)
            trace = runs.folder / f"trace-{len(result.kills)}-{stage}"
            trace.unlink(missing_ok=True)
            argv = ["run", str(recipe), *target, "--output", str(output)]
            code = runs.run(argv, trace, aim=aim, after=after)
            _count(trace, logged, seen, result)
            assert code in (0, -9), (code, (runs.folder / "r1.log").read_text())
            if is_done := code == 0:
                break
            result.kills.append(f"{stage}: {_where(trace)}")
        if not is_done:
            logged, trace = logged_seeds(output), runs.folder / f"trace-end-{stage}"
            trace.unlink(missing_ok=True)
            code = runs.run(["run", str(recipe), *target, "--output", str(output)], trace)
            _count(trace, logged, seen, result)
            assert code == 0, (runs.folder / "r1.log").read_text()
    result.num_sampled = sum(seen.values())
    result.sampled_twice = sum(number - 1 for number in seen.values())
    return result


def _aim(rng: random.Random, stage: str, i: int) -> dict[str, Any]:
    """A write to die in: each kind of a stage's writes in turn, begun at random."""
    places = {
        "zero": ["checkpoint write", "step log", "metrics", "export", "manifest"],
        "eval": ["log of samples", "data file"],
        "cold_start": ["log of samples", "data file"],
        "rejection": ["log of samples", "data file"],
        "labels": ["log of samples", "data file"],
        "pairs": ["data file"],
    }.get(stage, ["checkpoint write", "export", "metrics"])
    place = places[(i // 2 + rng.randrange(2) * (i % 4 == 0)) % len(places)]
    many = place in ("checkpoint write", "step log", "metrics")
    return {
        "place": place,
        "number": rng.randint(1, 5 if many else 2),
        "delay": rng.choice([0.0, 0.001, 0.004]),
    }


def _count(trace: Path, logged: set[int], seen: Counter[str], result: Killed) -> None:
    """Into `seen` what a process sampled, by seed and version of the weights."""
    for words in _words(trace):
        if words[0] == "sampled":
            seen[words[1]] += 1  # seed and version of the weights
            result.sampled_though_logged += int(words[1].split()[0]) in logged


def _where(trace: Path) -> str:
    """What a killed process was at, by the last words of its trace."""
    kind, *what = (_words(trace) or [["start"]])[-1]
    return what[0] if kind == "file" else LAST_WORDS[kind]


def _words(trace: Path) -> list[list[str]]:
    """The lines of a trace, each as its first word and the rest."""
    return [line.split(" ", 1) for line in trace.read_text().splitlines()] if trace.exists() else []


def logged_seeds(output: Path) -> set[int]:
    """The seeds of all completions that are in a log, of finished and unfinished stages."""
    from r1kit.data.jsonl import read_jsonl
    from r1kit.grpo.step_log import committed_steps, step_log_path

    seeds: set[int] = set()
    for folder in output.rglob("rollouts"):
        paths = [step_log_path(folder, step) for step in committed_steps(folder)]
        seeds |= {row["seed"] for path in paths for _, row in read_jsonl(path)}
    for path in output.rglob("*samples*.jsonl"):
        seeds |= {row["seed"] for _, row in read_jsonl(path, torn_tail=True) if "seed" in row}
    return seeds


def differences(whole: Path, killed: Path) -> list[str]:
    """The files that differ between two runs, and those of one alone; [] where they are equal to the bit."""
    names = [_results(folder) for folder in (whole, killed)]
    found = [f"{name}: only in one" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        first, second = whole / name, killed / name
        same = _untimed(first) == _untimed(second) if first.name == "metrics.jsonl" else (
            first.read_bytes() == second.read_bytes()
        )  # fmt: skip
        if not same:
            found.append(f"{name}: differs")
    return found


def _results(folder: Path) -> set[str]:
    kept = ("model.safetensors", "data.jsonl", "counts.json", "generations.jsonl", "metrics.jsonl")
    paths = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.name in kept or path.name[:5] == "step-"
    ]
    return {str(path) for path in paths if not any(part.startswith(".") for part in path.parts)}


def _untimed(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def _finished(output: Path, stage: str, name: str) -> Path:
    return output / "eval" / name if stage == "eval" else output / name


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def make_recipe(folder: Path) -> Path:
    """The tests' tiny route with every stage near its start: several kinds of stages in little time."""
    sys.path.insert(0, str(ROOT))
    from tests.pipeline.tiny_route import make_route

    path = make_route(folder)
    text = path.read_text().replace('stages = ["base", "zero", "r1"]', 'stages = ["zero"]')
    for model in ("dev1", "dev2", "dev3"):
        text = text.replace(f'model = "{model}"', 'model = "warm"')
    for old, new in (
        ("steps = 2\n", 'steps = 5\nprobe = "sums"\nprobe_size = 3\neval_every = 2\n'),
        ("checkpoint_every = 1", "checkpoint_every = 2"),
        ("epochs = 40", "epochs = 30\ncheckpoint_every = 10"),
        ("held_out_frac = 0.3", "held_out_frac = 0.3\nepochs = 6\ncheckpoint_every = 3"),
    ):
        text = text.replace(old, new, 1)
    text, _, evaluation = text.partition("[eval]")
    head, *tables = text.split("\n[stages.")
    kept = [table for table in tables if table.partition("]")[0].partition(".")[0] in STAGES]
    path.write_text("\n[stages.".join([head, *kept]) + "\n[eval]" + evaluation)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(_compare(folder, options))


def _compare(folder: Path, options: argparse.Namespace) -> int:
    recipe = make_recipe(folder)
    whole = folder / "whole"
    result, kills, rounds, found, plain = Killed(), 0, 0, [], []
    with runs_in(folder, fresh=options.fresh) as runs:
        for _ in range(2):  # the second one is timed: the first warms up the machine's caches
            runs.seconds = 0.0
            trace = folder / "trace-whole"
            trace.unlink(missing_ok=True)
            target = whole if not whole.exists() else folder / "again"
            assert runs.run(["run", str(recipe), "--output", str(target)], trace) == 0, (
                folder / "r1.log"
            ).read_text()
            plain.append(runs.seconds)
        found += differences(whole, folder / "again")
        runs.seconds = 0.0
        while len(result.kills) < options.kills:
            left = options.kills - len(result.kills)
            share = min(1.0, left / sum(STAGES.values()))
            plan = {stage: max(1, round(number * share)) for stage, number in STAGES.items()}
            output = folder / f"killed-{rounds}"
            one = kill_and_resume(runs, recipe, output, whole, plan, seed=options.seed + rounds)
            # a stage that is killed is ended before the next begins, so one run of all says that all is done
            found += differences(whole, output)
            result.kills += one.kills
            result.sampled_twice += one.sampled_twice
            result.sampled_though_logged += one.sampled_though_logged
            result.num_sampled += one.num_sampled
            rounds += 1
        seconds = runs.seconds
    kills = len(result.kills)
    print(f"{kills} kills in {rounds} runs of the recipe; differences to the unkilled run: {found or 'none'}")
    places = Counter(kill.partition(": ")[2] for kill in result.kills)
    stages = Counter(kill.partition(": ")[0] for kill in result.kills)
    print("where: " + ", ".join(f"{number} {place}" for place, number in places.most_common()))
    print("stages: " + ", ".join(f"{number} {stage}" for stage, number in stages.items()))
    print(
        f"completions: {result.num_sampled:,} sampled, {result.sampled_twice:,} of them a second time "
        f"({result.sampled_twice / kills:.1f} a kill), {result.sampled_though_logged} that were in a log"
    )
    once = statistics.mean(plain)
    print(f"seconds: {once:.1f} for the recipe, {(seconds - rounds * once) / kills:.2f} lost for each kill")
    return int(bool(found) or result.sampled_though_logged > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--nursery"]:
        nursery()
    elif sys.argv[1:2] == ["--child"]:
        asked = json.loads(sys.argv[2])
        child(asked["argv"], asked["trace"], asked["aim"])
    else:
        main()
