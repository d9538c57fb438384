"""Policy losses and KL estimators: pure functions of float32 tensors, each a recipe's choice.

Legend: B rows (completions), T target positions (their tokens). In every equation o_i is row i, |o_i| the
number of its trained tokens, A_i its advantage, w = exp(logprobs - old_logprobs) the ratio of a token, and
clip(w) = clip(w, 1 - clip_low, 1 + clip_high), so that min(w A, clip(w) A) is PPO's clipped objective. All
losses are to be minimised.

`POLICY_LOSSES` is the table: which policy term a loss has, and how its tokens are averaged.

A loss returns its share of the mini-batch's loss: `totals` are counted once per mini-batch, over its
micro-batches and ranks, so that shares add up to the same loss however the rows are batched. A row is never
split: it is in one micro-batch, whole. The KL term is averaged as the policy term is.
Metrics are means over a row's tokens, then over rows, whatever the loss, so that runs can be compared:
`policy/clip_frac`, `policy/clip_high_frac`, `policy/ratio_mean`, `kl/old` and, with a reference, `kl/ref`.
Not here: advantages (`losses`), which rows are trained (the loss mask), logprobs (`logprobs`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from r1kit.training.losses import LossParts

LossName = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo"]
KlName = Literal["k1", "k2", "k3"]
ImportanceName = Literal["none", "token", "sequence"]

KlEstimator = Callable[[Tensor, Tensor], Tensor]
"""`kl(logprobs, ref_logprobs)`: an estimate of KL(pi || ref) per token."""

# exp(20) = 5e8: far beyond any useful ratio, and its square still fits float32
_MAX_LOG_RATIO = 20.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What the losses of a whole mini-batch are divided by, counted over micro-batches and ranks.

    `max_length` is a constant of the run (`dr_grpo`), the others count trained rows and trained tokens.
    """

    num_rows: float
    num_tokens: float
    max_length: float


@dataclass(frozen=True, slots=True)
class Terms:
    """The policy term of each token, to be maximised, and where the ratio in it is cut, and on which side."""

    objective_BT: Tensor
    ratio_BT: Tensor
    cut_low_BT: Tensor
    cut_high_BT: Tensor


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """A policy loss: `terms` of each token, and `average`, the weight that each has in the mini-batch.

    `terms(log_ratio, logprobs, advantages, mask, clip_low, clip_high)`, all but the clips of shape BT and 0
    where the mask is False; `average(mask, totals)`.
    """

    terms: Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Terms]
    average: Callable[[Tensor, Totals], Tensor]

    def __call__(
        self,
        logprobs_BT: Tensor,
        old_logprobs_BT: Tensor | None,
        ref_logprobs_BT: Tensor | None,
        advantages_B: Tensor,
        loss_mask_BT: Tensor,
        *,
        clip_low: float,
        clip_high: float,
        kl_coef: float,
        kl: KlEstimator,
        totals: Totals,
        importance_BT: Tensor | None = None,
    ) -> LossParts:
        """-sum of weight * (policy term - kl_coef kl) over the tokens of a micro-batch, and the metrics.

        `old_logprobs_BT` None means on-policy: the ratio is 1, and its gradient is kept. `kl_coef` 0 with a
        reference: the KL is reported, not trained. `importance_BT` weighs each token's policy term, not its
        KL: see `token_importance`. What stands where the loss mask is False may be anything, also NaN. A row
        without a trained token contributes nothing.
        """
        mask = loss_mask_BT.bool()
        # a weight of 0 would let a NaN through
        logprobs = torch.where(mask, logprobs_BT.float(), 0.0)
        old = logprobs.detach()
        if old_logprobs_BT is not None:
            old = torch.where(mask, old_logprobs_BT.float(), 0.0)
        advantages = torch.where(mask, advantages_B.float().unsqueeze(1), 0.0)
        log_ratio = logprobs - old
        terms = self.terms(log_ratio, logprobs, advantages, mask, clip_low, clip_high)
        weight_BT = self.average(mask, totals)
        policy_weight_BT = weight_BT if importance_BT is None else weight_BT * importance_BT
        loss = -(terms.objective_BT * policy_weight_BT).sum()

        metric_weight_BT = row_mean(mask, totals)
        with torch.no_grad():
            bounded = log_ratio.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
            per_token = {
                "policy/clip_frac": (terms.cut_low_BT | terms.cut_high_BT).float(),
                "policy/clip_high_frac": terms.cut_high_BT.float(),
                "policy/ratio_mean": terms.ratio_BT,
                # tokens come from the old policy: KL(old || pi) is the mean of pi/old - log(pi/old) - 1
                "kl/old": bounded.exp() - bounded - 1.0,
            }
        if ref_logprobs_BT is not None:
            kl_BT = kl(logprobs, torch.where(mask, ref_logprobs_BT.float(), 0.0))
            per_token["kl/ref"] = kl_BT.detach()
            if kl_coef:
                loss = loss + kl_coef * (kl_BT * weight_BT).sum()
        metrics = {name: (values * metric_weight_BT).sum() for name, values in per_token.items()}
        return LossParts(loss, metrics)


