"""Ranks as processes: one ends badly, all end; what the user can mend is said once; stopping is passed on."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from r1kit.errors import UserError
from r1kit.ranks import collectives, launch


def ranks(monkeypatch, script, num_ranks=2):
    """Run a script as the ranks; `rank` is its number in it."""
    head = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
    monkeypatch.setattr(launch, "_COMMAND", (sys.executable, "-c", head + textwrap.dedent(script)))
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 3.0)
    return launch.run_ranks(num_ranks, ["run", "recipe.toml"])


def test_ranks_know_their_number_and_the_first_has_the_terminal(monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = ranks(
        monkeypatch,
        f"""
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
        with open({str(tmp_path)!r} + f"/{{rank}}", "w") as file:
            print(*[os.environ[name] for name in names], sys.argv[1:], file=file)
        print("hello from", rank)
        """,
        num_ranks=3,
    )
    assert code == 0
    assert capfd.readouterr().out == "hello from 0\n"
    threads = launch.threads_per_rank(3)
    for rank in range(3):
        said = (tmp_path / str(rank)).read_text()
        assert said == f"{rank} {rank} 3 3 {threads} ['run', 'recipe.toml']\n"


def test_cores_are_shared_evenly(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)
    assert [launch.threads_per_rank(num) for num in (1, 2, 4, 9)] == [5, 2, 1, 1]


@pytest.mark.parametrize("where", ["rank == 0", "rank == 1", "True"])
def test_an_error_of_the_users_is_printed_once_and_ends_all(monkeypatch, capfd, where):
    start = time.monotonic()
    script = f"""
    if {where}:
        print("recipe.toml:3: no such stage", file=sys.stderr)
        sys.exit(2)
    time.sleep(60)
    """
    assert ranks(monkeypatch, script) == 2
    assert capfd.readouterr().err == "recipe.toml:3: no such stage\n"
    assert time.monotonic() - start < 30


def test_the_echo_of_another_ranks_death_does_not_hide_its_error(monkeypatch, capfd):
    script = """
    if rank == 0:
        sys.exit("RuntimeError: Connection closed by peer")
    time.sleep(0.5)
    print("lower the learning rate", file=sys.stderr)
    sys.exit(2)
    """
    assert ranks(monkeypatch, script) == 2
    assert capfd.readouterr().err == "lower the learning rate\n"


def test_a_killed_rank_ends_the_others_and_is_named(monkeypatch, tmp_path):
    script = f"""
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    """
    with pytest.raises(UserError, match=r"process 2 of the run was killed by signal 9 \(SIGKILL"):
        ranks(monkeypatch, script)
    pid = tmp_path / "pid"
    if pid.is_file() and pid.read_text():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_ctrl_c_goes_to_the_first_rank_which_says_where_it_stopped(monkeypatch, tmp_path, capfd):
    ready = tmp_path / "ready"
    script = f"""
    try:
        if rank == 0:
            open({str(ready)!r}, "w").close()  # what interrupts a destructor is lost
        time.sleep(60)
    except KeyboardInterrupt:
        print(f"stopped rank {{rank}}", file=sys.stderr)
        sys.exit(130)
    """

    before = signal.getsignal(signal.SIGINT)

    def stop():
        # the first rank runs before the second is started and signals are passed on
        while not ready.exists() or signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    assert ranks(monkeypatch, script) == 130
    assert capfd.readouterr().err == "stopped rank 0\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_before_the_run_began_is_no_crash(monkeypatch, tmp_path, capfd, number):
    ready = tmp_path / "ready"
    script = f"""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if rank == 0:
        open({str(ready)!r}, "w").close()
    time.sleep(60)
    """

    def stop():
        _wait_until(ready.exists)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    assert ranks(monkeypatch, script) == 130
    assert capfd.readouterr().err.startswith("Stopped. Nothing finished is lost")


def test_ranks_end_when_their_launcher_is_killed(tmp_path):
    child = "import os, sys, time; from r1kit.ranks import launch; launch.end_with_launcher(); "
    child += (
        f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').write(str(os.getpid())); time.sleep(60)"
    )
    script = (
        f"import sys; from r1kit.ranks import launch; launch._COMMAND = (sys.executable, '-c', {child!r}); "
    )
    with subprocess.Popen([sys.executable, "-c", script + "launch.run_ranks(2, [])"]) as launcher:
        pids = [int(_text_of(tmp_path / name)) for name in "01"]
        launcher.kill()
    for pid in pids:
        _wait_until(lambda pid=pid: not _is_alive(pid))


def test_the_store_has_one_name():
    assert launch._STORE == collectives.STORE


def _text_of(path: Path) -> str:
    _wait_until(lambda: path.is_file() and path.read_text())
    return path.read_text()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a dead one whose new parent does not reap it
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def _wait_until(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
