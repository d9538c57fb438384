"""One step of GRPO on one page, in the paper's order (DeepSeek-R1 v1, 2.2.1; equation numbers are v1's).

    sync        the sampler gets the policy's weights; from here on it is the old policy
    sample      for each question q, a group of outputs o_1 ... o_G ~ old policy
    score       r_i, the weighted plain sum of the rewards of o_i
    drop        a group whose rewards are all equal teaches nothing: a new question replaces it
    advantages  A_i = (r_i - mean(r_1 ... r_G)) / std(r_1 ... r_G)                                       (3)
    log         samples and rewards go to disk: from here on a crash loses nothing
    update      per mini-batch, maximize the objective, averaged over each output's tokens               (1)
                    J = mean_i [ min(ratio_i A_i, clip(ratio_i, 1 - eps, 1 + eps) A_i) - beta KL_i ]
                    ratio_i = policy(o_i | q) / old policy(o_i | q)
                    KL_i = reference / policy - log(reference / policy) - 1                              (2)

The group's mean replaces PPO's critic. `policy_losses` has the terms of (1), its variants and (2). Each rank
samples and scores its share of the questions; then all ranks gather all groups.
Legend: P groups, G outputs per group.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Fate, Group, halt_if_rewards_are_missing, scored_group
from r1kit.grpo.learner import Learner, TrainedRollout, average_metrics
from r1kit.grpo.stage import GrpoStage
from r1kit.grpo.step_log import read_measured, read_step_log, write_step_log
from r1kit.grpo.stream import mix
from r1kit.grpo.sync import check_logprobs, check_versions, load_policy
from r1kit.ranks import collectives
from r1kit.seeds import derive_seed
from r1kit.training.losses import group_advantages

Advantages = list[list[float | None]]
Metrics = dict[str, float]


def run_step(stage: GrpoStage, step: int) -> tuple[Metrics, list[Group]]:
    """Run one step as above. A step that is in the log is only trained on again, to the same weights."""
    groups = read_step_log(stage.rollouts_dir, step, constant=stage.config.constant_groups)
    if groups is None:
        groups, measured = sample_step(stage, step)
        advantages = advantages_of(groups, stage.config)
        if collectives.is_main():
            write_step_log(stage.rollouts_dir, step, groups, advantages, measured)
    else:
        measured = read_measured(stage.rollouts_dir, step)
        advantages = advantages_of(groups, stage.config)
        stage.stream.skip([group.problem_set for group in groups])  # as if its problems were taken now
    start = time.perf_counter()
    metrics = train_step(stage.learner, step, groups, advantages)
    return {**metrics, **measured, "training_seconds": time.perf_counter() - start}, groups


def sample_step(stage: GrpoStage, step: int) -> tuple[list[Group], Metrics]:
    """The step's groups, including useless ones and their replacements, and metrics of the sampling.

    Raises `StageHalted` if too many rewards are missing or the sampler does not hold the policy.
    """
    config = stage.config
    seconds: dict[str, float] = defaultdict(float)
    faults_before = stage.faults()
    measured = load_policy(stage.engine, stage.learner, step - 1, stage.sync_probe)
    groups: list[Group] = []
    seed = derive_seed(stage.context.seed, stage.context.name, "mixture", step)
    wanted = mix(config.shares_at(step), config.problems_per_step, seed=seed)  # the set of each question
    for wave in range(config.max_resample_waves + 1):  # DAPO (2503.14476, 3.2) repeats until all are useful
        fresh = _sample_wave(stage, step, wave, wanted, len(groups), seconds)
        groups += fresh
        halt_if_rewards_are_missing(groups, config.max_missing_frac)
        wanted = [group.problem_set for group in fresh if group.fate is not Fate.USEFUL]
        if not wanted:
            break
    check_logprobs(groups, step)
    check_versions(groups, step - 1)
    num_tokens = sum(len(rollout.completion.token_ids) for group in groups for rollout in group.rollouts)
    seconds["tokens_per_second"] = num_tokens / max(seconds["sampling_seconds"], 1e-9)
    # counts are cumulative per rank: this step's are the difference, summed over ranks
    faults = sum(collectives.gather(stage.faults() - faults_before), Counter[str]())
    return groups, {**measured, **seconds, **{name: float(count) for name, count in faults.items()}}


def _sample_wave(
    stage: GrpoStage, step: int, wave: int, wanted: Sequence[str], first_group: int, seconds: dict[str, float]
) -> list[Group]:
    """A scored group for the next question of each wanted set; scoring overlaps sampling.

    Adds to `seconds` the slowest rank's sampling time, and the time spent waiting for scores after that.
    """
    config, start = stage.config, time.perf_counter()
    questions = stage.stream.take(wanted)  # the same on every rank
    to_come = {
        index: (rollouts, stage.scorer.submit(rollouts, config.weights_at(step)))
        for index, rollouts in stage.sample_groups(questions, step=step, wave=wave, first_group=first_group)
    }
    own_seconds = time.perf_counter() - start
    own = {
        index: scored_group(wanted[index], wave, rollouts, scores.result(), constant=config.constant_groups)
        for index, (rollouts, scores) in to_come.items()
    }
    by_rank = collectives.gather((own, own_seconds))
    slowest = max(of_rank for _, of_rank in by_rank)
    seconds["sampling_seconds"] += slowest
    seconds["scoring_wait_seconds"] += max(0.0, time.perf_counter() - start - slowest)
    found = {index: group for groups_of_rank, _ in by_rank for index, group in groups_of_rank.items()}
    return [found[index] for index in range(len(wanted))]


def advantages_of(groups: Sequence[Group], config: GrpoConfig) -> Advantages:
    """Each output's advantage (3), by group and sample; None if it is not trained on.

    Not trained on are useless groups, outputs without a reward, and with `truncated = "mask"` truncated
    outputs. The latter still count in their group's mean and std; only their tokens are not blamed.
    """
    advantages: Advantages = [[None] * len(group.rollouts) for group in groups]
    useful = [i for i, group in enumerate(groups) if group.fate is Fate.USEFUL]
    if not useful:
        return advantages
    totals = [groups[i].totals for i in useful]
    # a missing reward is 0 here, and `valid_PG` keeps it out of mean and std
    rewards_PG = torch.tensor([[0.0 if total is None else total for total in row] for row in totals])
    valid_PG = torch.tensor([[total is not None for total in row] for row in totals])
    values_PG = group_advantages(
        rewards_PG, valid_PG, scale=config.advantage_scale, std_floor=config.advantage_std_floor
    ).tolist()
    for p, i in enumerate(useful):
        for g, rollout in enumerate(groups[i].rollouts):
            is_masked = config.truncated == "mask" and rollout.completion.finish_reason == "length"
            if valid_PG[p, g] and not is_masked:
                advantages[i][g] = values_PG[p][g]
    return advantages


def train_step(learner: Learner, step: int, groups: Sequence[Group], advantages: Advantages) -> Metrics:
    """Do the step's updates (1), a function of the learner's state and the groups; return mean metrics."""
    rows = [
        TrainedRollout(rollout, advantage)
        for group, values in zip(groups, advantages, strict=True)
        for rollout, advantage in zip(group.rollouts, values, strict=True)
        if advantage is not None
    ]
    mini_batches = learner.mini_batches(step, rows)
    updates = [
        learner.update(mini_batch) for _ in range(learner.config.inner_epochs) for mini_batch in mini_batches
    ]
    return average_metrics(updates)
