"""The schema for editors says what the models say, and every shipped recipe holds by it."""

import copy
import tomllib
from typing import Any

import pytest

from r1kit.grpo import GrpoConfig
from r1kit.pipeline.recipe import EvalTable, Recipe
from r1kit.pipeline.schema import FILE_NAME, field_comments, recipe_schema, schema_text
from r1kit.pipeline.shipped import shipped_recipes

SHIPPED = shipped_recipes()
MINE: dict[str, Any] = {"extends": "tiny", "stages": {"zero": {"steps": 5}}}


def faults(table: dict[str, Any]) -> list[str]:
    """What the schema finds wrong with a recipe's tables."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(table)]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_holds_by_the_schema_and_names_it(name: str) -> None:
    text = SHIPPED[name].read_text(encoding="utf-8")
    assert faults(tomllib.loads(text)) == []
    header = text.split("\n[run]")[0].splitlines()
    assert ("#:schema ./recipe.schema.json" in header) == (
        name != "own"
    )  # `r1 init` copies that one elsewhere
    assert all(line.startswith("#") for line in header if line)


def test_the_file_beside_the_recipes_is_what_the_command_prints() -> None:
    file = next(iter(SHIPPED.values())).parent / FILE_NAME
    assert file.read_text(encoding="utf-8") == schema_text(), "run `r1 schema > recipes/recipe.schema.json`"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("run", "sede"), 1),
        (("run", "seed"), "one"),
        (("stages", "zero", "stps"), 5),
        (("stages", "zero", "steps"), 0),
        (("stages", "zero", "loss"), "gprо"),
        (("stages", "zero", "optimizer"), {"learning_rat": 1.0}),
        (("stages", "zero", "mixture"), [{"from_stp": 0}]),
        (("problems", "reasoning", "kind"), "maths"),
        (("eval", "judge"), 3),
    ],
)
@pytest.mark.parametrize("base", ["tiny", "extends"])
def test_what_a_recipe_may_not_say_is_found(base: str, keys: tuple[str, ...], value: object) -> None:
    table = copy.deepcopy(MINE) if base == "extends" else tomllib.loads(SHIPPED["tiny"].read_text())
    assert faults(table) == []
    here = table
    for key in keys[:-1]:
        here = here.setdefault(key, {})
    here[keys[-1]] = value
    assert faults(table)


def test_what_is_missing_is_found_but_for_a_recipe_that_extends_another() -> None:
    table = tomllib.loads(SHIPPED["zero-only"].read_text())
    del table["stages"]["zero"]["steps"]
    assert faults(table)
    assert faults({"stages": table["stages"]})
    assert faults({"extends": "tiny", "stages": table["stages"]}) == []
    assert faults({"extends": "tiny"}) == []
    assert faults({"extends": 3})


def test_a_judge_may_be_a_name_or_a_table() -> None:
    for judge in ("grader", {"model": "base"}):
        assert faults({"extends": "tiny", "eval": {"judge": judge}}) == []
    assert faults({"extends": "tiny", "eval": {"judge": {"modle": "base"}}})


def test_every_table_and_field_is_in_it_with_its_comment() -> None:
    schema = recipe_schema()
    assert set(schema["else"]["properties"]) == set(Recipe.model_fields) | {"extends"}
    grpo = schema["$defs"]["GrpoConfig"]["properties"]
    assert set(grpo) == set(GrpoConfig.model_fields)
    assert grpo["steps"]["description"].startswith("rollout phases")
    assert "not in the paper" in grpo["importance_correction"]["description"]
    comments = field_comments(EvalTable)
    assert set(comments) <= set(EvalTable.model_fields)
    assert comments["judge"].startswith("Grades what neither rules")  # of the class it derives from
