"""Untrusted programs, run where they can do no harm: bubblewrap, a seccomp filter and limits, or not at all.

What is covered
- The machine's files: only what a program needs of /usr is seen, read-only, and nothing else of the disk;
  one work folder in memory, with a limit on bytes and files, emptied after each test.
- The network: a namespace without one, and no sockets but those between the program's own processes.
- Other processes: a namespace of its own for processes, users, System V objects, host name and groups; no
  capabilities; no new privileges; no way to a new namespace, to ptrace or to another process's memory or
  limits. Root gives up its id first. Nothing that a program starts outlives its test, or the driver.
- The verdict: a driver that signals from inside don't reach and whose memory and files can't be opened;
  outputs are read through pipes and compared outside, where the expected ones are and stay.
- The machine's time and memory: CPU, wall clock, memory, processes, files and output are limited, for all
  processes of a test together. A driver that does not answer is killed with its process group.
- The environment: four fixed variables, none of the user's.

What is not covered
- A hole in the kernel, or in bubblewrap. For programs that are hostile on purpose use a machine of its own.
- Side channels: timing, caches, load; /proc shows what kind of machine it is and how busy.
- Limits are checked fifty times a second: for so long all processes of a test together may hold more memory
  than they should, each at most its own limit. Memory of sockets and pipes is bounded by their number only.
- Fairness: a machine that is busy makes a slow program time out on the wall clock (CPU time is not affected).
- What other people leave readable in /usr/bin, /usr/lib and /usr/include can be read.

There is no weaker cage to fall back to: where this one can't be had, `sandbox_refusal` says what to install
or to allow, and problems of kind code are refused with it.
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
