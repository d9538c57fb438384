"""Every attack is contained, its end is the one that is meant, and the run after it is an honest one."""

import contextlib
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1kit.data.limits import CodeLimits
from r1kit.sandbox import Outcome, Program, ProgramTests, SandboxPool, Stdin
from tests.sandbox.attacks import ATTACKS

pytestmark = pytest.mark.sandbox

# The wall clock is for those that sleep; a busy machine must not end the others by it.
LIMITS = CodeLimits(
    cpu_seconds=5, wall_seconds=300, memory_mb=256, work_mb=8, files=2000, output_kb=256, processes=16
)


def limits_for(endings: tuple[str, ...]) -> CodeLimits:
    """Short where it is meant to be stopped by them, so that a test does not take long."""
    if endings == ("wall",):
        return LIMITS.model_copy(update={"wall_seconds": 3.0})
    return LIMITS.model_copy(update={"cpu_seconds": 0.3}) if "cpu" in endings else LIMITS


NUMBERS = {
    "x86_64": dict(
        KEYCTL=250, REQUEST_KEY=249, SHMGET=29, MSGGET=68, CLONE=56, BPF=321, USERFAULTFD=323, PERF=298
    ),
    "aarch64": dict(
        KEYCTL=219, REQUEST_KEY=218, SHMGET=194, MSGGET=186, CLONE=220, BPF=280, USERFAULTFD=282, PERF=241
    ),
}


def run(source: str, *inputs: str, limits: CodeLimits = LIMITS) -> tuple[Outcome, ...]:
    job = ProgramTests(
        Program(source, "python"),
        [Stdin(text) for text in inputs],
        lambda i, o: True,
        limits,
        stop_early=False,
    )
    [result] = SandboxPool(num_workers=1).run([job])
    assert result is not None
    assert result.compiled.is_clean, result.compiled
    return result.outcomes


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = ATTACKS[name]
    monkeypatch.setenv("R1KIT_TEST_SECRET", "EXPECTED-OUTPUT")
    tmp_path.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("EXPECTED-OUTPUT")
    secret.chmod(0o644)
    abstract = f"r1kit-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as by_path,
        socket.socket(socket.AF_UNIX) as by_name,
        host_process() as victim,
    ):
        by_path.bind(str(tmp_path / "socket"))
        by_name.bind("\0" + abstract)
        by_path.listen()
        by_name.listen()
        values = {
            "HOST_PORT": server.getsockname()[1],
            "HOST_SOCKET": str(tmp_path / "socket"),
            "HOST_ABSTRACT_SOCKET": "\0" + abstract,
            "HOST_PID": victim.pid,
            "HOST_PARENT": os.getpid(),
            "SECRET_FILE": str(secret),
            "MARKER": f"daemon-{abstract}",
        } | NUMBERS[platform.machine()]
        source = "".join(f"{key} = {value!r}\n" for key, value in values.items() if key != "MARKER")
        source += attack.source.replace("MARKER", str(values["MARKER"]))
        attacked, checked = run(source, "attack", "check", limits=limits_for(attack.endings))
        assert attacked.ending in attack.endings, attacked
        assert attacked.code == attack.code, attacked
        assert attack.stdout is None or attacked.stdout == attack.stdout, attacked
        assert (checked.ending, checked.code, checked.stdout) == ("exit", 0, b"ok\n"), checked
        assert victim.poll() is None
        assert secret.read_text() == "EXPECTED-OUTPUT"
        assert not list(Path.cwd().glob("core*"))
    assert not processes_of(str(values["MARKER"]))


@contextlib.contextmanager
def host_process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of ours that nobody in a cage may end."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_of(marker: str) -> list[str]:
    """The host's processes that have this in their command line, once those that are dying are dead."""
    found: list[str] = []
    for _ in range(50):
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if marker.encode() in path.read_bytes():
                    found.append(str(path))
            except (FileNotFoundError, ProcessLookupError):
                continue
        if not found:
            break
        time.sleep(0.1)
    return found


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 25


def test_each_run_has_an_empty_work_folder_and_its_own_input_alone() -> None:
    source = (
        "import os, sys\n"
        "print(sorted(os.listdir('/tmp')), sys.stdin.read(), os.getcwd())\n"
        "open('left', 'w').write('x'); os.mkdir('folder')\n"
    )
    first, second = run(source, "one", "two")
    assert (first.stdout, second.stdout) == (b"[] one /tmp\n", b"[] two /tmp\n")


def test_a_program_can_not_take_the_driver_down_to_have_no_verdict() -> None:
    # all that it can reach of pid 1, at once and from many processes
    source = (
        "import os, signal\n"
        "for _ in range(4): os.fork()\n"
        "while True:\n"
        "    for number in (2, 9, 15, 19):\n"
        "        os.kill(1, number)\n"
    )
    [outcome] = run(source, "", limits=limits_for(("cpu",)))
    assert outcome.ending in ("cpu", "wall")


def test_a_compiler_is_caged_and_limited_too() -> None:
    nested = "x = " + "(" * 100_000 + ")" * 100_000
    [result] = SandboxPool(num_workers=1).run(
        [ProgramTests(Program(nested, "python"), [Stdin("")], lambda i, o: True, LIMITS)]
    )
    assert result is not None
    assert not result.compiled.is_clean
    assert result.outcomes == ()
