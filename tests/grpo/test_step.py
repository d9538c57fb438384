"""Sampling and scoring of a step's groups; its updates are tested in test_learner, all of it in test_run."""

import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from r1kit.errors import StageHalted
from r1kit.grpo.groups import Fate, Scorer
from r1kit.grpo.step import sample_step
from tests.grpo.scripted import problems, rollout
from tests.grpo.test_config import config


def sampled(reward, *, sets=("a", "b"), finish=None, **options):
    """The groups of two that a step samples from `sets`, scored by `reward`, and what was taken, by wave."""
    shape = {
        "group_size": 2,
        "problems": dict.fromkeys(sets, 1.0),
        "problems_per_step": len(sets),
        "mini_batches": 1,
    }
    settings = config(**shape | {"rewards": {"accuracy": 1.0}} | options)
    taken = []
    stock = {name: iter(problems(9, name=name)) for name in ("a", "b")}

    def take(names):
        taken.append([next(stock[name]) for name in names])
        return taken[-1]

    def sample_groups(chosen, *, step, wave, first_group):
        for i in reversed(range(len(chosen))) if finish is None else finish(chosen):
            yield i, [rollout(chosen[i], group=first_group + i, sample=s) for s in range(2)]

    reward.name = "accuracy"
    stage = SimpleNamespace(
        config=settings,
        context=SimpleNamespace(seed=0, name="zero"),
        engine=SimpleNamespace(weights_version=0),
        learner=None,
        sync_probe=None,
        stream=SimpleNamespace(take=take),
        scorer=Scorer({"accuracy": reward}),
        sample_groups=sample_groups,
        faults=Counter,
    )
    try:
        groups, _ = sample_step(stage, 1)
    finally:
        stage.scorer.close()
    return groups, [[p.id for p in wave] for wave in taken]


VALUES = {"a0": (1, 0), "b0": (1, 1), "b1": (0, 0), "b2": (0, 1), "b3": (1, 0)}


def by_name(values):
    def accuracy(rollouts):
        return [values[r.problem.id][r.sample] for r in rollouts]

    return accuracy


def test_a_constant_group_is_replaced_by_a_fresh_problem_of_its_set_in_bounded_waves():
    groups, taken = sampled(by_name(VALUES), max_resample_waves=3)
    assert taken == [["a0", "b0"], ["b1"], ["b2"]]
    assert [(g.rollouts[0].group, g.wave, g.totals, g.fate) for g in groups] == [
        (0, 0, [1, 0], Fate.USEFUL),
        (1, 0, [1, 1], Fate.ALL_RIGHT),
        (2, 1, [0, 0], Fate.ALL_WRONG),
        (3, 2, [0, 1], Fate.USEFUL),
    ]
    _, taken = sampled(by_name(VALUES), max_resample_waves=1)
    assert taken == [["a0", "b0"], ["b1"]]


def test_groups_are_scored_in_a_thread_of_their_own():
    threads = set()

    def accuracy(rollouts):
        threads.add(threading.current_thread().name)
        return by_name(VALUES)(rollouts)

    sampled(accuracy)
    assert len(threads) == 1
    assert "scorer" in threads.pop()


def test_a_group_is_scored_while_others_are_sampled_and_sampling_waits_for_no_score():
    first_scored, all_sampled = threading.Event(), threading.Event()
    order = []

    def accuracy(rollouts):
        if first_scored.is_set():  # a judge that takes longer than all of the sampling
            assert all_sampled.wait(30)
        order.append(f"scored {rollouts[0].problem.id}")
        first_scored.set()
        return [1.0, 0.0]

    def finish(chosen):
        for i, problem in enumerate(chosen):
            yield i
            assert first_scored.wait(30)
            order.append(f"sampled {problem.id}")
        all_sampled.set()

    groups, _ = sampled(accuracy, sets=("a",), finish=finish, problems_per_step=3)
    # the first score is there before the second group is sampled, the second one behind the last group
    assert order == ["scored a0", "sampled a0", "sampled a1", "sampled a2", "scored a1", "scored a2"]
    assert [group.totals for group in groups] == [[1.0, 0.0]] * 3


def test_too_many_missing_rewards_halt_the_stage_and_name_the_part():
    values = by_name({**VALUES, "b0": (1, None)})
    with pytest.raises(StageHalted, match=r"1 of 4 rewards of step 1 are missing \(accuracy\)"):
        sampled(values, max_resample_waves=0, max_missing_frac=0.2)
    groups, _ = sampled(values, max_resample_waves=0, max_missing_frac=0.25)
    assert groups[1].fate is Fate.MISSING


def test_what_a_reward_raises_stops_the_step():
    def fail(rollouts):
        raise RuntimeError("the judge has a bug")

    with pytest.raises(RuntimeError, match="the judge has a bug"):
        sampled(fail)
