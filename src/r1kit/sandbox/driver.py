"""The one process of ours in the cage: runs programs one after another on many inputs.

Started by `session`. It is the first process of its namespace: signals from inside do not reach it, its
memory and open files are closed to everybody else (it is not dumpable), and when it ends everything ends.
Each test is a process forked from it (`tasks`). When that has ended or reached a limit (`watch`), everything
the program started is killed and reaped, and the work folder is emptied. The driver knows one input at a time
and no expected output. A program's text is also compiled in such a process, never in the driver.

Requests on stdin and replies on stdout are frames: the length of a header, the header as JSON, then as many
bytes as it states. Standard library only, Python 3.9 or newer; `session` is on the other side.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import struct
import sys
from typing import Any

from r1kit.sandbox.tasks import (
    BINARY_FD,
    VALUE_FD,
    WORK,
    CompileTask,
    ExecTask,
    PythonTask,
    Task,
    set_dumpable,
)
from r1kit.sandbox.watch import Reply, WatchedProcess

_MAX_COMPILED_BYTES = 32 * 2**20
_COMPILER_PROCESSES = 64
# node reserves far more address space than it uses; its data segment is limited instead
_NODE_ADDRESS_BYTES = 64 * 2**30


def read_exactly(fd: int, size: int) -> bytes:
    """Exactly `size` bytes; at the end of the input it ends the process, and so the cage."""
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            sys.exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_frame(fd: int) -> tuple[dict[str, Any], bytes]:
    """A request: header and body."""
    header = json.loads(read_exactly(fd, struct.unpack(">I", read_exactly(fd, 4))[0]))
    return header, read_exactly(fd, header.get("size", 0))


def write_frame(fd: int, header: dict[str, Any], *bodies: bytes) -> None:
    """Send a reply."""
    text = json.dumps({**header, "sizes": [len(body) for body in bodies]}).encode()
    data = b"".join((struct.pack(">I", len(text)), text, *bodies))
    while data:
        data = data[os.write(fd, data) :]


def empty(folder: str) -> None:
    """Remove everything in a folder, at any depth and with any permissions; follows no links.

    Nested folders are moved to the top before they are listed, so that depth costs nothing.
    """
    os.chmod(folder, 0o700)  # the mount itself: never a link
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names, moved, prefix = os.listdir(top), 0, os.urandom(8).hex()
        while names:
            name = names.pop()
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            os.chmod(name, 0o700, dir_fd=top)
            inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            for child in os.listdir(inside):
                # a folder without permissions can't be moved, because its ".." would change
                if stat.S_ISDIR(os.stat(child, dir_fd=inside, follow_symlinks=False).st_mode):
                    os.chmod(child, 0o700, dir_fd=inside)
                moved += 1
                names.append(f"{prefix}-{moved}")
                os.rename(child, names[-1], src_dir_fd=inside, dst_dir_fd=top)
            os.close(inside)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


class Driver:
    """The prepared program, and how its tests are run."""

    def __init__(self, limits: dict[str, Any], language: str, tool: str) -> None:
        self.limits = limits
        self.language = language
        self.tool = tool
        self.source = b""
        self.code = b""

    def prepare(self, source: bytes) -> Reply:
        """Compile the program: the reply of the compiler or of the syntax check."""
        self.source = source
        if self.language == "python":
            header, out, err, self.code = self.watch(CompileTask(source.decode()), compiling=True)
            return header, out, err, b""
        name = {"cpp": "program.cpp", "javascript": "program.js"}[self.language]
        self.write(name, source)
        if self.language == "javascript":
            reply = self.watch(ExecTask([self.tool, "--check", name]), compiling=True)
        else:
            command = [self.tool, "-O2", "-std=gnu++17", "-o", "program", name]
            reply = self.watch(ExecTask(command), compiling=True)
            if reply[0]["ending"] == "exit" and reply[0]["code"] == 0:
                # kept open after it is unlinked: no test can change what the next one runs
                fd = os.open(os.path.join(WORK, "program"), os.O_RDONLY | os.O_NOFOLLOW)
                os.dup2(fd, BINARY_FD, inheritable=False)
                os.close(fd)
        empty(WORK)
        return reply

    def test(self, stdin: bytes, call: dict[str, Any] | None) -> tuple[dict[str, Any], bytes, bytes, bytes]:
        """One run in its own process, with an empty work folder: the reply."""
        if self.language == "python":
            task: PythonTask | ExecTask = PythonTask(self.code, call)
        elif self.language == "cpp":
            task = ExecTask(["program"], needs_binary=True)
        else:
            self.write("program.js", self.source)
            # 3,900 KB: deeper recursion than node's default, and far below RLIMIT_STACK
            memory = f"--max-old-space-size={self.limits['memory_mb']}"
            task = ExecTask([self.tool, memory, "--stack-size=3900", "program.js"])
        reply = self.watch(task, stdin)
        empty(WORK)
        return reply

    def watch(
        self, run: ExecTask | CompileTask | PythonTask, stdin: bytes = b"", *, compiling: bool = False
    ) -> Reply:
        """The reply of one process that runs this task."""
        limits = self.limits
        seconds = limits["compile_seconds"]
        task = Task(
            run,
            limits=limits,
            cpu_seconds=seconds if compiling else limits["cpu_seconds"],
            wall_seconds=4 * seconds if compiling else limits["wall_seconds"],
            processes=_COMPILER_PROCESSES if compiling else limits["processes"],
            max_value=_MAX_COMPILED_BYTES if compiling else limits["output_kb"] << 10,
            address_bytes=_NODE_ADDRESS_BYTES if self.language == "javascript" else None,
        )
        return WatchedProcess(task, stdin).run()

    def write(self, name: str, data: bytes) -> None:
        """Create a file in the work folder."""
        fd = os.open(os.path.join(WORK, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


def serve() -> None:
    """Answer requests until the input ends. Raises `Child` in the processes that it forks."""
    set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # moved to high numbers, because 0 to 4 are what a child expects as its own
    requests, replies = os.dup2(0, 100, inheritable=False), os.dup2(1, 101, inheritable=False)
    opened = os.open("/dev/null", os.O_RDWR)
    null = os.dup2(opened, 102, inheritable=False)
    os.close(opened)
    # 3 and 4 stay taken, so that no new pipe gets a number that a child expects
    for fd in (0, 1, VALUE_FD, BINARY_FD):
        os.dup2(null, fd, inheritable=fd < VALUE_FD)
    write_frame(replies, {"ready": list(sys.version_info[:2])})
    driver = None
    while True:
        request, body = read_frame(requests)
        if driver is None or "language" in request:
            driver = Driver(request["limits"], request["language"], request["tool"])
            write_frame(replies, *driver.prepare(body))
        else:
            write_frame(replies, *driver.test(body, request.get("call")))
