"""What README and docs promise is there: commands, files, links."""

import re
import sys
from pathlib import Path

import pytest

from r1kit import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"^    r1 ([a-z]+)", README, re.MULTILINE)) | set(re.findall(r"`r1 ([a-z]+)", README))
)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
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
