import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from r1kit.errors import StageHalted
from r1kit.grpo import run_grpo
from r1kit.grpo.step_log import read_step_log
from r1kit.rewards.accuracy import AccuracyReward
from r1kit.sampling.local import make_engine
from r1kit.seeds import derive_seed
from r1kit.stage import SilentProgress, StageContext
from r1kit.training.metrics_log import read_metrics
from r1kit.training.trainer import Trainer
from tests.bounds import relative_error
from tests.grpo.scripted import ScriptedEngine, answer, problems
from tests.grpo.test_config import config
from tests.tiny_models import load_tiny, tiny_model


class Stopped(Exception):
    """The run is killed here."""


class Recorder(SilentProgress):
    """Keeps what it is told; stops the run after a step."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.notes, self.samples, self.steps, self._stop_after = [], [], [], stop_after

    def step(self, done, row):
        self.steps.append((done, dict(row)))
        if done == self._stop_after:
            raise Stopped

    def sample(self, text):
        self.samples.append(text)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def context(base: Path, work_dir: Path, progress=None, num=6) -> StageContext:
    sets = {
        "reasoning": problems(num),
        "held_out": problems(12, name="h"),
        "general": problems(3, kind="general"),
    }
    return StageContext(
        name="zero",
        work_dir=work_dir,
        seed=11,
        dtype="float32",
        device="cpu",
        max_rows=64,
        model_path=lambda name: str(base),
        data_path=lambda name: base / name,
        problems=lambda name: sets[name],
        progress=progress or SilentProgress(),
        recipe_dir=base,
    )


def settings(**fields):
    small = {
        "steps": 5,
        "problems_per_step": 3,
        "group_size": 4,
        "max_new_tokens": 40,
        "mini_batches": 1,
        "rewards": {"accuracy": 1.0, "format": 0.5},
        "optimizer": {"learning_rate": 1e-2},
        "checkpoint_every": 2,
        "kl_coef": 0.05,
        "reference_refresh_every": 2,
        "tokens_per_micro_batch": 600,
        "sync_tolerance": math.inf,  # a scripted sampler has no logprobs to check
    }
    return config(**(small | fields))


def sometimes_right(prompt, seed, weights):
    """Right or wrong by chance; the chance depends on the seed and on every weight."""
    draw = derive_seed(seed, weights) % 3
    number = re.findall(r"What is (\d+)", prompt)[-1]
    return [answer(number), answer("no idea"), "no idea at all"][draw]


def scripted(write=sometimes_right, **options):
    made = []

    def factory(model, tokenizer, *, max_rows):
        made.append(ScriptedEngine(tokenizer, write, **options))
        return made[-1]

    return factory, made


def weights_of(work_dir: Path):
    return load_file(work_dir / "model" / "model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rollouts_of(work_dir: Path, steps: int = 5):
    return [read_step_log(work_dir / "rollouts", step) for step in range(1, steps + 1)]


def kill_in_poll(monkeypatch, at):
    """Raise in the middle of sampling: at this poll."""
    polls = iter(range(1, 10**6))

    def on_poll():
        if next(polls) == at:
            raise Stopped

    return scripted(on_poll=on_poll)[0], None


def kill_in_update(monkeypatch, at):
    """Raise instead of this update."""
    update, count = Trainer.update, iter(range(1, 10**6))

    def dies(self, losses):
        if next(count) == at:
            raise Stopped
        return update(self, losses)

    monkeypatch.setattr(Trainer, "update", dies)
    return scripted()[0], None


def kill_after_step(monkeypatch, at):
    """Raise when the step is reported."""
    return scripted()[0], Recorder(stop_after=at)


@pytest.mark.parametrize("mini_batches", [1, 2])
def test_a_killed_run_ends_with_the_same_weights_to_the_bit(base, tmp_path, monkeypatch, mini_batches):
    stage = settings(mini_batches=mini_batches, probe="held_out", probe_size=4, eval_every=2)
    run_grpo(context(base, tmp_path / "whole"), stage, engine_factory=scripted()[0])
    # polls: 4 of the probe, then 12 to 24 a step; updates: `mini_batches` a step
    kills = [
        (kill_in_poll, 3),
        (kill_in_poll, 20),
        (kill_in_poll, 60),
        (kill_in_update, 1),
        (kill_in_update, 2),
        (kill_in_update, 3 * mini_batches + 1),
        (kill_in_update, 4 * mini_batches),
        (kill_after_step, 1),
        (kill_after_step, 4),
        (kill_after_step, 5),
    ]
    for number, (kill, at) in enumerate(kills):
        work_dir = tmp_path / str(number)
        with monkeypatch.context() as patch:
            factory, progress = kill(patch, at)
            with pytest.raises(Stopped):
                run_grpo(context(base, work_dir, progress), stage, engine_factory=factory)
        committed = sum(logged is not None for logged in rollouts_of(work_dir))
        factory, made = scripted()
        run_grpo(context(base, work_dir), stage, engine_factory=factory)
        assert same_weights(work_dir, tmp_path / "whole"), (kill.__name__, at)
        assert rollouts_of(work_dir) == rollouts_of(tmp_path / "whole")
        if committed == 5:
            # nothing but the last probe, where its row was not written yet
            assert made[0].num_sampled <= 4
        ours, theirs = read_metrics(work_dir), read_metrics(tmp_path / "whole")
        untimed = [
            [{k: v for k, v in row.items() if "second" not in k} for row in rows] for rows in (ours, theirs)
        ]
        assert untimed[0] == untimed[1]


def test_a_run_killed_twice_while_it_resumes_still_ends_the_same(base, tmp_path, monkeypatch):
    stage = settings(mini_batches=2)
    run_grpo(context(base, tmp_path / "whole"), stage, engine_factory=scripted()[0])
    for at in (7, 3, 2):
        with monkeypatch.context() as patch:
            factory, _ = kill_in_update(patch, at)
            with pytest.raises(Stopped):
                run_grpo(context(base, tmp_path / "killed"), stage, engine_factory=factory)
    run_grpo(context(base, tmp_path / "killed"), stage, engine_factory=scripted()[0])
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_stage_is_not_run_again(base, tmp_path):
    first = run_grpo(context(base, tmp_path), settings(), engine_factory=scripted()[0])
    factory, made = scripted()
    assert run_grpo(context(base, tmp_path), settings(), engine_factory=factory) == first
    assert made == []
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_stage_leaves_behind(base, tmp_path):
    progress = Recorder()
    stage = settings(mini_batches=2, probe="held_out", probe_size=4, eval_every=2, sample_every=2)
    summary = run_grpo(context(base, tmp_path, progress), stage, engine_factory=scripted()[0])
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["step"] for row in rows if "eval/held_out_accuracy" in row] == [0, 2, 4, 5]
    assert {
        "reward/mean", "reward/accuracy", "completion/length_mean", "completion/truncated_frac",
        "kl/ref", "policy/entropy", "policy/clip_frac", "sampler/logratio_mean", "sampler/logratio_max",
        "groups/constant_frac", "tokens_per_second", "sampling_seconds", "training_seconds", "step_seconds",
    } <= rows[1].keys()  # fmt: skip
    assert (summary["steps"], summary["updates"], rows[-1]["updates"]) == (5, 10, 10)
    assert summary["completions"] == sum(len(g.rollouts) for groups in rollouts_of(tmp_path) for g in groups)
    assert [done for done, _ in progress.steps] == [1, 2, 3, 4, 5]
    assert len(progress.samples) == 3
    assert "What is" in progress.samples[0]
    model, tokenizer = load_tiny(tmp_path / "model")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    trained, start = weights_of(tmp_path), load_file(base / "model.safetensors")
    assert trained.keys() == start.keys()
    assert not torch.equal(trained["model.norm.weight"], start["model.norm.weight"])
    for row in (tmp_path / "rollouts" / "step-00001.jsonl").read_text().splitlines():
        assert {"problem", "completion", "reward", "advantage", "wave"} <= json.loads(row).keys()


def test_schedules_of_mixture_and_rewards_take_effect_at_their_step(base, tmp_path):
    (tmp_path / "own.py").write_text(
        "def polite(rollouts):\n    return [float(r.seed % 2) for r in rollouts]\n"
    )
    stage = settings(
        steps=3,
        kl_coef=0.0,
        max_resample_waves=0,
        mixture=[{"from_step": 3, "shares": {"reasoning": 2, "general": 1}}],
        reward_schedule=[{"from_step": 2, "weights": {"accuracy": 1.0, "own.py:polite": 2.0}}],
    )
    run_grpo(context(tmp_path_with(base, tmp_path), tmp_path / "work"), stage, engine_factory=scripted()[0])
    steps = rollouts_of(tmp_path / "work", 3)
    assert [sorted(g.problem_set for g in groups) for groups in steps] == [
        ["reasoning"] * 3, ["reasoning"] * 3, ["general", "reasoning", "reasoning"],
    ]  # fmt: skip
    parts = [{name for g in groups for b in g.breakdowns for name in b.parts} for groups in steps]
    assert parts == [{"accuracy", "format"}, {"accuracy", "own.py:polite"}, {"accuracy", "own.py:polite"}]
    general = next(g for g in steps[2] if g.problem_set == "general")
    assert all(set(b.parts) == {"own.py:polite"} for b in general.breakdowns)


def tmp_path_with(base: Path, folder: Path) -> Path:
    """A copy of the base's files beside what is in `folder`."""
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_answers_that_the_verifier_could_not_compare_are_counted_by_step(base, tmp_path, monkeypatch):
    # one comparison out of time for each call: a call for each group, and one for the probe, not counted
    original = AccuracyReward.__call__

    def slow(self, rollouts):
        self._pool.counts["timeouts"] += 1
        return original(self, rollouts)

    monkeypatch.setattr(AccuracyReward, "__call__", slow)
    factory, _ = scripted()
    progress = Recorder()
    fields = {"steps": 2, "probe": "held_out", "eval_every": 1}
    run_grpo(context(base, tmp_path, progress), settings(**fields), engine_factory=factory)
    rows = [row for row in read_metrics(tmp_path) if row["step"] > 0]
    assert [row["verifier/timeouts"] for row in rows] == [row["groups/sampled"] for row in rows]
    assert all("verifier/crashes" not in row for row in rows)  # what did not happen is not a metric
    assert sum("the math verifier ran out of time on" in note for note in progress.notes) == 1


