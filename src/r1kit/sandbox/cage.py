"""The cage's walls: the bubblewrap command, whom it runs as, and what of the machine is seen inside.

A cage is found by trying (`find_cage`): what can't be had here is a sentence that says what to install or
to allow. RLIMIT_NPROC does not bind the machine's root, not even under another id inside bubblewrap; so root
gives up its id before bubblewrap starts, for one that nobody has.
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

# systemd's range for services without a user of their own (DynamicUser): nobody's files, nobody's processes.
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
# Of the machine, what programs and compilers need, and no more: no /etc, /home, /var, /usr/local, /sys.
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
# Packages that have another name than what is missing.
_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "g++": {"dnf": "gcc-c++", "zypper": "gcc-c++", "pacman": "gcc"},
    "node": dict.fromkeys(_INSTALLERS, "nodejs"),
}
_uids = itertools.count(os.getpid() * 61)


class SandboxUnavailable(UserError):
    """There is no cage on this machine: what to install, or what to allow."""


@dataclass(frozen=True, slots=True)
class Cage:
    """How to start a driver on this machine. `tools` are the languages' programs, by language."""

    bwrap: str
    machine: str
    setpriv: str | None  # gives up root's id; None where there is no need
    tools: Mapping[str, str]
    more_folders: tuple[str, ...] = ()
    sources: Mapping[str, bytes] = field(default_factory=dict)  # of the driver, by path inside

    def command(self, *, work_mb: int, source_fds: Mapping[str, int], seccomp_fd: int) -> list[str]:
        """The command that starts a driver; its modules and the filter are read from these files."""
        command = []
        if self.setpriv is not None:
            # not by subprocess's own `user`: it then copies this process, which may hold a whole model
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
        command += ["--size", str(work_mb << 20), "--tmpfs", WORK, "--remount-ro", "/", "--chdir", WORK]
        command += ["--seccomp", str(seccomp_fd)]
        return [*command, self.tools["python"], "-s", "-B", "-c", _START]

    @property
    def environment(self) -> dict[str, str]:
        """All that the driver has of an environment, and all that a program has."""
        return dict(ENVIRONMENT)


def make_cages() -> list[Cage]:
    """The cages that may work here, untried. Raises `SandboxUnavailable` where something is missing."""
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
    # tried in this order: a root that is none of the machine's (in a user namespace) is bounded as it is
    ways = (shutil.which("setpriv"), None) if os.geteuid() == 0 else (None,)
    return [Cage(bwrap, machine, way, tools, folders, sources) for way in dict.fromkeys(ways)]


def _find_tools() -> tuple[dict[str, str], tuple[str, ...]]:
    """The languages' programs as they are called inside, and what else must be seen for them."""
    tools: dict[str, str] = {}
    folders: list[str] = []
    if Path("/usr/bin/python3").exists():
        tools["python"] = "/usr/bin/python3"
    else:  # no python of the system's: the one that r1kit runs on, with nothing that was installed for it
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
    """The one command that installs what is missing, for this machine's package manager."""
    tool = next((tool for tool in _INSTALLERS if shutil.which(tool)), "apt-get")
    return f"{_INSTALLERS[tool]} {_PACKAGES.get(missing, {}).get(tool, missing)}"


def what_to_allow(message: str) -> str:
    """From what bubblewrap complains of to what would allow it, on this machine as it is set up."""
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
