"""Advantages and losses against numbers worked out by hand, and a float64 reference of the equations."""

import math

import pytest
import torch

from r1kit.losses import (
    LossParts,
    group_advantages,
    grpo_loss,
    k3_kl,
    next_token_loss,
    pairwise_loss,
    pointwise_loss,
)


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
    assert row == pytest.approx([-1 / math.sqrt(2), -1 / math.sqrt(2), 2 / math.sqrt(2)], abs=1e-5)


def test_each_group_is_standardised_by_itself():
    first, second = advantages([[0.0, 1.0], [10.0, 30.0]])
    assert first == pytest.approx([-1.0, 1.0], abs=1e-5)
    assert second == pytest.approx([-1.0, 1.0], abs=1e-5)


def test_a_constant_group_has_no_advantage_even_where_the_mean_is_rounded():
    # the float32 mean of thirteen times 0.1 is not 0.1
    assert advantages([[0.1] * 13], std_floor=0.0) == [[0.0] * 13]


def test_a_missing_reward_enters_neither_mean_nor_std():
    # valid: 0 and 1, so mean 0.5 and std 0.5; the missing 100 gets 0
    (row,) = advantages([[0.0, 100.0, 1.0]], [[True, False, True]])
    assert row == pytest.approx([-1.0, 0.0, 1.0], abs=1e-5)


def test_missing_rewards_may_be_nan_and_whole_groups_may_be_missing():
    rows = advantages([[math.nan, math.nan], [0.0, 1.0]], [[False, False], [True, True]])
    assert rows[0] == [0.0, 0.0]
    assert rows[1] == pytest.approx([-1.0, 1.0], abs=1e-5)
    assert advantages([[math.nan]], [[False]], scale="batch") == [[0.0]]


def test_scale_none_only_centres():
    assert advantages([[0.0, 0.0, 3.0]], scale="none") == [[-1.0, -1.0, 2.0]]


def test_scale_batch_divides_by_the_std_of_all_valid_rewards():
    # valid rewards 0, 1, 2, 3: population std sqrt(1.25); group means 0.5 and 2.5
    valid = [[True, True, False], [True, True, False]]
    first, second = advantages([[0.0, 1.0, 9.0], [2.0, 3.0, 9.0]], valid, scale="batch")
    assert first == pytest.approx([-0.5 / math.sqrt(1.25), 0.5 / math.sqrt(1.25), 0.0], abs=1e-5)
    assert second == pytest.approx([-0.5 / math.sqrt(1.25), 0.5 / math.sqrt(1.25), 0.0], abs=1e-5)


def test_a_right_group_with_tiny_language_differences_gets_no_unit_advantages():
    # all answers right (2.0 for accuracy and format), language consistency between 0.98 and 1.00
    rewards = [[2.98, 3.0, 2.99, 3.0]]
    assert max(map(abs, advantages(rewards, std_floor=0.0)[0])) > 1.0  # what a floor is there for
    # with the floor: at most (2.9925 - 2.98) / 0.1 = 0.125
    assert max(map(abs, advantages(rewards, std_floor=0.1)[0])) == pytest.approx(0.125, abs=1e-4)
    # while a group that differs in accuracy is not dampened: std 0.5
    assert advantages([[2.0, 3.0]], std_floor=0.1)[0] == pytest.approx([-1.0, 1.0], abs=1e-5)


def test_k3_is_zero_where_models_agree_and_positive_on_both_sides():
    # ref/pi = 2: 2 - log 2 - 1; ref/pi = 1/2: 0.5 + log 2 - 1
    logprobs = torch.log(torch.tensor([0.5, 0.25, 0.5]))
    ref = torch.log(torch.tensor([0.5, 0.5, 0.25]))
    assert k3_kl(logprobs, ref).tolist() == pytest.approx([0.0, 1 - math.log(2), math.log(2) - 0.5], abs=1e-6)


def test_k3_of_a_far_reference_is_finite():
    assert torch.isfinite(k3_kl(torch.tensor([-200.0]), torch.tensor([0.0]))).all()


def grpo(ratios, advantage, mask=None, *, ref_ratios=None, denominator=None, **options) -> LossParts:
    """The loss of rows given as ratios to an old policy whose logprobs are all -1."""
    log_ratios = torch.tensor(ratios).log()
    old = torch.full_like(log_ratios, -1.0)
    ref = None if ref_ratios is None else old + log_ratios + torch.tensor(ref_ratios).log()
    mask = torch.ones_like(log_ratios, dtype=torch.bool) if mask is None else torch.tensor(mask)
    settings = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, **options}
    denominator = denominator or len(ratios)
    return grpo_loss(
        old + log_ratios, old, ref, torch.tensor(advantage), mask, denominator=denominator, **settings
    )


