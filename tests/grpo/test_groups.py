import threading

import pytest

from r1kit.errors import StageHalted
from r1kit.grpo import GrpoConfig
from r1kit.grpo.groups import Fate, Group, Scorer, collect_groups, fate
from r1kit.types import RewardBreakdown
from tests.grpo.scripted import breakdown, problems, rollout
from tests.grpo.test_config import config


def group(*breakdowns: RewardBreakdown, name: str = "reasoning") -> Group:
    (problem,) = problems(1)
    rollouts = tuple(rollout(problem, sample=i) for i in range(len(breakdowns)))
    return Group(name, 0, rollouts, breakdowns)


RIGHT_FORMAT = breakdown(accuracy=1.0, language=0.9)
RIGHT = breakdown(accuracy=1.0, language=0.4)
WRONG = breakdown(accuracy=0.0, language=0.4)
LOST = breakdown(accuracy=None, language=0.4)


@pytest.mark.parametrize(
    ("breakdowns", "by_accuracy", "by_reward"),
    [
        ([RIGHT, WRONG, WRONG, WRONG], Fate.USEFUL, Fate.USEFUL),
        # all right, and only the language differs: constant by accuracy, not by reward
        ([RIGHT, RIGHT_FORMAT, RIGHT, RIGHT], Fate.ALL_RIGHT, Fate.USEFUL),
        ([RIGHT] * 4, Fate.ALL_RIGHT, Fate.SAME_REWARD),
        ([WRONG] * 4, Fate.ALL_WRONG, Fate.SAME_REWARD),
        ([breakdown(accuracy=0.5)] * 4, Fate.SAME_REWARD, Fate.SAME_REWARD),
        # rows without a reward are left out: two of four are enough, one is not
        ([RIGHT, WRONG, LOST, LOST], Fate.USEFUL, Fate.USEFUL),
        ([RIGHT, RIGHT, RIGHT, LOST], Fate.ALL_RIGHT, Fate.SAME_REWARD),
        ([RIGHT, LOST, LOST, LOST], Fate.MISSING, Fate.MISSING),
        # no accuracy for this kind: decided by the total
        ([breakdown(helpful=0.2), breakdown(helpful=0.3)], Fate.USEFUL, Fate.USEFUL),
        ([breakdown(helpful=0.2), breakdown(helpful=0.2)], Fate.SAME_REWARD, Fate.SAME_REWARD),
    ],
)
def test_which_groups_teach_something(breakdowns, by_accuracy, by_reward):
    assert fate(group(*breakdowns), config(constant_groups="accuracy")) is by_accuracy
    assert fate(group(*breakdowns), config(constant_groups="reward")) is by_reward


def test_an_accuracy_that_is_only_logged_decides_nothing():
    weights = {"accuracy": 0.0, "format": 1.0}
    logged = [RewardBreakdown({"accuracy": 1.0, "format": value}, weights) for value in (0.0, 1.0)]
    assert fate(group(*logged), config()) is Fate.USEFUL


def collect(values, *, sets=("a", "b"), settings: GrpoConfig, on_score=lambda: None):
    """Collect groups of two whose accuracies are `values[problem id]`; with what was taken, by wave."""

    class Scripted:
        name = "accuracy"

        def __call__(self, rollouts):
            on_score()
            return [values[r.problem.id][r.sample] for r in rollouts]

    taken = []
    stock = {name: iter(problems(9, name=name)) for name in ("a", "b")}

    def take(names):
        taken.append([next(stock[name]) for name in names])
        return taken[-1]

    def sample(chosen, wave, first_group, on_group):
        for i in reversed(range(len(chosen))):
            rows = [rollout(chosen[i], group=first_group + i, sample=s) for s in range(2)]
            on_group(i, rows)

    scorer = Scorer({"accuracy": Scripted()})
    try:
        collected = collect_groups(
            sets, config=settings, weights={"accuracy": 1.0}, take=take, sample=sample, scorer=scorer
        )
    finally:
        scorer.close()
    return collected.groups, [[p.id for p in wave] for wave in taken]


VALUES = {"a0": (1, 0), "b0": (1, 1), "b1": (0, 0), "b2": (0, 1), "b3": (1, 0)}


def test_a_constant_group_is_replaced_by_a_fresh_problem_of_its_set_in_bounded_waves():
    settings = config(group_size=2, max_resample_waves=3)
    groups, taken = collect(VALUES, settings=settings)
    assert taken == [["a0", "b0"], ["b1"], ["b2"]]
    assert [(g.rollouts[0].group, g.wave, g.totals) for g in groups] == [
        (0, 0, [1, 0]),
        (1, 0, [1, 1]),
        (2, 1, [0, 0]),
        (3, 2, [0, 1]),
    ]
    _, taken = collect(VALUES, settings=config(group_size=2, max_resample_waves=1))
    assert taken == [["a0", "b0"], ["b1"]]


def test_groups_are_scored_in_a_thread_of_their_own():
    threads = set()
    collect(
        VALUES, settings=config(group_size=2), on_score=lambda: threads.add(threading.current_thread().name)
    )
    assert len(threads) == 1
    assert "scorer" in threads.pop()


def test_a_group_is_scored_while_others_are_sampled_and_sampling_waits_for_no_score():
    first_scored, all_sampled = threading.Event(), threading.Event()
    order = []

    class Slow:
        name = "accuracy"

        def __call__(self, rollouts):
            if first_scored.is_set():  # a judge that takes longer than all of the sampling
                assert all_sampled.wait(30)
            order.append(f"scored {rollouts[0].problem.id}")
            first_scored.set()
            return [1.0, 0.0]

    def sample(chosen, wave, first_group, on_group):
        for i, problem in enumerate(chosen):
            on_group(i, [rollout(problem, group=i, sample=s) for s in range(2)])
            assert first_scored.wait(30)
            order.append(f"sampled {problem.id}")
        all_sampled.set()

    scorer = Scorer({"accuracy": Slow()})
    try:
        collected = collect_groups(
            ["a"] * 3,
            config=config(group_size=2),
            weights={"accuracy": 1.0},
            take=lambda names: problems(len(names), name="a"),
            sample=sample,
            scorer=scorer,
        )
    finally:
        scorer.close()
    # the first score is there before the second group is sampled, the second one behind the last group
    assert order == ["scored a0", "sampled a0", "sampled a1", "sampled a2", "scored a1", "scored a2"]
    assert [group.totals for group in collected.groups] == [[1.0, 0.0]] * 3


def test_too_many_missing_rewards_halt_the_stage_and_name_the_part():
    values = {**VALUES, "b0": (1, None)}
    settings = {"group_size": 2, "max_resample_waves": 0}
    with pytest.raises(StageHalted, match=r"1 of 4 rewards of step 1 are missing \(accuracy\)"):
        collect(values, settings=config(**settings, max_missing_frac=0.2))
    groups, _ = collect(values, settings=config(**settings, max_missing_frac=0.25))
    assert fate(groups[1], config()) is Fate.MISSING


def test_what_a_reward_raises_stops_the_step():
    def fail():
        raise RuntimeError("the judge has a bug")

    with pytest.raises(RuntimeError, match="the judge has a bug"):
        collect(VALUES, settings=config(group_size=2), on_score=fail)
