"""Untrusted programs, run where they can do no harm: bubblewrap, a seccomp filter and limits, or not at all.

Covered
- Files: a program sees only the parts of /usr that it needs, read-only, and nothing else of the disk. It has
  one work folder in memory, with a limit on bytes and files, emptied after each test.
- Network: a namespace without one; only sockets between the program's own processes.
- Other processes: own namespaces for processes, users, System V objects, host name and cgroups; no
  capabilities; no new privileges; no way to a new namespace, to ptrace, or to another process's memory or
  limits. Root gives up its id first. Nothing that a program starts outlives its test, or the driver.
- The verdict: signals from inside do not reach the driver, and its memory and files can't be opened. Outputs
  are read through pipes and compared outside, where the expected ones stay.
- Time and memory: CPU, wall clock, memory, processes, files and output are limited, for all processes of a
  test together. A driver that does not answer is killed with its process group.
- Environment: four fixed variables, none of the user's.

Not covered
- A hole in the kernel, or in bubblewrap. Use a separate machine for programs that are hostile on purpose.
- Side channels: timing, caches, load; /proc shows what kind of machine it is and how busy.
- Limits are checked fifty times a second. In between, the processes of a test may together hold more memory
  than allowed, each at most its own limit. Memory of sockets and pipes is bounded only by their number.
- Fairness: on a busy machine a slow program times out on the wall clock (CPU time is not affected).
- Files that others leave readable in /usr/bin, /usr/lib and /usr/include can be read.

There is no weaker fallback: if this cage is unavailable, `sandbox_refusal` says what to install or to allow,
and problems of kind code are refused with that message.
"""

from r1kit.sandbox.cage import SandboxUnavailable
from r1kit.sandbox.pool import ProgramTests, SandboxPool, TestedProgram, sandbox_refusal, shared_sandbox
from r1kit.sandbox.session import LANGUAGES, Call, Language, Outcome, Program, Stdin
from r1kit.sandbox.values import NotPlainData, decode_value, encode_value

__all__ = [
    "LANGUAGES",
    "Call",
    "Language",
    "NotPlainData",
    "Outcome",
    "Program",
    "ProgramTests",
    "SandboxPool",
    "SandboxUnavailable",
    "Stdin",
    "TestedProgram",
    "decode_value",
    "encode_value",
    "sandbox_refusal",
    "shared_sandbox",
]
