"""Our policy losses against TRL's own, on the same tensors. TRL is no dependency: `make peers` installs it.

`GRPOTrainer._compute_loss` runs as it is, on a stand-in for its trainer that has logprobs and no model.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from r1kit.training.policy_losses import POLICY_LOSSES, Totals, k3_kl, sequence_importance, token_importance
from tests.training.policy_reference import case, gradient_error, loss_error

pytestmark = pytest.mark.slow

MAX_LENGTH = 11
CAP = 1.5


@pytest.fixture(scope="module")
def trl_loss():
    trl = pytest.importorskip("trl", reason="TRL is not installed; `make peers` installs it")
    return trl.GRPOTrainer._compute_loss


def by_trl(trl_loss, tensors, *, loss_type, level, clip_low, clip_high, kl_coef, importance_BT):
    logprobs, old, ref, advantages, mask = tensors
    accelerator = SimpleNamespace(
        num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, reduction: x
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        accelerator=accelerator,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        aux_loss_enabled=False,
        beta=kl_coef,
        current_gradient_accumulation_steps=1,
        epsilon_low=clip_low,
        epsilon_high=clip_high,
        importance_sampling_level=level,
        loss_type=loss_type,
        max_completion_length=MAX_LENGTH,
        model=SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=importance_BT is not None,
        vllm_importance_sampling_correction=True,
    )
    none = torch.zeros(mask.shape[0], 0, dtype=torch.long)
    inputs = {
        "prompt_ids": none,
        "prompt_mask": none,
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": importance_BT,
    }
    return trl_loss(trainer, None, inputs)


def tensors_of(seed):
    """The random rows in float32, without the row that has no token and without NaN: TRL lets both in."""
    given = case(seed)
    kept = given["mask"].any(1)
    mask = given["mask"][kept]
    floats = [given[name][kept].nan_to_num().float() for name in ("logprobs", "old", "ref", "advantages")]
    return (floats[0].requires_grad_(), *floats[1:], mask), given["sampler"][kept].nan_to_num().float()


# ours, TRL's loss_type, its importance_sampling_level, and how its upper clip is made of ours
NAMES = [
    ("grpo", "grpo", "token", 0.0),
    ("dr_grpo", "dr_grpo", "token", 0.0),
    ("dapo", "dapo", "token", 0.0),
    ("dapo", "bnpo", "token", 0.0),  # the same where there is one micro-batch
    ("gspo", "grpo", "sequence", 0.0),
    ("cispo", "cispo", "token", 1.0),  # min(w, epsilon_high): the bound itself, and none below
]


@pytest.mark.parametrize(("ours", "loss_type", "level", "clip_offset"), NAMES)
@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
@pytest.mark.parametrize("importance", ["none", "token", "sequence"])
def test_losses_and_gradients_are_trls(trl_loss, ours, loss_type, level, clip_offset, kl_coef, importance):
    clip_low = 1.0 if ours == "cispo" else 0.2
    for seed in (0, 1):
        tensors, sampler = tensors_of(seed)
        logprobs, old, _, _, mask = tensors
        weigh = {"token": token_importance, "sequence": sequence_importance}.get(importance)
        weights = None if weigh is None else weigh(old, sampler, mask, cap=CAP)
        theirs = by_trl(
            trl_loss,
            tensors,
            loss_type=loss_type,
            level=level,
            clip_low=clip_low,
            clip_high=0.3 + clip_offset,
            kl_coef=kl_coef,
            importance_BT=weights,
        )
        (expected,) = torch.autograd.grad(theirs, logprobs)
        totals = Totals(float(mask.shape[0]), float(mask.sum()), MAX_LENGTH)
        parts = POLICY_LOSSES[ours](
            *tensors,
            clip_low=clip_low,
            clip_high=0.3,
            kl_coef=kl_coef,
            kl=k3_kl,
            totals=totals,
            importance_BT=weights,
        )
        (found,) = torch.autograd.grad(parts.loss, logprobs)
        assert parts.loss.item() == pytest.approx(theirs.item(), abs=loss_error(theirs, expected))
        torch.testing.assert_close(found, expected, rtol=0, atol=gradient_error(expected))
        assert expected.abs().max() > 0.01