def test_grpo_clips_only_where_it_takes_the_incentive_away():
    # A = 1: min(1.5, 1.2) = 1.2 and min(0.5, 0.8) = 0.5, mean 0.85
    # A = -2: min(-3, -2.4) = -3 and min(-1, -1.6) = -1.6, mean -2.3;  loss = -(0.85 - 2.3) / 2
    parts = grpo([[1.5, 0.5], [1.5, 0.5]], [1.0, -2.0])
    assert float(parts.loss) == pytest.approx(0.725, abs=1e-6)
    # cut: 1.5 in the first row, 0.5 in the second
    assert float(parts.metrics["policy/clip_frac"]) == pytest.approx(0.5)
    assert float(parts.metrics["policy/clip_high_frac"]) == pytest.approx(0.25)
    assert float(parts.metrics["policy/ratio_mean"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("advantage", "cut", "cut_high"), [(1.0, 2 / 3, 2 / 3), (-1.0, 1 / 3, 0.0), (0.0, 0.0, 0.0)]
)
def test_clip_fractions_count_the_side_that_the_advantage_pushes_to(advantage, cut, cut_high):
    metrics = grpo([[1.5, 1.3, 0.5]], [advantage]).metrics
    assert float(metrics["policy/clip_frac"]) == pytest.approx(cut)
    assert float(metrics["policy/clip_high_frac"]) == pytest.approx(cut_high)


def test_clip_low_and_clip_high_are_two_bounds():
    # min(1.5, 1.4) = 1.4; A = -1: min(-0.5, -0.9) = -0.9
    assert float(grpo([[1.5]], [1.0], clip_low=0.1, clip_high=0.4).loss) == pytest.approx(-1.4)
    assert float(grpo([[0.5]], [-1.0], clip_low=0.1, clip_high=0.4).loss) == pytest.approx(0.9)


def test_the_papers_clip_of_ten_cuts_above_eleven_and_never_below():
    assert float(grpo([[10.9]], [1.0], clip_low=10.0, clip_high=10.0).loss) == pytest.approx(-10.9, rel=1e-6)
    assert float(grpo([[12.0]], [1.0], clip_low=10.0, clip_high=10.0).loss) == pytest.approx(-11.0, rel=1e-6)
    parts = grpo([[0.001]], [-1.0], clip_low=10.0, clip_high=10.0)
    assert float(parts.loss) == pytest.approx(0.001, rel=1e-5)
    assert float(parts.metrics["policy/clip_frac"]) == 0.0


def test_each_row_is_averaged_over_its_own_tokens():
    # row 1 has one trained token (1.1), row 2 has two (0.9, 1.0): (1.1 + 0.95) / 2; a token mean would be 1.0
    parts = grpo([[1.1, 9.0], [0.9, 1.0]], [1.0, 1.0], [[True, False], [True, True]])
    assert float(parts.loss) == pytest.approx(-1.025, abs=1e-6)


def test_the_denominator_counts_rows_of_other_micro_batches_too():
    assert float(grpo([[1.1]], [1.0], denominator=8).loss) == pytest.approx(-1.1 / 8, abs=1e-6)


def test_a_row_without_trained_tokens_adds_nothing_whatever_it_holds():
    parts = grpo([[1.1], [math.nan]], [1.0, 1.0], [[True], [False]], denominator=1)
    assert float(parts.loss) == pytest.approx(-1.1, abs=1e-6)
    assert all(math.isfinite(float(value)) for value in parts.metrics.values())


def test_the_kl_is_inside_the_loss_and_averaged_like_the_objective():
    # ref/pi = 2: k3 = 1 - log 2 in the one trained token; the other is masked
    mask = [[True, False]]
    parts = grpo([[1.0, 1.0]], [0.0], mask, ref_ratios=[[2.0, 5.0]], kl_coef=0.5)
    assert float(parts.loss) == pytest.approx(0.5 * (1 - math.log(2)), abs=1e-6)
    assert float(parts.metrics["kl/ref"]) == pytest.approx(1 - math.log(2), abs=1e-6)
    # with coefficient 0 it is reported and not trained
    untrained = grpo([[1.0, 1.0]], [0.0], mask, ref_ratios=[[2.0, 5.0]])
    assert float(untrained.loss) == 0.0
    assert float(untrained.metrics["kl/ref"]) == pytest.approx(1 - math.log(2), abs=1e-6)


def test_without_old_logprobs_the_ratio_is_one_and_its_gradient_is_kept():
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    options = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "denominator": 1}
    parts = grpo_loss(logprobs, None, None, torch.tensor([3.0]), mask, **options)
    parts.loss.backward()
    assert parts.loss.item() == pytest.approx(-3.0)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([-1.5, -1.5])]  # -A / |o|


