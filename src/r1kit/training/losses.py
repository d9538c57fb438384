"""Advantages, and the losses of SFT and reward models: pure functions of float32 tensors.

Legend: P problems, G group, B rows (P * G, group-major), T target positions (completion tokens).
A loss returns its share of the mini-batch's loss: `denominator` is taken once per mini-batch, across
micro-batches and ranks, so that shares add up to the same loss however the rows are batched.
Not here: losses of a policy (`policy_losses`), which rows are trained (the loss mask), logprobs (`logprobs`).
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


def next_token_loss(logprobs_BT: Tensor, loss_mask_BT: Tensor, *, denominator: float) -> LossParts:
    """Supervised fine-tuning: -1/denominator sum of the logprobs of trained tokens.

    `denominator` is the number of trained tokens of the whole batch, so every token counts the same.
    """
    return LossParts(-torch.where(loss_mask_BT.bool(), logprobs_BT.float(), 0.0).sum() / denominator, {})


def pairwise_loss(
    chosen_B: Tensor, rejected_B: Tensor, *, denominator: float, margins_B: Tensor | None = None
) -> LossParts:
    """Bradley-Terry: -1/denominator sum log sigmoid(chosen - rejected - margin); `denominator` counts pairs.

    A margin asks that a pair's scores lie that far apart (Llama 2, arXiv 2307.09288, eq. 2); None: 0. Metrics
    are without it: `accuracy` (chosen scores higher; a tie counts half), `difference` (mean chosen -
    rejected).
    """
    difference = chosen_B.float() - rejected_B.float()
    asked = difference if margins_B is None else difference - margins_B.float()
    loss = -F.logsigmoid(asked).sum() / denominator
    won = (difference.detach().sign() + 1.0) / 2.0
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
    """The losses of the first `num_real` micro-batches of an update; those of fillers count for nothing."""
    for number, parts in enumerate(losses):
        yield parts if number < num_real else LossParts(parts.loss * 0.0, {})
