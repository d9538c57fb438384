"""The tests of the policy losses are worth something: a flipped sign, mask, clip or denominator fails them.

Each mutant is `policy_losses` with one place of its source changed; the comparison with the float64
reference, which the real module passes, must fail for it.
"""

from pathlib import Path
from types import ModuleType

import pytest

from r1kit.training import policy_losses
from tests.training.policy_reference import KINDS, SETTINGS, check_against_reference

SOURCE = Path(policy_losses.__file__).read_text(encoding="utf-8")

MUTANTS = [
    # signs
    ("loss = -(terms.objective_BT", "loss = (terms.objective_BT"),
    ("old_BT.float() - sampler_BT.float()", "sampler_BT.float() - old_BT.float()"),
    ("loss = loss + kl_coef *", "loss = loss - kl_coef *"),
    ("log_ratio = logprobs - old", "log_ratio = old - logprobs"),
    ("(logprobs - ref_logprobs).detach()", "(ref_logprobs - logprobs).detach()"),
    ("log_ratio * (logprobs - logprobs.detach())", "log_ratio * (logprobs.detach() - logprobs)"),
    ("log_ratio = ref_logprobs - logprobs", "log_ratio = logprobs - ref_logprobs"),
    (".exp() - log_ratio - 1.0", ".exp() + log_ratio - 1.0"),
    # masks
    ("logprobs = torch.where(mask, logprobs_BT.float(), 0.0)", "logprobs = logprobs_BT.float()"),
    ("torch.where(mask, old_logprobs_BT.float(), 0.0)", "old_logprobs_BT.float()"),
    ("torch.where(mask, ref_logprobs_BT.float(), 0.0)", "ref_logprobs_BT.float()"),
    ("torch.where(mask, advantages_B.float().unsqueeze(1), 0.0)", "advantages_B.float().unsqueeze(1)"),
    ("log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)", "log_ratio.mean(1, True)"),
    ("torch.where(loss_mask_BT.bool(), old_BT.float() - sampler_BT.float(), 0.0)", "(old_BT - sampler_BT)"),
    # clips
    (".exp().clamp(max=cap)", ".exp()"),
    (".exp().clamp(max=cap)", ".exp().clamp(min=cap)"),
    ("torch.minimum(ratio * advantages", "torch.maximum(ratio * advantages"),
    ("bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "bounded = ratio"),
    ("bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "bounded = ratio.clamp(max=1.0 + clip_high)"),
    ("bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "bounded = ratio.clamp(min=1.0 - clip_low)"),
    ("bounded = ratio.clamp(1.0 - clip_low,", "bounded = ratio.clamp(1.0 - clip_high,"),
    ("bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "bounded = ratio.clamp(0.8, 1.0 + clip_low)"),
    ("torch.minimum(ratio * advantages, bounded * advantages)", "bounded * advantages"),
    ("weight = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "weight = ratio"),
    ("weight = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "weight = ratio.clamp(max=1.0 + clip_high)"),
    ("weight = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)", "weight = ratio.clamp(min=1.0 - clip_low)"),
    ("log_ratio.detach().clamp(", "log_ratio.clamp("),
    ("_MAX_LOG_RATIO = 20.0", "_MAX_LOG_RATIO = 2.0"),
    # denominators
    ("clamp(min=1) / totals.num_rows", "clamp(min=1)"),
    ("mask / mask.sum(1, keepdim=True).clamp(min=1) / totals.num_rows", "mask / totals.num_tokens"),
    ("(totals.num_rows * totals.max_length)", "totals.num_rows"),
    ("(totals.num_rows * totals.max_length)", "totals.max_length"),
    ("(totals.num_rows * totals.max_length)", "(totals.num_rows * mask.shape[1])"),
    ("return mask / totals.num_tokens", "return mask / mask.sum()"),
    ("(kl_BT * weight_BT).sum()", "kl_BT.sum()"),
    ("(kl_BT * weight_BT).sum()", "(kl_BT * policy_weight_BT).sum()"),
    ("weight_BT if importance_BT is None else weight_BT * importance_BT", "weight_BT"),
    ("difference.sum(1, keepdim=True).expand_as(difference)", "difference"),
    ("logprobs - ref_logprobs).square() / 2.0", "logprobs - ref_logprobs).square()"),
    # which is which
    ('"grpo": PolicyLoss(clipped_tokens, row_mean)', '"grpo": PolicyLoss(clipped_tokens, token_mean)'),
    ("PolicyLoss(clipped_tokens, constant_length)", "PolicyLoss(clipped_tokens, row_mean)"),
    ("PolicyLoss(clipped_tokens, token_mean)", "PolicyLoss(clipped_tokens, row_mean)"),
    ("PolicyLoss(clipped_rows, row_mean)", "PolicyLoss(clipped_tokens, row_mean)"),
    ("PolicyLoss(clipped_rows, row_mean)", "PolicyLoss(clipped_rows, token_mean)"),
    ("PolicyLoss(clipped_weights, token_mean)", "PolicyLoss(clipped_tokens, token_mean)"),
    ("PolicyLoss(clipped_weights, token_mean)", "PolicyLoss(clipped_weights, row_mean)"),
    ('"k2": k2_kl, "k3": k3_kl', '"k2": k3_kl, "k3": k2_kl'),
]


def mutant(before: str, after: str) -> ModuleType:
    assert SOURCE.count(before) >= 1, f"not in the source any more: {before}"
    module = ModuleType("mutant")
    module.__dict__["__name__"] = policy_losses.__name__  # dataclasses look their module up
    exec(compile(SOURCE.replace(before, after), "mutant", "exec"), module.__dict__)
    return module


def is_noticed(module: ModuleType) -> bool:
    for kind in KINDS:
        for settings in SETTINGS:
            for seed in (0, 1):
                try:
                    check_against_reference(module, kind, seed, settings)
                except AssertionError:
                    return True
    return False


@pytest.mark.parametrize(("before", "after"), MUTANTS)
def test_a_mutant_is_noticed(before, after):
    assert is_noticed(mutant(before, after))


def test_the_source_as_it_is_passes():
    assert not is_noticed(mutant("_MAX_LOG_RATIO = 20.0", "_MAX_LOG_RATIO = 20.0"))
