"""A cache of a model's replies on disk: the same question is asked only once, in any stage and on any rank.

A question is the model, the messages, the sampling parameters and the sample's number. Its reply is a row in
the folder, in one file per rank (one writer each). Whoever asks a question first holds a lock on it; other
threads and ranks wait for the reply in the cache. Locks end with their process. Unavailable replies are not
kept. Not covered: a folder that two runs share, or ranks that share no disk (they may ask twice).
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

# How often to look for other ranks' replies; a judge takes seconds.
_POLL_SECONDS = 0.05
# Locks held at a time: the kernel searches them linearly.
_CLAIMS = 512


class ChatModel(Protocol):
    """A model that answers chats: behind a server, or in this process."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was asked, and how it ended."""
        ...

    def ask(self, requests: Sequence[ChatRequest], on_reply: OnReply) -> None:
        """Ask everything; replies arrive in any order, None for unavailable ones."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


class ReplyCache:
    """The replies in one folder. One instance per folder and process: see `open_cache`."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own_path = folder / f"replies-{rank}.jsonl"
        self._own: BinaryIO | None = None
        self._places: dict[str, tuple[Path, int]] = {}  # where the row of each key starts
        self._read_up_to: dict[Path, int] = {}
        self._claimed: set[str] = set()
        self._lock = threading.RLock()
        # never closed before the process ends: closing any descriptor of the file drops all its POSIX locks
        self._locks = os.open(folder / "locks", os.O_RDWR | os.O_CREAT, 0o644)

    def get(self, key: str) -> ChatReply | None:
        """The reply to a question, as of the last `refresh`; None if there is none."""
        with self._lock:
            if key not in self._places:
                return None
            path, start = self._places[key]
            with path.open("rb") as file:
                file.seek(start)
                row = json.loads(file.readline())
        return ChatReply(row["content"], row["reasoning"], row["finish_reason"])

    def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply; when this returns, other processes can read it."""
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
                cut_torn_tail(self._own_path)  # a half-written row of a killed process
            # one writer per file, so the row's place is known before it is written
            start = self._own.seek(0, os.SEEK_END)
            self._own.write(line)
            self._own.flush()
            self._places[key] = (self._own_path, start)
            self._read_up_to[self._own_path] = start + len(line)

    def refresh(self) -> None:
        """Read what others have written since the last call."""
        with self._lock:
            for path in sorted(self._folder.glob("replies-*.jsonl")):
                start = self._read_up_to.get(path, 0)
                if path.stat().st_size > start:
                    self._read_up_to[path] = self._take_in(path, start)

    def claim(self, key: str) -> bool:
        """Whether the caller may ask the question; False if somebody else is asking it."""
        with self._lock:
            if key in self._claimed:
                return False
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place_of(key))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return False
                # a file system without locks: ranks may ask twice, threads won't
            self._claimed.add(key)
            return True

    def release(self, key: str) -> None:
        """Let others ask the question, if it still has no reply."""
        with self._lock:
            if key in self._claimed:
                self._claimed.remove(key)
                with suppress(OSError):  # the file system has no locks
                    fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _place_of(key))

    def _take_in(self, path: Path, start: int) -> int:
        """Note where the rows after `start` are; returns the end of the last complete one."""
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
    """The cache in a folder, one for all stages of a process. The caller passes a resolved `folder`."""
    return ReplyCache(folder, rank)


def key_of(model: str, request: ChatRequest) -> str:
    """A question's key: everything that its reply depends on, and nothing else."""
    content = [model, request.messages, request.temperature, request.max_tokens, request.sample]
    # not the seed and the schema: the seed follows from the sample, and the prompt describes the schema
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
    """The reply to each request, in order, from the cache if possible. `name` identifies the model.

    An unavailable reply is None for everyone who waited for it in this call; later calls ask again. `counts`
    gets `cached`: the number of requests that did not reach the model.
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
        # another rank may have finished one between the look and the claim
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
    """The keys without a reply in the cache; the other replies are added to `found`."""
    if keys:
        replies.refresh()
    for key in keys:
        if (known := replies.get(key)) is not None:
            found[key] = known
    return [key for key in keys if key not in found]


def _ask(
    model: ChatModel, questions: Mapping[str, ChatRequest], replies: ReplyCache
) -> dict[str, ChatReply | None]:
    """Ask the claimed questions; each reply is kept, and its claim released, as it arrives."""
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
    """The byte in the lock file that stands for the question: 60 bits of its key."""
    return int(key[:15], 16)


def _key_in(line: bytes) -> str | None:
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    key = row.get("key") if isinstance(row, dict) else None
    return key if isinstance(key, str) and {"content", "reasoning", "finish_reason"} <= row.keys() else None
