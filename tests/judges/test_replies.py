"""Replies on disk: by content, over stages, processes and kills; nobody asks what somebody is asking."""

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from r1kit.judges.chat_client import ChatReply, ChatRequest, OnReply
from r1kit.judges.replies import ReplyCache, ask_cached, key_of, open_cache


def request(text: str, **more) -> ChatRequest:
    return ChatRequest(({"role": "user", "content": text},), more.pop("temperature", 0.0), 50, **more)


def said(text: str) -> ChatReply:
    return ChatReply(text, None, "stop")


class Echo:
    """A model that answers with the question in capitals; None for "down"."""

    def __init__(self, on_ask: Callable[[], None] = lambda: None) -> None:
        self.counts: Counter[str] = Counter()
        self.asked: list[str] = []
        self._on_ask = on_ask

    def ask(self, requests: Sequence[ChatRequest], on_reply: OnReply) -> None:
        for i, one in enumerate(requests):
            text = one.messages[-1]["content"]
            self.asked.append(text)
            self._on_ask()
            on_reply(i, None if text == "down" else said(text.upper()))

    def close(self) -> None:
        pass


def ask(model: Echo, replies: ReplyCache, *texts: str, name: str = "m", **more):
    counts: Counter[str] = Counter()
    found = ask_cached(model, name, [request(text, **more) for text in texts], replies, counts)
    return [reply and reply.content for reply in found], counts["cached"]


def test_the_same_question_is_asked_once_in_a_batch_and_over_restarts(tmp_path: Path) -> None:
    model = Echo()
    assert ask(model, ReplyCache(tmp_path, 0), "a", "b", "a") == (["A", "B", "A"], 1)
    assert ask(model, ReplyCache(tmp_path, 0), "b", "c", "a") == (["B", "C", "A"], 2)
    assert model.asked == ["a", "b", "c"]


def test_what_could_not_be_had_is_not_kept(tmp_path: Path) -> None:
    model, replies = Echo(), ReplyCache(tmp_path, 0)
    assert ask(model, replies, "down", "a") == ([None, "A"], 0)
    assert ask(model, replies, "down", "a") == ([None, "A"], 1)
    assert model.asked == ["down", "a", "down"]


def test_all_that_a_reply_depends_on_is_in_its_key_and_nothing_else() -> None:
    one = request("a")
    others = [
        replace(one, messages=({"role": "user", "content": "b"},)),
        replace(one, messages=({"role": "system", "content": "a"},)),
        replace(one, temperature=0.5),
        replace(one, max_tokens=51),
        replace(one, sample=1),
    ]
    assert len({key_of("m", r) for r in [one, *others]} | {key_of("n", one)}) == 7
    assert key_of("m", replace(one, schema={"type": "object"}, seed=7)) == key_of("m", one)


def test_a_row_that_a_kill_broke_off_is_asked_for_again(tmp_path: Path) -> None:
    ask(Echo(), ReplyCache(tmp_path, 0), "a", "b")
    path = tmp_path / "replies-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    model = Echo()
    assert ask(model, ReplyCache(tmp_path, 0), "a", "b") == (["A", "B"], 1)
    assert model.asked == ["b"]
    assert path.read_bytes() == whole


def test_text_of_any_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    replies = ReplyCache(tmp_path, 0)
    reply = ChatReply('二\n"\ud800\u2028', "why", "length")
    replies.put("k", reply)
    again = ReplyCache(tmp_path, 1)
    again.refresh()
    assert (replies.get("k"), again.get("k"), again.get("other")) == (reply, reply, None)


def test_threads_that_want_the_same_wait_for_the_one_that_asks(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        go_on.wait(10)

    model, replies, found = Echo(block), open_cache(tmp_path, 0), {}

    def work(name: str, *texts: str) -> None:
        found[name] = ask(model, replies, *texts)

    first = threading.Thread(target=work, args=("first", "a"))
    first.start()
    assert started.wait(10)
    second = threading.Thread(target=work, args=("second", "b", "a"))
    second.start()
    time.sleep(0.1)
    go_on.set()
    first.join(10)
    second.join(10)
    assert found == {"first": (["A"], 0), "second": (["B", "A"], 1)}
    assert sorted(model.asked) == ["a", "b"]


def ask_slowly(folder: Path, rank: int) -> None:
    model = Echo(lambda: time.sleep(0.01))
    texts = [f"question {i}" for i in range(30)]
    if rank:
        texts.reverse()
    found, _ = ask(model, ReplyCache(folder, rank), *texts)
    assert found == [text.upper() for text in texts]
    (folder / f"asked-{rank}").write_text("\n".join(model.asked))


def test_two_processes_never_ask_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=ask_slowly, args=(tmp_path, rank)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    asked = [line for rank in range(2) for line in (tmp_path / f"asked-{rank}").read_text().splitlines()]
    assert len(asked) == len(set(asked)) == 30


def claim_and_die(folder: Path) -> None:
    assert ReplyCache(folder, 1).claim(key_of("m", request("a")))
    os._exit(9)


def test_a_process_that_dies_asking_lets_others_ask(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=claim_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert ask(Echo(), ReplyCache(tmp_path, 0), "a") == (["A"], 0)


def test_what_a_model_raises_gives_its_claims_up_and_keeps_what_came(tmp_path: Path) -> None:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    replies = ReplyCache(tmp_path, 0)
    with pytest.raises(KeyboardInterrupt):
        ask(Echo(fail), replies, "a", "b", "c")
    model = Echo()
    assert ask(model, replies, "a", "b", "c") == (["A", "B", "C"], 1)
    assert model.asked == ["b", "c"]
