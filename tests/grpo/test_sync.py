"""The sampler holds the policy's weights after each load, or the stage halts before it samples from it."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from r1kit.errors import StageHalted
from r1kit.grpo.groups import scored_group
from r1kit.grpo.learner import TrainedRollout
from r1kit.grpo.step import advantages_of, train_step
from r1kit.grpo.stream import ProblemStream
from r1kit.grpo.sync import SyncProbe, check_versions, load_policy, sync_probe
from r1kit.sampling.engine import SampleRequest, SamplingParams, sample_all
from r1kit.sampling.local import LocalEngine, make_engine
from r1kit.types import Rollout
from tests.bounds import assert_same, relative_error
from tests.grpo.scripted import problems
from tests.grpo.test_config import config
from tests.grpo.test_learner import GROUPS, RIGHT, WRONG, learner
from tests.tiny_models import load_tiny, tiny_model

pytestmark = pytest.mark.numerical

PROBE = SyncProbe((20, 21, 22), max_tokens=8, tolerance=1e-3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_tiny(tiny_model(tmp_path_factory.mktemp("model")))


FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "mistral, windowed")


def updated(policy, **fields):
    """A learner after one update that moved its weights by about 1e-2 each."""
    made, settings = learner(policy, kl_coef=0.0, **fields)
    train_step(made, 1, GROUPS, advantages_of(GROUPS, settings))
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_sampler_and_trainer_agree_before_and_after_an_update(tmp_path, family):
    """Every family that is sampled here: the log-ratio of real completions, as the trainer takes it."""
    model, tokenizer = load_tiny(tiny_model(tmp_path, family, tied=family != "llama"))
    engine = make_engine(model, tokenizer)
    assert isinstance(engine, LocalEngine)
    made, settings = learner(model, kl_coef=0.0)
    bound = 10 * relative_error(model)  # logprobs go down to -10
    for version in (0, 1):
        if version:
            measured = load_policy(engine, made, version, PROBE)
            assert 0 < measured["sampler/sync_logratio_mean"] <= measured["sampler/sync_logratio_max"] < bound
        requests = [
            SampleRequest(i, (5, 6, 7, 8 + i // 4), SamplingParams(max_tokens=20), seed=i) for i in range(8)
        ]
        completions = sample_all(engine, requests)
        rollouts = [
            Rollout(problems(9)[r.key], 1, r.key // 4, r.key % 4, r.seed, r.prompt_token_ids, completion)
            for r, completion in zip(requests, completions, strict=True)
        ]
        marks = (RIGHT, WRONG, WRONG, WRONG)
        groups = [scored_group("a", 0, rollouts[i : i + 4], marks, constant="accuracy") for i in (0, 4)]
        row = train_step(made, version + 1, groups, advantages_of(groups, settings))
        assert 0 < row["sampler/logratio_mean"] <= row["sampler/logratio_max"] < bound
        check_versions(groups, version)
    with pytest.raises(RuntimeError, match=r"sampled with weights \[1\], the policy is at 2"):
        check_versions(groups, 2)


def test_a_version_that_is_there_is_not_loaded_again(tiny):
    model, tokenizer = tiny
    engine, made = make_engine(model, tokenizer), updated(model)
    assert load_policy(engine, made, 0, PROBE) == {}
    assert load_policy(engine, made, 1, None) == {}  # loaded, and not checked
    assert engine.weights_version == 1
    probe = replace(PROBE, measured={})
    measured = load_policy(engine, made, 2, probe)
    assert set(measured) == {"sampler/sync_logratio_mean", "sampler/sync_logratio_max"}
    assert load_policy(engine, made, 2, probe) == measured  # as a probe before the step would


class Forgetful:
    """An engine that takes the version, and not quite the weights."""

    def __init__(self, engine, change):
        self._engine, self._change = engine, change

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def load_weights(self, weights, version):
        self._engine.load_weights(self._change({name: tensor.clone() for name, tensor in weights}), version)


def test_an_engine_that_keeps_old_weights_is_found_out_before_it_samples(tiny):
    model, tokenizer = tiny
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = Forgetful(make_engine(model, tokenizer), lambda _: old.items())
    message = r"after loading the weights of step 1, .* 8 probe tokens are off by .*sync_tolerance is 0.001"
    with pytest.raises(StageHalted, match=message):
        load_policy(engine, updated(model), 1, PROBE)


def test_one_layer_that_did_not_arrive_is_found_out(tiny):
    model, tokenizer = tiny
    name = "model.layers.1.mlp.down_proj.weight"
    kept = model.get_parameter(name).detach().clone()
    engine = Forgetful(make_engine(model, tokenizer), lambda weights: (weights | {name: kept}).items())
    with pytest.raises(StageHalted, match="sampler does not hold the policy"):
        load_policy(engine, updated(model), 1, PROBE)


def test_logprobs_that_are_no_numbers_are_found_out(tiny):
    model, tokenizer = tiny
    made = updated(model)
    made.logprobs_of = lambda prompt, completion: torch.full((len(completion),), math.nan)
    with pytest.raises(StageHalted, match="off by nan"):
        load_policy(make_engine(model, tokenizer), made, 1, PROBE)


def test_the_tolerance_goes_by_the_precision_unless_the_recipe_says(tiny):
    stream = ProblemStream({"reasoning": problems(4)}, seed=0)
    tokenizer = tiny[1]
    assert sync_probe(config(), "float32", stream, tokenizer).tolerance == 1e-3
    assert sync_probe(config(), "bfloat16", stream, tokenizer).tolerance == 0.1
    assert sync_probe(config(sync_tolerance=0.5), "float32", stream, tokenizer).tolerance == 0.5
    assert sync_probe(config(sync_tolerance=math.inf), "float32", stream, tokenizer) is None
    short = sync_probe(config(max_new_tokens=4), "float32", stream, tokenizer)
    assert (short.max_tokens, short.prompt_token_ids) == (
        4,
        sync_probe(config(), "float32", stream, tokenizer).prompt_token_ids,
    )


def test_bfloat16_sampling_is_within_its_tolerance_and_not_within_float32s(tiny):
    model, tokenizer = tiny
    engine = make_engine(model, tokenizer, dtype=torch.bfloat16)
    made = updated(model)
    measured = load_policy(engine, made, 1, SyncProbe((20, 21, 22), max_tokens=16, tolerance=0.1))
    assert 1e-3 < measured["sampler/sync_logratio_mean"] < 0.05
    with pytest.raises(StageHalted):
        load_policy(engine, made, 2, PROBE)


def test_the_policys_logprobs_of_a_completion_are_those_that_it_is_trained_with(tiny):
    made, _ = learner(copy.deepcopy(tiny[0]))
    rollout = GROUPS[1].rollouts[2]
    expected = made._old_logprobs([TrainedRollout(rollout, 0.0)])[0]
    found = made.logprobs_of(rollout.prompt_token_ids, rollout.completion.token_ids)
    assert_same(found, expected, made.policy)