def test_a_temperature_schedule_is_what_the_engine_samples_at(base, tmp_path):
    factory, made = scripted()
    schedule = [{"from_step": 1, "value": 1.0}, {"from_step": 2, "value": 0.5}]
    run_grpo(context(base, tmp_path), settings(steps=3, temperature=schedule), engine_factory=factory)
    assert made[0].temperatures == [1.0, 0.5]


def test_missing_rewards_halt_the_stage_and_it_goes_on_when_they_are_back(base, tmp_path):
    folder = tmp_path_with(base, tmp_path)
    reward = (
        "def lost(rollouts):\n    return [None if r.step == 3 else float(r.seed % 2) for r in rollouts]\n"
    )
    (folder / "own.py").write_text(reward)
    stage = settings(rewards={"own.py:lost": 1.0})
    with pytest.raises(StageHalted, match=r"12 of 12 rewards of step 3 are missing \(own.py:lost\)"):
        run_grpo(context(folder, folder / "work"), stage, engine_factory=scripted()[0])
    assert read_step_log(folder / "work" / "rollouts", 2) is not None
    assert read_step_log(folder / "work" / "rollouts", 3) is None
    (folder / "own.py").write_text(reward.replace("None if r.step == 3 else ", ""))
    summary = run_grpo(context(folder, folder / "work"), stage, engine_factory=scripted()[0])
    assert summary["updates"] == 5


