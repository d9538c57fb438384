"""What a judge or a teacher was asked: when the next request may go out, and what has been spent.

With a file the account is shared by all ranks and kept over restarts: the rate holds for all of them
together, and a budget is the run's, not a process's. Each entry is a moment under a file lock; a process that
dies in it leaves the account as it was. Not covered: ranks whose machines share no disk.
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

# Longer than this no request waits for its turn: an account from before the clock was set back is ignored.
LONGEST_WAIT_SECONDS = 600.0


class BudgetSpent(Exception):
    """The account has nothing left for another request; says what was spent of what."""


@dataclass(slots=True)
class _Account:
    """`next_time` is when the next request may go out, in seconds since 1970."""

    requests: int = 0
    tokens: int = 0
    next_time: float = 0.0


class Ledger:
    """The account of one server or model. `None` for a limit or a rate means that there is none."""

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
        self._own = _Account()  # where there is no file

    def book(self) -> float:
        """Enter one request; the seconds until it may go out. Raises `BudgetSpent`, and enters nothing.

        Requests are spread evenly: 60 a minute are one a second, not sixty at once.
        """
        with self._account() as account:
            if self._max_requests is not None and account.requests >= self._max_requests:
                raise BudgetSpent(f"{account.requests} of budget_requests = {self._max_requests}")
            if self._max_tokens is not None and account.tokens >= self._max_tokens:
                raise BudgetSpent(f"{account.tokens} of budget_tokens = {self._max_tokens}")
            now = self._now()
            turn = max(now, min(account.next_time, now + LONGEST_WAIT_SECONDS))
            account.requests += 1
            account.next_time = turn + self._interval
        return turn - now

    def add_tokens(self, num_tokens: int) -> None:
        """Enter what a reply cost. Those in flight when a budget of tokens ends still go over it."""
        with self._account() as account:
            account.tokens += num_tokens

    def pause(self, seconds: float) -> None:
        """No request of anyone's goes out before this long from now: the server said so."""
        with self._account() as account:
            account.next_time = max(account.next_time, self._now() + min(seconds, LONGEST_WAIT_SECONDS))

    def spent(self) -> tuple[int, int]:
        """Requests and tokens so far."""
        with self._account() as account:
            return account.requests, account.tokens

    @contextmanager
    def _account(self) -> Iterator[_Account]:
        """The account, alone with it; changes are written where the block ends well."""
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
                file.write(json.dumps(asdict(account)).ljust(len(before)))  # whatever was longer is blanked


def _read(text: str) -> _Account:
    """The account in a file's text; a new one where there is none that can be read."""
    try:
        row: dict[str, Any] = json.loads(text)
        return _Account(int(row["requests"]), int(row["tokens"]), float(row["next_time"]))
    except (ValueError, KeyError, TypeError):
        return _Account()
