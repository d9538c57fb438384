"""Rate limits and budgets of a judge or teacher: when the next request may be sent, and what has been spent.

With a file, the account is shared by all ranks and survives restarts: the rate limit holds for all of them
together, and the budget is the run's, not the process's. Each entry holds a file lock briefly; a process that
dies during it leaves the account unchanged. Not covered: ranks on machines that share no disk.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# The longest wait for a turn: a later turn means that the clock has been set back since it was booked.
LONGEST_WAIT_SECONDS = 600.0


class BudgetSpent(Exception):
    """The account is exhausted; the message says what was spent of what."""


@dataclass(slots=True)
class _Account:
    """`next_time`: when the next request may be sent, in seconds since 1970."""

    requests: int = 0
    tokens: int = 0
    next_time: float = 0.0


class Ledger:
    """The account of one server or model. A limit or rate of `None` means unlimited."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        requests_per_minute: float | None = None,
        max_requests: int | None = None,
        max_tokens: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._interval = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._now = now
        self._lock = threading.Lock()
        self._own = _Account()  # if there is no file

    def book(self) -> float:
        """Enter one request; returns the seconds until it may be sent. Raises `BudgetSpent` without an entry.

        Requests are spread evenly: 60 a minute are one per second, not sixty at the same moment.
        """
        with self._account() as account:
            if self._max_requests is not None and account.requests >= self._max_requests:
                raise BudgetSpent(f"{account.requests} of budget_requests = {self._max_requests}")
            if self._max_tokens is not None and account.tokens >= self._max_tokens:
                raise BudgetSpent(f"{account.tokens} of budget_tokens = {self._max_tokens}")
            # book the turn now and wait outside of the lock
            now = self._now()
            turn = max(now, min(account.next_time, now + LONGEST_WAIT_SECONDS))
            account.requests += 1
            account.next_time = turn + self._interval
        return turn - now

    def add_tokens(self, num_tokens: int) -> None:
        """Enter the cost of a reply. Requests in flight when the token budget runs out still exceed it."""
        with self._account() as account:
            account.tokens += num_tokens

    def pause(self, seconds: float) -> None:
        """No request of any rank is sent before this long from now: the server asked for it."""
        with self._account() as account:
            account.next_time = max(account.next_time, self._now() + min(seconds, LONGEST_WAIT_SECONDS))

    def spent(self) -> tuple[int, int]:
        """Requests and tokens so far."""
        with self._account() as account:
            return account.requests, account.tokens

    @contextmanager
    def _account(self) -> Iterator[_Account]:
        """The account, with exclusive access; changes are written only if the block succeeds."""
        with self._lock:
            if self._path is None:
                yield self._own
                return
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
                before = file.read()
                account = _read(before)
                yield account
                file.seek(0)
                # padded with blanks instead of truncated
                file.write(json.dumps(asdict(account)).ljust(len(before)))


def _read(text: str) -> _Account:
    """The account in a file's text; a new one if it can't be read."""
    try:
        row: dict[str, Any] = json.loads(text)
        return _Account(int(row["requests"]), int(row["tokens"]), float(row["next_time"]))
    except (ValueError, KeyError, TypeError):
        return _Account()
