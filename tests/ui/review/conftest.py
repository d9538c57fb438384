"""A run made by hand: a stage that waits for a review, and finished pairs and labels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from r1kit.data.jsonl import write_jsonl
from r1kit.data.records import sft_record
from r1kit.data.review_items import FIELD, origin_of, review_rows
from r1kit.text.template import format_chat, format_zero
from r1kit.types import Problem

COLD_START = {
    "min_language_share": 0.95,
    "min_words": 3,
    "languages": ["en", "zh"],
    "repetition_ngram": 8,
    "max_repeated_frac": 0.2,
    "min_tokens": 4,
    "max_tokens": 40,
    "review": "required",
}
NUM_ITEMS = 6


def problem(number: int) -> Problem:
    question = ({"role": "user", "content": f"What is {number} + 5?"},)
    return Problem(
        f"sum-{number}", "math", question, ground_truth=str(number + 5), language="en", domain="sums"
    )


def response(number: int, words: str = "I add the two numbers, and that is all.") -> str:
    return format_chat(words, f"The answer is {number + 5}.")


def make_run(folder: Path, num_items: int = NUM_ITEMS) -> Path:
    """The run `out` in a folder."""
    run = folder / "out"
    records = []
    for number in range(num_items):
        raw = format_zero("I add the two numbers and that is all", str(number + 5))
        record = sft_record(problem(number), response(number), style="chat", source="samples from zero")
        records.append({**record, FIELD: origin_of(problem(number), raw=raw, num_tokens=10)})
    waiting = run / ".work" / "cold_start"
    _stage(waiting, "cold_start", COLD_START)
    write_jsonl(waiting / "review.jsonl", review_rows(records))
    turns = [{"role": "user", "content": "Hello"}]
    pairs = [
        {
            "messages": turns,
            "chosen": f"Good {n}.",
            "rejected": f"Bad {n}.",
            "view": "summary",
            "difference": 0.875,
        }
        for n in range(3)
    ]
    _stage(run / "pairs", "preferences", {})
    write_jsonl(run / "pairs" / "data.jsonl", pairs)
    labels = [{"messages": turns, "response": f"Yes {n}.", "safe": n == 0} for n in range(2)]
    _stage(run / "labels", "preferences", {})
    write_jsonl(run / "labels" / "data.jsonl", labels)
    (run / "run.json").write_text("{}")
    return run


def _stage(folder: Path, kind: str, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    manifest = {"stage": folder.name, "kind": kind, "key": {"config": {"kind": kind, **config}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The run's folder; `client_of(run_dir)` shows it as `out`."""
    return make_run(tmp_path / "runs")


class Reviewer:
    """Someone at the queue of one stage."""

    def __init__(self, client: TestClient, name: str, stage: str = "cold_start") -> None:
        self.client, self.name, self.base = client, name, f"/runs/out/review/{stage}"
        self.number = 0

    def page(self, query: str = "") -> str:
        answer = self.client.get(self.base + query, cookies={"r1_reviewer": self.name})
        assert answer.status_code == 200, answer.text
        return answer.text

    def item(self, query: str = "") -> str | None:
        """The item on the page."""
        text = self.page(query)
        return text.split('data-item="')[1].split('"')[0] if 'data-item="' in text else None

    def send(self, action: str, item: str = "", **more: Any) -> Any:
        """Sends a decision; the answer."""
        self.number += 1
        decision_id = more.pop("id", f"{self.name}-decision-{self.number}")
        body = {"id": decision_id, "by": self.name, "action": action, "item": item, **more}
        return self.client.post(f"{self.base}/decide", json=body)

    def decide(self, action: str, item: str, **more: Any) -> None:
        """Sends a decision that has to be saved."""
        answer = self.send(action, item, **more)
        assert answer.status_code == 200, answer.text

    def form(self, what: str, **values: Any) -> Any:
        """Sends a form of the page."""
        return self.client.post(
            f"{self.base}/{what}", data={"by": self.name, **values}, follow_redirects=False
        )


@pytest.fixture
def reviewer(client_of: Callable[..., TestClient], run_dir: Path) -> Callable[..., Reviewer]:
    """Makes reviewers, all at one server."""
    client = client_of(run_dir.parent)
    return lambda name, stage="cold_start": Reviewer(client, name, stage)


def log_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of the log of the stage that waits."""
    path = run_dir / ".work" / "cold_start" / "review_log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(run_dir: Path) -> list[str]:
    """The ids of the items of the stage that waits."""
    text = (run_dir / ".work" / "cold_start" / "review.jsonl").read_text()
    return [json.loads(line)["review"]["id"] for line in text.splitlines()]
