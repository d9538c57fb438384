"""What needs no cage: the command, the refusals, the filter, and reading what a program returned."""

import errno
import json
import re
import shutil
import struct
from pathlib import Path

import pytest

from r1kit.errors import UserError
from r1kit.sandbox import NotPlainData, SandboxUnavailable, cage, decode_value, encode_value, pool
from r1kit.sandbox.cage import make_cages, what_to_allow
from r1kit.sandbox.seccomp import seccomp_filter
from r1kit.verify.code import grade_programs, verify_code_problem
from tests.making import make_problem

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED, NOT_THERE = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def verdict(machine: str, architecture: int, number: int, first_argument: int = 0) -> int:
    """What the kernel would do: the filter run as the machine that it is written for."""
    data = struct.pack("<IIQQ", number, architecture, 0, first_argument)
    program = list(struct.iter_unpack("<HBBI", seccomp_filter(machine)))
    loaded, at = 0, 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = struct.unpack_from("<I", data, value)[0]
            continue
        is_true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += if_true if is_true else if_false


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64", "argument", "expected"),
    [
        ("read", 0, 63, 3, ALLOWED),
        ("execve", 59, 221, 3, ALLOWED),
        ("mount", 165, 40, 0, REFUSED),
        ("ptrace", 101, 117, 0, REFUSED),
        ("memfd_create", 319, 279, 0, REFUSED),
        ("clone3", 435, 435, 0, NOT_THERE),
        ("clone, a process", 56, 220, 17, ALLOWED),
        ("clone, a thread", 56, 220, 0x3D0F00, ALLOWED),
        ("clone, a user namespace", 56, 220, 0x10000011, REFUSED),
        ("clone, a mount namespace", 56, 220, 0x20011, REFUSED),
        ("socket, unix", 41, 198, 1, ALLOWED),
        ("socket, internet", 41, 198, 2, REFUSED),
        ("socket, vsock", 41, 198, 40, REFUSED),
        ("prlimit, its own", 302, 261, 0, ALLOWED),
        ("prlimit, the driver's", 302, 261, 1, REFUSED),
    ],
)
def test_the_filter_refuses_what_it_should(
    name: str, x86_64: int, aarch64: int, argument: int, expected: int
) -> None:
    assert verdict("x86_64", X86_64, x86_64, argument) == expected
    assert verdict("aarch64", AARCH64, aarch64, argument) == expected


def test_calls_of_another_architecture_end_the_process() -> None:
    assert verdict("x86_64", I386, 0) == KILLED
    assert verdict("x86_64", X86_64, 0x40000000) == KILLED


def test_without_bubblewrap_the_sentence_is_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **more: "/usr/bin/dnf" if name == "dnf" else None)
    with pytest.raises(SandboxUnavailable, match=r"need bubblewrap: dnf install bubblewrap$"):
        make_cages()
    monkeypatch.setattr(shutil, "which", lambda name, **more: None)
    with pytest.raises(SandboxUnavailable, match=r"need bubblewrap: apt-get install bubblewrap$"):
        make_cages()


@pytest.mark.parametrize(
    ("manager", "language", "command"),
    [
        ("apt-get", "cpp", "g++ in /usr/bin or /usr/local/bin: apt-get install g++"),
        ("apt-get", "javascript", "node in /usr/bin or /usr/local/bin: apt-get install nodejs"),
        ("dnf", "cpp", "g++ in /usr/bin or /usr/local/bin: dnf install gcc-c++"),
        ("pacman", "cpp", "g++ in /usr/bin or /usr/local/bin: pacman -S gcc"),
        ("apk", "javascript", "node in /usr/bin or /usr/local/bin: apk add nodejs"),
    ],
)
def test_without_a_languages_tools_the_sentence_is_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, manager: str, language: str, command: str
) -> None:
    """From the problem's self-test, which is what a user sees first."""
    bare = cage.Cage("/usr/bin/bwrap", "x86_64", None, {"python": "/usr/bin/python3"})
    monkeypatch.setattr(pool, "find_cage", lambda: bare)
    monkeypatch.setattr(shutil, "which", lambda name, **more: name if name == manager else None)
    tests = ({"type": "stdin", "input": "1", "output": "1"},)
    problem = make_problem("code", None, tests=tests, programming_language=language)
    assert verify_code_problem(problem) == f"problems in {language} need {command}"
    python = make_problem("code", None, tests=tests)
    assert verify_code_problem(python) is None
    with pytest.raises(UserError, match=re.escape(command)):
        grade_programs([(problem, "int main() {}")])


def test_a_machine_whose_system_calls_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cage.platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64; it knows x86_64, aarch64"):
        make_cages()


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_what_forbids_user_namespaces_is_named(
    setting: str, value: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cage, "_setting", {setting: value}.get)
    assert what_to_allow("bwrap: setting up uid map: Permission denied").endswith(advice)


@pytest.mark.sandbox
def test_a_bubblewrap_that_does_not_work_is_no_cage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    for folder in (broken, tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    real = shutil.which
    found = {"bwrap": str(broken)}
    monkeypatch.setattr(shutil, "which", lambda name, **more: found.get(name) or real(name, **more))
    pool._find_cage.cache_clear()
    try:
        assert "can't cage them here (bwrap: No permissions" in str(pool.sandbox_refusal())
    finally:
        pool._find_cage.cache_clear()


@pytest.mark.parametrize(
    "value", [None, True, 10**40, 1.5, "é", 2j, b"\xff", [1, (2,)], {(1, 2): {3}}, frozenset("a"), [], {}, ()]
)
def test_plain_values_survive_the_way(value: object) -> None:
    assert decode_value(json.dumps(encode_value(value)).encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'["set", ["list"]]', b'["bytes", 1]', b'["evil"]', b'[["list"]]', b"\xff"),
        *(b'["complex", "x"]', b"[" * 100_000, b'["dict", 1]', b"1" * 10_000),
        b'["set"' + b", 1" * 30_000 + b"]",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_value_is_refused(data: bytes) -> None:
    with pytest.raises(NotPlainData):
        decode_value(data)


def test_what_is_no_plain_data_is_not_sent() -> None:
    with pytest.raises(NotPlainData, match="a object"):
        encode_value([object()])
