"""A module imports only from rows below its own, or from its own package (docs/ARCHITECTURE.md, "Layers")."""

import ast
import re
from pathlib import Path

import r1kit

ROOT = Path(r1kit.__file__).parent

# From the bottom up: the rows of ARCHITECTURE.md's table.
ROWS = [
    "types errors seeds",
    "config stage text ranks",
    "data",
    "model sandbox",
    "sampling training verify",
    "rewards",
    "judges",
    "evaluate",
    "sft grpo cold_start rejection preferences",  # stages never import one another
    "report",
    "pipeline",
    "terminal ui tinyworld",  # a guest: what the core knows of it, it asks `data.guests`
    "cli",
    "__main__",
]
ROW_OF = {unit: row for row, units in enumerate(ROWS) for unit in units.split()}

# What is read, or started, before torch is imported.
STANDARD_LIBRARY_ONLY = ("types", "errors", "seeds", "stage", "text.template", "ranks.launch")
MOST_ROOMS = 28  # what a reader takes in at a glance


def unit_of(module: str) -> str:
    """`r1kit.grpo.config` is of unit `grpo`."""
    return module.split(".")[1]


def imports_of(path: Path) -> list[tuple[str, int]]:
    """Every module that a file imports, wherever in it, with the line. Relative imports are none of ours."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            names = [alias.name for alias in node.names]
            found += (
                [(f"r1kit.{name}", node.lineno) for name in names]
                if module == "r1kit"
                else [(module, node.lineno)]
            )
    return found


def modules() -> dict[str, Path]:
    return {
        ".".join(("r1kit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
        if path != ROOT / "__init__.py"
    }


def test_every_module_has_a_row() -> None:
    unlisted = sorted({unit_of(module) for module in modules()} - ROW_OF.keys())
    assert not unlisted, f"give these a row in tests/test_layers.py and docs/ARCHITECTURE.md: {unlisted}"


def test_modules_import_only_from_rows_below() -> None:
    faults = []
    for module, path in modules().items():
        unit = unit_of(module)
        for imported, line in imports_of(path):
            if not imported.startswith("r1kit.") or imported == "r1kit.__version__":
                continue
            other = unit_of(imported)
            if other != unit and ROW_OF[other] >= ROW_OF[unit]:
                faults.append(
                    f"{path.relative_to(ROOT)}:{line}: {unit} imports {other}, which is not below it"
                )
    assert not faults, "\n".join(faults)


def test_the_core_knows_tinyworld_by_name_alone() -> None:
    naming = {
        str(path.relative_to(ROOT))
        for module, path in modules().items()
        if unit_of(module) != "tinyworld" and "r1kit.tinyworld" in path.read_text(encoding="utf-8")
    }
    assert naming == {"cli/__init__.py", "data/guests.py"}  # the command group, and the one place to be found


def test_the_nouns_need_the_standard_library_alone() -> None:
    every = modules()
    for name in STANDARD_LIBRARY_ONLY:
        path = every[f"r1kit.{name}"]
        roots = {imported.split(".")[0] for imported, _ in imports_of(path)}
        assert not roots & {"torch", "transformers", "pydantic", "numpy", "datasets"}, path


def test_the_top_is_a_page() -> None:
    assert len({unit_of(module) for module in modules()}) <= MOST_ROOMS
    assert {unit for row in ROWS for unit in row.split()} == {unit_of(module) for module in modules()}


def test_no_file_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): length
        for path in modules().values()
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_the_design_shows_these_rows() -> None:
    """ARCHITECTURE.md lists the rooms from the top down; none stands above one that it may not import."""
    page = (Path(__file__).parents[1] / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = page.split("## Rooms and layers")[1].split("```")[1]
    names = re.findall(r"^([a-z_]+/?(?:  [a-z_]+)*)", block, flags=re.MULTILINE)
    listed = [name.rstrip("/") for line in names for name in line.split("  ")]
    assert set(listed) == ROW_OF.keys() - {"__main__"}
    assert [ROW_OF[name] for name in listed] == sorted((ROW_OF[name] for name in listed), reverse=True)
