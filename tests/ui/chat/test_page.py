"""The chat in a real browser: models side by side, the same seed again, why not, Stop, dying processes."""

import gc
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1kit.ui.chat.pool import Worker

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

pytestmark = pytest.mark.slow
PATIENCE = 120_000  # milliseconds until something that has to happen counts as not happening


def ask(page: Any, question: str) -> None:
    page.fill("#chat-question", question)
    page.keyboard.press("Enter")


def wait_for_answers(page: Any, num_turns: int) -> None:
    expect(page.locator(".turn")).to_have_count(num_turns, timeout=PATIENCE)
    expect(page.locator(".answer[aria-busy]")).to_have_count(0, timeout=PATIENCE)


def texts(page: Any, turn: int) -> list[str]:
    """What each model said, reasoning and answer, folded or not."""
    answers = page.locator(".turn").nth(turn).locator(".answer")
    return [
        "".join(answers.nth(i).locator(".thought, .said").evaluate_all("all => all.map(e => e.textContent)"))
        for i in range(answers.count())
    ]


def children() -> dict[int, str]:
    """The model processes of this test's server, which is a thread of this process."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and "r1kit.ui.chat.worker" in command:
            found[int(entry.name)] = command
    return found


def test_two_stages_side_by_side(
    route: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    address = serve(route)
    page = open_page(address, "/runs/out/chat?stage=warm&stage=dev1&max_tokens=48&temperature=1")
    assert page.locator("#chat-choices input:checked").count() == 2
    no_serious_faults(page)

    # one of the run's own questions, by its menu; the keyboard does the rest
    page.select_option("#chat-ready", label="What is 2 + 3?")
    expect(page.locator("#chat-question")).to_be_focused()
    page.keyboard.press("Enter")
    wait_for_answers(page, 1)
    first = texts(page, 0)
    assert len(first) == 2
    assert all(first)
    expect(page.locator(".turn").nth(0)).to_contain_text("Right answer: 5 (from the rollouts of")
    expect(page.locator(".answer .mark")).to_have_text([re.compile("right|wrong")] * 2, timeout=PATIENCE)
    assert [box.is_visible() for box in page.locator(".answer .thought").all()] == [False, False]
    no_serious_faults(page)

    # the next seed, then the first again: other answers, then the same to the bit
    page.locator("#chat-question").blur()
    link = page.locator("#chat-address").get_attribute("href")
    page.fill("#chat-seed", "0")
    page.click("#chat-new")
    ask(page, "What is 2 + 3?")
    wait_for_answers(page, 1)
    assert texts(page, 0) == first
    page.keyboard.press("Escape")  # leaves the question, so that keys are keys
    page.keyboard.press("r")
    expect(page.locator(".turn .note").first).to_contain_text("seed 1,", timeout=PATIENCE)
    wait_for_answers(page, 1)
    assert page.input_value("#chat-seed") == "1"

    # a link asks the same again
    page.goto(address + link)
    wait_for_answers(page, 1)
    assert texts(page, 0) == first


def test_why_not_and_turns(
    route: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    page = open_page(serve(route), "/runs/out/chat?stage=zero&stage=dev1&max_tokens=4")
    ask(page, "What is 2 + 3?")
    wait_for_answers(page, 1)
    for answer in page.locator(".answer").all():
        expect(answer.locator(".why")).to_contain_text(
            re.compile("Why not: .*was cut off at its last allowed token, before the model ended it")
        )
        expect(answer.locator(".numbers")).to_contain_text("cut off · 4 tokens")
    ask(page, "And now?")
    wait_for_answers(page, 2)
    second = page.locator(".turn").nth(1).locator(".answer")
    expect(second.nth(0)).to_contain_text("In the zero style each question stands alone")
    expect(second.nth(1)).not_to_contain_text("stands alone")
    no_serious_faults(page)
    link = page.locator("#chat-address").get_attribute("href")
    assert re.findall("q=([^&]*)", link) == ["What+is+2+%2B+3%3F", "And+now%3F"]


def test_stop_and_a_process_that_dies(
    route: Path, serve: Callable[..., str], open_page: Callable[..., Any], no_serious_faults: Callable
) -> None:
    before = set(children())
    page = open_page(serve(route), "/runs/out/chat?stage=base&stage=warm&max_tokens=5")
    ask(page, "Hello")
    wait_for_answers(page, 1)
    mine = set(children()) - before
    assert len(mine) == 2

    for pid in mine:  # so that no answer ends before it is stopped, on any machine
        os.kill(pid, signal.SIGSTOP)
    ask(page, "Talk for long.")
    expect(page.locator(".answer .wait")).to_have_text(["reading the question"] * 2)
    no_serious_faults(page)
    page.keyboard.press("Escape")
    wait_for_answers(page, 2)
    expect(page.locator(".turn").nth(1).locator(".note", has_text="Stopped.")).to_have_count(2)
    expect(page.locator("#chat-stop")).to_be_hidden()
    for pid in mine:
        os.kill(pid, signal.SIGCONT)
    ask(page, "Hello")
    wait_for_answers(page, 3)
    expect(page.locator(".turn").nth(2).locator(".numbers")).to_have_count(2)

    for pid in mine:
        os.kill(pid, signal.SIGSTOP)
    ask(page, "Talk for long again.")
    expect(page.locator(".answer .wait")).to_have_text(["reading the question"] * 2)
    for pid in mine:
        os.kill(pid, signal.SIGKILL)
    wait_for_answers(page, 4)
    again = "was killed, perhaps for want of memory. Ask again to start it anew."
    expect(page.locator(".turn").nth(3).locator(".fault")).to_have_text(
        [f"The process of {name} {again}" for name in ("base", "warm")]
    )
    no_serious_faults(page)
    ask(page, "Hello again")
    wait_for_answers(page, 5)
    expect(page.locator(".turn").nth(4).locator(".numbers")).to_have_count(2)
    expect(page.locator(".turn").nth(4).locator(".fault")).to_have_count(0)
    # what was stopped or never answered is in no link
    link = page.locator("#chat-address").get_attribute("href")
    assert re.findall("q=([^&]*)", link) == ["Hello", "Hello", "Hello+again"]


def test_a_closed_tab_stops_the_sampling(
    route: Path, serve: Callable[..., str], open_page: Callable[..., Any]
) -> None:
    before = set(children())
    page = open_page(serve(route), "/runs/out/chat?stage=base&max_tokens=5")
    ask(page, "Hello")
    wait_for_answers(page, 1)
    (pid,) = set(children()) - before
    (worker,) = [one for one in gc.get_objects() if type(one) is Worker and is_process(one, pid)]
    wait_until_idle(worker)  # the page shows an answer's numbers before the process has said that it ends
    os.kill(pid, signal.SIGSTOP)
    ask(page, "Talk for long.")
    expect(page.locator(".answer .wait")).to_have_text("reading the question")
    assert worker.num_asked == 1
    page.close()
    wait_until_idle(worker)


def wait_until_idle(worker: Worker) -> None:
    until = time.monotonic() + PATIENCE / 1000
    while worker.num_asked:
        assert time.monotonic() < until
        time.sleep(0.02)


def is_process(worker: Worker, pid: int) -> bool:
    return worker.process is not None and worker.process.pid == pid


def test_hostile_text_is_text(route: Path, serve: Callable[..., str], open_page: Callable[..., Any]) -> None:
    page = open_page(serve(route), "/runs/out/chat?stage=warm&max_tokens=4")
    lines = ["<b>x</b>", "<script>window.r1_ran = 1</script>", "\u001b[31mred\u202eleft", "x" * 200_000]
    bodies = [{"at": 0, "state": "answering", "device": "cpu", "dtype": "float32"}]
    bodies += [{"at": 0, "piece": line, "dim": index % 2 == 0} for index, line in enumerate(lines)]
    text = "".join(lines)
    done = {"text": text, "reasoning": text, "summary": text, "fault": "<i>y</i>", "cut_off": False}
    numbers = {"num_tokens": 1, "tokens_per_second": None, "mean_logprob": None}
    bodies += [
        {"at": 0, "done": done | numbers},
        {"at": 0, "verdict": {"answer": "<u>z</u>", "correct": False}},
    ]
    bodies.append({"at": 0, "end": True})
    stream = json.dumps({"truth": "<s>t</s>", "where": "<em>w</em>"}) + "\n"
    stream += "".join(json.dumps(body) + "\n" for body in bodies)
    page.route("**/chat/ask", lambda to: to.fulfill(body=stream, content_type="application/x-ndjson"))
    ask(page, "<script>window.r1_ran = 1</script><b>q</b>")
    wait_for_answers(page, 1)
    expect(page.locator(".turn .said")).to_contain_text(
        "<b>x</b><script>window.r1_ran = 1</script>␛[31mred⟨U+202E⟩left"
    )
    assert page.locator(".turn :is(i, u, s, em, script), .turn b:text('x')").count() == 0
    assert page.evaluate("window.r1_ran") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
