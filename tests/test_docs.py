"""Every block of code in the documentation is run, or read by what would read it; every page can be reached.

What is done with a block goes by its language (CONTRIBUTING.md, "Documentation"). A small recipe stands in
for one of the reader's own. `r1 run` is a dry run here, and real in `test_tutorial`.
"""

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from docs.build import DOCS, REFERENCE, Site, find_symbol, place_of, recipe_table

from r1kit import cli
from r1kit.data.guests import GROUP
from r1kit.pipeline.recipe import load_recipe
from r1kit.sft import _read_record
from r1kit.types import Completion, Problem, Rollout
from tests.doc_blocks import BLOCKS, Block, commands_in, file_name

ROOT = Path(__file__).parent.parent
LANGUAGES = ("bash", "console", "toml", "python", "json", "text")
# Started for real: they take seconds at most.
RUN = ("run", "status", "doctor", "init", "schema")
STAND_IN = """\
extends = "zero-only"
[problems.train]
num_problems = 20
[problems.validation]
num_problems = 4
[problems.held_out]
num_problems = 4
"""


def of(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.name) for block in BLOCKS if block.language in languages]


# ---- Commands ----


def check_command(text: str) -> list[str] | None:
    """Parse a command as what it calls would; the arguments of `r1`, or None for another program's."""
    words = shlex.split(text, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    program = Path(words[0]).name
    if program == "torchrun" or words[1:3] == ["-m", "r1kit"]:
        words = ["r1", *words[words.index("r1kit") + 1 :]]
        program = "r1"
        assert parse_r1(words[1:])
        return None
    if program == "r1":
        assert parse_r1(words[1:])
        return words[1:]
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target} in the Makefile"
    elif program == "pip":
        check_extras(words)
    elif program == "python" and words[1:3] != ["-m", "venv"]:
        check_script(words[1:])
    else:
        assert program in ("python", "source"), f"{program}: teach tests/test_docs.py to check it"
    return None


def parse_r1(arguments: list[str]) -> bool:
    """Raises click's errors for unknown options, values of the wrong type, missing arguments."""
    command = typer.main.get_command(cli.app)
    name = "r1"
    while arguments and arguments[0] in getattr(command, "commands", {}):
        name, arguments = arguments[0], arguments[1:]
        command = command.commands[name]
    assert not hasattr(command, "commands") or arguments[0].startswith("--"), (
        f"r1 {arguments[0]} is no command"
    )
    if not hasattr(command, "commands"):
        command.make_context(name, list(arguments))
    return True


