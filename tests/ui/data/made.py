"""Data stages made by hand: small files of every shape that a page has to show."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOSTILE = "<b id=hostile>bold</b>\x1b[31m red \u202e turned </script> " + "x" * 5_000


def made_stage(
    run: Path, name: str, kind: str, *, config: dict[str, Any] | None = None, **files: Any
) -> Path:
    """A finished stage; lists become JSONL files, tables JSON files, texts are written as they are."""
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "stage": name,
        "kind": kind,
        "key": {"config": config or {}, "settings": {"run": {"seed": 3}}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for file, content in files.items():
        if isinstance(content, str):
            (folder / f"{file}.jsonl").write_text(content)
        elif isinstance(content, dict):
            (folder / f"{file}.json").write_text(json.dumps(content))
        else:
            write_rows(folder / f"{file}.jsonl", content)
    return folder


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as a JSONL file, written as the stages write them."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def record(number: int, response: str, **more: Any) -> dict[str, Any]:
    """A supervised record."""
    return {
        "messages": [{"role": "user", "content": f"Question {number}?"}],
        "response": response,
        "style": "chat",
        "domain": "sums" if number % 2 else "words",
        "language": "en",
        "source": "samples from zero",
        "problem_id": f"p/{number}",
        **more,
    }


def dropped(what: str, text: str, **more: Any) -> dict[str, Any]:
    """A row of dropped.jsonl."""
    return {
        "source": "samples from zero",
        "filter": what,
        "reason": f"because of {what}",
        "problem_id": "p/1",
        "question": "Question 1?",
        "domain": "sums",
        "language": "en",
        "text": text,
        "num_chars": len(text),
        **more,
    }


def pair(number: int, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    """A preference pair."""
    messages = [{"role": "user", "content": f"Question {number}?"}]
    return {"messages": messages, "chosen": chosen, "rejected": rejected, "view": "summary", **more}


COUNTS = {
    "sources": {
        "samples from zero": {"sampled": 10, "malformed": 2, "wrong": 3, "duplicate": 1, "kept": 4},
        "direct from base": {"sampled": 6, "malformed": 0, "wrong": 6, "duplicate": 0, "kept": 0},
    },
    "records": 4,
}


def made_cold_start(run: Path) -> Path:
    """A cold-start stage with four records, one of them hostile, and dropped samples."""
    return made_stage(
        run,
        "cold_start",
        "cold_start",
        counts=COUNTS,
        data=[
            record(1, "<think>\none two three\n</think>\n\nIt is 3."),
            record(2, "<think>\none two\n</think>\n\nIt is 3.", language="zh"),
            record(3, "<think>\nONE two  three\n</think>\n\nIt is 3."),
            record(4, HOSTILE),
        ],
        dropped=[dropped("wrong", "It is 4."), dropped("malformed", HOSTILE), dropped("wrong", "It is 5.")],
    )
