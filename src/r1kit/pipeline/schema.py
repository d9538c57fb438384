"""A JSON schema of recipes, for editors: known keys, types, choices, defaults and what each field is for.

A recipe that extends another may leave anything out, so nothing is required in it, and a table without `kind`
may be of any kind. Not covered: rules between tables, such as names that must exist (`load_recipe`).
"""

import ast
import copy
import inspect
import io
import json
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from r1kit.config import Config
from r1kit.pipeline.recipe import Recipe

FILE_NAME = "recipe.schema.json"
"""The schema's file beside the shipped recipes; `r1 schema` prints the same text."""

_PARTIAL = "-partly"  # suffix of the definitions for recipes that extend another
_EXTENDS = {
    "type": "string",
    "description": "A shipped recipe's name, or a path relative to this file's folder: its values are used "
    "where this file sets none.",
}


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe's file, in draft 7, which every editor supports."""
    schema = Recipe.model_json_schema()
    definitions = schema.pop("$defs")
    comments = {model.__name__: field_comments(model) for model in _own_models(Config)}
    for name, table in {**definitions, "Recipe": schema}.items():
        _describe(table, comments.get(name, {}))
    schema["properties"]["extends"] = _EXTENDS
    partly = {f"{name}{_PARTIAL}": _partly(table) for name, table in definitions.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A recipe of r1kit",
        "description": schema["description"],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {**_partly(schema), "title": "A recipe that extends another"},
        "else": schema,
        "$defs": {**definitions, **partly},
    }


def _describe(table: dict[str, Any], comments: Mapping[str, str]) -> None:
    """Add comments as descriptions of a table's fields, and drop titles that only repeat their names."""
    for name, field in table.get("properties", {}).items():
        field.pop("title", None)
        if name in comments and "$ref" not in field:  # draft 7 ignores everything beside a $ref
            field["description"] = comments[name]


def _partly(table: Any) -> Any:
    """A copy in which nothing is required, with references to other such copies."""
    if isinstance(table, list):
        return [_partly(entry) for entry in table]
    if not isinstance(table, dict):
        return copy.deepcopy(table)
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key == "properties":
            found[key] = {name: _partly(field) for name, field in value.items()}
        elif key == "$ref":
            found[key] = f"{value}{_PARTIAL}"
        elif key == "oneOf":  # without a required `kind`, a table may match several alternatives
            found["anyOf"] = _partly(value)
        elif key in ("default", "enum", "const"):  # values, in which "required" would be no keyword
            found[key] = copy.deepcopy(value)
        elif key not in ("required", "discriminator"):
            found[key] = _partly(value)
    return found


def schema_text() -> str:
    """The schema as text, as in the file."""
    return json.dumps(recipe_schema(), ensure_ascii=False, indent=1) + "\n"


def _own_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every class of r1kit that derives from this one."""
    for inner in model.__subclasses__():
        if inner.__module__.startswith("r1kit."):
            yield inner
        yield from _own_models(inner)


def field_comments(model: type[BaseModel]) -> dict[str, str]:
    """The source's comments on each field: the lines above it, and the comment beside it."""
    found: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, Config) and parent is not Config:
            found.update(_comments_of(parent))
    return found


def _comments_of(model: type[BaseModel]) -> dict[str, str]:
    # pydantic does not keep comments, so they are read from the source; the leading line break makes cleandoc
    # dedent the class's own line, too, and its line numbers agree with those of ast and tokenize
    source = inspect.cleandoc("\n" + inspect.getsource(model))
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline)
        if token.type == tokenize.COMMENT
    }
    [tree] = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node in tree.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        above = node.lineno - 1
        while above in comments and lines[above - 1].lstrip().startswith("#"):
            above -= 1
        beside = range(above + 1, (node.end_lineno or node.lineno) + 1)
        text = " ".join(comments[number] for number in beside if number in comments)
        if text:
            found[node.target.id] = text
    return found
