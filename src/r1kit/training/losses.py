"""Advantages, and the losses of SFT and reward models: pure functions of float32 tensors.

Legend: P problems, G group, B rows (P * G, group-major), T target positions (completion tokens).
A loss returns its share of the mini-batch's loss: `denominator` is computed once per mini-batch, across
micro-batches and ranks, so shares add up to the same loss however the rows are batched.
Not here: policy losses (`policy_losses`), which tokens are trained on (the loss mask), logprobs (`logprobs`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AdvantageScale = Literal["group", "batch", "none"]


@dataclass(frozen=True, slots=True)
class LossParts:
    """One micro-batch's share of the loss and of the metrics.

    Metrics are shares too: summed over micro-batches and ranks, or maximized if the name ends in `_max`.
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
    """Rewards centered within each problem's group and divided by a std (DeepSeek-R1 v1, eq. 3).

        A = (r - mean_group(r)) / (max(std, std_floor) + eps)

    `std` is the population std of the group ("group") or of all valid rewards in the batch ("batch"); "none"
    does not divide. Entries with `valid_PG` False (missing rewards) count in neither mean nor std and get 0.
    A group whose valid rewards are all equal expresses no preference and gets 0.
    """
    valid = valid_PG.bool()
    rewards = torch.where(valid, rewards_PG.float(), 0.0)
    count_P1 = valid.sum(1, keepdim=True).clamp(min=1)  # a group without valid rewards: 0 / 1, not 0 / 0
    mean_P1 = rewards.sum(1, keepdim=True) / count_P1
    centred = torch.where(valid, rewards - mean_P1, 0.0)
    # Compare max and min instead of testing std == 0: rounding can put the mean of equal numbers slightly
    # off, and dividing by the tiny std would turn that error into an advantage.
    highest = torch.where(valid, rewards, -torch.inf).amax(1, keepdim=True)
    lowest = torch.where(valid, rewards, torch.inf).amin(1, keepdim=True)
    centred = torch.where(highest > lowest, centred, 0.0)
    if scale == "none":
        return centred
    if scale == "group":
        # population std (divide by the count); centered entries that are invalid are 0
        std = (centred.square().sum(1, keepdim=True) / count_P1).sqrt()
    elif valid.any():
        std = rewards[valid].std(correction=0)  # around the batch's mean, not the groups' means
    else:
        std = torch.zeros(())
    return centred / (std.clamp(min=std_floor) + eps)


def next_token_loss(logprobs_BT: Tensor, loss_mask_BT: Tensor, *, denominator: float) -> LossParts:
    """Supervised fine-tuning: -1/denominator times the sum of the trained tokens' logprobs.

    `denominator` is the number of trained tokens in the entire batch, so every token counts equally.
    """
    # `where`, not a product: a masked logprob may be -inf, and 0 * -inf is NaN
    return LossParts(-torch.where(loss_mask_BT.bool(), logprobs_BT.float(), 0.0).sum() / denominator, {})


def pairwise_loss(
    chosen_B: Tensor, rejected_B: Tensor, *, denominator: float, margins_B: Tensor | None = None
) -> LossParts:
    """Bradley-Terry: -1/denominator sum log sigmoid(chosen - rejected - margin); `denominator` counts pairs.

    A margin asks for scores that far apart (Llama 2, arXiv 2307.09288, eq. 2); None means 0. The metrics
    ignore it: `accuracy` (chosen scores higher; a tie counts half) and `difference` (mean chosen - rejected).
    """
    difference = chosen_B.float() - rejected_B.float()
    asked = difference if margins_B is None else difference - margins_B.float()
    loss = -F.logsigmoid(asked).sum() / denominator
    won = (difference.detach().sign() + 1.0) / 2.0  # 1, 0.5 for a tie, or 0
    return LossParts(
        loss, {"accuracy": won.sum() / denominator, "difference": difference.detach().sum() / denominator}
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


def without_fillers(losses: Iterable[LossParts], num_real: int) -> Iterator[LossParts]:
    """The losses of an update's micro-batches; those after the first `num_real` are fillers and become 0."""
    for number, parts in enumerate(losses):
        # times 0, so that a filler still has a backward pass, which the other ranks wait for
        # (`sharding.share`)
        yield parts if number < num_real else LossParts(parts.loss * 0.0, {})