def check_extras(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if asked := re.search(r"(?:^|r1kit|\.)\[([\w,-]+)\]", word):
            assert set(asked[1].split(",")) <= set(extras), word


def check_script(words: list[str]) -> None:
    """A script of ours is there, and has the options."""
    path = ROOT / words[0]
    assert path.is_file(), f"no {words[0]}"
    known = "".join(other.read_text("utf-8") for other in path.parent.glob("*.py"))
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in known, f"{words[0]} has no {option}"


def stand_in(folder: Path, arguments: list[str]) -> list[str]:
    """The arguments, with a small recipe in the folder for each of the reader's own that they name."""
    named = ["recipe.toml" if word == "RECIPE" else word for word in arguments]
    for word in named[1:]:
        if word.endswith(".toml") and named[0] != "init" and not (folder / word).exists():
            (folder / word).write_text(STAND_IN, encoding="utf-8")
    return named


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("block", of("bash", "console"))
def test_commands_can_be_called_as_they_stand(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(block.page, tmp_path)
    commands = commands_in(block)
    assert commands, "a block without a command"
    for text in commands:
        arguments = check_command(text)
        if arguments is None or block.reason or arguments[0] not in RUN:
            continue
        if arguments[0] == "init" and len(arguments) > 2:  # it looks at the reader's own data and model
            continue
        arguments = stand_in(tmp_path, arguments)
        if arguments[0] == "run" and "--dry-run" not in arguments:
            arguments = [word for word in arguments if word != "--seeds" and "," not in word] + ["--dry-run"]
        assert call(arguments, monkeypatch) == 0, capsys.readouterr().err
        if arguments[0] == "init":  # it names a hub model and files: what follows goes on with the stand-in
            (tmp_path / arguments[1]).write_text(STAND_IN, encoding="utf-8")


# ---- Recipes, Python, records ----


def write_files(page: Path, folder: Path) -> None:
    """The files that a page shows, and the reward of one's own that other pages use too."""
    for block in BLOCKS:
        name = file_name(block)
        if name and (block.page == page or block.language == "python"):
            (folder / name).write_text(block.text, encoding="utf-8")


def base_of(block: Block, folder: Path) -> str:
    """What a part of a recipe is read on top of: tiny, or what its comment says.

    `# added to tiny, in place of r1's reward_models`: that key is taken out of the base, which TOML can't.
    """
    said = re.match(r"# added to ([\w.-]+)(?:, in place of (\w+)'s (\w+))?$", block.text.partition("\n")[0])
    if said is None:
        return "tiny"
    if said[2] is None:
        return said[1]
    text = (ROOT / "recipes" / f"{said[1]}.toml").read_text(encoding="utf-8")
    before, header, after = text.partition(f"\n[stages.{said[2]}]\n")
    found, num = re.subn(rf"^{said[3]} = .*$", "", after, count=1, flags=re.MULTILINE)
    assert header
    assert num == 1
    (folder / "base.toml").write_text(before + header + found, encoding="utf-8")
    return "base.toml"


@pytest.mark.parametrize("block", of("toml"))
def test_recipes_load_alone_or_on_top_of_another(block: Block, tmp_path: Path) -> None:
    text = block.text
    table = tomllib.loads(text)
    if file_name(block) == "pyproject.toml":
        assert table["project"]["entry-points"].keys() == {GROUP}
        return
    if "extends" not in table and not {"run", "model", "stages"} <= table.keys():
        text = f'extends = "{base_of(block, tmp_path)}"\n{text}'
    write_files(block.page, tmp_path)
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    for name, keys in table.get("stages", {}).items():
        assert recipe.stages[name].model_fields_set >= keys.keys()


@pytest.mark.parametrize("block", of("python"))
def test_python_runs(block: Block) -> None:
    if block.reason:
        compile(block.text, block.name, "exec")
        return
    found: dict[str, object] = {}
    exec(compile(block.text, block.name, "exec"), found)  # our own pages


def test_the_reward_in_the_docs_scores_as_it_says() -> None:
    [block] = [b for b in BLOCKS if file_name(b) == "my_rewards.py"]
    found: dict[str, object] = {}
    exec(compile(block.text, block.name, "exec"), found)
    problem = Problem("p", "math", ({"role": "user", "content": "2 + 3?"},), ground_truth="5")
    rollouts = [
        Rollout(problem, 0, 0, i, 0, (1,), Completion((7,) * length, (0.0,) * length, "", reason, 0))
        for i, (length, reason) in enumerate([(250, "stop"), (2000, "stop"), (9, "length")])
    ]
    assert found["brief"](rollouts) == [0.75, 0.0, None]


@pytest.mark.parametrize("block", of("json"))
def test_records_are_read_as_the_stages_read_them(block: Block) -> None:
    for line in block.text.splitlines():
        problem, response, style = _read_record(json.loads(line))
        assert problem.question
        assert response
        assert style == "chat"


def test_every_block_has_a_language_that_is_checked() -> None:
    assert [block.name for block in BLOCKS if block.language not in LANGUAGES] == []
    output = [block for block in BLOCKS if block.language == "text"]
    assert [block.name for block in output if re.search(r"^(\$ |r1 )", block.text, re.MULTILINE)] == []


def test_how_many_blocks_are_only_parsed_is_said() -> None:
    marked = [block for block in BLOCKS if block.reason is not None]
    assert all(block.reason for block in marked)
    said = re.search(r"There are (\d+) of them", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert said
    assert int(said[1]) == len(marked), f"CONTRIBUTING.md: {[block.name for block in marked]}"


# ---- The site ----


@pytest.fixture(scope="module")
def site() -> dict[Path, str]:
    return Site().build()


def test_every_page_is_in_the_navigation_once(site: dict[Path, str]) -> None:
    def named(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for value in entry.values():
                yield from named(value)
        elif isinstance(entry, list):
            for value in entry:
                yield from named(value)

    table = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    there = sorted(place.as_posix() for place in site if place.parts[0] != "source")
    assert sorted(named(table["project"]["nav"])) == there


def test_links_between_pages_lead_somewhere(site: dict[Path, str]) -> None:
    """Headings are checked when the site is built (`make docs`); pages here, where no tool is needed."""
    for place, text in site.items():
        if place.parts[0] == "source":
            continue
        prose = re.sub(r"^ *(`{3,}).*?^ *\1$", "", text, flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#:\s]+\.md)", prose):
            target = Path(os.path.normpath(place.parent / link))
            assert target in site, f"{place}: {link}"


def test_what_a_page_includes_is_the_source_itself(site: dict[Path, str]) -> None:
    concept = site[Path("concepts/zero.md")]
    assert "<!-- code" not in concept
    path, source, first = find_symbol("r1kit.training.losses.group_advantages")
    assert source.startswith("def group_advantages(")
    assert source in concept
    assert path.read_text(encoding="utf-8").splitlines()[first - 1] == "def group_advantages("
    table = recipe_table("deepseek-r1", "stages.zero")
    assert table in concept
    assert tomllib.loads(table)["stages"]["zero"]["mini_batches"] == 16
    assert "stages.cold_start" not in table
    with pytest.raises(LookupError, match=r"losses.py has no group_advantage$"):
        find_symbol("r1kit.training.losses.group_advantage")
    with pytest.raises(LookupError, match=r"recipes/tiny.toml has no table \[stages.zeor\]"):
        recipe_table("tiny", "stages.zeor")


def test_the_reference_names_every_key_and_every_command(site: dict[Path, str]) -> None:
    recipe, commands = site[Path("reference/recipe.md")], site[Path("reference/commands.md")]
    from r1kit.pipeline.schema import recipe_schema

    for name, table in recipe_schema()["$defs"].items():
        if name.endswith("-partly"):
            continue
        assert f"{{ #{name.lower()} }}" in recipe
        for key, field in table["properties"].items():
            assert f"| `{key}` |" in recipe, f"{name}.{key}"
            assert {"description", "$ref", "const"} & field.keys(), (
                f"{name}.{key}: say beside it what it is for"
            )
    assert "| `group_size` | whole number ≥ 1 | `16` |" in recipe
    group = typer.main.get_command(cli.app)
    for name in group.commands:
        assert f"## r1 {name}" in commands
    for modules in (modules for _, _, modules in REFERENCE.values()):
        for module in modules:
            assert f"::: r1kit.{module}" in "".join(site.values())


def test_place_of_pages() -> None:
    assert place_of(ROOT / "README.md") == Path("index.md")
    assert place_of(DOCS / "concepts" / "zero.md") == Path("concepts/zero.md")
