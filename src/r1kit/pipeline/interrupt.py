"""Stopping a run: Ctrl-C and SIGTERM both become one exception that says where the run stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class RunInterrupted(Exception):
    """A run was stopped from outside; nothing is lost. The message says where it stopped."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises `KeyboardInterrupt`, as Ctrl-C does. No effect outside the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals belong to the program that called us
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
