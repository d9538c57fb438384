"""`r1 run` with two processes as a user starts it: killed and stopped, it goes on to the same bits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.tiny_route import make_route

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks through /proc"),
]

STEPS = 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny route with a longer first GRPO stage, and no evaluation."""
    path = make_route(tmp_path_factory.mktemp("launched"))
    text = path.read_text(encoding="utf-8").split("[eval]")[0]
    text = text.replace("seed = 3", "seed = 3\nprocesses = 2", 1).replace("steps = 2", f"steps = {STEPS}", 1)
    path.write_text(text.replace("checkpoint_every = 1", "checkpoint_every = 2", 1), encoding="utf-8")
    return path


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "r1kit", "run", str(recipe), "--stages", "zero", "--output", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(recipe: Path, folder: Path, *, at: int = 0, stop: Callable[[int], None] | None = None):
    """Exit code and stderr; `stop(launcher's id)` is called when step `at` is in the log."""
    with start(recipe, folder) as launcher:
        log = folder / ".work" / "zero" / "rollouts" / f"step-{at:05d}.jsonl"
        while stop is not None and launcher.poll() is None and not log.exists():
            time.sleep(0.01)
        if stop is not None:
            stop(launcher.pid)
        _, errors = launcher.communicate(timeout=600)
    return launcher.returncode, errors


def kill_rank(rank: int) -> Callable[[int], None]:
    def kill(launcher: int) -> None:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split()
        os.kill(int(children[rank]), signal.SIGKILL)

    return kill


def test_killed_and_stopped_runs_end_with_the_same_weights_to_the_bit(recipe: Path) -> None:
    whole, broken = recipe.parent / "whole", recipe.parent / "broken"
    assert run(recipe, whole) == (0, "")
    code, errors = run(recipe, broken, at=1, stop=kill_rank(1))
    assert (code, errors.count("\n")) == (2, 1), errors
    assert errors.startswith("process 2 of the run was killed by signal 9 (SIGKILL")
    code, errors = run(recipe, broken, at=3, stop=kill_rank(0))
    assert (code, errors[:29]) == (2, "process 1 of the run was kill"), errors
    code, errors = run(recipe, broken, at=4, stop=lambda launcher: os.kill(launcher, signal.SIGINT))
    assert (code, errors.count("\n")) == (130, 1), errors
    assert errors.startswith("Stopped in zero (zero: ")
    assert run(recipe, broken) == (0, "")
    for step in range(1, STEPS + 1):
        name = f"zero/rollouts/step-{step:05d}.jsonl"
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    name = "zero/model/model.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_an_error_of_the_users_is_one_sentence(recipe: Path) -> None:
    wrong = recipe.with_name("wrong.toml")
    wrong.write_text(recipe.read_text(encoding="utf-8").replace('"warm.jsonl"', '"missing.jsonl"', 1))
    code, errors = run(wrong, recipe.parent / "wrong")
    assert (code, errors.count("\n")) == (2, 1)
    assert "missing.jsonl" in errors
