"""A model's replies on disk, by what it was asked: nobody asks for the same again, in any stage, on any rank.

A question is the model, the messages, the sampling parameters and the number of the sample; its reply is a
row in the folder, in a file for each rank (one writer each). Whoever asks a question first holds a lock on
it; others - threads and ranks - wait for the reply in the cache. Locks die with their process. A reply that
could not be had is not kept. Not covered: a folder that two runs share, or ranks that share no disk (they may
ask twice).
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from r1kit.data.jsonl import cut_torn_tail, encode_row
from r1kit.judges.chat_client import ChatReply, ChatRequest, OnReply

# Replies of others are looked for this often; a judge takes seconds.
_POLL_SECONDS = 0.05
# Locks held at a time. The system looks through them one by one.
_CLAIMS = 512


class ChatModel(Protocol):
    """Something that answers chats: behind a server, or in the process."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was asked, and what became of it."""
        ...

    def ask(self, requests: Sequence[ChatRequest], on_reply: OnReply) -> None:
        """Ask everything; replies come in any order, None where none could be had."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class ReplyCache:
    """The replies in one folder. One for each folder and process: `open_cache`."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own_path = folder / f"replies-{rank}.jsonl"
        self._own: BinaryIO | None = None
        self._places: dict[str, tuple[Path, int]] = {}  # where the row of each key starts
        self._read_up_to: dict[Path, int] = {}
        self._claimed: set[str] = set()
        self._lock = threading.RLock()
        # closed by the end of the process alone: closing it anywhere would drop every lock
        self._locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT, 0o644)

    def get(self, key: str) -> ChatReply | None:
        """The reply to a question, as far as the last `refresh` saw; None where there is none."""
        with self._lock:
            if key not in self._places:
                return None
            path, start = self._places[key]
            with path.open("rb") as file:
                file.seek(start)
                row = json.loads(file.readline())
        return ChatReply(row["content"], row["reasoning"], row["finish_reason"])

    def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; it is there for other processes when this returns."""
        row = {
            "key": key,
            "content": reply.content,
            "reasoning": reply.reasoning,
            "finish_reason": reply.finish_reason,
        }
        line = encode_row(row).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            if self._own is None:
                self.refresh()
                self._own = self._own_path.open("ab")
                cut_torn_tail(self._own_path)  # what a killed process left
            start = self._own.seek(0, os.SEEK_END)
            self._own.write(line)
            self._own.flush()
            self._places[key] = (self._own_path, start)
            self._read_up_to[self._own_path] = start + len(line)

    def refresh(self) -> None:
        """Take in what others have written since the last look."""
        with self._lock:
            for path in sorted(self._folder.glob("replies-*.jsonl")):
                start = self._read_up_to.get(path, 0)
                if path.stat().st_size > start:
                    self._read_up_to[path] = self._take_in(path, start)

    def claim(self, key: str) -> bool:
        """Whether the question is the caller's to ask; False where somebody else is asking it."""
        with self._lock:
            if key in self._claimed:
                return False
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place_of(key))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return False
                # a file system without locks: ranks may ask the same thing, threads don't
            self._claimed.add(key)
            return True

    def release(self, key: str) -> None:
        """Let others ask the question, if it has no reply by now."""
        with self._lock:
            if key in self._claimed:
                self._claimed.remove(key)
                with suppress(OSError):  # there was no lock either
                    fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _place_of(key))

    def _take_in(self, path: Path, start: int) -> int:
        """Note where the rows after `start` are; where the last whole one ends."""
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if (key := _key_in(line)) is not None:
                    self._places[key] = (path, start)
                start += len(line)
        return start


@cache
def open_cache(folder: Path, rank: int) -> ReplyCache:
    """The cache in a folder, the same one for all stages of a process. `folder` is resolved by the caller."""
    return ReplyCache(folder, rank)


def key_of(model: str, request: ChatRequest) -> str:
    """A question's name: all that its reply depends on, and nothing else."""
    content = [model, request.messages, request.temperature, request.max_tokens, request.sample]
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def ask_cached(
    model: ChatModel,
    name: str,
    requests: Sequence[ChatRequest],
    replies: ReplyCache,
    counts: Counter[str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[ChatReply | None]:
    """The reply to each request, in order, from the cache where it has one. `name` stands for the model.

    What could not be had is None for everyone who waited for it in this call, and asked for again by others.
    `counts` gets `cached`: requests that nobody was asked for.
    """
    rows_of: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        rows_of.setdefault(key_of(name, request), []).append(i)
    found: dict[str, ChatReply | None] = {}
    num_asked = 0
    waiting = list(rows_of)
    while True:
        waiting = _take_known(waiting, replies, found)
        claimed = [key for key in waiting[:_CLAIMS] if replies.claim(key)]
        # between the look and the claim somebody may have finished with one
        mine = _take_known(claimed, replies, found)
        for key in set(claimed) - set(mine):
            replies.release(key)
        if mine:
            num_asked += len(mine)
            found |= _ask(model, {key: requests[rows_of[key][0]] for key in mine}, replies)
        waiting = [key for key in waiting if key not in found]
        if not waiting:
            break
        if not mine:
            sleep(_POLL_SECONDS)
    counts["cached"] += len(requests) - num_asked
    answers: list[ChatReply | None] = [None] * len(requests)
    for key, rows in rows_of.items():
        for i in rows:
            answers[i] = found[key]
    return answers


def _take_known(keys: Sequence[str], replies: ReplyCache, found: dict[str, ChatReply | None]) -> list[str]:
    """Those that the cache has no reply to; the replies to the others go to `found`."""
    if keys:
        replies.refresh()
    for key in keys:
        if (known := replies.get(key)) is not None:
            found[key] = known
    return [key for key in keys if key not in found]


def _ask(
    model: ChatModel, questions: Mapping[str, ChatRequest], replies: ReplyCache
) -> dict[str, ChatReply | None]:
    """Ask what was claimed; every reply is kept, and its claim given up, as it comes."""
    keys = list(questions)
    found: dict[str, ChatReply | None] = dict.fromkeys(keys)

    def keep(index: int, reply: ChatReply | None) -> None:
        if reply is not None:
            replies.put(keys[index], reply)
        found[keys[index]] = reply
        replies.release(keys[index])

    try:
        model.ask(list(questions.values()), keep)
    finally:
        for key in keys:
            replies.release(key)
    return found


def _place_of(key: str) -> int:
    """Where in the file of locks the question's is: 60 bits of its key."""
    return int(key[:15], 16)


def _key_in(line: bytes) -> str | None:
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    key = row.get("key") if isinstance(row, dict) else None
    return key if isinstance(key, str) and {"content", "reasoning", "finish_reason"} <= row.keys() else None
