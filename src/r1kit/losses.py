"""Advantages, losses and KL estimators: pure functions of float32 tensors.

Legend: P problems, G group, B rows (P * G, group-major), T target positions (completion tokens).
A loss returns its share of the mini-batch's loss: `denominator` is taken once per mini-batch, across
micro-batches and ranks, so that shares add up to the same loss however the rows are batched.
Not here: which rows are trained (the loss mask), logprobs (`logprobs`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AdvantageScale = Literal["group", "batch", "none"]

# exp(20) = 5e8: far beyond any useful ratio, and its square still fits float32
_MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, slots=True)
class LossParts:
    """One micro-batch's share of the loss, and of the metrics.

    Metrics, too, are shares that add up over micro-batches and ranks; of a name that ends in `_max` the
    largest counts.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor]


def group_advantages(
    rewards_PG: Tensor,
    valid_PG: Tensor,
    *,
    scale: AdvantageScale = "group",
    std_floor: float = 0.0,
    eps: float = 1e-6,
) -> Tensor:
    """Rewards centred within each problem's group and divided by a std (DeepSeek-R1 v1, eq. 3).

        A = (r - mean_group(r)) / (max(std, std_floor) + eps)

    `std` is the population std of the group ("group"), that of all valid rewards of the batch ("batch"),
    or the division is left out ("none"). Entries with `valid_PG` False (a reward that is missing) enter
    neither mean nor std and get 0. A group whose valid rewards are all equal expresses no preference: 0.
    """
    valid = valid_PG.bool()
    rewards = torch.where(valid, rewards_PG.float(), 0.0)
    count_P1 = valid.sum(1, keepdim=True).clamp(min=1)
    mean_P1 = rewards.sum(1, keepdim=True) / count_P1
    centred = torch.where(valid, rewards - mean_P1, 0.0)
    # by comparison, not by std == 0: the mean of equal numbers can be off by a rounding
    highest = torch.where(valid, rewards, -torch.inf).amax(1, keepdim=True)
    lowest = torch.where(valid, rewards, torch.inf).amin(1, keepdim=True)
    centred = torch.where(highest > lowest, centred, 0.0)
    if scale == "none":
        return centred
    if scale == "group":
        std = (centred.square().sum(1, keepdim=True) / count_P1).sqrt()
    elif valid.any():
        std = rewards[valid].std(correction=0)
    else:
        std = torch.zeros(())
    return centred / (std.clamp(min=std_floor) + eps)


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """ref/pi - log(ref/pi) - 1 per token: an estimate of KL(pi || ref) (DeepSeek-R1 v1, eq. 2).

    Never negative, and unbiased for tokens sampled from pi. Inside the exponential the log ratio is held at
    20 at most.
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.clamp(max=_MAX_LOG_RATIO).exp() - log_ratio - 1.0


def grpo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor | None,
    ref_logprobs_BT: Tensor | None,
    advantages_B: Tensor,
    loss_mask_BT: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
    denominator: float,
) -> LossParts:
    """GRPO with ratio and KL per token (DeepSeekMath, eq. 3; DeepSeek-R1 v1, eq. 1), to be minimised.

        loss = -1/denominator sum_i 1/|o_i| sum_t [ min(w A_i, clip(w, 1 - clip_low, 1 + clip_high) A_i)
                                                    - kl_coef k3 ],    w = exp(logprobs - old_logprobs)

    Each row is averaged over its own trained tokens, then rows are summed; `denominator` is the number of
    trained rows of the whole mini-batch. A row without a trained token contributes nothing.
    `old_logprobs_BT` None means on-policy: the ratio is 1, and its gradient is kept. With `kl_coef` 0 and a
    reference, the KL is reported and not trained.
    Metrics, per-row means averaged over rows: `policy/clip_frac` (share of tokens whose ratio is cut, so
    that they give no policy gradient), `policy/clip_high_frac`, `policy/ratio_mean`, `kl/old`, `kl/ref`.
    """
    mask = loss_mask_BT.bool()
    weight_BT = mask / mask.sum(1, keepdim=True).clamp(min=1) / denominator

    def average(values_BT: Tensor) -> Tensor:
        return (values_BT * weight_BT).sum()

    # what stands where nothing is trained may be anything, also NaN, which a weight of 0 would let through
    logprobs = torch.where(mask, logprobs_BT.float(), 0.0)
    old = logprobs.detach() if old_logprobs_BT is None else torch.where(mask, old_logprobs_BT.float(), 0.0)
    log_ratio = (logprobs - old).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    advantages_B1 = advantages_B.float().unsqueeze(1)
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    objective = torch.minimum(ratio * advantages_B1, clipped * advantages_B1)

    with torch.no_grad():
        cut_high = (advantages_B1 > 0) & (ratio > 1.0 + clip_high)
        cut_low = (advantages_B1 < 0) & (ratio < 1.0 - clip_low)
        metrics = {
            "policy/clip_frac": average((cut_high | cut_low).float()),
            "policy/clip_high_frac": average(cut_high.float()),
            "policy/ratio_mean": average(ratio),
            # tokens come from the old policy: KL(old || pi) is the mean of pi/old - log(pi/old) - 1
            "kl/old": average(ratio - log_ratio - 1.0),
        }
    loss = -average(objective)
    if ref_logprobs_BT is not None:
        kl = average(k3_kl(logprobs, torch.where(mask, ref_logprobs_BT.float(), 0.0)))
        metrics["kl/ref"] = kl.detach()
        if kl_coef:
            loss = loss + kl_coef * kl
    return LossParts(loss, metrics)


def next_token_loss(logprobs_BT: Tensor, loss_mask_BT: Tensor, *, denominator: float) -> LossParts:
    """Supervised fine-tuning: -1/denominator sum of the logprobs of trained tokens.

    `denominator` is the number of trained tokens of the whole batch, so every token counts the same.
    """
    return LossParts(-torch.where(loss_mask_BT.bool(), logprobs_BT.float(), 0.0).sum() / denominator, {})


def pairwise_loss(chosen_B: Tensor, rejected_B: Tensor, *, denominator: float) -> LossParts:
    """Bradley-Terry: -1/denominator sum log sigmoid(chosen - rejected); `denominator` counts pairs.

    Metrics: `accuracy` (chosen scores higher; a tie counts half), `margin` (mean difference).
    """
    difference = chosen_B.float() - rejected_B.float()
    loss = -F.logsigmoid(difference).sum() / denominator
    won = (difference.detach().sign() + 1.0) / 2.0
    return LossParts(
        loss, {"accuracy": won.sum() / denominator, "margin": difference.detach().sum() / denominator}
    )


def pointwise_loss(scores_B: Tensor, labels_B: Tensor, *, denominator: float) -> LossParts:
    """Binary cross-entropy of sigmoid(score) against labels in [0, 1]; `denominator` counts rows.

    Metrics: `accuracy` (the score's sign agrees with the label), `score_mean`.
    """
    scores, labels = scores_B.float(), labels_B.float()
    loss = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / denominator
    right = ((scores.detach() > 0) == (labels > 0.5)).float()
    return LossParts(
        loss, {"accuracy": right.sum() / denominator, "score_mean": scores.detach().sum() / denominator}
    )
