"""The policy's weights into the sampler, and whether they arrived: a version, and the logprobs of a probe.

After a load the sampler draws one short completion of a fixed prompt, from a fixed seed; what it says of
those tokens is compared with what the policy says of them. Weights that did not arrive, arrived under other
names, or belong to an earlier step are seen before anything is sampled from them. With several ranks each
checks its own sampler.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from r1kit.errors import StageHalted
from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Group
from r1kit.grpo.learner import Learner
from r1kit.grpo.stream import ProblemStream
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams, sample_all
from r1kit.seeds import derive_seed
from r1kit.text.prompts import encode_prompt

# Enough to see an update of one step, and nothing beside a step's sampling.
_PROBE_TOKENS = 16
# Engines agree to 1e-4 in float32; an update at a learning rate of 1e-5 moves a token by about as much.
_FLOAT32_TOLERANCE = 1e-3
# bfloat16 has 8 bits: logits of 10 are off by up to 0.04.
_HALF_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class SyncProbe:
    """What a sampler is asked after every load, and how far off its logprobs may be, on average.

    `measured` is what was found of the version that the sampler holds: a step's row is the same whether the
    step loaded its weights or the held-out probe before it did.
    """

    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    tolerance: float
    measured: dict[int, dict[str, float]] = field(default_factory=dict)


def sync_probe(
    config: GrpoConfig, dtype: str, stream: ProblemStream, tokenizer: PreTrainedTokenizerBase
) -> SyncProbe | None:
    """The stage's first problem; None where nothing is to be checked."""
    tolerance = config.sync_tolerance
    if tolerance is None:
        tolerance = _FLOAT32_TOLERANCE if dtype == "float32" else _HALF_TOLERANCE
    if math.isinf(tolerance):
        return None
    problem = stream.problem(config.problem_sets()[0], 0)
    prompt_token_ids = encode_prompt(problem, tokenizer, config.prompt_style)
    return SyncProbe(prompt_token_ids, min(_PROBE_TOKENS, config.max_new_tokens_at(1)), tolerance)


def load_policy(
    engine: RolloutEngine, learner: Learner, version: int, probe: SyncProbe | None
) -> dict[str, float]:
    """Give the engine the policy as it is after step `version`, if it hasn't got it; what the probe measured.

    Nothing was measured of the weights that the engine was made with. Raises `StageHalted` where the engine's
    logprobs are not the policy's.
    """
    if engine.weights_version == version:
        return {} if probe is None else probe.measured.get(version, {})
    engine.load_weights(learner.trainer.weights(), version)
    if engine.weights_version != version:
        raise RuntimeError(f"the engine holds version {engine.weights_version} after loading {version}")
    if probe is None:
        return {}
    probe.measured.clear()
    probe.measured[version] = _check(engine, learner, version, probe)
    return probe.measured[version]


def check_logprobs(groups: Sequence[Group], step: int) -> None:
    """Raise `StageHalted` where what the sampler says of its completions is not finite."""
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    if not all(math.isfinite(value) for c in completions for value in c.sampler_logprobs):
        raise StageHalted(
            f"step {step}: the sampler's log-probabilities are not finite. None of its completions is "
            "trained on. The weights are finite, so its arithmetic overflowed: sample in float32 or bfloat16"
        )


def check_versions(groups: Sequence[Group], version: int) -> None:
    """Every completion was sampled with the weights of this version."""
    versions = {rollout.completion.weights_version for group in groups for rollout in group.rollouts}
    if versions != {version}:
        raise RuntimeError(f"completions sampled with weights {sorted(versions)}, the policy is at {version}")


def _check(engine: RolloutEngine, learner: Learner, version: int, probe: SyncProbe) -> dict[str, float]:
    params = SamplingParams(max_tokens=probe.max_tokens)
    request = SampleRequest(0, probe.prompt_token_ids, params, derive_seed("sampler probe"))
    (completion,) = sample_all(engine, [request])
    ours = learner.logprobs_of(probe.prompt_token_ids, completion.token_ids)
    off = (ours - torch.tensor(completion.sampler_logprobs)).abs()
    mean, largest = float(off.mean()), float(off.max())
    if not mean <= probe.tolerance:
        raise StageHalted(
            f"the sampler does not hold the policy: after the weights of step {version} were loaded its "
            f"log-probabilities of {len(off)} probe tokens are off by {mean:.2g} on average (at most "
            f"{largest:.2g}), and sync_tolerance is {probe.tolerance:g}. If it samples in a coarser "
            "precision than is trained in, raise sync_tolerance; else it is at fault. Nothing was sampled "
            "from it."
        )
    return {"sampler/sync_logratio_mean": mean, "sampler/sync_logratio_max": largest}
