"""What a killed or damaged stage goes on with, and what one does that halted."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError, StageHalted
from r1kit.grpo import run_grpo
from r1kit.grpo.step_log import read_step_log, step_log_path
from r1kit.training.metrics_log import read_metrics
from r1kit.training.trainer import Trainer
from tests.grpo.scripted import ScriptedEngine
from tests.grpo.test_run import (
    Recorder,
    Stopped,
    context,
    kill_in_update,
    rollouts_of,
    same_weights,
    scripted,
    settings,
    sometimes_right,
)
from tests.tiny_models import load_tiny, tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def killed(base, folder, monkeypatch, at, **fields):
    """A stage that dies instead of update `at`; with one update a step, step `at` is in the log by then."""
    with monkeypatch.context() as patch:
        factory, _ = kill_in_update(patch, at)
        with pytest.raises(Stopped):
            run_grpo(context(base, folder), settings(**fields), engine_factory=factory)


def finished(base, folder, **fields):
    """The stage gone on with to its end; what it noted, and its engine."""
    factory, made = scripted()
    progress = Recorder()
    run_grpo(context(base, folder, progress), settings(**fields), engine_factory=factory)
    return progress.notes, made[0]


def untimed(folder):
    return [{k: v for k, v in row.items() if "second" not in k} for row in read_metrics(folder)]


@pytest.mark.parametrize("damage", ["cut at a line", "cut in a line", "changed", "lost"])
def test_a_damaged_step_is_sampled_again_with_those_after_it(base, tmp_path, monkeypatch, damage):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(base, whole, checkpoint_every=9)
    killed(base, broken, monkeypatch, 5, checkpoint_every=9)
    path = step_log_path(broken / "rollouts", 3)
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "cut at a line":  # half of the step would be read as a smaller step
        path.write_bytes(b"".join(lines[: len(lines) // 2]))
    elif damage == "cut in a line":
        path.write_bytes(b"".join(lines)[:-40])
    elif damage == "changed":
        path.write_bytes(b"".join(lines).replace(b'"accuracy": 1.0', b'"accuracy": 0.0', 1))
    else:
        path.unlink()
    if damage != "lost":
        with pytest.raises(DataError, match=r"step-00003.jsonl: the file has changed"):
            read_step_log(broken / "rollouts", 3)
    notes, engine = finished(base, broken, checkpoint_every=9)
    assert any("step 3 is damaged or lost; it and later steps were moved" in note for note in notes)
    assert same_weights(whole, broken)
    assert rollouts_of(broken) == rollouts_of(whole)
    assert untimed(broken) == untimed(whole)
    resampled = rollouts_of(whole)[2:]
    assert engine.num_sampled == sum(len(group.rollouts) for groups in resampled for group in groups)
    kept = sorted(p.name for p in (broken / "rollouts" / "damaged").iterdir())
    assert kept == [f"step-0000{step}.jsonl" for step in ((4, 5) if damage == "lost" else (3, 4, 5))]


def test_a_torn_index_line_is_a_step_that_was_not_committed(base, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(base, whole)
    killed(base, broken, monkeypatch, 3)
    index = broken / "rollouts" / "index.jsonl"
    os.truncate(index, index.stat().st_size - 5)
    notes, engine = finished(base, broken)
    assert not any("damaged" in note for note in notes)
    assert engine.num_sampled == sum(len(g.rollouts) for groups in rollouts_of(whole)[2:] for g in groups)
    assert same_weights(whole, broken)


def test_a_line_of_the_index_that_is_no_json_is_named_with_the_way_out(base, tmp_path, monkeypatch):
    killed(base, tmp_path, monkeypatch, 3)
    index = tmp_path / "rollouts" / "index.jsonl"
    index.write_text(index.read_text().replace('{"step": 2', '{"step": x', 1))
    with pytest.raises(DataError, match=r"index.jsonl:2: not valid JSON.*delete this line and run again"):
        finished(base, tmp_path)


def test_metrics_and_probes_of_replayed_steps_outlive_a_second_kill(base, tmp_path, monkeypatch):
    # steps 1 to 3 are done without a checkpoint, step 4 dies; then the replay of step 2 dies
    fields = {"probe": "held_out", "probe_size": 4, "eval_every": 1, "steps": 6, "checkpoint_every": 4}
    killed(base, tmp_path / "a", monkeypatch, 4, **fields)
    before = {row["step"]: row for row in read_metrics(tmp_path / "a")}
    assert sorted(before) == [0, 1, 2, 3]
    killed(base, tmp_path / "a", monkeypatch, 2, **fields)
    assert {row["step"]: row for row in read_metrics(tmp_path / "a")} == before  # times included
    _, engine = finished(base, tmp_path / "a", **fields)
    logged = rollouts_of(tmp_path / "a", 6)
    # nothing of steps 1 to 4 again, but the probe of step 4, whose row was not written yet
    assert engine.num_sampled == sum(len(g.rollouts) for groups in logged[4:] for g in groups) + 3 * 4
    finished(base, tmp_path / "whole", **fields)
    assert untimed(tmp_path / "a") == untimed(tmp_path / "whole")
    # the sampling times of step 4, measured by the process that died, are in its row
    measured = {row["step"]: row["measured"] for _, row in read_jsonl(tmp_path / "a/rollouts/index.jsonl")}
    row = read_metrics(tmp_path / "a")[4]
    assert row["sampling_seconds"] == measured[4]["sampling_seconds"] > 0


def test_a_half_written_checkpoint_costs_a_replay_and_nothing_else(base, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(base, whole, checkpoint_every=1)
    killed(base, broken, monkeypatch, 5, checkpoint_every=1)
    newest = sorted((broken / "checkpoints").iterdir())[-1] / "state.pt"
    os.truncate(newest, newest.stat().st_size // 2)
    _, engine = finished(base, broken, checkpoint_every=1)
    assert engine.num_sampled == 0
    assert same_weights(whole, broken)


def poison(monkeypatch, first, last, value=math.nan):
    """The losses of updates `first` to `last` of the stage are not finite."""
    update = Trainer.update

    def poisoned(self, losses):
        def spoilt(parts):
            bad = first <= self.num_updates + 1 <= last
            return type(parts)(parts.loss * value, parts.metrics) if bad else parts

        return update(self, map(spoilt, losses))

    monkeypatch.setattr(Trainer, "update", poisoned)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_single_update_that_is_not_finite_is_skipped_and_counted(base, tmp_path, monkeypatch, value):
    poison(monkeypatch, 2, 2, value)
    finished(base, tmp_path)
    rows = read_metrics(tmp_path)
    assert [row["update/skipped"] for row in rows] == [0, 1, 0, 0, 0]
    model, _ = load_tiny(tmp_path / "model")
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_stage_that_halts_goes_back_to_its_last_good_checkpoint_and_on_with_other_samples(
    base,
    tmp_path,
    monkeypatch,
):
    # one update and one checkpoint a step: that of step 3 would be of a skipped update, so 2 is the last
    with monkeypatch.context() as patch:
        poison(patch, 3, 5)
        with pytest.raises(StageHalted) as halted:
            finished(base, tmp_path, checkpoint_every=1)
    text = str(halted.value)
    assert (
        "Halted in step 5: update 5 had loss nan and gradient norm nan, not finite 3 times in a row" in text
    )
    assert "went back to its last good checkpoint, of step 2" in text
    assert "Run again to resume from there with other samples" in text
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000001", "step-00000002"]
    aside = tmp_path / "rollouts" / "halted-1"
    assert sorted(p.name for p in aside.iterdir()) == [f"step-0000{step}.jsonl" for step in (3, 4, 5)]
    (halt,) = [row for _, row in read_jsonl(tmp_path / "halts.jsonl")]
    assert (halt["step"], halt["went_back_to"]) == (5, 2)
    finished(base, tmp_path, checkpoint_every=1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert all(row["update/skipped"] == 0 for row in read_metrics(tmp_path))

    def seeds(path):
        return {json.loads(line)["seed"] for line in path.read_text().splitlines()}

    name = "step-00003.jsonl"
    assert not seeds(aside / name) & seeds(tmp_path / "rollouts" / name)


def test_a_halt_before_the_first_checkpoint_starts_anew(base, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        poison(patch, 1, 3)
        with pytest.raises(StageHalted, match="back to its start, as there is no checkpoint yet"):
            finished(base, tmp_path)
    assert not list((tmp_path / "rollouts").glob("step-*"))
    finished(base, tmp_path)
    assert len(read_metrics(tmp_path)) == 5


def test_log_probabilities_of_the_sampler_that_are_not_finite_halt_before_they_are_trained_on(base, tmp_path):
    class Overflown(ScriptedEngine):
        def poll(self):
            results = super().poll()
            spoilt = [replace(r.completion, sampler_logprobs=(math.nan,)) for r in results]
            return [replace(r, completion=c) for r, c in zip(results, spoilt, strict=True)]

    with pytest.raises(StageHalted, match="step 1: the sampler's log-probabilities are not finite"):
        run_grpo(
            context(base, tmp_path),
            settings(),
            engine_factory=lambda model, tokenizer, max_rows: Overflown(tokenizer, sometimes_right),
        )
    assert read_step_log(tmp_path / "rollouts", 1) is None


def test_alarms_are_in_the_metrics_and_said_once(base, tmp_path, monkeypatch):
    fields = {"max_new_tokens": 4}  # all completions are cut off
    killed(base, tmp_path, monkeypatch, 4, **fields)
    notes, _ = finished(base, tmp_path, **fields)
    rows = read_metrics(tmp_path)
    assert all(row["alarm/truncated"] == 1.0 for row in rows)
    assert not any("were cut off" in note for note in notes)  # the process before said so


def test_the_schedules_of_a_stage_are_in_its_metrics_by_number(base, tmp_path):
    optimizer = {"learning_rate": 1e-2, "schedule": "linear", "min_learning_rate_frac": 0.2}
    finished(base, tmp_path, optimizer=optimizer)
    # five updates from 0.01 down to a fifth of it
    rates = [row["learning_rate"] for row in read_metrics(tmp_path)]
    assert rates == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002])
