"""Blocks of code in the documentation: where they are, what language they are in, the commands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.build import pages

NOT_RUN = "# not run by the tests: "
# Sketches in blocks of four spaces, which are no code: of the flow and of protocols.
SKETCHES = ("ARCHITECTURE.md", "STYLE.md")


@dataclass(frozen=True)
class Block:
    """A block of code of a page; `line` is the number of its first line."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}-{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is only parsed, where its first line says so."""
        first = self.text.partition("\n")[0]
        return first.removeprefix(NOT_RUN) if first.startswith(NOT_RUN) else None


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks between fences, and those of four spaces, whose language is guessed."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        line, first = lines[number], number
        number += 1
        if fence := re.match(r" *```(\w*)", line):
            while not lines[number].strip().startswith("```"):
                number += 1
            text = "\n".join(lines[first + 1 : number])
            yield Block(page, first + 2, fence[1] or _guess(text, page), text)
            number += 1
        elif line.startswith("    ") and not lines[first - 1].strip():
            while number < len(lines) and lines[number].startswith("    "):
                number += 1
            text = "\n".join(line[4:] for line in lines[first:number])
            yield Block(page, first + 1, _guess(text, page), text)


def _guess(text: str, page: Path) -> str:
    if page.name in SKETCHES:
        return "text"
    if re.match(r"(\$ )?(\.venv/bin/)?(r1|make|pip|python|torchrun) ", text):
        return "bash"
    return "toml" if re.search(r"^\[", text, re.MULTILINE) else ""


def commands_in(block: Block) -> list[str]:
    """Its commands: every line of `bash`, those behind a `$` of `console`; continued lines are joined."""
    text = block.text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def file_name(block: Block) -> str | None:
    """The file that a block says it is, by its first line."""
    found = re.match(r"# ([\w.-]+\.(?:toml|py))$", block.text.partition("\n")[0])
    return found[1] if found else None


BLOCKS = [block for page in pages() for block in blocks_of(page)]