def test_an_engine_with_stale_weights_is_caught(base, tmp_path):
    class Stale(ScriptedEngine):
        def load_weights(self, weights, version):
            pass

    with pytest.raises(RuntimeError, match="the engine holds version 0 after loading 1"):
        run_grpo(
            context(base, tmp_path),
            settings(),
            engine_factory=lambda model, tokenizer, max_rows: Stale(tokenizer, sometimes_right),
        )


@pytest.mark.numerical
def test_the_tiny_model_learns_what_it_is_paid_for(base, tmp_path):
    """A real engine, real samples, real updates: pay for one token, and it comes."""
    folder = tmp_path_with(base, tmp_path)
    (folder / "own.py").write_text(
        "def wanted(rollouts):\n    return [min(r.completion.token_ids.count(21), 8) / 8 for r in rollouts]\n"
    )
    stage = settings(
        steps=15,
        problems_per_step=4,
        group_size=16,
        max_new_tokens=16,
        kl_coef=0.0,
        rewards={"own.py:wanted": 1.0},
        clip_eps=0.2,
        optimizer={"learning_rate": 1e-2},
        tokens_per_micro_batch=4000,
    )
    run_grpo(context(folder, folder / "work"), stage, engine_factory=make_engine)
    rows = read_metrics(folder / "work")
    rewards = [row["reward/mean"] for row in rows]
    assert sum(rewards[:3]) / 3 < 0.1
    assert sum(rewards[-3:]) / 3 > 0.5
    # the sampler's logprobs are the trainer's, at every step and so after every change of weights
    bound = 20 * relative_error(load_tiny(base)[0])  # a policy this sure has logprobs down to -20
    assert max(row.get("sampler/logratio_max", 0.0) for row in rows) < bound


