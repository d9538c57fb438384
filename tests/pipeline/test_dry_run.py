"""`r1 run --dry-run`: TOML that loads as the same recipe, the route with its reasons, and nothing written."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from r1kit.pipeline.dry_run import planned_steps, recipe_lines
from r1kit.pipeline.recipe import load_recipe, load_recipe_whole
from r1kit.pipeline.run import open_run
from r1kit.pipeline.shipped import shipped_recipes
from r1kit.pipeline.toml_text import toml_value
from tests.pipeline.fakes import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def route(world: World, **options: object) -> dict[str, tuple[str, str]]:
    context = open_run(world.recipe, writes=False, **options)  # type: ignore[arg-type]
    return {step.name: (step.state, step.why) for step in planned_steps(context)}


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_is_printed_loads_as_the_same_recipe(name: str, tmp_path: Path) -> None:
    path = shipped_recipes()[name]
    printed = tmp_path / "printed.toml"
    printed.write_text("\n".join(recipe_lines(load_recipe_whole(path))), encoding="utf-8")
    assert load_recipe(printed).model_dump() == load_recipe(path).model_dump()
    assert tomllib.loads(printed.read_text(encoding="utf-8")) == tomllib.loads(
        path.read_text(encoding="utf-8")
    )


def test_what_is_extended_and_set_is_printed_with_where_it_is_from(tmp_path: Path, world: World) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "world/recipe.toml"\n[stages.zero]\nkl_coef = 0.5\n', encoding="utf-8")
    text = "\n".join(recipe_lines(load_recipe_whole(path, ["stages.zero.steps=20"])))
    zero = text[text.index("[stages.zero]") :].split("\n\n")[0].splitlines()
    assert 'name = "mine"\n' in text  # after its file, and so not the base's
    assert "kl_coef = 0.5" in zero
    assert "steps = 20  # command line" in zero
    assert f'prompt_style = "zero"  # {world.recipe}:26' in zero
    assert "# group_size = 16" in zero  # a default
    printed = tmp_path / "printed.toml"
    printed.write_text(text, encoding="utf-8")
    assert load_recipe(printed) == load_recipe(path, ["stages.zero.steps=20"])


def test_a_value_is_written_as_toml_reads_it() -> None:
    values = [
        'a"b\\c\n\t\x7f\x01é中',
        1e-6,
        1e300,
        float("inf"),
        True,
        -3,
        [],
        {},
        [[1], ["x"]],
        {"a b": {"c": 1}},
    ]
    for value in values:
        assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}
    with pytest.raises(TypeError):
        toml_value(None)


def test_the_route_says_what_would_be_made_and_why(world: World) -> None:
    assert route(world) == {
        "zero": ("new", "it has not been made"),
        "cold": ("new", "after zero"),
        "dev1": ("new", "after cold"),
        "dev2": ("new", "after dev1"),
    }
    world.run(stages=["cold"])
    assert route(world) == {
        "zero": ("done", "kept"),
        "cold": ("done", "kept"),
        "dev1": ("new", "it has not been made"),
        "dev2": ("new", "after dev1"),
    }
    world.run()
    assert {state for state, _ in route(world).values()} == {"done"}
    assert route(world, settings=["stages.dev1.epochs=5"]) == {
        "zero": ("done", "kept"),
        "cold": ("done", "kept"),
        "dev1": ("stale", "made again: stages.dev1.epochs was 2, is 5"),
        "dev2": ("stale", "made again if dev1 comes out different"),
    }


def test_an_unfinished_stage_goes_on_or_is_put_aside(world: World) -> None:
    def stop(context: object) -> None:
        raise RuntimeError("stopped here")

    world.before["dev1"] = stop
    with pytest.raises(RuntimeError):
        world.run()
    assert route(world)["dev1"] == ("in progress", "resumes")
    assert route(world, settings=["stages.dev1.epochs=5"])["dev1"] == (
        "new",
        "the unfinished attempt would be put aside: stages.dev1.epochs was 2, is 5",
    )
    assert route(world, settings=["stages.zero.steps=5"])["dev1"] == (
        "in progress",
        "resumes if cold comes out the same",
    )


def test_the_route_is_what_a_run_then_does(world: World) -> None:
    world.run()
    settings = ["stages.cold.keep_per_problem=5"]
    said = route(world, settings=settings)
    assert [name for name, (state, _) in said.items() if state == "stale"] == ["cold", "dev1", "dev2"]
    world.run(settings=settings)
    assert world.made == ["cold", "dev1", "dev2"]
    assert {state for state, _ in route(world, settings=settings).values()} == {"done"}
    assert route(world)["cold"][1].startswith("made again: stages.cold.keep_per_problem was 5, is ")


def test_a_dry_run_writes_nothing_and_reads_no_data_of_what_is_not_begun(world: World) -> None:
    (world.folder / "sums.jsonl").unlink()
    before = content(world.folder)
    assert route(world)["zero"] == ("new", "it has not been made")
    assert content(world.folder) == before
    assert not world.out.exists()


def test_a_dry_run_over_a_finished_run_writes_nothing(world: World) -> None:
    world.run()
    (world.out / ".fingerprints.json").unlink()
    before = content(world.folder)
    route(world)
    assert content(world.folder) == before


def test_what_was_set_is_in_the_run_s_record(world: World) -> None:
    world.run(settings=["run.seed=4", "stages.zero.steps=5"])
    record = (world.out / "run.json").read_text(encoding="utf-8")
    assert '"run.seed=4"' in record
    assert '"stages.zero.steps=5"' in record
    manifest = (world.out / "zero" / "manifest.json").read_text(encoding="utf-8")
    assert '"steps": 5' in manifest
