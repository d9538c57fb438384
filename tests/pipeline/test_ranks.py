"""The whole route with two ranks; what only samples gives the same files as with one process."""

import json
import os
import shutil
from pathlib import Path

import pytest

from r1kit.errors import StageHalted, UserError
from r1kit.evaluate.graded import read_generations
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.run import open_run, run_recipe
from r1kit.ranks import collectives
from r1kit.rewards.own import load_own_reward
from r1kit.types import Problem
from tests.making import make_problem, make_rollout
from tests.on_ranks import on_ranks
from tests.pipeline.fakes import Notes, make_world
from tests.pipeline.test_pipeline_tiny import STAGES
from tests.pipeline.tiny_route import make_route

SAMPLED = ("cold_start", "rejection", "labels")


def run(recipe: Path, folder: Path, notes: Path) -> None:
    """Run the recipe on this rank; what it is told is written down by each rank on its own."""
    progress = Notes()
    result = run_recipe(recipe, output_dir=folder, progress=progress)
    assert {row.state for row in result.rows} == {"done"}
    notes.mkdir(exist_ok=True)
    (notes / str(collectives.rank())).write_text("\n".join(progress.notes), encoding="utf-8")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_route(tmp_path_factory.mktemp("route"))


@pytest.mark.slow
def test_two_ranks_make_everything_and_one_process_makes_the_same_data_of_it(recipe: Path) -> None:
    two, one, notes = (recipe.parent / name for name in ("two", "one", "notes"))
    on_ranks(recipe.parent / "ranks", run, recipe, two, notes)
    assert (notes / "0").read_text(encoding="utf-8")
    assert not (notes / "1").read_text(encoding="utf-8")  # the first rank speaks for all
    for stage in STAGES:
        manifest = read_manifest(two / stage)
        assert manifest is not None
        assert manifest.environment["world_size"] == 2
    assert not (two / ".work").exists()

    shutil.copytree(two, one)
    for name in (*SAMPLED, "eval"):
        shutil.rmtree(one / name)
    run(recipe, one, notes)
    made = [line for line in (notes / "0").read_text(encoding="utf-8").splitlines() if " again: " in line]
    assert not made  # what was made anew is what was there: nothing that depends on it had to be
    for name in SAMPLED:
        assert (one / name / "data.jsonl").read_bytes() == (two / name / "data.jsonl").read_bytes()
    for name in ("base", "zero", "r1"):
        assert read_generations(one / "eval" / name) == read_generations(two / "eval" / name)


def share(recipe: Path, notes: Path) -> None:
    """Load the problems of every stage as a run does, on this rank; what it got, or the error."""
    context = open_run(recipe)
    notes.mkdir(exist_ok=True)
    try:
        for job in plan_jobs(context.recipe):
            context.share_problems(job)
        found = [problem.id for problem in context.problems("sums")]
    except UserError as error:
        found = [str(error)]
    (notes / str(collectives.rank())).write_text(json.dumps(found), encoding="utf-8")


def test_one_rank_loads_and_checks_the_problems_and_all_have_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, checked = make_world(tmp_path / "world"), tmp_path / "checked"

    def check(problem: Problem) -> str | None:
        with checked.open("a") as file:
            file.write(f"{os.getpid()} {problem.id}\n")
        return "the verifier ran out of time" if problem.question.startswith("Slow") else None

    monkeypatch.setattr("r1kit.pipeline.context.verify_problem", check)
    on_ranks(tmp_path / "ranks", share, world.recipe, tmp_path / "sound")
    lines = checked.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 1  # one process
    assert len(lines) == len(set(lines)) == 3  # and each problem once
    first, second = (json.loads((tmp_path / "sound" / rank).read_text()) for rank in "01")
    assert first == second
    assert len(first) == 3

    # what goes wrong on the first rank alone is what all of them say
    with (world.folder / "sums.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"q": "Slow: what is 7 + 1?", "a": "8"}\n')
    on_ranks(tmp_path / "ranks-sick", share, world.recipe, tmp_path / "sick")
    first, second = (json.loads((tmp_path / "sick" / rank).read_text()) for rank in "01")
    assert first == second
    assert "sums.jsonl:4: the verifier ran out of time" in first[0]


def fail(folder: Path, mine: Path) -> None:
    """Call a reward that raises, on this rank's own rollout."""
    reward = load_own_reward(f"{mine.name}:broken", recipe_dir=mine.parent, failure_dir=folder)
    with pytest.raises(StageHalted, match=rf"failed_reward\.rank{collectives.rank()}\.jsonl"):
        reward([make_rollout(make_problem(), f"of rank {collectives.rank()}")])


def test_ranks_whose_own_rewards_fail_together_keep_a_report_each(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def broken(rollouts):\n    raise KeyError(rollouts[0].completion.text)\n")
    on_ranks(tmp_path / "ranks", fail, tmp_path / "work", mine)
    for rank in range(2):
        report = (tmp_path / "work" / f"failed_reward.rank{rank}.jsonl").read_text()
        assert json.loads(report)["completion"]["text"] == f"of rank {rank}"
        assert f"of rank {rank}" in (tmp_path / "work" / f"failed_reward.rank{rank}.txt").read_text()
