"""What the steps of a GRPO stage share, prepared once: policy, sampler, problems, rewards, judges."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Scorer
from r1kit.grpo.judges import judge_counts, open_judges
from r1kit.grpo.learner import Learner
from r1kit.grpo.resume import rollouts_dir, sampling_seed
from r1kit.grpo.stream import ProblemStream
from r1kit.grpo.sync import SyncProbe, sync_probe
from r1kit.judges.judge import JudgeReward
from r1kit.model.loading import load_model, load_tokenizer, pick_device, stop_token_ids
from r1kit.model.logprobs import check_head
from r1kit.model.packing import why_padded
from r1kit.ranks import collectives
from r1kit.ranks.sharding import shard_model
from r1kit.rewards.accuracy import AccuracyReward
from r1kit.rewards.base import Reward
from r1kit.rewards.build import build_rewards
from r1kit.rewards.classifiers import with_paths
from r1kit.sampling.engine import RolloutEngine, SamplingParams
from r1kit.sampling.rollouts import iter_groups
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.prompts import check_chat_template
from r1kit.types import Problem, Rollout

EngineFactory = Callable[..., RolloutEngine]


@dataclass(frozen=True)
class GrpoStage:
    """A stage that is ready to run its steps. Close it after use."""

    context: StageContext
    config: GrpoConfig
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]
    learner: Learner
    engine: RolloutEngine
    stream: ProblemStream
    rewards: Mapping[str, Reward]
    judges: Mapping[str, JudgeReward]
    scorer: Scorer
    probe: Sequence[Problem]  # held-out problems whose accuracy is monitored
    sync_probe: SyncProbe | None
    sampling_seed: int

    @property
    def rollouts_dir(self) -> Path:
        """The folder of the step log."""
        return rollouts_dir(self.context.work_dir)

    def sampling_params(self, max_tokens: int, temperature: float) -> SamplingParams:
        """Sampling parameters for training. No top-p, top-k or min-p: the ratio assumes the full softmax."""
        params = SamplingParams(
            max_tokens=max_tokens, temperature=temperature, stop_token_ids=self.stop_token_ids
        )
        assert not params.truncates
        return params

    def sample_groups(
        self, questions: Sequence[Problem], *, step: int, wave: int, first_group: int
    ) -> Iterator[tuple[int, list[Rollout]]]:
        """Sample this rank's share of the questions' groups; yield (index, rollouts) as they finish."""
        config = self.config
        return iter_groups(
            self.engine,
            self.tokenizer,
            questions,
            group_size=config.group_size,
            params=self.sampling_params(config.max_new_tokens_at(step), config.temperature_at(step)),
            style=config.prompt_style,
            seed=self.sampling_seed,
            stage=self.context.name,
            step=step,
            wave=wave,
            first_group=first_group,
            only=collectives.shard(range(len(questions))),
        )

    def faults(self) -> Counter[str]:
        """This rank's counts so far, by metric.

        Judge requests; the verifiers' timeouts and crashes, which are scored 0; programs by outcome.
        """
        counts = judge_counts(self.judges)
        accuracy = self.rewards.get("accuracy")
        if isinstance(accuracy, AccuracyReward):
            for name, count in accuracy.counts.items():
                counts[name.replace(" ", "_") if name.startswith("code/") else f"verifier/{name}"] += count
        return counts

    def close(self) -> None:
        """Wait for running scores, and free the sampler and the judges."""
        self.scorer.close()
        self.engine.close()
        for judge in self.judges.values():
            judge.close()


def prepare_stage(context: StageContext, config: GrpoConfig, engine_factory: EngineFactory) -> GrpoStage:
    """Load, open and shard everything the stage needs. Raises `UserError` for what can't be used."""
    sets = {name: context.problems(name) for name in config.problem_sets()}
    held_out = context.problems(config.probe) if config.probe is not None else []
    path, device = context.model_path(config.model), pick_device(context.device)
    tokenizer = load_tokenizer(path)
    if config.prompt_style == "chat":
        check_chat_template(tokenizer)
    policy: PreTrainedModel = load_model(path, **context.loading)
    check_head(policy)  # refuse a model whose logprobs would be wrong before anything is sampled
    if (reason := why_padded(policy)) is not None:
        context.progress.note(
            f"{context.name}: training pads completions and repeats the prompt for each of them, which is "
            f"slower: {reason}"
        )
    judges = open_judges(context, config)
    rewards = _rewards(context, config, judges, device)
    # before the policy is sharded or gets an adapter, because the sampler copies its weights
    engine = engine_factory(policy, tokenizer, max_rows=context.max_rows, **_placement(context, device))
    seed = derive_seed(context.seed, context.name, "learner")
    shard = partial(shard_model, device=device, dtype=context.dtype) if context.shard else None
    learner = Learner(policy, config, pad_id=_pad_id(tokenizer), seed=seed, shard=shard)
    probe_stream = ProblemStream({"probe": held_out}, seed=context.seed) if held_out else None
    stream = ProblemStream(sets, seed=derive_seed(context.seed, context.name, "problems"))
    num_probes = min(config.probe_size, len(held_out))
    return GrpoStage(
        context=context,
        config=config,
        tokenizer=tokenizer,
        stop_token_ids=stop_token_ids(path, tokenizer),
        learner=learner,
        engine=engine,
        stream=stream,
        rewards=rewards,
        judges=judges,
        scorer=Scorer(rewards, judges),
        sync_probe=sync_probe(config, context.dtype, stream, tokenizer),
        probe=probe_stream.take(["probe"] * num_probes) if probe_stream is not None else [],
        sampling_seed=sampling_seed(context.work_dir, context.seed),
    )


def _placement(context: StageContext, device: str) -> dict[str, Any]:
    """The sampler's dtype and device if the policy, still to be sharded, has others for now."""
    if not context.shard:
        return {}
    return {"dtype": getattr(torch, context.dtype), "device": torch.device(device)}


def _rewards(
    context: StageContext, config: GrpoConfig, judges: Mapping[str, JudgeReward], device: str
) -> dict[str, Reward]:
    """Every reward used at any step, and accuracy for the probe."""
    names = {*config.reward_names(), *(["accuracy"] if config.probe is not None else [])}
    return build_rewards(
        sorted(names),
        style=config.prompt_style,
        seed=context.seed,
        reward_models={
            name: with_paths(model, context.model_path, context.data_path)
            for name, model in config.reward_models.items()
        },
        languages=config.languages,
        judges=judges,
        recipe_dir=context.recipe_dir,
        failure_dir=context.work_dir,
        code_score=config.code_score,
        on_error=config.on_reward_error,
        options=config.reward_options,
        dtype=context.dtype,
        device=device,
    )


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    pad_id = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad_id is None else pad_id)
