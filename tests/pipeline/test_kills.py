"""`r1 run` as a process of its own, killed again and again: it ends with the bits of one that was not."""

import os
from pathlib import Path

import pytest
from benchmarks.kills import differences, kill_and_resume, make_recipe, runs_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes that it kills"),
]

# Half of them at a random time, half in a write: of a checkpoint, the step log, metrics, export, manifest.
KILLS = {
    "warm": 3,
    "zero": 6,
    "cold_start": 1,
    "pairs": 1,
    "helpful": 3,
    "rejection": 2,
    "labels": 1,
    "eval": 1,
}


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe, whole, killed = make_recipe(tmp_path), tmp_path / "whole", tmp_path / "killed"
    with runs_in(tmp_path) as runs:
        assert runs.run(["run", str(recipe), "--output", str(whole)], tmp_path / "trace") == 0
        result = kill_and_resume(runs, recipe, killed, whole, KILLS, seed=1)
    assert differences(whole, killed) == []
    # nothing that was in a log when a process began was sampled by it
    assert result.num_sampled > 0
    assert result.sampled_though_logged == 0
    # of every training stage several kills came through, in sampling or updates and in writes of files
    stages = [kill.partition(": ")[0] for kill in result.kills]
    assert min(stages.count("warm"), stages.count("helpful")) >= 1, result.kills
    assert stages.count("zero") >= 3, result.kills
    places = {kill.partition(": ")[2] for kill in result.kills}
    assert places & {"checkpoint write", "step log", "export", "metrics", "manifest"}, result.kills
    assert len(places) >= 3, result.kills
