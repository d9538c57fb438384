"""`r1 run` as a user starts it: one process, sharded ranks, torchrun; killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from r1kit.model.loading import load_model
from r1kit.pipeline.manifest import read_manifest
from r1kit.training.metrics_log import read_metrics
from tests.bounds import relative_error, same_numbers
from tests.tiny_models import tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks through /proc"),
]

STEPS = 3
LEARNING_RATE = 1e-4
MAX_UPDATES = 12  # of any stage
RECIPE = f"""\
[run]
name = "small"
output_dir = "out"
seed = 3

[model]
base = "base"
device = "cpu"

[problems.sums]
source = "sums.jsonl"
columns = {{ question = "q", answer = "a" }}
language = "en"
domain = "sums"

[stages.warm]
kind = "sft"
model = "base"
data = "warm.jsonl"
epochs = 3
tokens_per_batch = 200
tokens_per_micro_batch = 60
checkpoint_every = 2
optimizer = {{ learning_rate = {LEARNING_RATE} }}

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = {{ sums = 1.0 }}
rewards = {{ "own.py:odd" = 1.0 }}
steps = {STEPS}
problems_per_step = 3
group_size = 4
mini_batches = 2
max_new_tokens = 12
tokens_per_micro_batch = 1_000
kl_coef = 0.01
reference_refresh_every = 3
checkpoint_every = 1
optimizer = {{ learning_rate = {LEARNING_RATE} }}

[stages.helpful]
kind = "reward_model"
objective = "pairwise"
model = "base"
data = "pairs.jsonl"
examples_per_batch = 3
held_out_frac = 0.3
tokens_per_micro_batch = 60
optimizer = {{ learning_rate = {LEARNING_RATE} }}
"""
REWARD = """\
def odd(rollouts):
    return [r.seed % 2 + 0.1 * (r.completion.token_ids[0] % 3) for r in rollouts]
"""
STAGES = ("warm", "zero", "helpful")


def rows(path: Path, values: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, and the same recipe whole and sharded."""
    folder = tmp_path_factory.mktemp("sharded")
    tiny_model(folder / "base")
    rows(folder / "sums.jsonl", [{"q": f"What is {n} + 1?", "a": str(n + 1)} for n in range(6)])
    asked = [[{"role": "user", "content": f"What is {n}?"}] for n in range(8)]
    rows(
        folder / "warm.jsonl",
        [{"messages": m, "response": f"It is {n * n}.", "style": "chat"} for n, m in enumerate(asked)],
    )
    rows(
        folder / "pairs.jsonl",
        [{"messages": m, "chosen": f"Yes {n}.", "rejected": f"No, not {n}."} for n, m in enumerate(asked)],
    )
    (folder / "own.py").write_text(REWARD, encoding="utf-8")
    (folder / "whole.toml").write_text(RECIPE, encoding="utf-8")
    sharded = RECIPE.replace("seed = 3", "seed = 3\nshard = true", 1)
    (folder / "sharded.toml").write_text(sharded, encoding="utf-8")
    return folder


R1 = (sys.executable, "-m", "r1kit")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "r1kit")


def start(
    folder: Path, recipe: str, out: str, *, command: tuple[str, ...] = R1, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [*command, "run", str(folder / f"{recipe}.toml"), "--output", str(folder / out), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, recipe: str, out: str, **options: tuple[str, ...]) -> Path:
    with start(folder, recipe, out, **options) as process:
        _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return folder / out


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """The run of one process."""
    return run(folder, "whole", "whole")


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Path:
    """The run of two sharded ranks."""
    return run(folder, "sharded", "sharded", options=("--processes", "2"))


def curve(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics, without those of the clock and of each rank's own sampler."""
    left_out = ("second", "sampler/sync")
    return [
        {k: v for k, v in row.items() if not any(part in k for part in left_out)}
        for row in read_metrics(folder)
    ]


def assert_same_run(found: Path, expected: Path) -> None:
    """Curves and weights but for rounding, the files alike.

    Adam turns rounding of a gradient that is next to nothing into its sign: a few weights may go the other
    way, by a learning rate an update, and what comes after the first update is equal only nearly.
    """
    for stage in STAGES:
        ours, theirs = curve(found / stage), curve(expected / stage)
        assert len(ours) == len(theirs) >= 2
        model = load_model(str(expected / stage / "model"))
        assert ours[0] == same_numbers(theirs[0], model)
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-3)
        assert {p.name for p in (found / stage / "model").iterdir()} == {
            p.name for p in (expected / stage / "model").iterdir()
        }
        a, b = (load_file(path / stage / "model" / "model.safetensors") for path in (found, expected))
        assert a.keys() == b.keys()
        apart = torch.cat([(a[name] - tensor).abs().flatten() for name, tensor in b.items()])
        assert float(apart.max()) < 2.1 * LEARNING_RATE * MAX_UPDATES
        assert float((apart > 0.1 * LEARNING_RATE).float().mean()) < 0.01


def test_two_sharded_ranks_train_every_kind_of_stage_as_one_process(whole: Path, sharded: Path) -> None:
    assert_same_run(sharded, whole)
    for folder, num, is_sharded in ((whole, 1, False), (sharded, 2, True)):
        for stage in STAGES:
            manifest = read_manifest(folder / stage)
            assert manifest is not None
            environment = manifest.environment
            assert (environment["world_size"], environment["sharded"]) == (num, is_sharded)
    # each sync of weights was checked, and the sampler held what was trained; logprobs go down to -10
    bound = 10 * relative_error(load_model(str(sharded / "zero" / "model")))
    for row in read_metrics(sharded / "zero")[1:]:
        assert row["sampler/sync_logratio_max"] < bound
        assert row["sampler/logratio_max"] < bound
    load_model(str(sharded / "zero" / "model"))


@pytest.mark.parametrize("recipe", ["whole", "sharded"])
def test_under_torchrun_it_is_the_same(folder: Path, whole: Path, recipe: str) -> None:
    assert_same_run(run(folder, recipe, f"torchrun-{recipe}", command=TORCHRUN), whole)


def test_a_killed_sharded_run_ends_with_the_same_weights_to_the_bit(folder: Path, sharded: Path) -> None:
    options = ("--processes", "2")
    broken = folder / "broken"
    marks = [
        (broken / ".work" / "warm" / "checkpoints" / "step-00000002", 1),
        (broken / ".work" / "zero" / "checkpoints" / "step-00000001", 0),
    ]
    for mark, rank in marks:
        with start(folder, "sharded", "broken", options=options) as launcher:
            while launcher.poll() is None and not mark.exists():
                time.sleep(0.005)
            path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
            os.kill(int(path.read_text(encoding="utf-8").split()[rank]), signal.SIGKILL)
            _, errors = launcher.communicate(timeout=600)
        assert launcher.returncode == 2
        assert errors.startswith(f"process {rank + 1} of the run was killed by signal 9"), errors
    run(folder, "sharded", "broken", options=options)
    for stage in STAGES:
        name = f"{stage}/model/model.safetensors"
        assert (broken / name).read_bytes() == (sharded / name).read_bytes(), stage
        assert [row.get("loss") for row in read_metrics(broken / stage)] == [
            row.get("loss") for row in read_metrics(sharded / stage)
        ]


def test_what_was_made_whole_is_not_made_again_sharded(folder: Path, whole: Path) -> None:
    before = {stage: (whole / stage / "manifest.json").read_bytes() for stage in STAGES}
    run(folder, "sharded", "whole", options=("--processes", "2"))
    assert before == {stage: (whole / stage / "manifest.json").read_bytes() for stage in STAGES}
