"""Load the policy's weights into the sampler, and check that they arrived by version and probe logprobs.

After each load the sampler draws one short completion of a fixed prompt from a fixed seed, and its logprobs
are compared with the policy's. This detects weights that did not arrive, arrived under other names, or belong
to an earlier step before anything is sampled from them. Each rank checks its own sampler.
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

# Enough to detect one step's update, and negligible next to a step's sampling.
_PROBE_TOKENS = 16
# Engines agree to 1e-4 in float32; an update at a learning rate of 1e-5 moves a token by about as much.
_FLOAT32_TOLERANCE = 1e-3
# bfloat16 has 8 bits: logits of 10 are off by up to 0.04.
_HALF_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class SyncProbe:
    """The prompt for the check after every load, and the largest mean difference of logprobs.

    `measured` has the result for the sampler's current version, so that a step's row is the same whether the
    step or the held-out probe before it loaded the weights.
    """

    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    tolerance: float
    measured: dict[int, dict[str, float]] = field(default_factory=dict)


def sync_probe(
    config: GrpoConfig, dtype: str, stream: ProblemStream, tokenizer: PreTrainedTokenizerBase
) -> SyncProbe | None:
    """A probe with the stage's first problem; None if the check is off."""
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
    """Load the policy after step `version` into the engine, if needed; return what the probe measured.

    Nothing is measured for the weights that the engine was made with. Raises `StageHalted` if the engine's
    logprobs differ from the policy's.
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
    """Raise `StageHalted` if the sampler's logprobs are not finite."""
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    if not all(math.isfinite(value) for c in completions for value in c.sampler_logprobs):
        raise StageHalted(
            f"step {step}: the sampler's log-probabilities are not finite. None of its completions was "
            "trained on. The weights are finite, so its arithmetic overflowed: sample in float32 or bfloat16"
        )


def check_versions(groups: Sequence[Group], version: int) -> None:
    """Raise `RuntimeError` unless every completion was sampled with the weights of this version."""
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
    if not mean <= probe.tolerance:  # also if the mean is NaN
        raise StageHalted(
            f"the sampler does not hold the policy: after loading the weights of step {version}, its "
            f"log-probabilities of {len(off)} probe tokens are off by {mean:.2g} on average (at most "
            f"{largest:.2g}), and sync_tolerance is {probe.tolerance:g}. If it samples in a coarser "
            "precision than training, raise sync_tolerance; otherwise the sampler has a bug. Nothing was "
            "sampled from it."
        )
    return {"sampler/sync_logratio_mean": mean, "sampler/sync_logratio_max": largest}
