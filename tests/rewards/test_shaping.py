from collections.abc import Sequence
from dataclasses import replace

import pytest
from pydantic import ValidationError

from r1kit.rewards.accuracy import AccuracyReward
from r1kit.rewards.base import score
from r1kit.rewards.shaping import (
    CosineOptions,
    CosineReward,
    LengthOptions,
    LengthReward,
    OverlongOptions,
    OverlongReward,
    RepetitionOptions,
    RepetitionReward,
    StepsReward,
)
from r1kit.text.template import format_zero
from r1kit.types import Rollout
from tests.making import make_problem, make_rollout

MATH = make_problem("math", "51")


def of_tokens(num_tokens: int, text: str = "x", group: int = 0) -> Rollout:
    rollout = make_rollout(MATH, text)
    completion = replace(rollout.completion, token_ids=tuple(range(num_tokens)))
    return replace(rollout, completion=completion, group=group)


class Accuracy:
    """Says of each rollout what a test gives it."""

    name = "accuracy"

    def __init__(self, *scores: float | None) -> None:
        self.scores = list(scores)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        assert len(rollouts) == len(self.scores)
        return list(self.scores)


def test_overlong_falls_from_0_to_minus_1_over_the_cache() -> None:
    reward = OverlongReward(OverlongOptions(max_tokens=100, cache_tokens=20))
    lengths = [0, 79, 80, 81, 90, 99, 100, 101, 5000]
    # (80 - length) / 20 between 80 and 100: 81 is -1/20, 90 -10/20, 99 -19/20
    assert reward([of_tokens(n) for n in lengths]) == pytest.approx(
        [0, 0, 0, -0.05, -0.5, -0.95, -1, -1, -1], abs=1e-12
    )


def test_overlong_options_must_fit() -> None:
    with pytest.raises(ValidationError, match="cache_tokens = 20 is above max_tokens = 10"):
        OverlongOptions(max_tokens=10, cache_tokens=20)


def test_repetition_of_tokens_is_trls() -> None:
    reward = RepetitionReward(RepetitionOptions(ngram=2, max_penalty=-1.0))
    rows = [(1, 2, 3, 4), (5, 5, 5, 5, 5), (1, 2, 1, 2), (7,), ()]
    rollouts = [
        replace(of_tokens(1), completion=replace(of_tokens(1).completion, token_ids=row)) for row in rows
    ]
    # 5 5 5 5 5 has four bigrams, one of them different: -(1 - 1/4); 1 2 1 2 has 12 21 12: -(1 - 2/3)
    assert reward(rollouts) == pytest.approx([0, -0.75, -1 / 3, 0, 0], abs=1e-12)


def test_repetition_of_words_is_open_r1s() -> None:
    reward = RepetitionReward(RepetitionOptions(ngram=3, max_penalty=-2.0, unit="words"))
    texts = ["a b c a b c a b c", "A b C a B c", "we add them", "two words", "", "我们我们我们我们我们我们"]
    # nine words have seven trigrams, abc bca cab are different: -2 (1 - 3/7);
    # six words have abc bca cab abc: -2 (1 - 3/4)
    assert reward([make_rollout(MATH, text) for text in texts]) == pytest.approx(
        [-8 / 7, -0.5, 0, 0, 0, 0], abs=1e-12
    )


def test_a_positive_penalty_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 0"):
        RepetitionOptions(max_penalty=0.1)


def test_length_pays_short_right_answers_and_never_wrong_ones() -> None:
    rollouts = [of_tokens(n) for n in (10, 20, 30, 10, 30)]
    reward = LengthReward(Accuracy(1.0, 1.0, 1.0, 0.0, 0.0), LengthOptions())
    # 0.5 - (n - 10) / 20; of wrong ones at most 0
    assert reward(rollouts) == pytest.approx([0.5, 0.0, -0.5, 0.0, -0.5], abs=1e-12)


def test_length_compares_within_a_group_and_by_the_unit() -> None:
    rollouts = [of_tokens(10), of_tokens(20), of_tokens(100, group=1), of_tokens(100, group=1)]
    reward = LengthReward(Accuracy(1.0, 1.0, 1.0, None), LengthOptions())
    # the second group's lengths are equal; where accuracy is missing, so is this
    assert reward(rollouts) == [0.5, -0.5, 0.0, None]
    by_text = [of_tokens(5, "abc"), of_tokens(5, "abcde")]
    assert LengthReward(Accuracy(1.0, 1.0), LengthOptions(unit="characters"))(by_text) == [0.5, -0.5]
    assert LengthReward(Accuracy(1.0, 1.0), LengthOptions())(by_text) == [0.0, 0.0]


def test_cosine_goes_from_one_end_to_the_other_and_stays_there() -> None:
    lengths = [0, 250, 500, 1000, 2000]
    options = CosineOptions(max_length=1000)
    right = CosineReward(Accuracy(*[1.0] * 5), options)([of_tokens(n) for n in lengths])
    # 0.5 + 0.25 (1 + cos(pi p)): p = 0: 1; 1/4: 0.75 + 0.25 * 0.70711; 1/2: 0.75; 1: 0.5; beyond it stays
    assert right == pytest.approx([1.0, 0.9267767, 0.75, 0.5, 0.5], abs=1e-6)
    wrong = CosineReward(Accuracy(*[0.0] * 5), options)([of_tokens(n) for n in lengths])
    # -0.5 - 0.25 (1 + cos(pi p)): a wrong answer loses less with length
    assert wrong == pytest.approx([-1.0, -0.9267767, -0.75, -0.5, -0.5], abs=1e-6)
    assert CosineReward(Accuracy(None), options)([of_tokens(3)]) == [None]
    by_text = CosineReward(Accuracy(1.0), CosineOptions(max_length=4, unit="characters"))
    assert by_text([of_tokens(9, "ab")]) == pytest.approx([0.75], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("we add them", 0.0),
        ("First, we add. Next, we stop.", 2 / 3),
        ("Step 1: add. Step 2: check. Step 3: stop. Step 4: rest.", 1.0),
        ("1. add\n2. check", 1 / 3),  # open-r1's pattern: a number counts at the start of the text only
        ("list:\n- one\n- two\n* three", 1.0),
        ("first, next, finally,", 0.0),  # as it stands there, in capitals
        ("First,First,First,", 1.0),  # and it can be gamed
    ],
)
def test_steps_count_open_r1s_marks(text: str, expected: float) -> None:
    assert StepsReward()([make_rollout(MATH, text)]) == pytest.approx([expected], abs=1e-12)


def test_rewards_by_accuracy_ask_for_it_once() -> None:
    asked: list[int] = []

    class Counting(AccuracyReward):
        def _scores(self, rollouts: Sequence[Rollout]) -> list[float | None]:
            asked.append(len(rollouts))
            return super()._scores(rollouts)

    accuracy = Counting("zero")
    rewards = {
        "accuracy": accuracy,
        "cosine": CosineReward(accuracy, CosineOptions()),
        "length": LengthReward(accuracy, LengthOptions()),
    }
    rollouts = [make_rollout(MATH, format_zero("a", "51")), make_rollout(MATH, format_zero("a", "50"))]
    general = make_rollout(make_problem("general", None), "Hi")
    breakdowns = score([*rollouts, general], rewards, dict.fromkeys(rewards, 1.0))
    assert asked == [2]
    assert [b.parts.get("accuracy") for b in breakdowns] == [1.0, 0.0, None]
    assert set(breakdowns[2].parts) == set()
    # other rollouts with the same texts are asked about again
    accuracy([make_rollout(MATH, format_zero("a", "51"))] * 2)
    assert asked == [2, 2]
