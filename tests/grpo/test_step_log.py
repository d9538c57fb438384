import json

from r1kit.grpo.groups import scored_group
from r1kit.grpo.step_log import (
    put_aside,
    put_damaged_aside,
    read_measured,
    read_step_log,
    step_log_path,
    write_step_log,
)
from r1kit.types import RewardBreakdown
from tests.grpo.scripted import problems, rollout


def test_a_step_reads_back_as_it_was_written(tmp_path):
    first, second = problems(2)
    third = 1 / 3
    groups = [
        scored_group(
            name,
            wave,
            [rollout(problem, group=g, sample=0), rollout(problem, group=g, sample=1, cut=True)],
            [
                RewardBreakdown({"accuracy": third}, {"accuracy": 2.0}),
                RewardBreakdown({"accuracy": None}, {"accuracy": 2.0}),
            ],
            constant="accuracy",
        )
        for g, (problem, name, wave) in enumerate([(first, "a", 0), (second, "b", 1), (second, "b", 1)])
    ]
    write_step_log(tmp_path, 12, groups, [[0.5, None]] * 3, {"sampling_seconds": 1.5})
    assert read_step_log(tmp_path, 12) == groups
    assert read_measured(tmp_path, 12) == {"sampling_seconds": 1.5}
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


def test_a_file_without_its_line_in_the_index_is_not_committed(tmp_path):
    (problem,) = problems(1)
    breakdown = RewardBreakdown({"accuracy": 1.0}, {"accuracy": 1.0})
    group = scored_group("a", 0, [rollout(problem)], [breakdown], constant="accuracy")
    for step in (1, 2, 3):
        write_step_log(tmp_path, step, [group], [[0.5]])
    index = tmp_path / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:2]))
    assert read_step_log(tmp_path, 3) is None
    write_step_log(tmp_path, 3, [group], [[0.5]])
    assert put_damaged_aside(tmp_path, 1) is None
    # one that is lost in between: those after it were sampled from weights that need it
    index.write_text(lines[0] + lines[2])
    assert put_damaged_aside(tmp_path, 3) is None  # before the checkpoint nobody needs it
    assert put_damaged_aside(tmp_path, 1) == 2
    assert [read_step_log(tmp_path, step) is None for step in (1, 2, 3)] == [False, True, True]
    assert put_aside(tmp_path, 1, "halted-1") == 1
    assert (tmp_path / "halted-1" / "step-00001.jsonl").exists()
    assert put_aside(tmp_path, 1, "halted-1") == 0
