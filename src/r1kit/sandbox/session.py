"""One running cage, seen from outside: start it, send it programs and their inputs, end it.

The driver's replies are bounded in size and time, as if it could lie. A driver that can't be started is the
machine's fault (`SandboxFailed`). One that ends or goes silent after it has received the program is
`DriverLost`, and `pool` decides whose fault that is.
"""

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from r1kit.data.limits import CodeLimits
from r1kit.sandbox.cage import Cage
from r1kit.sandbox.seccomp import seccomp_filter

Language = Literal["python", "cpp", "javascript"]
LANGUAGES: tuple[Language, ...] = ("python", "cpp", "javascript")
# exit: ended by itself, see `code`; lost: took the driver down; the others name the limit that was reached
Ending = Literal["exit", "cpu", "wall", "memory", "output", "files", "lost"]
_ENDINGS = ("exit", "cpu", "wall", "memory", "output", "files")

_START_SECONDS = 60.0  # on a machine under load; usually a tenth of a second
_GRACE_SECONDS = 30.0  # in case the driver does not enforce the limits itself
_MAX_HEADER_BYTES = 65_536
_MAX_ERROR_BYTES = 65_536
_MAX_COMPLAINT_BYTES = 4096


class SandboxFailed(Exception):
    """The cage could not be started or does not work: nothing is known about the program."""


class DriverLost(Exception):
    """The driver ended, or did not answer in time, while it had the program."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run: its text and its language."""

    source: str
    language: Language


@dataclass(frozen=True, slots=True)
class Stdin:
    """A run of the entire program with this text on stdin."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one function of a Python program; arguments are encoded by `values.encode_value`."""

    function: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended, and its output. `code`: the exit code, or minus the signal's number."""

    ending: Ending
    code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""  # the end of it
    value: bytes = b""  # the value of a call, to decode with `values.decode_value`
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether the program ended by itself and reported success."""
        return self.ending == "exit" and self.code == 0


class Session:
    """A driver in its cage. Not thread-safe; the thread that created it must close it."""

    def __init__(self, cage: Cage, limits: CodeLimits) -> None:
        """Raises `SandboxFailed` with bubblewrap's message."""
        self.limits = limits
        self.num_programs = 0
        self._language: Language = "python"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self._process = _start(cage, limits, self._errors)
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        try:
            # the driver's first frame says that it is ready
            header, _ = self._reply(_START_SECONDS, 0)
            if not isinstance(header.get("ready"), list):
                raise DriverLost
        except DriverLost:
            complaint = self.complaint()
            self.close()
            raise SandboxFailed(complaint or "the sandbox did not start in time") from None

    def prepare(self, program: Program, tool: str) -> Outcome:
        """Send the program and compile it; the outcome is not clean if it does not compile."""
        self._language = program.language
        self.num_programs += 1
        header = {
            "limits": self.limits.model_dump(mode="json"),
            "language": program.language,
            "tool": tool,
        }
        self._send(header, program.source.encode("utf-8", "replace"))
        return self._outcome(4 * self.limits.compile_seconds)

    def run(self, test: Stdin | Call) -> Outcome:
        """One run of the prepared program."""
        if isinstance(test, Call):
            call = {
                "function": test.function,
                "arguments": list(test.arguments),
                "keywords": dict(test.keywords),
            }
            self._send({"call": call}, b"")
        else:
            self._send({}, test.text.encode("utf-8", "replace"))
        return self._outcome(self.limits.wall_seconds)

    @property
    def is_alive(self) -> bool:
        """Whether bubblewrap is still running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the cage immediately, from any thread. It still has to be closed."""
        if self._process.returncode is None:
            # bubblewrap's own group; its inside dies with it (PR_SET_PDEATHSIG, then the namespace)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the cage and everything in it. May be called more than once."""
        self.kill()
        self._process.wait()
        self._selector.close()
        self._errors.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _send(self, header: Mapping[str, Any], body: bytes) -> None:
        text = json.dumps({**header, "size": len(body)}).encode()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack(">I", len(text)) + text + body)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DriverLost from None

    def _outcome(self, seconds: float) -> Outcome:
        header, bodies = self._reply(seconds + _GRACE_SECONDS, 3)
        if header.get("ending") == "failed":
            raise SandboxFailed(bodies[1].decode("utf-8", "replace"))
        ending, code = header.get("ending"), header.get("code")
        cpu, wall = header.get("cpu_seconds"), header.get("wall_seconds")
        if ending not in _ENDINGS or type(code) is not int:
            raise DriverLost
        stdout, stderr, value = bodies
        return Outcome(ending, code, stdout, stderr, value, float(cpu or 0.0), float(wall or 0.0))

    def _reply(self, seconds: float, num_bodies: int) -> tuple[Mapping[str, Any], list[bytes]]:
        deadline = time.monotonic() + seconds
        length = struct.unpack(">I", self._read(4, deadline))[0]
        if length > _MAX_HEADER_BYTES:
            raise DriverLost
        try:
            header = dict(json.loads(self._read(length, deadline)))
            sizes = list(header.get("sizes", []))
        except (ValueError, TypeError, RecursionError):
            raise DriverLost from None
        # the driver's own caps are smaller, so a larger reply can't be genuine
        most = max(self.limits.output_kb << 10, _MAX_ERROR_BYTES) + 65_536
        if len(sizes) != num_bodies or not all(type(size) is int and 0 <= size <= most for size in sizes):
            raise DriverLost
        return header, [self._read(size, deadline) for size in sizes]

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        parts: list[bytes] = []
        while size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise DriverLost
            part = os.read(self._process.stdout.fileno(), min(size, 1 << 20))
            if not part:
                raise DriverLost
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def complaint(self) -> str:
        """The stderr of bubblewrap and the driver, where no program can write."""
        self._errors.seek(0)
        return self._errors.read(_MAX_COMPLAINT_BYTES).decode("utf-8", "replace").strip()


def _start(cage: Cage, limits: CodeLimits, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    """The bubblewrap process. Raises `SandboxFailed` if it can't be started."""
    fds: list[int] = []
    try:
        source_fds = {path: _readable(source, fds) for path, source in cage.sources.items()}
        seccomp_fd = _readable(seccomp_filter(cage.machine), fds)
        return subprocess.Popen(
            cage.command(work_mb=limits.work_mb, source_fds=source_fds, seccomp_fd=seccomp_fd),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=cage.environment,
            cwd="/",
            pass_fds=fds,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise SandboxFailed(str(error)) from None
    finally:
        for fd in fds:
            os.close(fd)


def _readable(data: bytes, fds: list[int]) -> int:
    """A descriptor from which these bytes can be read once; added to `fds`, for closing."""
    fd = os.memfd_create("r1kit")
    fds.append(fd)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
