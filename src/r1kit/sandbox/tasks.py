"""What a process forked by the driver does: become the program, or compile it. Runs in the cage.

It has given up everything of the driver's except its own pipes before it touches a line of the program.
Values are sent as JSON in which every container is a list that starts with its type. Standard library only,
Python 3.9 or newer.
"""

from __future__ import annotations

import ctypes
import json
import marshal
import os
import resource
import signal
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

WORK = "/tmp"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": WORK, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
# The descriptors at which a child finds the pipe for a call's value, and a compiled program.
VALUE_FD = 3
BINARY_FD = 4
_MAX_FD = 256
_STACK_BYTES = 64 * 2**20
_OPEN_FILES = 64
_ITERABLES = ("range", "dict_keys", "dict_values", "dict_items", "deque")
_MAX_DECIMAL_BITS = 10_000
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def set_dumpable(is_dumpable: bool) -> None:
    """Whether other processes of this user may inspect this one: its memory, its files, ptrace."""
    _libc.prctl(_PR_SET_DUMPABLE, int(is_dumpable), 0, 0, 0)


class Task:
    """The job of a forked process, and its limits. `run` is called in that process and never returns."""

    def __init__(
        self,
        run: ExecTask | CompileTask | PythonTask,
        *,
        limits: dict[str, Any],
        cpu_seconds: float,
        wall_seconds: float,
        processes: int,
        max_value: int,
        address_bytes: int | None,
    ) -> None:
        self.run = run
        self.limits = limits
        self.cpu_seconds = cpu_seconds
        self.wall_seconds = wall_seconds
        self.processes = processes
        self.max_value = max_value
        self.address_bytes = address_bytes


class Child(Exception):
    """Unwinds the driver's stack in a forked process, which then runs `then` with no driver frames below."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self.then = then


def become(task: Task, pipes: list[int]) -> None:
    """Turn a copy of the driver into a process that has nothing of it but the program's pipes."""
    os.setsid()
    stdin, stdout, stderr, value = pipes
    # first to numbers above all targets, so that no target is overwritten before it is moved
    high = [os.dup2(fd, 200 + i, inheritable=False) for i, fd in enumerate((stdin, stdout, stderr, value))]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target < VALUE_FD)
    os.closerange(BINARY_FD + 1, _MAX_FD)
    if not task.run.needs_binary:
        os.close(BINARY_FD)
    memory = task.limits["memory_mb"] << 20
    lower(resource.RLIMIT_AS, task.address_bytes or memory)
    lower(resource.RLIMIT_DATA, memory)
    lower(resource.RLIMIT_CPU, int(task.cpu_seconds) + 2)  # a backstop behind the driver's own count
    lower(resource.RLIMIT_FSIZE, task.limits["work_mb"] << 20)
    lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    # one, not zero: at 0 a kernel that pipes cores to a handler still does so, at 1 it does not
    lower(resource.RLIMIT_CORE, 1)
    lower(resource.RLIMIT_NPROC, task.processes + 1)  # the driver counts too
    lower(resource.RLIMIT_MEMLOCK, 0)
    lower(resource.RLIMIT_MSGQUEUE, 0)
    lower(resource.RLIMIT_STACK, _STACK_BYTES)
    set_dumpable(True)  # otherwise it can't open its own /dev/stdin
    os.chdir(WORK)


def lower(limit: int, value: int) -> None:
    """Set a limit permanently, or keep it if it is already lower."""
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


class ExecTask:
    """Replaces the process by another program."""

    def __init__(self, argv: list[str], *, needs_binary: bool = False) -> None:
        self.argv = argv
        self.needs_binary = needs_binary

    def __call__(self) -> None:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and exec would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.execve(BINARY_FD if self.needs_binary else self.argv[0], self.argv, ENVIRONMENT)


class CompileTask:
    """Compiles Python text to a code object, returned in marshalled form; a syntax error is a traceback."""

    needs_binary = False

    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self) -> None:
        code = marshal.dumps(compile(self.source, "program.py", "exec", dont_inherit=True))
        view = memoryview(code)
        while view:
            view = view[os.write(VALUE_FD, view) :]
        os._exit(0)


class PythonTask:
    """Runs a compiled Python program as `__main__`, or calls one of its functions."""

    needs_binary = False

    def __init__(self, code: bytes, call: dict[str, Any] | None) -> None:
        self.code = code
        self.call = call

    def __call__(self) -> None:
        code, call = marshal.loads(self.code), self.call
        if call is None:
            os.close(VALUE_FD)

        def then() -> None:
            module = types.ModuleType("__main__" if call is None else "solution")
            sys.modules[module.__name__] = module
            sys.argv = ["program.py"]
            module.__dict__["__file__"] = "program.py"
            if hasattr(sys, "set_int_max_str_digits"):  # many tests are older than this limit
                sys.set_int_max_str_digits(0)
            if call is not None:  # starter code writes `nums: List[int]` without an import
                module.__dict__.update({name: getattr(typing, name) for name in typing.__all__})
            exec(code, module.__dict__)
            if call is not None:
                return_value(module, call)

        raise Child(then)


def return_value(module: Any, call: dict[str, Any]) -> None:
    """Call the function and send its value. Raises whatever the program raises."""
    function = getattr(module, call["function"], None)
    # LeetCode's form: a method of class Solution
    if function is None and hasattr(module, "Solution"):
        function = getattr(module.Solution(), call["function"], None)
    if function is None:
        raise NameError(f"the program defines no function {call['function']!r}")
    arguments = [decode(value) for value in call["arguments"]]
    keywords = {name: decode(value) for name, value in call["keywords"].items()}
    view = memoryview(json.dumps(encode(function(*arguments, **keywords))).encode())
    while view:
        view = view[os.write(VALUE_FD, view) :]
    os._exit(0)


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if not isinstance(value, list):
        return value
    kind, items = value[0], value[1:]
    if kind == "int":
        return int(items[0], 16)
    if kind == "dict":
        return {decode(key): decode(item) for key, item in items}
    if kind == "complex":
        return complex(*items)
    if kind == "bytes":
        return items[0].encode("latin-1")
    makers: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return makers[kind](map(decode, items))


def encode(value: Any) -> Any:
    """Plain data as JSON in which containers start with their type."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # Python refuses to write longer ones in decimal
        return int(value) if value.bit_length() <= _MAX_DECIMAL_BITS else ["int", hex(value)]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).decode("latin-1")]
    if isinstance(value, dict):
        return ["dict", *([encode(key), encode(item)] for key, item in value.items())]
    for base in (list, tuple, frozenset, set):
        if isinstance(value, base):
            return [base.__name__, *map(encode, value)]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        return encode(value.item())
    if hasattr(value, "tolist"):  # an array
        return encode(value.tolist())
    if hasattr(value, "__next__") or type(value).__name__ in _ITERABLES:
        return ["iterator", *map(encode, value)]
    raise TypeError(f"a value of type {type(value).__name__} is not plain data")
