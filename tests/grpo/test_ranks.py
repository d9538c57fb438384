"""Two ranks sample, score and train as one: the same groups to the bit, the same curve and weights nearly."""

import dataclasses
import functools

import pytest
import torch

from r1kit.grpo import run_grpo
from r1kit.grpo.step import advantages_of, train_step
from r1kit.ranks import collectives
from r1kit.stage import SilentProgress
from r1kit.training import trainer as train_module
from r1kit.training.metrics_log import read_metrics
from tests.bounds import assert_same, relative_error, same_numbers, smooth_adam
from tests.grpo.test_learner import GROUPS, learner
from tests.grpo.test_run import context, rollouts_of, same_weights, settings, tmp_path_with, weights_of
from tests.on_ranks import on_ranks
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

# each call is logged with the seeds it is asked for, so that what is asked twice is seen
REWARD = """\
import os
from pathlib import Path

def odd(rollouts):
    with (Path(__file__).parent / f"asked-{os.getpid()}").open("a") as file:
        file.writelines(f"{r.step} {r.group} {r.sample} {r.seed}\\n" for r in rollouts)
    return [r.seed % 2 + 0.1 * (r.completion.token_ids[0] % 3) for r in rollouts]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base model with a reward of one's own beside it."""
    folder = tmp_path_with(
        tiny_model(tmp_path_factory.mktemp("base")), tmp_path_factory.mktemp("with-reward")
    )
    (folder / "own.py").write_text(REWARD)
    return folder


STEEP = {"learning_rate": 0.3}  # where steps are smooth, they are the gradient's size


@pytest.fixture
def smooth(monkeypatch):
    """Ranks' rounding stays rounding, also after updates; they are forked, and so have it too."""
    build = train_module.build_optimizer
    monkeypatch.setattr(train_module, "build_optimizer", lambda *options: smooth_adam(build(*options)))


def small(**fields):
    fixed = {
        "steps": 3, "max_new_tokens": 12, "rewards": {"own.py:odd": 1.0}, "mini_batches": 2,
        "probe": "held_out", "probe_size": 3, "eval_every": 2, "reference_refresh_every": 4,
        "optimizer": {"learning_rate": 1e-3}, "tokens_per_micro_batch": 400, "sync_tolerance": None,
    }  # fmt: skip
    return settings(**(fixed | fields))


class StopAfter(SilentProgress):
    """Ends the process in the middle, as kill -9 would, when a step is reported."""

    def __init__(self, step):
        self._step = step

    def step(self, done, row):
        if done == self._step:
            raise InterruptedError


def train(folder, work_dir, stage, stop_after=None, *, shard=False):
    made = dataclasses.replace(context(folder, work_dir), progress=StopAfter(stop_after), shard=shard)
    if stop_after is None:
        run_grpo(made, stage)
        return
    with pytest.raises(InterruptedError):
        run_grpo(made, stage)


def asked(folder):
    rows = [line for path in sorted(folder.glob("asked-*")) for line in path.read_text().splitlines()]
    for path in folder.glob("asked-*"):
        path.unlink()
    return rows


def test_two_ranks_are_as_one(folder, tmp_path, smooth):
    one, two = tmp_path / "one", tmp_path / "two"
    stage = small(optimizer=STEEP)
    train(folder, one, stage)
    asked_alone = asked(folder)
    on_ranks(tmp_path / "ranks", train, folder, two, stage)
    asked_together = asked(folder)
    # every rollout of the first step is sampled and rewarded as by one process, and by one rank alone
    assert rollouts_of(two, 1) == rollouts_of(one, 1)
    assert sorted(asked_together) == sorted(set(asked_together))
    first = [sorted(row for row in rows if row.startswith("1 ")) for rows in (asked_alone, asked_together)]
    assert first[0] == first[1] != []
    rows = [
        [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(work_dir)]
        for work_dir in (one, two)
    ]
    assert len(rows[0]) == len(rows[1]) == 4
    model, _ = load_tiny(folder)
    for alone, together in zip(*rows, strict=True):
        assert together == same_numbers(alone, model)
    weights, others = weights_of(one), weights_of(two)
    for name, tensor in weights.items():
        assert_same(others[name], tensor, model, scale=1.0)
    moved = [(tensor - model.get_parameter(name)).abs().max() for name, tensor in weights.items()]
    assert max(moved) > 0.01


