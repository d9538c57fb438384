"""Advantages, and the losses of SFT and reward models, against numbers worked out by hand."""

import math

import pytest
import torch

from r1kit.training.losses import group_advantages, next_token_loss, pairwise_loss, pointwise_loss
from tests.bounds import FEW

pytestmark = pytest.mark.numerical


def advantages(
    rewards: list[list[float]], valid: list[list[bool]] | None = None, **options
) -> list[list[float]]:
    valid_PG = (
        torch.ones(len(rewards), len(rewards[0]), dtype=torch.bool) if valid is None else torch.tensor(valid)
    )
    return group_advantages(torch.tensor(rewards), valid_PG, **options).tolist()


def test_advantages_use_the_population_std_of_the_group():
    # mean 1, population std sqrt((1 + 1 + 4) / 3) = sqrt(2); the sample std would be sqrt(3)
    (row,) = advantages([[0.0, 0.0, 3.0]])
    assert row == pytest.approx([-1 / math.sqrt(2), -1 / math.sqrt(2), 2 / math.sqrt(2)], abs=FEW)


def test_each_group_is_standardised_by_itself():
    first, second = advantages([[0.0, 1.0], [10.0, 30.0]])
    assert first == pytest.approx([-1.0, 1.0], abs=FEW)
    assert second == pytest.approx([-1.0, 1.0], abs=FEW)


def test_a_constant_group_has_no_advantage_even_where_the_mean_is_rounded():
    # the float32 mean of thirteen times 0.1 is not 0.1
    assert advantages([[0.1] * 13], std_floor=0.0) == [[0.0] * 13]


def test_a_missing_reward_enters_neither_mean_nor_std():
    # valid: 0 and 1, so mean 0.5 and std 0.5; the missing 100 gets 0
    (row,) = advantages([[0.0, 100.0, 1.0]], [[True, False, True]])
    assert row == pytest.approx([-1.0, 0.0, 1.0], abs=FEW)


def test_missing_rewards_may_be_nan_and_whole_groups_may_be_missing():
    rows = advantages([[math.nan, math.nan], [0.0, 1.0]], [[False, False], [True, True]])
    assert rows[0] == [0.0, 0.0]
    assert rows[1] == pytest.approx([-1.0, 1.0], abs=FEW)
    assert advantages([[math.nan]], [[False]], scale="batch") == [[0.0]]


def test_scale_none_only_centres():
    assert advantages([[0.0, 0.0, 3.0]], scale="none") == [[-1.0, -1.0, 2.0]]


def test_scale_batch_divides_by_the_std_of_all_valid_rewards():
    # valid rewards 0, 1, 2, 3: population std sqrt(1.25); group means 0.5 and 2.5
    valid = [[True, True, False], [True, True, False]]
    first, second = advantages([[0.0, 1.0, 9.0], [2.0, 3.0, 9.0]], valid, scale="batch")
    assert first == pytest.approx([-0.5 / math.sqrt(1.25), 0.5 / math.sqrt(1.25), 0.0], abs=FEW)
    assert second == pytest.approx([-0.5 / math.sqrt(1.25), 0.5 / math.sqrt(1.25), 0.0], abs=FEW)


def test_a_right_group_with_tiny_language_differences_gets_no_unit_advantages():
    # all answers right (2.0 for accuracy and format), language consistency between 0.98 and 1.00
    rewards = [[2.98, 3.0, 2.99, 3.0]]
    assert max(map(abs, advantages(rewards, std_floor=0.0)[0])) > 1.0  # what a floor is there for
    # with the floor: at most (2.9925 - 2.98) / 0.1 = 0.125
    assert max(map(abs, advantages(rewards, std_floor=0.1)[0])) == pytest.approx(0.125, abs=1e-4)
    # while a group that differs in accuracy is not dampened: std 0.5
    assert advantages([[2.0, 3.0]], std_floor=0.1)[0] == pytest.approx([-1.0, 1.0], abs=FEW)


def test_next_token_loss_counts_trained_tokens_only():
    logprobs = torch.tensor([[-1.0, -2.0], [-4.0, -100.0]], requires_grad=True)
    parts = next_token_loss(logprobs, torch.tensor([[True, True], [True, False]]), denominator=3)
    parts.loss.backward()
    assert parts.loss.item() == pytest.approx(7 / 3, abs=FEW)
    assert logprobs.grad is not None
    assert logprobs.grad.flatten().tolist() == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 0.0], abs=FEW)


def test_pairwise_loss_is_bradley_terry():
    # differences log 3 and 0: -log(3/4) and log 2
    parts = pairwise_loss(torch.tensor([math.log(3), 1.0]), torch.tensor([0.0, 1.0]), denominator=2)
    assert float(parts.loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=FEW)
    assert float(parts.metrics["accuracy"]) == pytest.approx(0.75, abs=FEW)  # a win and a tie
    assert float(parts.metrics["difference"]) == pytest.approx(math.log(3) / 2, abs=FEW)


def test_a_margin_asks_for_a_difference_that_large():
    # differences log 6 and log 2, margins log 2 and log 6: log 3 and -log 3 are left of them
    chosen = torch.tensor([math.log(6), math.log(2)], requires_grad=True)
    rejected = torch.zeros(2, requires_grad=True)
    margins = torch.tensor([math.log(2), math.log(6)])
    parts = pairwise_loss(chosen, rejected, denominator=2, margins_B=margins)
    # -log(3/4) and -log(1/4)
    assert parts.loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=FEW)
    parts.loss.backward()
    # d/dx -log sigmoid(x) = sigmoid(x) - 1: -1/4 and -3/4, halved; chosen goes up, rejected down
    assert chosen.grad.tolist() == pytest.approx([-1 / 8, -3 / 8], abs=FEW)
    assert rejected.grad.tolist() == pytest.approx([1 / 8, 3 / 8], abs=FEW)
    # without it the second pair is left alone more: sigmoid(log 2) - 1 = -1/3, halved
    chosen.grad = None
    pairwise_loss(chosen, rejected, denominator=2).loss.backward()
    assert chosen.grad.tolist() == pytest.approx([-1 / 14, -1 / 6], abs=FEW)
    # and what is reported is of the scores as they are: both pairs are won
    assert float(parts.metrics["accuracy"]) == 1.0
    assert float(parts.metrics["difference"]) == pytest.approx(math.log(12) / 2, abs=FEW)


def test_pointwise_loss_is_cross_entropy_of_the_sigmoid():
    # sigmoid(log 3) = 3/4: label 1 costs log(4/3), label 0 costs log 4
    scores = torch.tensor([math.log(3), math.log(3)])
    parts = pointwise_loss(scores, torch.tensor([1.0, 0.0]), denominator=2)
    assert float(parts.loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=FEW)
    assert float(parts.metrics["accuracy"]) == pytest.approx(0.5, abs=FEW)
