"""What README and docs promise is there: commands, files, links. Blocks of code: `test_docs`."""

import re
import sys
from pathlib import Path

import pytest

import r1kit
from r1kit import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"^r1 ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`r1 ([a-z]+)", README))
)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^<!-- site: .*-->$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_commands_of_the_readme_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"run", "init", "status", "sample", "eval", "report", "tinyworld"} <= set(COMMANDS)
    for command in COMMANDS:
        assert call(monkeypatch, command, "--help") == 0


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) - {"the"} <= targets


def test_a_recipe_of_ones_own_begins_as_the_readme_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "init", "my.toml") == 0
    assert (tmp_path / "my.toml").is_file()
    assert call(monkeypatch, "status", "my.toml") in (0, 2)  # 2: its problem files are the user's to bring
    assert "Traceback" not in capsys.readouterr().err


def test_recipes_and_benchmarks_that_are_named_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"(?:recipes|benchmarks)/[\w.-]+\.(?:toml|py)", text):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_the_readme_is_read_to_its_end() -> None:
    assert len(README.split()) <= 900
    tables = re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE)
    assert [len(table.splitlines()) for table in tables] == [2 + 5]
    assert README.count("![") == 2  # the flow, and the pages of `r1 ui`


def test_numbers_of_the_readme_are_means_of_the_results() -> None:
    """Each cell of the README is what stands before the brackets in docs/results.md."""
    results = _rows((ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    rows = _rows(README)
    assert rows.pop("") == ["base", "zero", "dev1", "dev2", "dev3", "r1"] == results[""]
    assert len(rows) == 5
    for name, cells in rows.items():
        assert cells == [cell.split(" [")[0] for cell in results[name]], name


def _rows(text: str) -> dict[str, list[str]]:
    """The first table of a page, by the first cell of each row."""
    table = next(iter(re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)))
    cells = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in table.splitlines()]
    # the head's first cell is empty, and `strip` takes the bar before it
    return {"" if i == 0 else row[0]: row[-6:] for i, row in enumerate(cells) if i != 1}


def test_the_citation_has_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {r1kit.__version__}\n" in citation


def test_what_an_agent_is_told_is_there() -> None:
    text = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    assert len(text.split()) < 300
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z]+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:tests|src|recipes)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
