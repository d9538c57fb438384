"""Write the pages of the documentation site to build/docs: `make docs` calls this, and then Zensical.

The pages in docs/ can be read as they are, on a disk or in a repository's browser. What a site wants besides
is added here, and nothing of it is committed:

- `<!-- code: r1kit.training.losses.group_advantages -->` becomes that function, class or constant
- `<!-- recipe: tiny stages.zero -->` becomes that table of a shipped recipe, with its comments
- `<!-- site: text -->` becomes the text: a link to a page that is made here
- links to files outside of docs/ lead to a page with the file
- reference/: a page for each row of `REFERENCE` (from docstrings, by mkdocstrings), one of a recipe's keys
  (from the schema) and one of the command line (from typer)
- README.md is the front page

Raises `LookupError` for a symbol, a table or a file that is not there.
"""

import ast
import importlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.generated import commands_page, recipe_page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OUT = ROOT / "build" / "docs"

# page -> title, what it is for, modules; in the order of the navigation
REFERENCE: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "types": ("Types", "The nouns: frozen, without torch.", ("types", "stage", "errors")),
    "sampling": (
        "Sampling",
        "The protocol of engines: token ids in, completions out, weights swapped in place.",
        ("sampling.engine",),
    ),
    "rewards": (
        "Rewards",
        "What a reward is, and how parts are put together. Each with its source: [Rewards](../rewards.md).",
        ("rewards.base", "rewards.accuracy", "rewards.rules", "rewards.language", "rewards.shaping"),
    ),
    "verify": (
        "Verifiers",
        "Answers read out of responses, and compared with the ground truth.",
        ("verify.answers", "verify.math_answers", "verify.choice", "verify.code"),
    ),
    "judges": (
        "Judges",
        "Models that are asked for a verdict.",
        ("judges.judge", "judges.tasks", "judges.config"),
    ),
    "losses": (
        "Losses",
        "Advantages and losses: pure functions of float32 tensors.",
        ("training.losses", "training.policy_losses"),
    ),
    "grpo": ("One GRPO step", "In the order of the paper.", ("grpo.step", "grpo.groups")),
}

_CODE = re.compile(r"^<!-- code: (\S+) -->$", re.MULTILINE)
_RECIPE = re.compile(r"^<!-- recipe: (\S+) (\S+) -->$", re.MULTILINE)
_SITE = re.compile(r"^<!-- site: (.*) -->$", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LEXERS = {".py": "python", ".toml": "toml", ".css": "css", ".md": "markdown", ".json": "json"}


def pages() -> list[Path]:
    """The pages that people wrote, README.md first."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def place_of(page: Path) -> Path:
    """Where a page lies on the site."""
    if page.is_relative_to(DOCS):
        return page.relative_to(DOCS)
    return {"README.md": Path("index.md"), "CONTRIBUTING.md": Path("contributing.md")}[page.name]


def find_symbol(dotted: str) -> tuple[Path, str, int]:
    """The file, the source and its first line of a module's function, class, method or constant."""
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        base = ROOT / "src" / Path(*parts[:cut])
        path = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
        if path is None:
            continue
        text = path.read_text(encoding="utf-8")
        node: ast.AST | None = ast.parse(text)
        for name in parts[cut:]:
            node = next((inner for inner in _body(node) if name in _names(inner)), None)
        if node is None:
            raise LookupError(f"{path.relative_to(ROOT)} has no {'.'.join(parts[cut:])}")
        first = min(node.lineno, *(d.lineno for d in getattr(node, "decorator_list", [])), node.lineno)
        lines = text.splitlines()[first - 1 : node.end_lineno]
        return path, inspect.cleandoc("\n" + "\n".join(lines)), first
    raise LookupError(f"no module of r1kit in {dotted}")


def _body(node: ast.AST | None) -> list[Any]:
    return list(getattr(node, "body", []))


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign):
        return {node.target.id} if isinstance(node.target, ast.Name) else set()
    return {getattr(node, "name", "")}


def recipe_table(recipe: str, table: str) -> str:
    """The lines of a shipped recipe's table, and of the tables in it."""
    path = ROOT / "recipes" / f"{recipe}.toml"
    if not path.is_file():
        raise LookupError(f"no recipe {recipe}")
    found: list[str] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if header := re.match(r"\[+([\w.-]+)\]+", line):
            inside = header[1] == table or header[1].startswith(f"{table}.")
        elif line.startswith("# ----"):
            inside = False
        if inside:
            found.append(line)
    if not found:
        raise LookupError(f"recipes/{recipe}.toml has no table [{table}]")
    return "\n".join(found).strip()


