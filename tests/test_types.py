import pytest

from r1kit.types import Problem, RewardBreakdown


def test_the_total_is_the_weighted_plain_sum():
    assert RewardBreakdown(
        {"accuracy": 1.0, "format": 0.5}, {"accuracy": 1.0, "format": 2.0}
    ).total == pytest.approx(2.0)


def test_a_missing_part_makes_the_total_missing_unless_it_is_only_logged():
    assert RewardBreakdown({"accuracy": 1.0, "judge": None}, {"accuracy": 1.0, "judge": 0.5}).total is None
    assert RewardBreakdown({"accuracy": 1.0, "judge": None}, {"accuracy": 1.0, "judge": 0.0}).total == 1.0


def test_the_question_is_the_last_user_turn():
    turns = (
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    )
    assert Problem("p", "math", turns).question == "2+2?"