def test_time_outs_of_the_verifier_are_counted_over_all_ranks(folder, tmp_path):
    (folder / "slow.py").write_text(
        "from r1kit.verify.math_pool import shared_pool\n"
        "def late(rollouts):\n"
        "    shared_pool().counts['timeouts'] += len(rollouts)\n"
        "    return [float(r.seed % 2) for r in rollouts]\n"
    )
    stage = small(steps=1, rewards={"slow.py:late": 1.0, "accuracy": 0.0}, probe=None)
    on_ranks(tmp_path / "ranks", train, folder, tmp_path / "two", stage)
    [row] = read_metrics(tmp_path / "two")
    assert row["verifier/timeouts"] == row["groups/sampled"] * stage.group_size > 0


def test_two_ranks_go_on_from_what_one_of_them_wrote(folder, tmp_path):
    on_ranks(tmp_path / "ranks-whole", train, folder, tmp_path / "whole", small())
    for stop_after in (1, 2):
        killed = tmp_path / f"killed-{stop_after}"
        on_ranks(killed / "first", train, folder, killed / "work", small(), stop_after)
        on_ranks(killed / "second", train, folder, killed / "work", small())
        assert same_weights(tmp_path / "whole", killed / "work")
        assert rollouts_of(killed / "work", 3) == rollouts_of(tmp_path / "whole", 3)


def test_two_sharded_ranks_are_as_one_and_go_on_to_the_bit(folder, tmp_path, smooth):
    error = relative_error(load_tiny(folder)[0])
    sharded = functools.partial(train, shard=True)
    stage = small(optimizer=STEEP)
    train(folder, tmp_path / "one", stage)
    on_ranks(tmp_path / "ranks", sharded, folder, tmp_path / "two", stage)
    assert rollouts_of(tmp_path / "two", 1) == rollouts_of(tmp_path / "one", 1)
    for alone, together in zip(*map(read_metrics, (tmp_path / "one", tmp_path / "two")), strict=True):
        for name, value in alone.items():
            if "second" not in name and "sync" not in name:
                assert together[name] == pytest.approx(value, rel=error, abs=error), name
        assert together.get("sampler/sync_logratio_max", 0.0) < 1e-4
    killed = tmp_path / "killed"
    on_ranks(tmp_path / "first", sharded, folder, killed, stage, 2)
    on_ranks(tmp_path / "second", sharded, folder, killed, stage)
    assert same_weights(tmp_path / "two", killed)


def test_gathered_values_are_in_the_order_of_ranks(tmp_path):
    on_ranks(tmp_path, _check_gather)


def _check_gather():
    rank = collectives.rank()
    assert collectives.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert collectives.broadcast(f"from {rank}") == "from 0"
    assert collectives.shard(range(5)) == [[0, 2, 4], [1, 3]][rank]


@pytest.mark.parametrize("loss", ["grpo", "dapo"])
def test_the_gradient_does_not_depend_on_the_number_of_ranks(folder, tmp_path, loss):
    """Denominators count every row once: with two ranks the gradient is neither halved nor doubled."""
    alone, together = tmp_path / "alone.pt", tmp_path / "together.pt"
    _save_gradient(folder, loss, alone)
    on_ranks(tmp_path / "ranks", _save_gradient, folder, loss, together)
    expected, found = torch.load(alone), torch.load(together)
    assert float(expected["grad"].abs().max()) > 1e-3
    model, _ = load_tiny(folder)
    assert_same(found["grad"], expected["grad"], model)
    assert found["row"] == same_numbers(expected["row"], model)


def _save_gradient(folder, loss, path):
    # six rows of 2 to 5 tokens share 3: packs of 5 + 4, 4 + 3 + 3, 2, of which the first rank gets two
    made, stage = learner(load_tiny(folder)[0], loss=loss, kl_coef=0.1, tokens_per_micro_batch=14)
    row = train_step(made, 1, GROUPS, advantages_of(GROUPS, stage))
    # after one update Adam's mean is a tenth of the (clipped) gradient
    states = made.trainer.state_dict()["optimizer"]["state"].values()
    if collectives.is_main():
        torch.save({"grad": torch.cat([s["exp_avg"].flatten() for s in states]) * 10, "row": row}, path)
