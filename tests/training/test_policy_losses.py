"""Policy losses and KL estimators: numbers by hand, and the equations in float64 (`policy_reference`)."""

import math

import pytest
import torch

from r1kit.training import policy_losses
from r1kit.training.losses import LossParts
from r1kit.training.policy_losses import (
    KL_ESTIMATORS,
    POLICY_LOSSES,
    Totals,
    k1_kl,
    k2_kl,
    k3_kl,
    sequence_importance,
    token_importance,
)
from tests.bounds import FEW
from tests.training.policy_reference import KINDS, SETTINGS, case, check_against_reference

pytestmark = pytest.mark.numerical

# pi/ref = 1, 1/2 and 2
LOGPROBS = torch.log(torch.tensor([0.5, 0.25, 0.5]))
REF = torch.log(torch.tensor([0.5, 0.5, 0.25]))


def test_k1_is_the_log_ratio():
    assert k1_kl(LOGPROBS, REF).tolist() == pytest.approx([0.0, -math.log(2), math.log(2)], abs=FEW)


def test_k2_is_half_its_square():
    half = math.log(2) ** 2 / 2
    assert k2_kl(LOGPROBS, REF).tolist() == pytest.approx([0.0, half, half], abs=FEW)


def test_k3_is_zero_where_models_agree_and_positive_on_both_sides():
    # ref/pi = 2: 2 - log 2 - 1; ref/pi = 1/2: 0.5 + log 2 - 1
    assert k3_kl(LOGPROBS, REF).tolist() == pytest.approx([0.0, 1 - math.log(2), math.log(2) - 0.5], abs=FEW)


