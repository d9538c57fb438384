"""A recipe with what it extends and is set: merged, paths at home in their folders, faults at their place."""

import os
from pathlib import Path

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.recipe_file import processes_of, read_recipe_file
from r1kit.pipeline.shipped import find_recipe
from tests.pipeline.fakes import World, make_world


@pytest.fixture
def base(tmp_path: Path) -> World:
    """A recipe in a folder `base`, to be extended from elsewhere."""
    return make_world(tmp_path / "base")


def derived(tmp_path: Path, text: str, name: str = "mine") -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault_of(path: Path, *settings: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, settings)
    return str(caught.value)


def test_tables_are_merged_and_lists_replaced(tmp_path: Path) -> None:
    path = derived(
        tmp_path,
        'extends = "tiny"\n[stages.zero]\nsteps = 7\n[stages.zero.optimizer]\nlearning_rate = 1e-4\n'
        '[eval]\nstages = ["zero"]\n',
    )
    mine, tiny = load_recipe(path), load_recipe(find_recipe("tiny"))
    zero, same = mine.stages["zero"], tiny.stages["zero"]
    assert zero.steps == 7
    assert zero.optimizer == same.optimizer.model_copy(update={"learning_rate": 1e-4})
    assert zero.optimizer.warmup_steps == same.optimizer.warmup_steps
    assert zero == same.model_copy(update={"steps": 7, "optimizer": zero.optimizer})
    assert {name: s for name, s in mine.stages.items() if name != "zero"} == {
        name: s for name, s in tiny.stages.items() if name != "zero"
    }
    assert tiny.eval is not None
    assert "r1" in (tiny.eval.stages or [])
    assert mine.eval == tiny.eval.model_copy(update={"stages": ["zero"]})


def test_a_recipe_that_extends_is_a_run_of_its_own(tmp_path: Path) -> None:
    mine = load_recipe(derived(tmp_path, 'extends = "tiny"', "try-1"))
    assert (mine.run.name, mine.run.folder) == ("try-1", Path("runs/try-1"))
    assert mine.run.processes == load_recipe(find_recipe("tiny")).run.processes
    named = load_recipe(derived(tmp_path, 'extends = "try-1.toml"\n[run]\nname = "other"', "try-2"))
    assert named.run.folder == Path("runs/other")
    third = load_recipe(derived(tmp_path, 'extends = "try-2.toml"', "try-3"))
    assert third.run.folder == Path("runs/try-3")


def test_paths_of_a_base_start_at_its_own_folder(tmp_path: Path, base: World) -> None:
    (tmp_path / "sums.jsonl").write_text("not what is meant", encoding="utf-8")
    (base.folder / "mine.py").write_text("def f(rollouts): return [0.0] * len(rollouts)\n", encoding="utf-8")
    (base.folder / "tuned").mkdir()
    (base.folder / "more.jsonl").write_text("{}\n", encoding="utf-8")
    base.edit("rewards = { accuracy = 1.0, format = 1.0 }", 'rewards = { accuracy = 1.0, "mine.py:f" = 0.5 }')
    base.edit('model = "base"\ndata = "cold"', 'model = "tuned"\ndata = ["cold", "more.jsonl"]')
    recipe = load_recipe(derived(tmp_path, 'extends = "base/recipe.toml"\n[stages.zero]\nsteps = 4\n'))
    assert recipe.model.base == "base/base_model"
    assert recipe.problems["sums"].source == "base/sums.jsonl"
    assert recipe.stages["zero"].rewards == {"accuracy": 1.0, "base/mine.py:f": 0.5}
    assert recipe.stages["zero"].steps == 4
    assert recipe.stages["zero"].model == "base"  # the model, not the folder of that name
    assert recipe.stages["dev1"].model == "base/tuned"
    assert recipe.stages["dev1"].data == ["cold", "base/more.jsonl"]


def test_a_path_of_the_recipe_itself_stays_and_a_missing_one_of_the_base_is_looked_for_there(
    tmp_path: Path, base: World
) -> None:
    (tmp_path / "sums.jsonl").write_text("", encoding="utf-8")
    own = 'extends = "base/recipe.toml"\n[problems.sums]\nsource = "sums.jsonl"\n'
    assert load_recipe(derived(tmp_path, own)).problems["sums"].source == "sums.jsonl"
    base.edit('data = "cold"', 'data = "gone.jsonl"')
    (tmp_path / "gone.jsonl").write_text("", encoding="utf-8")
    fault = fault_of(derived(tmp_path, 'extends = "base/recipe.toml"'))
    assert "`stages.dev1.data` = 'base/gone.jsonl': neither a stage nor a file" in fault
    assert fault.startswith(f"{base.recipe}:44: ")


