"""Accounts: turns are spread, budgets end, and both hold over threads, processes and restarts."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from r1kit.judges.ledger import BudgetSpent, Ledger


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_turns_are_so_many_a_minute_and_unused_ones_are_lost() -> None:
    clock = Clock()
    account = Ledger(requests_per_minute=30, now=clock)  # one in two seconds
    assert [account.book() for _ in range(3)] == [0.0, 2.0, 4.0]
    clock.time += 1
    assert account.book() == 5.0  # the turn at 1006, seen from 1001
    clock.time += 60
    assert [account.book() for _ in range(2)] == [0.0, 2.0]


def test_a_pause_holds_for_everyone_and_ten_minutes_at_most() -> None:
    clock = Clock()
    account = Ledger(now=clock)
    account.pause(5.0)
    assert [account.book() for _ in range(2)] == [5.0, 5.0]
    account.pause(1e9)
    assert account.book() == 600.0


def test_a_budget_ends_and_goes_on_after_a_restart_where_it_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    account = Ledger(path, max_requests=2)
    account.book()
    account.add_tokens(70)
    account.book()
    with pytest.raises(BudgetSpent, match="2 of budget_requests = 2"):
        account.book()
    with pytest.raises(BudgetSpent):
        Ledger(path, max_requests=2).book()  # another process, later
    with pytest.raises(BudgetSpent, match="70 of budget_tokens = 70"):
        Ledger(path, max_requests=3, max_tokens=70).book()
    Ledger(path, max_requests=3).book()
    assert Ledger(path).spent() == (3, 70)  # what was refused is not in it


def test_what_can_not_be_read_is_a_new_account(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    path.write_text('{"requests": 5, "tok')
    account = Ledger(path)
    account.book()
    assert account.spent() == (1, 0)
    assert json.loads(path.read_text())["requests"] == 1


def book_many(path: Path) -> None:
    account = Ledger(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: (account.book(), account.add_tokens(3)), range(50)))


def test_nothing_is_lost_between_threads_and_processes(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=book_many, args=(path,)) for _ in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert Ledger(path).spent() == (100, 300)
