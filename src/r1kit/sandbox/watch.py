"""Watches one test's processes from start to end: feeds, reads, limits and kills them. Runs in the cage.

Limits apply to all processes of the test together. They are checked fifty times a second; what a program can
do in between is bounded by per-process limits (`tasks.become`). Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time
from typing import Any

from r1kit.sandbox.tasks import WORK, Task, become

# Enough for the last lines of a traceback.
_ERROR_TAIL_BYTES = 4096
_POLL_SECONDS = 0.02
_CHUNK = 65536
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

# header, stdout, the end of stderr, the returned value of a call
Reply = tuple[dict[str, Any], bytes, bytes, bytes]


class WatchedProcess:
    """One forked process and all its descendants, until all of them have ended."""

    def __init__(self, task: Task, stdin: bytes) -> None:
        self.task = task
        self.stdin = memoryview(stdin)
        self.texts = {"out": bytearray(), "err": bytearray(), "value": bytearray()}
        self.sizes = {"out": 0, "err": 0, "value": 0}
        cap = task.limits["output_kb"] << 10
        self.caps = {"out": cap, "err": cap, "value": task.max_value}
        self.ending: str | None = None
        self.pid = 0
        self.fds: dict[str, int] = {}
        self.began = time.monotonic()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_before = usage.ru_utime + usage.ru_stime

    def run(self) -> Reply:
        """In the driver, the reply: header, stdout, end of stderr, value. In the child, it never returns."""
        inner, outer = [], self.fds
        for name in ("in", "out", "err", "value"):
            read, write = os.pipe()
            inner.append(read if name == "in" else write)
            outer[name] = write if name == "in" else read
        try:
            self.pid = os.fork()
        except OSError as error:  # no processes left on this machine; the program has not started
            return {"ending": "failed", "code": error.errno}, b"", str(error).encode(), b""
        if self.pid == 0:
            become(self.task, inner)
            self.task.run()
        for fd in inner:
            os.close(fd)
        for fd in outer.values():
            # non-blocking: a program that neither reads nor writes must not stall the checks
            os.set_blocking(fd, False)
        status, cpu_seconds = self.watch()
        for name in ("out", "err", "value"):
            while name in self.fds and self.take(name):
                pass
        for fd in self.fds.values():
            os.close(fd)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        header = {
            "ending": self.ending or "exit",
            "code": code,
            "cpu_seconds": cpu_seconds,
            "wall_seconds": time.monotonic() - self.began,
        }
        return header, bytes(self.texts["out"]), bytes(self.texts["err"]), bytes(self.texts["value"])

    def watch(self) -> tuple[int, float]:
        """Serve the pipes until the process ends or reaches a limit; then kill and reap everything."""
        poll = select.poll()
        process = os.pidfd_open(self.pid)
        poll.register(process, select.POLLIN)
        names = {fd: name for name, fd in self.fds.items()}
        for fd, name in names.items():
            poll.register(fd, select.POLLOUT if name == "in" else select.POLLIN)
        if not self.stdin:
            self.close("in", poll)
        next_check = self.began
        while self.ending is None:
            ready = [fd for fd, _ in poll.poll(_POLL_SECONDS * 1000)]
            for fd in ready:
                if fd in names and names[fd] in self.fds:
                    (self.give if names[fd] == "in" else self.take)(names[fd], poll)
            if process in ready:
                break
            if time.monotonic() >= next_check:
                self.check_limits()
                next_check = time.monotonic() + _POLL_SECONDS
        os.close(process)
        return self.end_all()

    def give(self, name: str, poll: select.poll) -> None:
        """Write more of the input."""
        try:
            self.stdin = self.stdin[os.write(self.fds[name], self.stdin[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.stdin = self.stdin[:0]
        if not self.stdin:
            self.close(name, poll)

    def take(self, name: str, poll: select.poll | None = None) -> bool:
        """Read once; returns whether there was anything. Output beyond the cap is not kept."""
        try:
            part = os.read(self.fds[name], _CHUNK)
        except BlockingIOError:
            return False
        if not part:
            self.close(name, poll)
            return False
        self.sizes[name] += len(part)
        if name == "err":
            self.texts[name] += part
            del self.texts[name][:-_ERROR_TAIL_BYTES]
        elif self.sizes[name] <= self.caps[name]:
            self.texts[name] += part
        if self.sizes[name] > self.caps[name]:
            self.ending = self.ending or "output"
            return False
        return True

    def close(self, name: str, poll: select.poll | None) -> None:
        """A pipe has ended."""
        fd = self.fds.pop(name)
        if poll is not None:
            poll.unregister(fd)
        os.close(fd)

    def check_limits(self) -> None:
        """Set `ending` to the limit that all processes together have reached, if any."""
        pages, ticks = 0, 0
        for entry in os.listdir("/proc"):
            if entry.isdigit() and entry != "1":
                # resident minus shared: pages of files and libraries are not the program's
                try:
                    with open(f"/proc/{entry}/statm", "rb") as file:
                        # utime, stime, cutime, cstime: fields 14 to 17 of proc(5)
                        _, resident, shared = file.read().split()[:3]
                    with open(f"/proc/{entry}/stat", "rb") as file:
                        ticks += sum(map(int, file.read().rsplit(b")", 1)[1].split()[11:15]))
                except (FileNotFoundError, ProcessLookupError):
                    continue
                pages += int(resident) - int(shared)
        limits, task = self.task.limits, self.task
        work = os.statvfs(WORK)
        # reaped first, so that their CPU time is in the usage of the driver's children
        self.reap_orphans()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = ticks / _TICKS + usage.ru_utime + usage.ru_stime - self.cpu_before
        if pages * _PAGE > limits["memory_mb"] << 20:
            self.ending = "memory"
        elif work.f_files - work.f_ffree > limits["files"]:
            self.ending = "files"
        elif cpu > task.cpu_seconds:
            self.ending = "cpu"
        elif time.monotonic() - self.began > task.wall_seconds:
            self.ending = "wall"

    def reap_orphans(self) -> None:
        """Reap processes that have lost their parent, but not the test's own process."""
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == self.pid:
                return
            os.waitpid(found.si_pid, 0)

    def end_all(self) -> tuple[int, float]:
        """Kill and reap everything but the driver; returns the test's exit status and CPU seconds."""
        own_status = 0
        while True:
            # again before each wait: a process may have forked before it was killed
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            if pid == self.pid:
                own_status = status
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own_status, usage.ru_utime + usage.ru_stime - self.cpu_before
