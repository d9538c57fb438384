"""Two reviewers at once, a server that is killed again and again, and the stage that goes on afterwards."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.jsonl import read_jsonl
from r1kit.text.template import format_chat
from tests.judges.chat_server import chat_server
from tests.tiny_models import tiny_model

NUM_ITEMS = 200
PATIENCE = 120  # seconds until what has to happen counts as not happening
KILL_AT = (15, 50, 90, 130, 175)  # lines of the log
TOKEN = "a-token-for-tests-only"

RECIPE = """\
[run]
name = "reviewed"
output_dir = "OUT"
seed = 3

[model]
base = "base"
device = "cpu"

[problems.sums]
source = "sums.jsonl"
columns = { question = "q", answer = "a" }
language = "en"
domain = "sums"

[stages.cold_start]
kind = "cold_start"
min_tokens = 2
min_words = 2
languages = ["en"]
review = "required"

[[stages.cold_start.sources]]
kind = "samples"
model = { base_url = "URL", model = "teacher" }
problems = "sums"
samples_per_problem = 1

[stages.dev1]
kind = "sft"
model = "base"
data = "cold_start"
epochs = 1
tokens_per_batch = 4_000
optimizer = { learning_rate = 1e-4 }
"""


@dataclass
class Server:
    """`r1 ui` in a process of its own, on the same port each time."""

    run_dir: Path
    cache: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "r1kit", "ui", str(self.run_dir), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--cache", str(self.cache)],
            env={**os.environ, "R1_UI_TOKEN": TOKEN},
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None
            assert time.monotonic() < until
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Scripted:
    """A reviewer who decides what comes, and sends everything until it is acknowledged."""

    name: str
    port: int
    outcome: dict[str, str | None] = field(default_factory=dict)  # the text that is kept; None: rejected
    sent: list[str] = field(default_factory=list)  # ids that were acknowledged
    drafts: list[tuple[str, str]] = field(default_factory=list)
    num_failed: int = 0

    def work(self) -> None:
        number = 0
        while (item := self._item()) is not None:
            number += 1
            self._decide(number, *item)

    def _decide(self, number: int, item: str, text: str) -> None:
        sum_of = re.search(r"answer is (\d+)\.", text)
        assert sum_of is not None
        if number % 11 == 5:  # decided, taken back, and decided again
            self._post("decide", action="reject", item=item, reason="a slip of the hand")
            self._post("decide", action="undo")
        if number % 4 == 1:
            edited = format_chat(f"{self.name} adds both, and writes it down.", f"The answer is {sum_of[1]}.")
            for end in (5, len(edited)):
                self._post("draft", item=item, text=edited[:end])
                self.drafts.append((item, edited[:end]))
            self._post("decide", action="edit", item=item, text=edited)
            self.outcome[item] = edited
        elif number % 4 == 2:
            self._post("decide", action="reject", item=item, reason="hard to read")
            self.outcome[item] = None
        else:
            self._post("decide", action="accept", item=item)
            self.outcome[item] = text

    def _item(self) -> tuple[str, str] | None:
        page = self._ask("")
        found = re.search(r'data-item="([^"]+)"', page)
        if found is None:
            return None
        text = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
        assert text is not None
        return found[1], text[1].replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'")

    def _post(self, what: str, **body: Any) -> None:
        sent = {"by": self.name, **body}
        if what == "decide":
            sent["id"] = f"{self.name}-{len(self.sent)}-{sent['action']}"
        self._ask(f"/{what}", json.dumps(sent).encode())
        if what == "decide":
            self.sent.append(sent["id"])

    def _ask(self, path: str, body: bytes | None = None) -> str:
        """The answer, asked for until there is one."""
        address = f"http://127.0.0.1:{self.port}/runs/out/review/cold_start{path}"
        cookies = f"r1_token_{self.port}={TOKEN}; r1_reviewer={self.name}"
        headers = {"Cookie": cookies, "Content-Type": "application/json"}
        until = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < until, address
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(address, body, headers), timeout=60
                ) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError as error:
                raise AssertionError(error.read()) from None  # an answer that is none of ours
            except (OSError, http.client.HTTPException):  # killed before, or in the middle of, its answer
                self.num_failed += 1
                time.sleep(0.1)


def run(recipe: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "r1kit", "run", str(recipe)], capture_output=True, text=True)


def teacher(body: dict[str, Any]) -> str:
    question = body["messages"][-1]["content"]
    a, b = map(int, re.findall(r"\d+", question))
    return format_chat(f"We add {a} and {b} with some care, and that makes {a + b}.", f"It is {a + b}.")


@pytest.mark.slow
def test_nothing_is_lost_or_counted_twice_and_the_stage_trains_on_what_was_accepted(tmp_path: Path) -> None:
    tiny_model(tmp_path / "base", hidden=32)
    sums = [{"q": f"What is {n} + {n % 7}?", "a": str(n + n % 7)} for n in range(NUM_ITEMS)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    with chat_server(teacher) as source:
        recipe.write_text(RECIPE.replace("OUT", str(out)).replace("URL", source.url))
        halted = run(recipe)
        assert halted.returncode == 2
        assert f"{NUM_ITEMS} records wait for review in" in halted.stderr.replace("\n", " ")
        work = out / ".work" / "cold_start"
        items = {row["review"]["id"]: row for _, row in read_jsonl(work / "review.jsonl")}
        assert len(items) == NUM_ITEMS
        ann, ben = _review(out, tmp_path / "cache", work / "review_log.jsonl")
        _check_log(work, items, ann, ben)
        kept = {**ann.outcome, **ben.outcome}
        expected = [kept[item] for item in items if kept[item] is not None]
        done = run(recipe)
        assert done.returncode == 0, done.stderr
        assert len(source.requests) == NUM_ITEMS  # the teacher was not asked again
    records = [row for _, row in read_jsonl(out / "cold_start" / "data.jsonl")]
    assert [record["response"] for record in records] == expected
    assert not {"accepted", "review"} & {name for record in records for name in record}
    manifest = json.loads((out / "dev1" / "manifest.json").read_text())
    assert manifest["metrics"]["examples"] == len(expected)
    assert not list(out.glob("reviews"))


def _review(run_dir: Path, cache: Path, log: Path) -> tuple[Scripted, Scripted]:
    """Both reviewers at work until nothing is left, and five kills meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(run_dir, cache, port)
    server.start()
    reviewers = Scripted("Ann", port), Scripted("Ben", port)
    threads = [threading.Thread(target=reviewer.work) for reviewer in reviewers]
    try:
        for thread in threads:
            thread.start()
        until = time.monotonic() + 4 * PATIENCE
        for lines in KILL_AT:
            while not log.is_file() or log.read_bytes().count(b"\n") < lines:
                assert any(thread.is_alive() for thread in threads)
                assert time.monotonic() < until
                time.sleep(0.01)
            server.kill()
            server.start()
        for thread in threads:
            thread.join()
    finally:
        server.kill()
    assert sum(reviewer.num_failed for reviewer in reviewers) >= len(KILL_AT)
    return reviewers


def _check_log(work: Path, items: dict[str, Any], ann: Scripted, ben: Scripted) -> None:
    rows = [json.loads(line) for line in (work / "review_log.jsonl").read_text().splitlines()]
    begin, *events = rows
    assert (begin["action"], list(begin["items"])) == ("begin", list(items))
    # what was acknowledged, all of it and nothing else, each once
    assert sorted(row["id"] for row in events) == sorted([*ann.sent, *ben.sent])
    for reviewer in (ann, ben):
        assert [row["id"] for row in events if row["by"] == reviewer.name] == reviewer.sent
    # each item was decided by one of the two, and by one alone
    assert sorted([*ann.outcome, *ben.outcome]) == sorted(items)
    drafts = [json.loads(line) for line in (work / ".review_drafts.jsonl").read_text().splitlines()]
    for reviewer in (ann, ben):
        assert reviewer.outcome
        kept = {(row["item"], row["text"]) for row in drafts if row["by"] == reviewer.name}
        assert set(reviewer.drafts) <= kept
