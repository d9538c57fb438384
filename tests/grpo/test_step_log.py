import json

from r1kit.grpo.groups import Group
from r1kit.grpo.step_log import read_step_log, step_log_path, write_step_log
from r1kit.types import RewardBreakdown
from tests.grpo.scripted import problems, rollout


def test_a_step_reads_back_as_it_was_written(tmp_path):
    first, second = problems(2)
    third = 1 / 3
    groups = [
        Group(
            name,
            wave,
            (rollout(problem, group=g, sample=0), rollout(problem, group=g, sample=1, cut=True)),
            (
                RewardBreakdown({"accuracy": third}, {"accuracy": 2.0}),
                RewardBreakdown({"accuracy": None}, {"accuracy": 2.0}),
            ),
        )
        for g, (problem, name, wave) in enumerate([(first, "a", 0), (second, "b", 1), (second, "b", 1)])
    ]
    write_step_log(tmp_path, 12, groups, [[0.5, None]] * 3)
    assert read_step_log(tmp_path, 12) == groups
    row = json.loads((tmp_path / "step-00012.jsonl").read_text().splitlines()[1])
    assert (row["group"], row["sample"], row["advantage"], row["wave"], row["problem_set"]) == (
        0,
        1,
        None,
        0,
        "a",
    )


def test_a_step_that_was_not_committed_is_none(tmp_path):
    assert read_step_log(tmp_path, 1) is None
    assert step_log_path(tmp_path, 1).name == "step-00001.jsonl"