def test_a_set_path_starts_at_the_current_folder(
    tmp_path: Path, base: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own.jsonl").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe(base.recipe, ["problems.sums.source=own.jsonl"])
    assert recipe.problems["sums"].source == os.path.join("..", "elsewhere", "own.jsonl")
    assert (
        load_recipe(base.recipe, ["problems.sums.source=gsm8k", "problems.sums.columns={}"])
        .problems["sums"]
        .source
        == "gsm8k"
    )


def test_faults_are_at_their_place_whichever_part_they_are_in(tmp_path: Path, base: World) -> None:
    path = derived(tmp_path, 'extends = "base/recipe.toml"\n[stages.zero]\nstps = 3\n')
    assert fault_of(path) == f"{path}:3: unknown key `stages.zero.stps`; did you mean `steps`?"
    assert fault_of(base.recipe, "stages.zero.stps=3") == (
        "--set stages.zero.stps=3: unknown key `stages.zero.stps`; did you mean `steps`?"
    )
    assert fault_of(base.recipe, "stages.zero.steps=many") == (
        "--set stages.zero.steps=many: `stages.zero.steps` = 'many': should be a valid integer, unable to "
        "parse string as an integer."
    )
    assert fault_of(base.recipe, "stages.zero.optimzer.learning_rate=1") == (
        "--set stages.zero.optimzer.learning_rate=1: unknown key `stages.zero.optimzer`; did you mean "
        "`optimizer`?"
    )
    base.edit("epochs = 2", "epochs = 0")
    path = derived(tmp_path, 'extends = "base/recipe.toml"\n[stages.dev1]\nseed = 1\n')
    assert fault_of(path).splitlines() == [
        f"{path}:3: unknown key `stages.dev1.seed`; " + fault_of(path).splitlines()[0].partition("; ")[2],
        f"{base.recipe}:45: `stages.dev1.epochs` = 0: should be greater than or equal to 1.",
    ]


def test_a_list_of_the_recipe_hides_the_base_s_and_its_faults_are_the_recipe_s(
    tmp_path: Path, base: World
) -> None:
    base.edit(
        "[stages.cold]", "[[stages.zero.mixture]]\nfrom_step = 0\nshares = { sums = 1 }\n\n[stages.cold]"
    )
    path = derived(
        tmp_path,
        'extends = "base/recipe.toml"\n[stages.zero]\nmixture = [{ from_stp = 0, shares = { sums = 1 } }]',
    )
    assert all(line.startswith(f"{path}:3: ") for line in fault_of(path).splitlines())


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ('"tinny"', "neither a file nor a shipped recipe; did you mean `tiny`?"),
        ('"gone.toml"', "there is no file {folder}/gone.toml; the path starts at this recipe's folder."),
        ('"sub/gone"', "there is no file {folder}/sub/gone; the path starts at this recipe's folder."),
        ('"."', "{folder} is a folder; name the recipe file in it."),
        ('["tiny"]', "should be the name of a shipped recipe, or a path, in quotes."),
        ("3", "should be the name of a shipped recipe, or a path, in quotes."),
    ],
)
def test_a_base_that_is_not_there_is_one_sentence(tmp_path: Path, extends: str, message: str) -> None:
    path = derived(tmp_path, f"# mine\nextends = {extends}\n")
    fault = fault_of(path)
    assert fault.startswith(f"{path}:2: `extends` = ")
    assert fault.endswith(message.format(folder=tmp_path))


def test_recipes_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    derived(tmp_path, 'extends = "b.toml"', "a")
    derived(tmp_path, f'extends = "../{tmp_path.name}/c.toml"', "b")
    derived(tmp_path, 'extends = "b.toml"', "c")
    circle = fault_of(tmp_path / "a.toml")
    assert circle.endswith(
        ":1: recipes extend each other in a circle: b.toml -> c.toml -> b.toml; one must stand alone."
    )
    itself = derived(tmp_path, 'extends = "d.toml"', "d")
    assert "d.toml -> d.toml" in fault_of(itself)


def test_processes_are_read_wherever_they_are_set(tmp_path: Path) -> None:
    path = derived(tmp_path, 'extends = "tiny"')
    assert processes_of(read_recipe_file(path)[0]) == 2
    assert processes_of(read_recipe_file(path, ["run.processes=3"])[0]) == 3
    for run in ({}, {"processes": "two"}, {"processes": 0}, {"processes": True}, 1, None):
        assert processes_of({"run": run}) == 1