class Site:
    """The site's pages, in memory until `write`."""

    def __init__(self) -> None:
        self.files: dict[Path, str] = {}
        self._sources: list[Path] = []

    def build(self) -> dict[Path, str]:
        """Every page by its place, generated ones too."""
        for page in pages():
            self.files[place_of(page)] = self._page(page)
        for name, (title, purpose, modules) in REFERENCE.items():
            for module in modules:
                importlib.import_module(f"r1kit.{module}")  # a name that is wrong fails here, not as a hole
            parts = [f"# {title}", purpose, *(f"::: r1kit.{module}" for module in modules)]
            self.files[Path("reference", f"{name}.md")] = "\n\n".join(parts) + "\n"
        self.files[Path("reference/recipe.md")] = recipe_page()
        self.files[Path("reference/commands.md")] = commands_page()
        while self._sources:
            path = self._sources.pop()
            place = self._source_place(path)
            if place not in self.files:
                self.files[place] = self._folder(path) if path.is_dir() else self._file(path)
        return self.files

    def _page(self, page: Path) -> str:
        text = page.read_text(encoding="utf-8")
        pieces = _FENCE.split(text)
        out = []
        for number, piece in enumerate(pieces):
            if number % 2 == 0:
                prose = re.split(r"(^<!-- .*-->$)", piece, flags=re.MULTILINE)
                prose[::2] = [_LINK.sub(lambda link: self._link(page, link), text) for text in prose[::2]]
                piece = _SITE.sub(lambda found: found[1], "".join(prose))
                piece = _CODE.sub(lambda found: self._code(page, found[1]), piece)
                piece = _RECIPE.sub(lambda found: self._recipe(page, found[1], found[2]), piece)
            out.append(piece)
        return "".join(out)

    def _link(self, page: Path, link: re.Match[str]) -> str:
        target = (page.parent / link[2]).resolve()
        if not target.exists():
            raise LookupError(f"{page.relative_to(ROOT)}: no {link[2]}")
        if target in pages():
            place = place_of(target)
        elif target.is_relative_to(DOCS):
            place = target.relative_to(DOCS)
        else:
            place = self._source(target)
        return f"{link[1]}{_relative(place, place_of(page))}{link[3] or ''}{link[4]}"

    def _source(self, path: Path) -> Path:
        self._sources.append(path)
        return self._source_place(path)

    @staticmethod
    def _source_place(path: Path) -> Path:
        relative = path.relative_to(ROOT)
        return Path("source", *relative.parts[:-1], relative.name.replace(".", "_") + ".md")

    def _code(self, page: Path, dotted: str) -> str:
        path, source, first = find_symbol(dotted)
        link = _relative(self._source(path), place_of(page))
        title = f"{path.relative_to(ROOT / 'src')}, line {first}"
        return f"```` python\n{source}\n````\n\n<small>[{title}]({link})</small>"

    def _recipe(self, page: Path, recipe: str, table: str) -> str:
        path = ROOT / "recipes" / f"{recipe}.toml"
        link = _relative(self._source(path), place_of(page))
        return (
            f"```` toml\n{recipe_table(recipe, table)}\n````\n\n<small>[recipes/{path.name}]({link})</small>"
        )

    def _folder(self, folder: Path) -> str:
        lines = []
        for path in sorted(folder.glob("*.py")):
            link = _relative(self._source(path), self._source_place(folder))
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"- [{path.name}]({link}): {doc.partition(chr(10) + chr(10))[0]}")
        return _unsearched(f"# {folder.relative_to(ROOT)}\n\n" + "\n".join(lines) + "\n")

    def _file(self, path: Path) -> str:
        lexer = _LEXERS.get(path.suffix, "text")
        text = path.read_text(encoding="utf-8").rstrip()
        name = path.relative_to(ROOT)
        return _unsearched(f'# {name}\n\n````` {{ .{lexer} linenums="1" }}\n{text}\n`````\n')

    def write(self, folder: Path) -> None:
        """All of it, and the images; what was there before is gone."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(DOCS / "images", folder / "images")
        shutil.copy(DOCS / "site.css", folder)
        for place, text in self.files.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _relative(place: Path, page: Path) -> str:
    return Path(os.path.relpath(place, page.parent)).as_posix()


def _unsearched(text: str) -> str:
    """A page that the site's search leaves out: it would find every word in the source."""
    return f"---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n\n{text}"


def main() -> None:
    site = Site()
    try:
        site.build()
    except LookupError as error:
        sys.exit(f"docs: {error}")
    site.write(OUT)
    print(f"{len(site.files)} pages in {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
