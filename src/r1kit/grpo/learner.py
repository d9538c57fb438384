"""From rows with advantages to updated weights: mini-batches, old and reference logprobs, updates.

A step's updates are a pure function of the learner's state and the step's groups, so replaying them from the
log gives the same weights to the bit. Every rank has all groups; micro-batches are packed once and dealt out
to the ranks.

Legend: B rows, T target positions, N tokens of all rows.
"""

import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from r1kit.grpo.config import GrpoConfig
from r1kit.model.fused_layers import use_fused_layers
from r1kit.model.logprobs import CompletionBatch, completion_logprobs
from r1kit.model.packing import batching_for
from r1kit.ranks import collectives
from r1kit.ranks.sharding import share
from r1kit.seeds import derive_seed
from r1kit.training.losses import LossParts, without_fillers
from r1kit.training.policy_losses import IMPORTANCE_CORRECTIONS, KL_ESTIMATORS, POLICY_LOSSES, Totals
from r1kit.training.trainer import Trainer
from r1kit.types import Rollout


@dataclass(frozen=True, slots=True)
class TrainedRollout:
    """A rollout to train on, with its advantage."""

    rollout: Rollout
    advantage: float


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of one forward pass, on the model's device."""

    tokens: CompletionBatch
    advantages_B: Tensor
    sampler_logprobs_N: Tensor  # row after row
    old_logprobs_BT: Tensor | None
    ref_logprobs_BT: Tensor | None


@dataclass(slots=True)
class MiniBatch:
    """The rows of one update, and this rank's micro-batches of them; the last ones may be fillers.

    `old_logprobs`, per micro-batch, are those of the policy that sampled. None if that is still the current
    policy at the mini-batch's first update: its own logprobs, detached, then are the old ones.
    """

    rows: list[TrainedRollout]
    micro_batches: list[list[TrainedRollout]]
    num_real: int
    old_logprobs: list[Tensor] | None