def row_mean(mask: Tensor, totals: Totals) -> Tensor:
    """Over a row's tokens, then over rows."""
    return mask / mask.sum(1, keepdim=True).clamp(min=1) / totals.num_rows


def constant_length(mask: Tensor, totals: Totals) -> Tensor:
    """The sum over tokens, divided by rows and by a constant length."""
    return mask / (totals.num_rows * totals.max_length)


def token_mean(mask: Tensor, totals: Totals) -> Tensor:
    """Over all tokens of the mini-batch."""
    return mask / totals.num_tokens


def clipped_tokens(
    log_ratio: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_low: float, clip_high: float
) -> Terms:
    """PPO's min(w A, clip(w) A), w a token's ratio. A token is cut where that takes its gradient away."""
    ratio = log_ratio.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return Terms(
        torch.minimum(ratio * advantages, bounded * advantages),
        ratio,
        (advantages < 0) & (ratio < 1.0 - clip_low),
        (advantages > 0) & (ratio > 1.0 + clip_high),
    )


def clipped_rows(
    log_ratio: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_low: float, clip_high: float
) -> Terms:
    """PPO's clipped objective, w a row's ratio: the geometric mean of its tokens'."""
    mean_B1 = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return clipped_tokens(mean_B1.expand_as(log_ratio), logprobs, advantages, mask, clip_low, clip_high)


def clipped_weights(
    log_ratio: Tensor, logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_low: float, clip_high: float
) -> Terms:
    """clip(w) A logp, clip(w) without gradient. A token is cut where its weight is; its gradient stays."""
    ratio = log_ratio.detach().clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    weight = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return Terms(weight * advantages * logprobs, ratio, mask & (weight > ratio), mask & (weight < ratio))


POLICY_LOSSES: Mapping[LossName, PolicyLoss] = {
    "grpo": PolicyLoss(clipped_tokens, row_mean),
    "dr_grpo": PolicyLoss(clipped_tokens, constant_length),
    "dapo": PolicyLoss(clipped_tokens, token_mean),
    "gspo": PolicyLoss(clipped_rows, row_mean),
    "cispo": PolicyLoss(clipped_weights, token_mean),
}
"""grpo: GRPO with ratio and KL per token (DeepSeekMath, eq. 3; DeepSeek-R1 v1, eq. 1).

    loss = -1/num_rows sum_i 1/|o_i| sum_t [ min(w A_i, clip(w) A_i) - kl_coef kl ]

Each row is averaged over its own tokens, then rows are averaged: a token of a long row weighs less.
TRL `loss_type="grpo"` (rows averaged per micro-batch, then micro-batches: the same where these are of one
size); verl `loss_agg_mode="seq-mean-token-mean"`; NeMo-RL `token_level_loss=False`.

dr_grpo: Dr. GRPO (arXiv 2503.20783, 3.2 and its listing 1): no division by a row's own length.

    loss = -1/(num_rows max_length) sum_i sum_t [ min(w A_i, clip(w) A_i) - kl_coef kl ]

The paper's equation has the sum alone; its code divides by the largest completion length. So it is here:
`max_length` is the largest `max_new_tokens` of the whole stage, a constant also where the limit is
raised in between. The paper's other half is `advantage_scale = "none"`, the recipe's to choose.
TRL `loss_type="dr_grpo"` (`max_completion_length`); verl `"seq-mean-token-sum-norm"` (`loss_scale_factor`
or else the batch's padded length, which is no constant; older versions don't divide by the rows);
NeMo-RL has none.

dapo: DAPO's token-level loss (arXiv 2503.14476, 3.3, eq. 8 with its groups taken together).

    loss = -1/num_tokens sum_i sum_t [ min(w A_i, clip(w) A_i) - kl_coef kl ]

Every token of the mini-batch weighs the same. (The paper's equation divides by the tokens of a question's
group and averages over questions; its code, as everybody's, by the tokens of the mini-batch.) DAPO's
clip-higher is `clip_high`, its `kl_coef` is 0.
TRL `loss_type="dapo"`; its `"bnpo"`, and verl's `"token-mean"` in older versions, count the tokens of a
micro-batch, so that results depend on the batching; NeMo-RL `token_level_loss=True`.

gspo: GSPO (arXiv 2507.18071, eq. 5 and 7): one ratio for a row, the geometric mean of its tokens'.

    s_i = exp( 1/|o_i| sum_t (logprobs - old_logprobs) )
    loss = -1/num_rows sum_i [ min(s_i A_i, clip(s_i) A_i) - kl_coef 1/|o_i| sum_t kl ]

A row is clipped as a whole. Such ratios stay close to 1: the paper clips at 3e-4 below and 4e-4 above
(5.1), three orders tighter than token ratios are clipped. It has no KL term.
TRL `importance_sampling_level="sequence"` with `loss_type="grpo"`; NeMo-RL
`sequence_level_importance_ratios`; verl `loss_mode="gspo"`, which spreads a detached s_i over the tokens:
the same gradient where rows are averaged, which in newer versions `loss_agg_mode` decides.

cispo: CISPO (MiniMax-M1, arXiv 2506.13585, eq. 4 and 5): the weight is clipped, no token loses its gradient.

    loss = -1/num_tokens sum_i sum_t [ detach(clip(w, 1 - clip_low, 1 + clip_high)) A_i logprobs
                                       - kl_coef kl ]

The paper sets no lower bound (`clip_low` 1 or more), and has no KL term. The loss's value says nothing,
only its gradient does. `policy/clip_frac` is the share of tokens whose weight is clipped on either side.
verl `loss_mode="cispo"` and NeMo-RL `use_cispo` are the same; TRL `loss_type="cispo"` has no lower bound
and takes `epsilon_high` for the bound itself, min(w, epsilon_high): its 5.0 is `clip_high` 4.0 here.
"""