def reference_grpo(logprobs, old, ref, advantage, mask, clip_low, clip_high, kl_coef, denominator):
    """The equation, token by token, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(logprobs.shape[0]):
        tokens = [t for t in range(logprobs.shape[1]) if mask[i, t]]
        for t in tokens:
            ratio = torch.exp(logprobs[i, t] - old[i, t])
            bounded = min(max(ratio, 1 - clip_low), 1 + clip_high)  # type: ignore[type-var]
            surrogate = min(ratio * advantage[i], bounded * advantage[i])
            inverse = torch.exp(ref[i, t] - logprobs[i, t])
            kl = inverse - torch.log(inverse) - 1
            total = total + (surrogate - kl_coef * kl) / len(tokens)
    return -total / denominator


@pytest.mark.parametrize(("clip_low", "clip_high"), [(0.2, 0.2), (0.2, 0.28), (10.0, 10.0)])
def test_loss_and_gradient_agree_with_a_float64_reference(clip_low, clip_high):
    generator = torch.Generator().manual_seed(0)
    shape = (6, 7)
    old = -torch.rand(shape, generator=generator, dtype=torch.float64) * 3
    # ratios from about 0.3 to 30, so that every branch of every clip is met
    logprobs = old + torch.linspace(-1.2, 3.4, 42, dtype=torch.float64).view(shape)
    ref = old + torch.randn(shape, generator=generator, dtype=torch.float64) * 0.5
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[2] = False
    advantage = torch.tensor([1.0, -1.0, 3.0, 0.5, -0.7, 0.0], dtype=torch.float64)
    settings = {"clip_low": clip_low, "clip_high": clip_high, "kl_coef": 0.04, "denominator": 5}

    exact = logprobs.clone().requires_grad_()
    expected = reference_grpo(exact, old, ref, advantage, mask, **settings)
    expected.backward()
    ours = logprobs.float().requires_grad_()
    parts = grpo_loss(ours, old.float(), ref.float(), advantage.float(), mask, **settings)
    parts.loss.backward()
    assert parts.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert exact.grad is not None
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


def test_losses_of_micro_batches_add_up_to_the_loss_of_the_batch():
    ratios, advantage = [[1.5, 0.5], [1.1, 0.7]], [1.0, -1.0]
    whole = grpo(ratios, advantage, denominator=2)
    parts = [grpo([ratio], [a], denominator=2) for ratio, a in zip(ratios, advantage, strict=True)]
    assert float(whole.loss) == pytest.approx(sum(float(part.loss) for part in parts), abs=1e-6)
    for name in whole.metrics:
        assert float(whole.metrics[name]) == pytest.approx(
            sum(float(part.metrics[name]) for part in parts), abs=1e-6
        )


def test_next_token_loss_counts_trained_tokens_only():
    logprobs = torch.tensor([[-1.0, -2.0], [-4.0, -100.0]], requires_grad=True)
    parts = next_token_loss(logprobs, torch.tensor([[True, True], [True, False]]), denominator=3)
    parts.loss.backward()
    assert parts.loss.item() == pytest.approx(7 / 3)
    assert logprobs.grad is not None
    assert logprobs.grad.flatten().tolist() == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 0.0])


def test_pairwise_loss_is_bradley_terry():
    # differences log 3 and 0: -log(3/4) and log 2
    parts = pairwise_loss(torch.tensor([math.log(3), 1.0]), torch.tensor([0.0, 1.0]), denominator=2)
    assert float(parts.loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-6)
    assert float(parts.metrics["accuracy"]) == pytest.approx(0.75)  # a win and a tie
    assert float(parts.metrics["margin"]) == pytest.approx(math.log(3) / 2, abs=1e-6)


def test_pointwise_loss_is_cross_entropy_of_the_sigmoid():
    # sigmoid(log 3) = 3/4: label 1 costs log(4/3), label 0 costs log 4
    scores = torch.tensor([math.log(3), math.log(3)])
    parts = pointwise_loss(scores, torch.tensor([1.0, 0.0]), denominator=2)
    assert float(parts.loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-6)
    assert float(parts.metrics["accuracy"]) == pytest.approx(0.5)