class Learner:
    """The policy, its optimizer, and the reference for the KL term (none if `kl_coef` is 0).

    With LoRA, the reference is the policy with its adapter off, or with the adapter of the last refresh.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        config: GrpoConfig,
        *,
        pad_id: int,
        seed: int,
        shard: Callable[[PreTrainedModel], None] | None = None,
    ) -> None:
        """`shard` shards a model over the ranks; None: each rank has the complete model."""
        self.policy = policy
        self.config = config
        use_fused_layers(policy)  # before copying the reference, so that it computes the same bits
        self.reference: PreTrainedModel | None = None
        if config.kl_coef > 0 and config.lora is None:
            self.reference = copy.deepcopy(policy).eval().requires_grad_(False)
        if shard is not None:
            for model in (self.reference, policy):
                if model is not None:
                    shard(model)
        self.trainer = Trainer(
            policy,
            config.optimizer,
            total_steps=config.num_updates,
            lora=config.lora,
            gradient_checkpointing=config.gradient_checkpointing,
            seed=seed,
        )
        self.refreshed_at = 0  # the update after which the reference was last replaced by the policy
        self._policy_loss = POLICY_LOSSES[config.loss]
        self._kl = KL_ESTIMATORS[config.kl_estimator]
        self._importance = IMPORTANCE_CORRECTIONS[config.importance_correction]
        self._batching = batching_for(policy)
        self._pad_id = pad_id
        self._seed = seed
        self._temperature = config.temperature_at(1)  # of the current step; `mini_batches` sets it

    def mini_batches(self, step: int, rows: Sequence[TrainedRollout]) -> list[MiniBatch]:
        """A step's rows, split at random and packed, with old logprobs for all updates but the first."""
        self._refresh_reference()
        self._temperature = self.config.temperature_at(step)
        seed = derive_seed(self._seed, "split", step)
        found: list[MiniBatch] = []
        for rows_of_update in split_rows(rows, self.config.mini_batches, seed=seed):
            packs = [[rows_of_update[i] for i in pack] for pack in self._pack(rows_of_update)]
            own, num_real = share(self.policy, packs)
            found.append(MiniBatch(rows_of_update, own, num_real, None))
        # The first update still has the policy that sampled, so its own forward pass gives the old logprobs.
        # Later mini-batches need them now, before the policy changes.
        for mini_batch in found[1:]:
            mini_batch.old_logprobs = [self._old_logprobs(rows) for rows in mini_batch.micro_batches]
        return found

    def update(self, mini_batch: MiniBatch) -> dict[str, float]:
        """Do one update of the objective (v1, eq. 1); return its metrics.

        Stores the old logprobs in `mini_batch`. The denominators are those of the whole mini-batch, over
        micro-batches and ranks.
        """
        num_tokens = sum(len(row.rollout.completion.token_ids) for row in mini_batch.rows)
        totals = Totals(len(mini_batch.rows), num_tokens, max_length=self.config.longest_completion)
        old: Sequence[Tensor | None] = mini_batch.old_logprobs or [None] * len(mini_batch.micro_batches)
        kept: list[Tensor] = []
        losses = (  # lazy: `Trainer.update` runs each one's backward pass before the next forward pass
            self._loss(self._micro_batch(rows, old_logprobs), totals, kept)
            for rows, old_logprobs in zip(mini_batch.micro_batches, old, strict=True)
        )
        metrics = self.trainer.update(without_fillers(losses, mini_batch.num_real))
        mini_batch.old_logprobs = kept  # for the next inner epoch
        return metrics

    @torch.no_grad()
    def logprobs_of(self, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
        """The policy's logprobs of one completion at temperature 1, on the CPU."""
        tokens = self._batching.collate([prompt], [completion], self._pad_id).to(self.policy.device)
        return completion_logprobs(self.policy, tokens)[0][0].cpu()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on."""
        reference, lora = self.reference, self.trainer.lora
        frozen = None if reference is None else reference.state_dict()
        return {
            "trainer": self.trainer.state_dict(),
            "reference": frozen if lora is None else lora.reference_state(),
            "refreshed_at": self.refreshed_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.trainer.load_state_dict(state["trainer"])
        self.refreshed_at = state["refreshed_at"]
        if self.trainer.lora is not None:
            self.trainer.lora.load_reference_state(state["reference"])
        elif self.reference is not None:
            self.reference.load_state_dict(state["reference"])

    def _refresh_reference(self) -> None:
        every, num_updates = self.config.reference_refresh_every, self.trainer.num_updates
        if not (self.config.kl_coef > 0 and every and num_updates - self.refreshed_at >= every):
            return
        if self.trainer.lora is not None:
            self.trainer.lora.refresh_reference()
        elif self.reference is not None:
            self.reference.load_state_dict(self.policy.state_dict())
        self.refreshed_at = num_updates

    def _reference_logprobs(self, tokens: CompletionBatch) -> Tensor | None:
        if self.trainer.lora is not None and self.config.kl_coef > 0:
            with self.trainer.lora.as_reference():
                return self._frozen_logprobs(self.policy, tokens)
        return None if self.reference is None else self._frozen_logprobs(self.reference, tokens)

    def _pack(self, rows: Sequence[TrainedRollout]) -> list[list[int]]:
        prompts, completions = tokens_of(rows)
        # a prompt shared by several rows counts once
        num_tokens = sum(map(len, {*map(tuple, prompts)})) + sum(map(len, completions))
        budget = collectives.even_budget(num_tokens, self.config.tokens_per_micro_batch)
        return self._batching.pack(prompts, completions, budget)

    def _loss(self, batch: MicroBatch, totals: Totals, kept: list[Tensor]) -> LossParts:
        """The loss and metrics; appends the old logprobs to `kept`."""
        logprobs_BT, entropy_BT = completion_logprobs(
            self.policy, batch.tokens, temperature=self._temperature, with_entropy=True
        )
        assert entropy_BT is not None
        # the sampling policy's logprobs as the trainer computes them; `sampler_BT` are the sampler's own
        before_BT = logprobs_BT.detach() if batch.old_logprobs_BT is None else batch.old_logprobs_BT
        kept.append(before_BT)
        config, mask = self.config, batch.tokens.loss_mask_BT
        # N is in row order, and so is `masked_scatter`
        sampler_BT = torch.zeros_like(before_BT).masked_scatter(mask, batch.sampler_logprobs_N)
        importance_BT = None
        extra: dict[str, Tensor] = {}
        if self._importance is not None:
            importance_BT = self._importance(before_BT, sampler_BT, mask, cap=config.importance_cap)
            capped = (importance_BT >= config.importance_cap)[mask]
            extra["sampler/capped_frac"] = capped.sum() / totals.num_tokens
        parts = self._policy_loss(
            logprobs_BT,
            batch.old_logprobs_BT,
            batch.ref_logprobs_BT,
            batch.advantages_B,
            mask,
            clip_low=config.clip_eps,
            clip_high=config.clip_high,
            kl_coef=config.kl_coef,
            kl=self._kl,
            totals=totals,
            importance_BT=importance_BT,
        )
        # how far the sampler is from the policy before any update: rounding and kernels, or a fault
        log_ratio_N = (before_BT - sampler_BT)[mask].abs()
        extra |= {
            "policy/entropy": entropy_BT.sum() / totals.num_tokens,
            "sampler/logratio_mean": log_ratio_N.sum() / totals.num_tokens,
            "sampler/logratio_max": log_ratio_N.max(),
        }
        return LossParts(parts.loss, {**parts.metrics, **extra})

    def _micro_batch(self, rows: Sequence[TrainedRollout], old_logprobs_BT: Tensor | None) -> MicroBatch:
        device = self.policy.device
        tokens = self._collate(rows)
        sampler = [logprob for row in rows for logprob in row.rollout.completion.sampler_logprobs]
        return MicroBatch(
            tokens=tokens,
            advantages_B=torch.tensor([row.advantage for row in rows], device=device),
            sampler_logprobs_N=torch.tensor(sampler, dtype=torch.float32, device=device),
            old_logprobs_BT=old_logprobs_BT,
            ref_logprobs_BT=self._reference_logprobs(tokens),
        )

    def _collate(self, rows: Sequence[TrainedRollout]) -> CompletionBatch:
        return self._batching.collate(*tokens_of(rows), self._pad_id).to(self.policy.device)

    def _old_logprobs(self, rows: Sequence[TrainedRollout]) -> Tensor:
        return self._frozen_logprobs(self.policy, self._collate(rows))

    @torch.no_grad()
    def _frozen_logprobs(self, model: PreTrainedModel, tokens: CompletionBatch) -> Tensor:
        return completion_logprobs(model, tokens, temperature=self._temperature)[0]


def tokens_of(rows: Sequence[TrainedRollout]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """The rows' prompts and completions, as token ids."""
    rollouts = [row.rollout for row in rows]
    return [r.prompt_token_ids for r in rollouts], [r.completion.token_ids for r in rollouts]


def split_rows(
    rows: Sequence[TrainedRollout], num_mini_batches: int, *, seed: int
) -> list[list[TrainedRollout]]:
    """The rows, split at random into mini-batches whose sizes differ by at most one (DeepSeek-R1 v2, 2.1).

    Within a mini-batch, rows keep their (group, sample) order.
    """
    if num_mini_batches == 1:
        return [list(rows)]
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return [[rows[i] for i in sorted(order[m::num_mini_batches])] for m in range(num_mini_batches)]


def average_metrics(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """One row for several updates: the mean of each metric, but the maximum of `_max`.

    `update/skipped` is summed. Updates without rows have no policy metrics and do not count in their mean;
    nor do the non-finite values of skipped updates.
    """
    row: dict[str, float] = {}
    for name in sorted({name for update in updates for name in update}):
        values = [v for update in updates if (v := update.get(name)) is not None and math.isfinite(v)]
        if not values:
            continue
        if name.endswith("_max"):
            row[name] = max(values)
        elif name == "update/skipped":
            row[name] = sum(values)
        else:
            row[name] = sum(values) / len(values)
    return row