def kls_by_hand(logits: torch.Tensor, ref: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(pi || ref) and KL(ref || pi) of whole distributions."""
    logp = logits.log_softmax(-1)
    return (logp.exp() * (logp - ref)).sum(), (ref.exp() * (ref - logp)).sum()


@pytest.mark.parametrize(
    ("name", "is_unbiased", "trains"), [("k1", True, 0), ("k2", False, 0), ("k3", True, 1)]
)
def test_what_an_estimator_estimates_and_what_its_gradient_trains(name, is_unbiased, trains):
    # over a vocabulary of four the expectation over pi's samples is a sum
    logits = torch.tensor([0.3, -0.8, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.9, 0.2, -0.5, 0.1], dtype=torch.float64).log_softmax(-1)
    logp = logits.log_softmax(-1)
    estimate = (logp.detach().exp() * KL_ESTIMATORS[name](logp, ref)).sum()
    (gradient,) = torch.autograd.grad(estimate, logits)
    both = kls_by_hand(logits, ref)
    gradients = [torch.autograd.grad(kl, logits, retain_graph=True)[0] for kl in both]
    assert (abs(estimate.item() - both[0].item()) < 1e-12) is is_unbiased
    torch.testing.assert_close(gradient, gradients[trains], rtol=1e-12, atol=1e-12)
    assert (gradient - gradients[1 - trains]).abs().max() > 0.01


def test_k3_of_a_far_reference_is_finite():
    assert torch.isfinite(k3_kl(torch.tensor([-200.0]), torch.tensor([0.0]))).all()


def loss_of(kind, ratios, advantage, mask=None, *, ref_ratios=None, totals=None, **options) -> LossParts:
    """The loss of rows given as ratios to an old policy whose logprobs are all -1."""
    log_ratios = torch.tensor(ratios).log()
    old = torch.full_like(log_ratios, -1.0)
    ref = None if ref_ratios is None else old + log_ratios + torch.tensor(ref_ratios).log()
    mask = torch.ones_like(log_ratios, dtype=torch.bool) if mask is None else torch.tensor(mask)
    totals = totals or Totals(num_rows=len(ratios), num_tokens=float(mask.sum()), max_length=10.0)
    settings = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "kl": k3_kl, "totals": totals, **options}
    return POLICY_LOSSES[kind](old + log_ratios, old, ref, torch.tensor(advantage), mask, **settings)


def grpo(ratios, advantage, mask=None, **options) -> LossParts:
    return loss_of("grpo", ratios, advantage, mask, **options)


def test_grpo_clips_only_where_it_takes_the_incentive_away():
    # A = 1: min(1.5, 1.2) = 1.2 and min(0.5, 0.8) = 0.5, mean 0.85
    # A = -2: min(-3, -2.4) = -3 and min(-1, -1.6) = -1.6, mean -2.3;  loss = -(0.85 - 2.3) / 2
    parts = grpo([[1.5, 0.5], [1.5, 0.5]], [1.0, -2.0])
    assert float(parts.loss) == pytest.approx(0.725, abs=FEW)
    # cut: 1.5 in the first row, 0.5 in the second
    assert float(parts.metrics["policy/clip_frac"]) == pytest.approx(0.5, abs=FEW)
    assert float(parts.metrics["policy/clip_high_frac"]) == pytest.approx(0.25, abs=FEW)
    assert float(parts.metrics["policy/ratio_mean"]) == pytest.approx(1.0, abs=FEW)


@pytest.mark.parametrize(
    ("advantage", "cut", "cut_high"), [(1.0, 2 / 3, 2 / 3), (-1.0, 1 / 3, 0.0), (0.0, 0.0, 0.0)]
)
def test_clip_fractions_count_the_side_that_the_advantage_pushes_to(advantage, cut, cut_high):
    metrics = grpo([[1.5, 1.3, 0.5]], [advantage]).metrics
    assert float(metrics["policy/clip_frac"]) == pytest.approx(cut, abs=FEW)
    assert float(metrics["policy/clip_high_frac"]) == pytest.approx(cut_high, abs=FEW)


def test_clip_low_and_clip_high_are_two_bounds():
    # min(1.5, 1.4) = 1.4; A = -1: min(-0.5, -0.9) = -0.9
    assert float(grpo([[1.5]], [1.0], clip_low=0.1, clip_high=0.4).loss) == pytest.approx(-1.4, abs=FEW)
    assert float(grpo([[0.5]], [-1.0], clip_low=0.1, clip_high=0.4).loss) == pytest.approx(0.9, abs=FEW)


def test_the_papers_clip_of_ten_cuts_above_eleven_and_never_below():
    assert float(grpo([[10.9]], [1.0], clip_low=10.0, clip_high=10.0).loss) == pytest.approx(-10.9, rel=FEW)
    assert float(grpo([[12.0]], [1.0], clip_low=10.0, clip_high=10.0).loss) == pytest.approx(-11.0, rel=FEW)
    parts = grpo([[0.001]], [-1.0], clip_low=10.0, clip_high=10.0)
    assert float(parts.loss) == pytest.approx(0.001, abs=FEW)
    assert float(parts.metrics["policy/clip_frac"]) == 0.0


def test_each_row_is_averaged_over_its_own_tokens():
    # row 1 has one trained token (1.1), row 2 has two (0.9, 1.0): (1.1 + 0.95) / 2; a token mean would be 1.0
    parts = grpo([[1.1, 9.0], [0.9, 1.0]], [1.0, 1.0], [[True, False], [True, True]])
    assert float(parts.loss) == pytest.approx(-1.025, abs=FEW)


def test_the_denominator_counts_rows_of_other_micro_batches_too():
    totals = Totals(num_rows=8, num_tokens=1, max_length=10)
    assert float(grpo([[1.1]], [1.0], totals=totals).loss) == pytest.approx(-1.1 / 8, abs=FEW)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_a_row_without_trained_tokens_adds_nothing_whatever_it_holds(kind):
    totals = Totals(num_rows=1, num_tokens=1, max_length=1)
    parts = loss_of(kind, [[1.1], [math.nan]], [1.0, math.nan], [[True], [False]], totals=totals)
    assert float(parts.loss) == pytest.approx(-1.1, abs=FEW)
    assert all(math.isfinite(float(value)) for value in parts.metrics.values())


def test_the_kl_is_inside_the_loss_and_averaged_like_the_objective():
    # ref/pi = 2: k3 = 1 - log 2 in the one trained token; the other is masked
    mask = [[True, False]]
    parts = grpo([[1.0, 1.0]], [0.0], mask, ref_ratios=[[2.0, 5.0]], kl_coef=0.5)
    assert float(parts.loss) == pytest.approx(0.5 * (1 - math.log(2)), abs=FEW)
    assert float(parts.metrics["kl/ref"]) == pytest.approx(1 - math.log(2), abs=FEW)
    # with coefficient 0 it is reported and not trained
    untrained = grpo([[1.0, 1.0]], [0.0], mask, ref_ratios=[[2.0, 5.0]])
    assert float(untrained.loss) == 0.0
    assert float(untrained.metrics["kl/ref"]) == pytest.approx(1 - math.log(2), abs=FEW)


# one row of A = 3 with two tokens: -A / 2 each; dr_grpo divides by its constant, 10
@pytest.mark.parametrize(
    ("kind", "loss", "gradient"),
    [
        ("grpo", -3.0, -1.5),
        ("dr_grpo", -0.6, -0.3),
        ("dapo", -3.0, -1.5),
        ("gspo", -3.0, -1.5),
        ("cispo", 4.5, -1.5),  # -3 (-1 - 2) / 2
    ],
)
def test_without_old_logprobs_the_ratio_is_one_and_its_gradient_is_kept(kind, loss, gradient):
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    options = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "kl": k3_kl, "totals": Totals(1, 2, 10)}
    parts = POLICY_LOSSES[kind](
        logprobs, None, None, torch.tensor([3.0]), torch.ones(1, 2, dtype=torch.bool), **options
    )
    parts.loss.backward()
    assert parts.loss.item() == pytest.approx(loss, abs=FEW)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([gradient, gradient], abs=FEW)]


# two rows, A = 1 with the one token 1.1, A = -1 with 0.9, 1.0 and 1.3: objectives 1.1 and -0.9, -1.0, -1.3
RAGGED = [[1.1, 9.0, 9.0], [0.9, 1.0, 1.3]]
RAGGED_MASK = [[True, False, False], [True, True, True]]


def test_grpo_averages_within_rows_then_over_rows():
    # (1.1 - 3.2 / 3) / 2
    parts = grpo(RAGGED, [1.0, -1.0], RAGGED_MASK)
    assert float(parts.loss) == pytest.approx(-(1.1 - 3.2 / 3) / 2, abs=FEW)


def test_dr_grpo_sums_tokens_and_divides_by_rows_and_a_constant_length():
    # (1.1 - 3.2) / (2 * 10): rows count as two also in a micro-batch of one
    parts = loss_of("dr_grpo", RAGGED, [1.0, -1.0], RAGGED_MASK)
    assert float(parts.loss) == pytest.approx(2.1 / 20, abs=FEW)
    totals = Totals(num_rows=2, num_tokens=4, max_length=10)
    first = loss_of("dr_grpo", RAGGED[:1], [1.0], RAGGED_MASK[:1], totals=totals)
    assert float(first.loss) == pytest.approx(-1.1 / 20, abs=FEW)


def test_dapo_weighs_every_token_of_the_mini_batch_the_same():
    # (1.1 - 3.2) / 4: four tokens are trained, also where a micro-batch holds one of them
    parts = loss_of("dapo", RAGGED, [1.0, -1.0], RAGGED_MASK)
    assert float(parts.loss) == pytest.approx(2.1 / 4, abs=FEW)
    totals = Totals(num_rows=2, num_tokens=4, max_length=10)
    first = loss_of("dapo", RAGGED[:1], [1.0], RAGGED_MASK[:1], totals=totals)
    assert float(first.loss) == pytest.approx(-1.1 / 4, abs=FEW)


def test_gspo_has_one_ratio_for_a_row_and_clips_it_as_a_whole():
    # row 1: sqrt(1.21 * 1.0) = 1.1, A = 2: 2.2. Row 2: sqrt(4 * 0.36) = 1.2, cut at 1.1: 1.1. Row 3: 1.2 with
    # A = -1 is not cut: -1.2. Row 4: 0.8 cut at 0.95 with A = -1: -0.95
    ratios = [[1.21, 1.0], [4.0, 0.36], [4.0, 0.36], [0.64, 1.0]]
    parts = loss_of("gspo", ratios, [2.0, 1.0, -1.0, -1.0], clip_low=0.05, clip_high=0.1)
    assert float(parts.loss) == pytest.approx(-(2.2 + 1.1 - 1.2 - 0.95) / 4, abs=FEW)
    assert float(parts.metrics["policy/clip_frac"]) == pytest.approx(0.5, abs=FEW)
    assert float(parts.metrics["policy/clip_high_frac"]) == pytest.approx(0.25, abs=FEW)
    assert float(parts.metrics["policy/ratio_mean"]) == pytest.approx((1.1 + 1.2 + 1.2 + 0.8) / 4, abs=FEW)


def test_gspo_takes_the_mean_over_trained_tokens_only():
    # the geometric mean of 1.21 and 1.0; the masked token's 9.0 is not in it
    parts = loss_of("gspo", [[1.21, 9.0, 1.0]], [1.0], [[True, False, True]])
    assert float(parts.loss) == pytest.approx(-1.1, abs=FEW)


def test_gspo_gives_every_token_of_a_row_the_rows_ratio():
    # d/dlogp of -s A = -s A / |o|, s = sqrt(1.21 * 1.0), also for the token whose own ratio is 1
    logprobs = torch.tensor([[1.21, 1.0]]).log().requires_grad_()
    options = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "kl": k3_kl, "totals": Totals(1, 2, 10)}
    mask = torch.ones(1, 2, dtype=torch.bool)
    parts = POLICY_LOSSES["gspo"](logprobs, torch.zeros(1, 2), None, torch.tensor([2.0]), mask, **options)
    parts.loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([-1.1, -1.1], abs=FEW)]


def test_cispo_clips_the_weight_and_keeps_every_tokens_gradient():
    # old logprobs 0: logprobs are log(ratio). Weights 1.2, 0.5 -> 0.8, 1.5 -> 1.2; -w A / 3 tokens each
    logprobs = torch.tensor([[1.2, 0.5, 1.5]]).log().requires_grad_()
    options = {"clip_low": 0.2, "clip_high": 0.2, "kl_coef": 0.0, "kl": k3_kl, "totals": Totals(1, 3, 10)}
    mask = torch.ones(1, 3, dtype=torch.bool)
    parts = POLICY_LOSSES["cispo"](logprobs, torch.zeros(1, 3), None, torch.tensor([3.0]), mask, **options)
    parts.loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([-1.2, -0.8, -1.2], abs=FEW)]
    value = -(1.2 * math.log(1.2) + 0.8 * math.log(0.5) + 1.2 * math.log(1.5))
    assert parts.loss.item() == pytest.approx(value, abs=FEW)
    # both sides, whatever the advantage's sign: 0.5 and 1.5, not 1.2 itself up to rounding
    assert float(parts.metrics["policy/clip_frac"]) == pytest.approx(2 / 3, abs=FEW)
    assert float(parts.metrics["policy/clip_high_frac"]) == pytest.approx(1 / 3, abs=FEW)


def test_importance_weights_by_hand():
    # trainer/sampler 0.5, 4 and 2; the masked token may be anything. Row: 0.5 * 4 * 2 = 4
    ratios, mask = torch.tensor([[0.5, math.nan, 4.0, 2.0]]), torch.tensor([[True, False, True, True]])
    old, sampler = ratios.log() - 3.0, torch.full_like(ratios, -3.0)
    assert token_importance(old, sampler, mask, cap=3.0).tolist() == [
        pytest.approx([0.5, 0.0, 3.0, 2.0], abs=FEW)
    ]
    assert sequence_importance(old, sampler, mask, cap=10.0).tolist() == [
        pytest.approx([4.0, 0, 4.0, 4.0], abs=FEW)
    ]
    assert sequence_importance(old, sampler, mask, cap=3.0).tolist() == [
        pytest.approx([3.0, 0, 3.0, 3.0], abs=FEW)
    ]


def test_importance_weighs_the_policy_term_and_not_the_kl():
    # objective 1.1 with weight 0.5; the KL, ref/pi = 2, is whole
    weight = torch.tensor([[0.5]])
    parts = grpo([[1.1]], [1.0], ref_ratios=[[2.0]], kl_coef=0.5, importance_BT=weight)
    assert float(parts.loss) == pytest.approx(-0.55 + 0.5 * (1 - math.log(2)), abs=FEW)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s['clip_low']}-{s['kl']}-{s['importance']}")
def test_loss_and_gradient_agree_with_a_float64_reference(kind, settings):
    for seed in (0, 1):
        check_against_reference(policy_losses, kind, seed, settings)


def test_the_random_rows_meet_every_branch():
    for seed, kind in ((0, "gspo"), (1, "grpo")):
        given = case(seed)
        mask = given["mask"]
        ratios = (given["logprobs"] - given["old"]).nan_to_num()
        if kind == "gspo":
            ratios = ratios.sum(1, keepdim=True).div(mask.sum(1, keepdim=True).clamp(min=1)).expand_as(mask)
        ratios = ratios.exp()
        for sign in (given["advantages"] > 0, given["advantages"] < 0):
            for side in (ratios > 1.3, ratios < 0.8, (ratios > 0.8) & (ratios < 1.3)):
                assert (mask & side & sign[:, None]).any(), (kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_micro_batches_add_up_to_the_loss_of_the_batch(kind):
    totals = Totals(num_rows=2, num_tokens=4, max_length=10)
    options = {"ref_ratios": [[2.0] * 3] * 2, "kl_coef": 0.1, "totals": totals}
    whole = loss_of(kind, RAGGED, [1.0, -1.0], RAGGED_MASK, **options)
    options["ref_ratios"] = options["ref_ratios"][:1]
    parts = [
        loss_of(kind, [ratios], [a], [mask], **options)
        for ratios, a, mask in zip(RAGGED, [1.0, -1.0], RAGGED_MASK, strict=True)
    ]
    assert float(whole.loss) == pytest.approx(sum(float(part.loss) for part in parts), abs=FEW)
    for name in whole.metrics:
        expected = sum(float(part.metrics[name]) for part in parts)
        assert float(whole.metrics[name]) == pytest.approx(expected, abs=FEW)
