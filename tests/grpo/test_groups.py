import pytest

from r1kit.grpo.groups import Fate, fate_of
from r1kit.types import RewardBreakdown
from tests.grpo.scripted import breakdown

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
    assert fate_of(breakdowns, constant="accuracy") is by_accuracy
    assert fate_of(breakdowns, constant="reward") is by_reward


def test_an_accuracy_that_is_only_logged_decides_nothing():
    weights = {"accuracy": 0.0, "format": 1.0}
    logged = [RewardBreakdown({"accuracy": 1.0, "format": value}, weights) for value in (0.0, 1.0)]
    assert fate_of(logged, constant="accuracy") is Fate.USEFUL
