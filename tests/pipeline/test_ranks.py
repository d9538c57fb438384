"""The whole route with two ranks; what only samples gives the same files as with one process."""

import shutil
from pathlib import Path

import pytest

from r1kit import distributed
from r1kit.evaluate import read_generations
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.run import run_recipe
from tests.ranks import on_ranks

from .fakes import Notes
from .test_pipeline_tiny import STAGES
from .tiny_route import make_route

SAMPLED = ("cold_start", "rejection", "labels")


def run(recipe: Path, folder: Path, notes: Path) -> None:
    """Run the recipe on this rank; what it is told is written down by each rank on its own."""
    progress = Notes()
    result = run_recipe(recipe, output_dir=folder, progress=progress)
    assert {row.state for row in result.rows} == {"done"}
    notes.mkdir(exist_ok=True)
    (notes / str(distributed.rank())).write_text("\n".join(progress.notes), encoding="utf-8")


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