def k1_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi - log ref per token, with the gradient (log pi - log ref) grad log pi.

    As an estimate of KL(pi || ref) it is unbiased for tokens sampled from pi, noisy, and may be negative. The
    plain expression is wrong as a loss: its gradient is that of log pi, which is 0 on average, and holds the
    policy to nothing. So it gets the gradient that an expectation over pi's own samples has (the score
    function's), which is k2's, and unbiased. verl's "k1" in the loss is the plain one, its "k1+" is this;
    NeMo-RL's "k1" is this on average; TRL has k3 only.
    """
    log_ratio = (logprobs - ref_logprobs).detach()
    return log_ratio + log_ratio * (logprobs - logprobs.detach())


def k2_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(log pi - log ref)^2 / 2 per token (Schulman, "Approximating KL divergence").

    As an estimate of KL(pi || ref) it is biased, little where the two are close; never negative. As a loss
    it is right: for tokens sampled from pi its gradient is on average that of KL(pi || ref).
    """
    return (logprobs - ref_logprobs).square() / 2.0


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """ref/pi - log(ref/pi) - 1 per token (DeepSeek-R1 v1, eq. 2): the paper's choice.

    As an estimate of KL(pi || ref) it is unbiased for tokens sampled from pi, and never negative. As a loss
    its gradient is on average that of KL(ref || pi), the other direction: the same to first order near the
    reference, and more lenient on tokens that the reference holds unlikely. Inside the exponential the log
    ratio is held at 20 at most.
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.clamp(max=_MAX_LOG_RATIO).exp() - log_ratio - 1.0


class Importance(Protocol):
    """Weights of the tokens, without gradient, 0 where the mask is False."""

    def __call__(
        self, old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, loss_mask_BT: Tensor, *, cap: float
    ) -> Tensor: ...


def token_importance(
    old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, loss_mask_BT: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance sampling, token by token (Yao et al. 2025, "Your efficient RL framework secretly
    brings you off-policy RL training").

        min( exp(old_logprobs - sampler_logprobs), cap )

    Completions come from the sampler, whose kernels or precision may be others than the trainer's, and not
    from the policy that the ratio's denominator stands for. The weight corrects each token for itself: little
    variance, some bias. TRL `vllm_importance_sampling_mode="token_truncate"`; verl `rollout_is="token"`;
    NeMo-RL `truncated_importance_sampling_type="tis"`.
    """
    return _importance(
        _trained_difference(old_logprobs_BT, sampler_logprobs_BT, loss_mask_BT), loss_mask_BT, cap
    )


def sequence_importance(
    old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, loss_mask_BT: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance sampling of whole rows: one weight for all tokens of a row.

        min( exp( sum_t (old_logprobs - sampler_logprobs) ), cap )

    Without the cap it has no bias; in long rows small differences add up, and most weights end at the cap or
    at 0. TRL `"sequence_truncate"` and verl `rollout_is="sequence"` sum, too; GSPO's own ratio is a mean.
    """
    difference = _trained_difference(old_logprobs_BT, sampler_logprobs_BT, loss_mask_BT)
    return _importance(difference.sum(1, keepdim=True).expand_as(difference), loss_mask_BT, cap)


KL_ESTIMATORS: Mapping[KlName, KlEstimator] = {"k1": k1_kl, "k2": k2_kl, "k3": k3_kl}
IMPORTANCE_CORRECTIONS: Mapping[ImportanceName, Importance | None] = {
    "none": None,
    "token": token_importance,
    "sequence": sequence_importance,
}


def _trained_difference(old_BT: Tensor, sampler_BT: Tensor, loss_mask_BT: Tensor) -> Tensor:
    return torch.where(loss_mask_BT.bool(), old_BT.float() - sampler_BT.float(), 0.0).detach()


def _importance(log_weight_BT: Tensor, loss_mask_BT: Tensor, cap: float) -> Tensor:
    weight_BT = log_weight_BT.clamp(max=_MAX_LOG_RATIO).exp().clamp(max=cap)
    return torch.where(loss_mask_BT.bool(), weight_BT, 0.0)
