"""How long a shipped recipe will take: by its reference and a sample of the work, where that holds."""

from pathlib import Path
from typing import Any

import pytest

from r1kit import terminal
from r1kit.pipeline import expected_time
from r1kit.pipeline.expected_time import (
    REFERENCES,
    SAMPLE_SECONDS,
    expect_time,
    measure_seconds,
    num_completions,
)
from r1kit.pipeline.folder import RunFolder
from r1kit.pipeline.manifest import Key, Manifest, write_manifest
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.run import open_run
from r1kit.pipeline.shipped import find_recipe


@pytest.fixture(autouse=True)
def _a_machine_half_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_time, "measure_seconds", lambda: 2 * SAMPLE_SECONDS)
    monkeypatch.setattr(expected_time, "_num_cores", lambda: 2)


def context(name: str, folder: Path, **options: Any) -> Any:
    return open_run(find_recipe(name), output_dir=folder, writes=False, **options)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_is_of_the_recipe_as_it_is_shipped(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert num_completions(recipe) == REFERENCES[name].completions, "measure it again: docs/results.md"
    assert recipe.run.processes == expected_time.REFERENCE_RANKS


def test_the_reference_is_scaled_by_the_pace_of_this_machine(tmp_path: Path) -> None:
    expected = expect_time(context("demo", tmp_path / "run"), num_ranks=2)
    assert expected is not None
    assert expected.seconds == 2 * REFERENCES["demo"].seconds
    assert expected.slower == 2
    assert terminal.expectation_line("demo", expected) == (
        "demo: about 19 minutes from here, between 14 and 28 if nothing else uses the cores. The complete "
        "run took 9:24 on two cores of an AMD EPYC; a sample of its work takes 2.0 times as long here."
    )


def test_two_ranks_on_one_core_take_twice_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_time, "_num_cores", lambda: 1)
    expected = expect_time(context("demo", tmp_path / "run"), num_ranks=2)
    assert expected is not None
    assert expected.slower == 4


def test_what_is_done_is_taken_off(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "zero"
    folder.mkdir(parents=True)
    write_manifest(folder, Manifest("zero", "grpo", Key({}, {}, {}), finished="now", seconds=100.0))
    work = RunFolder(tmp_path / "run").work("dev1")
    work.mkdir(parents=True)
    (work / "progress.json").write_text('{"seconds": 11.0}', encoding="utf-8")
    expected = expect_time(context("demo", tmp_path / "run"), num_ranks=2)
    assert expected is not None
    assert expected.seconds == 2 * REFERENCES["demo"].seconds - 111
    write_manifest(folder, Manifest("zero", "grpo", Key({}, {}, {}), finished="now", seconds=1e5))
    assert expect_time(context("demo", tmp_path / "run"), num_ranks=2) is None  # nothing that could be said


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    assert expect_time(context("zero-only", tmp_path / "run"), num_ranks=1) is None
    assert expect_time(context("demo", tmp_path / "run"), num_ranks=1) is None
    shorter = context("demo", tmp_path / "run", settings=["stages.zero.steps=20"])
    assert expect_time(shorter, num_ranks=2) is None
    gpu = context("demo", tmp_path / "run")
    gpu.device = "cuda"
    assert expect_time(gpu, num_ranks=2) is None
    copy = tmp_path / "demo.toml"
    copy.write_text(find_recipe("demo").read_text(encoding="utf-8"), encoding="utf-8")
    assert expect_time(open_run(copy, writes=False), num_ranks=2) is None


def test_the_sample_is_real_work_and_leaves_random_numbers_alone() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert 0.01 < measure_seconds() < 300
    assert torch.equal(torch.random.get_rng_state(), before)
