"""The cage: the bubblewrap command, the user it runs as, and what is visible of the machine inside.
A cage is found by trying (`find_cage`); if it is unavailable, a sentence says what to install or to allow.
RLIMIT_NPROC does not bind the machine's root, not even under another id inside bubblewrap. So root gives up
its id before bubblewrap starts, for one that nobody has.
"""

import itertools
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from r1kit.errors import UserError
from r1kit.sandbox.seccomp import ARCHITECTURES
from r1kit.sandbox.tasks import ENVIRONMENT, WORK

# systemd's range for services without a user of their own (DynamicUser): no files and no other processes.
_FIRST_UID, _NUM_UIDS = 61184, 4336
DRIVER_FOLDER = "/driver"
_DRIVER_MODULES = ("tasks", "watch", "driver")
_START = (
    f"import sys; sys.path.insert(0, {DRIVER_FOLDER!r})\n"
    "from r1kit.sandbox.driver import serve\n"
    "from r1kit.sandbox.tasks import Child\n"
    "then = None\n"
    "try:\n    serve()\nexcept Child as child:\n    then = child.then\n"
    "sys.path.remove(sys.path[0])\n"
    "then()\n"
)
# Only what programs and compilers need of the machine: no /etc, /home, /var, /usr/local, /sys.
_READ_ONLY = ("/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/include")
_READ_ONLY_IF_THERE = ("/usr/share/nodejs", "/etc/alternatives", "/etc/ld.so.cache")
_ROOT_LINKS = ("/bin", "/lib", "/lib32", "/lib64")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_INSTALLERS = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "pacman": "pacman -S",
    "zypper": "zypper install",
    "apk": "apk add",
}
# Packages whose name differs from that of the missing tool.
_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "g++": {"dnf": "gcc-c++", "zypper": "gcc-c++", "pacman": "gcc"},
    "node": dict.fromkeys(_INSTALLERS, "nodejs"),
}
# Each cage of this process gets another uid, because RLIMIT_NPROC counts per user.
_uids = itertools.count(os.getpid() * 61)


class SandboxUnavailable(UserError):
    """There is no cage on this machine; says what to install or to allow."""


@dataclass(frozen=True, slots=True)
class Cage:
    """How to start a driver on this machine. `tools`: the path of each language's program."""

    bwrap: str
    machine: str
    setpriv: str | None  # gives up root's id; None if not needed
    tools: Mapping[str, str]
    more_folders: tuple[str, ...] = ()
    sources: Mapping[str, bytes] = field(default_factory=dict)  # the driver's modules, by path inside

    def command(self, *, work_mb: int, source_fds: Mapping[str, int], seccomp_fd: int) -> list[str]:
        """The command that starts a driver; it reads its modules and the filter from these descriptors."""
        command = []
        if self.setpriv is not None:
            # not subprocess's `user`: that forks with a copy of this process, which may hold a large model
            uid = str(_FIRST_UID + next(_uids) % _NUM_UIDS)
            command = [self.setpriv, "--reuid", uid, "--regid", uid, "--clear-groups", "--"]
        command += [self.bwrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net"]
        command += ["--unshare-uts", "--unshare-cgroup", "--hostname", "sandbox", "--as-pid-1"]
        command += ["--uid", "1000", "--gid", "1000"]
        command += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        for folder in (*_READ_ONLY, *_READ_ONLY_IF_THERE, *self.more_folders):
            command += ["--ro-bind-try", folder, folder]
        for link in map(Path, _ROOT_LINKS):
            if link.is_symlink():
                command += ["--symlink", os.readlink(link), str(link)]
            elif link.is_dir():
                command += ["--ro-bind", str(link), str(link)]
        command += ["--proc", "/proc"]
        for device in _DEVICES:
            command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            command += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
        command += ["--symlink", "/proc/self/fd", "/dev/fd"]
        for path, fd in source_fds.items():
            command += ["--ro-bind-data", str(fd), path]
        # the root can become read-only only when all mount points exist
        command += ["--size", str(work_mb << 20), "--tmpfs", WORK, "--remount-ro", "/", "--chdir", WORK]
        command += ["--seccomp", str(seccomp_fd)]
        return [*command, self.tools["python"], "-s", "-B", "-c", _START]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the driver, and of every program."""
        return dict(ENVIRONMENT)


def make_cages() -> list[Cage]:
    """The cages that may work here, untried. Raises `SandboxUnavailable` if something is missing."""
    if sys.platform != "linux":
        raise SandboxUnavailable("problems of kind code run untrusted programs, which is done on Linux only.")
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise SandboxUnavailable(
            f"problems of kind code run untrusted programs, and the sandbox does not know the system calls "
            f"of {machine}; it knows {', '.join(ARCHITECTURES)}."
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable(
            f"problems of kind code run untrusted programs and need bubblewrap: "
            f"{install_command('bubblewrap')}"
        )
    tools, folders = _find_tools()
    here = Path(__file__).parent
    sources = {
        f"{DRIVER_FOLDER}/r1kit/sandbox/{name}.py": (here / f"{name}.py").read_bytes()
        for name in _DRIVER_MODULES
    }
    # in this order: a root inside a user namespace is limited without giving up its id
    ways = (shutil.which("setpriv"), None) if os.geteuid() == 0 else (None,)
    return [Cage(bwrap, machine, way, tools, folders, sources) for way in dict.fromkeys(ways)]


def _find_tools() -> tuple[dict[str, str], tuple[str, ...]]:
    """Each language's program as it is called inside, and the extra folders that must be visible for it."""
    tools: dict[str, str] = {}
    folders: list[str] = []
    if Path("/usr/bin/python3").exists():
        tools["python"] = "/usr/bin/python3"
    else:  # no system Python: use r1kit's own, without its installed packages
        prefix = Path(sys.base_prefix)
        tools["python"] = str(prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
        folders += [str(prefix / "bin"), str(prefix / "lib")]
    for language, name in (("cpp", "g++"), ("javascript", "node")):
        found = shutil.which(name, path="/usr/bin:/usr/local/bin")
        if found is not None:
            tools[language] = found
            if found.startswith("/usr/local"):
                folders.append(os.path.realpath(found))
                tools[language] = os.path.realpath(found)
    return tools, tuple(folders)


def install_command(missing: str) -> str:
    """The command that installs what is missing, with this machine's package manager."""
    tool = next((tool for tool in _INSTALLERS if shutil.which(tool)), "apt-get")
    return f"{_INSTALLERS[tool]} {_PACKAGES.get(missing, {}).get(tool, missing)}"


def what_to_allow(message: str) -> str:
    """What would fix bubblewrap's complaint on this machine, as it is configured."""
    # the settings of Ubuntu, Debian and any distribution, from the most specific to the least
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("user/max_user_namespaces") == "0":
        return "allow user namespaces: sysctl -w user.max_user_namespaces=15000"
    if "setpriv" in message:
        return "run as an ordinary user, or with the right to give up root's id (CAP_SETUID, CAP_SETGID)"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined"
        )
    return "allow user namespaces to ordinary users on this machine (docs/sandbox.md)"


def _setting(name: str) -> str | None:
    path = Path("/proc/sys") / name
    return path.read_text(encoding="ascii").strip() if path.exists() else None
