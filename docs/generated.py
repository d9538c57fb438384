"""Pages of the documentation site that are made from the code: every key of a recipe, every command."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from r1kit import cli
from r1kit.pipeline.schema import recipe_schema


def recipe_page() -> str:
    """Every key of a recipe: type, default, what it is for."""
    schema = recipe_schema()
    tables = {name: table for name, table in schema["$defs"].items() if not name.endswith("-partly")}
    places = dict(_places(schema["else"], tables))
    parts = [
        "# Every key of a recipe",
        "Made from the configuration classes, as `r1 schema` is. **required** has no default. How recipes "
        "are written and put together: [Recipes](../recipes.md).",
        f"`extends`\n: {schema['else']['properties']['extends']['description']}",
    ]
    for name, place in places.items():
        table = tables[name]
        parts.append(f"## {place} {{ #{name.lower()} }}")
        if table.get("description"):
            parts.append(_prose(table["description"]))
        parts.append(_keys(table, tables))
    return "\n\n".join(parts) + "\n"


def _places(schema: Mapping[str, Any], tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every table's class with where it stands in a recipe, those of the top first, then those in them."""
    written = {
        "run": "[run]",
        "model": "[model]",
        "engine": "[engine]",
        "problems": "[problems.NAME]",
        "judges": "[judges.NAME]",
        "stages": "[stages.NAME]",
        "eval": "[eval]",
        "report": "[report]",
    }
    seen: dict[str, str] = {}
    queue: list[str] = []
    for key, place in written.items():
        for name in _references(schema["properties"][key]):
            kind = tables[name]["properties"].get("kind", {}).get("const")
            seen[name] = f"A stage of kind `{kind}`" if key == "stages" else f"`{place}`"
            queue.append(name)
    while queue:
        outer = queue.pop(0)
        for key, field in tables[outer]["properties"].items():
            for name in _references(field):
                if name not in seen:
                    seen[name] = f"The table `{key}`"
                    queue.append(name)
    if missing := tables.keys() - seen.keys():
        raise LookupError(f"no place in a recipe for {sorted(missing)}")
    return iter(seen.items())


def _references(field: Any) -> list[str]:
    """The classes that a field of the schema leads to."""
    found: list[str] = []
    if isinstance(field, dict):
        if "$ref" in field:
            return [field["$ref"].rpartition("/")[2]]
        for key, inner in field.items():
            if key not in ("default", "discriminator"):
                found += _references(inner)
    elif isinstance(field, list):
        for inner in field:
            found += _references(inner)
    return list(dict.fromkeys(found))


def _keys(table: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    rows = ["| key | type | default | what it is for |", "|---|---|---|---|"]
    for name, field in table["properties"].items():
        if name in table.get("required", ()):
            default = "**required**"
        elif "default" in field and not isinstance(field["default"], dict):
            default = f"`{json.dumps(field['default'], ensure_ascii=False)}`".replace("null", "none")
        else:
            default = ""
        told = tables[field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        said = told.get("description") or ("which kind of stage it is" if name == "kind" else "")
        comment = _prose(said.partition("\n\n")[0]).replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{name}` | {_type(field, tables)} | {default} | {comment} |")
    return "\n".join(rows)


def _prose(text: str) -> str:
    """A comment of the source as Markdown: brackets in it are no links, angles are no tags."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([\[\]*_])", r"\\\1", html.escape(piece, quote=False))
        for piece in pieces
    )


def _type(field: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[table](#{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    for several in ("anyOf", "oneOf"):
        if several in field:
            kinds = [_type(inner, tables) for inner in field[several] if inner != {"type": "null"}]
            return " or ".join(dict.fromkeys(kinds))
    if field.get("type") == "array":
        inner = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner, tables)}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"table of {_type(inner, tables)}" if isinstance(inner, dict) else "table"
    plain = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field]
    return " ".join([plain.get(field.get("type", ""), "any"), ", ".join(limits)]).strip()


def commands_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    parts = [
        "# Commands",
        "What `r1 COMMAND --help` says. `r1 --install-completion` teaches them to the shell.",
    ]

    def describe(path: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                describe(f"{path} {name}", inner)
            return
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        words = [a.name.upper() for a in arguments]
        parts.append(f"## {path}\n\n{command.help}\n\n```text\n{' '.join([path, *words, '[OPTIONS]'])}\n```")
        rows = [f"| `{a.name.upper()}` | {_prose(getattr(a, 'help', None) or '')} |" for a in arguments]
        rows += [
            f"| `{', '.join(option.opts)}` | {_prose(option.help or '')} |"
            for option in command.params
            if option.param_type_name == "option"
        ]
        parts.append("\n".join(["| | |", "|---|---|", *rows]))

    describe("r1", typer.main.get_command(cli.app))
    return "\n\n".join(parts) + "\n"