@pytest.mark.parametrize(
    "more", [{"reference_refresh_every": 4}, {"reference_refresh_every": 2, "lora": {"rank": 4, "alpha": 8}}]
)
@pytest.mark.numerical
def test_a_killed_run_ends_the_same_with_the_real_engine(base, tmp_path, monkeypatch, more):
    folder = tmp_path_with(base, tmp_path)
    (folder / "own.py").write_text("def odd(rollouts):\n    return [r.seed % 2 for r in rollouts]\n")
    stage = settings(steps=3, max_new_tokens=8, rewards={"own.py:odd": 1.0}, mini_batches=2, **more)
    run_grpo(context(folder, folder / "whole"), stage)
    for at in (2, 4):
        with monkeypatch.context() as patch:
            kill_in_update(patch, at)
            with pytest.raises(Stopped):
                run_grpo(context(folder, folder / "killed"), stage)
    run_grpo(context(folder, folder / "killed"), stage)
    assert same_weights(folder / "whole", folder / "killed")
    assert rollouts_of(folder / "whole", 3) == rollouts_of(folder / "killed", 3)
    # the sampler has the policy's weights, adapter merged: their logprobs differ by rounding alone
    rows = read_metrics(folder / "whole")
    assert max(row["sampler/logratio_max"] for row in rows) < 10 * relative_error(load_tiny(base)[0])
    assert (folder / "whole" / "adapter" / "adapter_model.safetensors").exists() == (stage.lora is not None)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_a_killed_run_ends_the_same_in_bfloat16_with_masters(base, tmp_path, monkeypatch, lora):
    folder = tmp_path_with(base, tmp_path)
    (folder / "own.py").write_text("def odd(rollouts):\n    return [r.seed % 2 for r in rollouts]\n")
    stage = settings(
        steps=3, max_new_tokens=8, rewards={"own.py:odd": 1.0}, lora=lora, gradient_checkpointing=True
    )

    def half(name):
        return dataclasses.replace(context(folder, folder / name), dtype="bfloat16")

    run_grpo(half("whole"), stage)
    with monkeypatch.context() as patch:
        kill_in_update(patch, 3)  # after the checkpoint of step 2
        with pytest.raises(Stopped):
            run_grpo(half("killed"), stage)
    run_grpo(half("killed"), stage)
    assert same_weights(folder / "whole", folder / "killed")
    # what is kept is what was computed with
    assert {tensor.dtype for tensor in weights_of(folder / "whole").values()} == {torch.bfloat16}
    assert all(0 < row["sampler/logratio_max"] < 0.3 for row in read_metrics(folder / "whole"))


def test_shaping_and_own_rewards_are_logged_by_their_names_and_halt_as_the_recipe_says(base, tmp_path):
    (base / "mine.py").write_text("def score(rollouts):\n    raise ValueError('no')\n")
    weights = {"accuracy": 1.0, "overlong": 1.0, "cosine": 0.5}
    options = {"overlong": {"max_tokens": 20, "cache_tokens": 10}, "cosine": {"max_length": 40}}
    stage = settings(steps=1, rewards=weights, reward_options=options)
    run_grpo(context(base, tmp_path / "shaped"), stage, engine_factory=scripted()[0])
    groups = read_step_log(tmp_path / "shaped" / "rollouts", 1)
    for group in groups:
        for rollout, breakdown in zip(group.rollouts, group.breakdowns, strict=True):
            tokens = len(rollout.completion.token_ids)
            # from 10 tokens on, a tenth for each
            assert breakdown.parts["overlong"] == pytest.approx(-min(max(tokens - 10, 0) / 10, 1))
            assert (breakdown.parts["cosine"] > 0) == (breakdown.parts["accuracy"] == 1.0)
    own = {"accuracy": 1.0, "mine.py:score": 1.0}
    with pytest.raises(StageHalted, match="raised ValueError: no"):
        run_grpo(context(base, tmp_path / "own"), settings(rewards=own), engine_factory=scripted()[0])
    assert (tmp_path / "own" / "failed_reward.jsonl").read_text().count('"token_ids"') == 4
    # as missing scores they halt it only by their number, which here is all
    missing = settings(rewards=own, on_reward_error="missing")
    with pytest.raises(StageHalted, match="12 of 12 rewards of step 1 are missing"):
        run_grpo(context(base, tmp_path / "missing"), missing, engine_factory=scripted()[0])
