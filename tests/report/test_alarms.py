"""What rang in training is told; the hacking alarm rings where reward and truth part, and nowhere else."""

import json

import pytest

from r1kit.data.jsonl import write_jsonl
from r1kit.report.alarms import reward_hacking, training_alarms, verifier_faults
from r1kit.report.reader import read_run
from r1kit.report.sections import alarms_section
from tests.report.synthetic import write_manifest


def make(tmp_path, rewards, probes, general=None):
    folder = tmp_path / "r1"
    folder.mkdir()
    rows = [
        {"step": i, "reward/mean": r, "eval/held_out_accuracy": p}
        for i, (r, p) in enumerate(zip(rewards, probes, strict=True))
    ]
    write_jsonl(folder / "metrics.jsonl", rows)
    write_manifest(folder, "r1", "grpo", 0, {"model": "dev3"})
    for stage, value in zip(("dev3", "r1"), general or (), strict=False):
        path = tmp_path / "eval" / stage
        path.mkdir(parents=True)
        cell = {"value": value, "low": value - 0.02, "high": value + 0.02}
        (path / "summary.json").write_text(json.dumps({"general": {"correct": cell}}), encoding="utf-8")
    return {f.text.split(" ")[0]: f.alarm for f in reward_hacking(read_run(tmp_path))}


@pytest.mark.parametrize(
    ("rewards", "probes", "alarm"),
    [
        ((0.2, 0.5, 0.9), (0.5, 0.8, 0.9), False),  # both rise
        ((0.2, 0.5, 0.9), (0.5, 0.8, 0.5), True),  # reward rises, the probe falls from its best
        ((0.9, 0.5, 0.2), (0.8, 0.7, 0.5), False),  # both fall: bad, but no hacking
        ((0.2, 0.5, 0.9), (0.5, 0.8, 0.75), False),  # a fall within noise
    ],
)
def test_the_probe_during_training(tmp_path, rewards, probes, alarm):
    assert make(tmp_path, rewards, probes) == {"reward": alarm}


def test_the_evaluation_before_and_after(tmp_path):
    assert make(tmp_path, (0.2, 0.9), (0.8, 0.8), general=(0.93, 0.84))["general,"] is True


def test_an_evaluation_within_its_interval_is_quiet(tmp_path):
    assert make(tmp_path, (0.2, 0.9), (0.8, 0.8), general=(0.93, 0.91))["general,"] is False


@pytest.mark.parametrize(("timeouts", "alarm"), [((0, 0), None), ((1, 0), False), ((1, 2), True)])
def test_answers_that_the_verifier_could_not_compare(tmp_path, timeouts, alarm):
    folder = tmp_path / "zero"
    folder.mkdir()
    write_jsonl(
        folder / "metrics.jsonl",
        [
            {"step": i + 1, "groups/sampled": 8, "verifier/timeouts": n, "verifier/crashes": 0}
            for i, n in enumerate(timeouts)
        ],
    )
    write_manifest(folder, "zero", "grpo", 0, {"model": "base", "group_size": 16})
    # two steps of 8 * 16 answers: 2.56 are one in a hundred
    run = read_run(tmp_path)
    found = verifier_faults(run)
    assert [finding.alarm for finding in found] == ([] if alarm is None else [alarm])
    html = alarms_section(run)
    assert ("could not be compared by the math verifier" in html) is (alarm is True)
    assert (f"{sum(timeouts)} time-outs and 0 crashes in 256 answers" in html) is (alarm is not None)


def test_what_rang_while_a_policy_was_trained_is_in_the_report(tmp_path):
    rows = [
        {"step": step, "completion/length_mean": 40.0, "policy/entropy": entropy, "kl/ref": 0.1}
        for step, entropy in ((1, 1.2), (2, 0.1), (3, 0.05), (4, 0.08))
    ]
    for name, ringing in (("zero", (3, 4)), ("dev2", ())):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name, name, "grpo", 0, {"model": "base"})
        marked = [row | ({"alarm/entropy": 1.0} if row["step"] in ringing else {}) for row in rows]
        write_jsonl(tmp_path / name / "metrics.jsonl", marked)
    run = read_run(tmp_path)
    loud, quiet = sorted(training_alarms(run), key=lambda finding: not finding.alarm)
    assert (loud.stage, loud.text) == (
        "zero",
        "entropy collapse in 2 of 4 rows, first at step 3: policy/entropy 0.05 at its worst. "
        "Raise kl_coef or temperature, or lower the learning rate.",
    )
    assert (quiet.stage, quiet.alarm) == ("dev2", False)
    assert quiet.text == "policy/entropy 1.2 → 0.08; completion/length_mean 40 → 40; kl/ref 0.1 → 0.1"
    assert "Alarm in zero: an alarm rang while a policy was trained" in alarms_section(run)
