"""Programs that try to get out, to lie or to do harm. What each prints, and how it must end.

A program gets "attack" on its stdin, and then, in a run of its own, "check"; it prints `held` where
everything that it tried was refused. Where it must not come to an end by itself, the limit is named.
"""

from dataclasses import dataclass

TRY = """
import ctypes, os, signal, socket, stat, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
mode = sys.stdin.read()
got_out = []
def tries(name, function, *arguments):
    try:
        result = function(*arguments)
    except (OSError, ValueError, AttributeError) as error:
        return
    got_out.append((name, str(result)[:80]))
def syscall(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) != -1:
        got_out.append(name)
def raw(name, number, *arguments):
    if libc.syscall(number, *arguments) != -1:
        got_out.append(name)
def read(path):
    with open(path, "rb") as file:
        return file.read(100)
def write(path, data=b"x"):
    with open(path, "wb") as file:
        file.write(data)
def finish():
    print("held" if not got_out else got_out)
"""


@dataclass(frozen=True)
class Attack:
    """A program, and how its attack must end; `endings` are limits, of which one has to stop it."""

    source: str
    endings: tuple[str, ...] = ("exit",)
    code: int = 0
    stdout: bytes | None = b"held\n"


def attack(body: str, *endings: str, code: int = 0, stdout: bytes | None = b"held\n") -> Attack:
    check = 'if mode == "check":\n    print("ok")\n    sys.exit()\n'
    body = body.strip("\n")
    if endings:
        return Attack(TRY + check + body, endings, -9, None)
    return Attack(TRY + check + body + "\nfinish()\n", ("exit",), code, stdout)


ATTACKS: dict[str, Attack] = {
    # The network.
    "TCP to the world": attack(
        """
tries("tcp", socket.create_connection, ("1.1.1.1", 80), 2)
""",
    ),
    "TCP to the host": attack(
        """
tries("tcp", socket.create_connection, ("127.0.0.1", HOST_PORT), 2)
""",
    ),
    "UDP": attack(
        """
tries("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53)))
""",
    ),
    "DNS": attack(
        """
tries("dns", socket.gethostbyname, "example.com")
""",
    ),
    "raw and other sockets": attack(
        """
for family in (2, 10, 16, 17, 38, 40, 44):
    for kind in (1, 2, 3): tries((family, kind), socket.socket, family, kind)
""",
    ),
    "a unix socket of the host's": attack(
        """
for name in (HOST_SOCKET, HOST_ABSTRACT_SOCKET):
    tries(name, lambda: socket.socket(socket.AF_UNIX).connect(name))
""",
    ),
    # The user's files and environment.
    "the user's files": attack(
        """
for path in (SECRET_FILE, "/home", "/root", "/var", "/mnt", "/proc/1/root/etc", "/usr/local/bin"):
    tries(path, os.listdir if os.path.isdir(path) else read, path)
known = {"usr", "bin", "lib", "lib32", "lib64", "etc", "proc", "dev", "tmp", "driver"}
if set(os.listdir("/")) - known: got_out.append(os.listdir("/"))
""",
    ),
    "accounts and keys": attack(
        """
for path in ("/etc/shadow", "/etc/passwd", "/etc/hosts", "/etc/ssl/private", "/run/secrets", "/.dockerenv"):
    tries(path, read, path)
allowed = {"alternatives", "ld.so.cache"}
if os.path.isdir("/etc") and set(os.listdir("/etc")) - allowed: got_out.append(os.listdir("/etc"))
""",
    ),
    "the environment": attack(
        """
names = set(os.environ) - {"PATH", "HOME", "LANG", "PYTHONHASHSEED", "LC_CTYPE", "PWD"}
if names: got_out.append(names)
tries("environ", read, "/proc/1/environ")
""",
    ),
    "the kernel's keyring": attack(
        """
raw("keyctl", KEYCTL, 0, -3, 0)
raw("request_key", REQUEST_KEY, b"user", b"x", 0, 0)
""",
    ),
    "writing outside": attack(
        """
for folder in ("/", "/usr", "/usr/bin", "/bin", "/dev", "/driver", "/driver/r1kit", "/proc", "/proc/self"):
    tries(folder, write, folder + "/x")
tries("mkdir", os.mkdir, "/dev/shm")
tries("unlink", os.unlink, "/driver/r1kit/sandbox/driver.py")
tries("append", lambda: open("/usr/bin/env", "ab"))
tries("chmod", os.chmod, "/usr/bin/env", 0o777)
""",
    ),
    # Using the machine up.
    "a fork bomb": attack(
        """
while True:
    try: os.fork()
    except OSError: pass
""",
        "cpu",
        "wall",
    ),
    "a thread bomb": attack(
        """
n = 0
try:
    while n < 500:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        n += 1
except RuntimeError: pass
if n > 40: got_out.append(n)
finish()
sys.stdout.flush()
os._exit(0)
""",
    ),
    "a memory bomb": attack(
        """
blocks = []
try:
    while True: blocks.append(bytearray(16 << 20))
except MemoryError: count = len(blocks); blocks = []
if count > 20: got_out.append(count)
""",
    ),
    "a memory bomb of many processes": attack(
        """
for _ in range(6):
    if os.fork() == 0: break
block = bytearray(100 << 20)
for i in range(0, len(block), 4096): block[i] = 1
time.sleep(60)
""",
        "memory",
    ),
    "memory that no limit counts": attack(
        """
tries("memfd", os.memfd_create, "x")
raw("shmget", SHMGET, 0, 1 << 30, 0o1600)
raw("msgget", MSGGET, 0, 0o1600)
raw("memfd_secret", 447, 0)
raw("io_uring", 425, 8, 0)
""",
    ),
    "locked memory and message queues": attack(
        """
syscall("mlockall", 3)
if libc.mq_open(b"/x", os.O_RDWR | os.O_CREAT, 0o600, None) != -1: got_out.append("mq")
""",
    ),
    "a disk bomb": attack(
        """
written = 0
for i in range(100):
    try:
        with open(f"/tmp/{i}", "wb", buffering=0) as file:
            while True: written += file.write(bytes(1 << 20))
    except OSError: pass
if written > 9 << 20: got_out.append(written)
""",
    ),
    "an inode bomb": attack(
        """
i = 0
while True:
    i += 1
    os.close(os.open(f"/tmp/{i}", os.O_CREAT | os.O_WRONLY))
""",
        "files",
    ),
    "an output bomb": attack(
        """
while True: print("x" * 65536)
""",
        "output",
    ),
    "an output bomb on stderr": attack(
        """
while True: sys.stderr.write("x" * 65536)
""",
        "output",
    ),
    "an output bomb on every pipe": attack(
        """
while True:
    for fd in range(1, 9):
        try: os.write(fd, bytes(65536))
        except OSError: pass
""",
        "output",
    ),
    "an infinite loop": attack(
        """
while True: pass
""",
        "cpu",
    ),
    "a loop in C": attack(
        """
sum(iter(int, 1))
""",
        "cpu",
    ),
    "sleeping for ever": attack(
        """
time.sleep(10**6)
""",
        "wall",
    ),
    "deaf to signals": attack(
        """
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    time.sleep(1)
""",
        "wall",
    ),
    "stdout closed, and on": attack(
        """
os.close(1)
os.close(2)
while True: time.sleep(1)
""",
        "wall",
    ),
    # Other processes.
    "a daemon that outlives the run": attack(
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/usr/bin/sleep", ["MARKER", "600"])
    os._exit(0)
os.wait()
""",
    ),
    "a daemon that holds the pipes": attack(
        """
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
    print("late")
    os._exit(0)
""",
    ),
    "killing the host's processes": attack(
        """
for pid in (HOST_PID, HOST_PARENT, 2 ** 22 - 1):
    tries(pid, os.kill, pid, 9)
try: os.kill(-1, 9)
except ProcessLookupError: pass
""",
    ),
    "seeing other processes": attack(
        """
pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
if pids - {1, os.getpid()}: got_out.append(pids)
""",
    ),
    "signals to the driver": attack(
        """
for _ in range(3):
    for number in range(1, 65):
        try: os.kill(1, number)
        except OSError: pass
handle = os.pidfd_open(1)
signal.pidfd_send_signal(handle, 9)
""",
    ),
    "ptrace of the driver": attack(
        """
syscall("ptrace", 16, 1, 0, 0)
syscall("ptrace", 0x4206, 1, 0, 0)
tries("mem", read, "/proc/1/mem")
tries("maps", read, "/proc/1/maps")
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
syscall("process_vm_readv", 1, vector, 1, vector, 1, 0)
raw("pidfd_getfd", 438, os.pidfd_open(1), 101, 0)
""",
    ),
    "limits and priority of the driver": attack(
        """
import resource
for limit in ("CPU", "AS", "NOFILE", "NPROC", "FSIZE"):
    tries(limit, resource.prlimit, 1, getattr(resource, "RLIMIT_" + limit), (0, 0))
tries("nice", os.setpriority, os.PRIO_PROCESS, 1, 19)
tries("nice all", os.setpriority, os.PRIO_USER, 0, 19)
tries("affinity", os.sched_setaffinity, 1, {0})
tries("scheduler", os.sched_setscheduler, 1, 5, os.sched_param(0))
tries("oom", write, "/proc/1/oom_score_adj", b"1000")
""",
    ),
    "the driver's files": attack(
        """
for fd in range(0, 110):
    tries(fd, write, f"/proc/1/fd/{fd}")
tries("fds", os.listdir, "/proc/1/fd")
tries("cwd", os.listdir, "/proc/1/cwd")
""",
    ),
    # /proc, /sys, devices.
    "proc and sys": attack(
        """
for name in ("sys/kernel/core_pattern", "sys/kernel/hostname", "sys/vm/overcommit_memory", "sysrq-trigger",
             "self/oom_score_adj", "self/uid_map", "sys/user/max_user_namespaces"):
    tries(name, write, "/proc/" + name, b"-999")
for path in ("/sys", "/sys/fs/cgroup", "/sys/firmware", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/sda",
             "/dev/vda", "/dev/pts", "/dev/tty", "/dev/shm"):
    tries(path, os.listdir if os.path.isdir(path) else read, path)
tries("mknod", os.mknod, "/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))
""",
    ),
    # Rights.
    "becoming root": attack(
        """
tries("setuid", os.setuid, 0)
tries("setgid", os.setgid, 0)
tries("groups", os.setgroups, [0])
status = read("/proc/self/status")
for line in open("/proc/self/status"):
    if line.startswith("Cap") and int(line.split()[1], 16): got_out.append(line)
    if line.startswith("NoNewPrivs") and line.split()[1] != "1": got_out.append(line)
""",
    ),
    "programs that are setuid": attack(
        """
for command in ("su -c id", "mount -t tmpfs x /tmp", "newgrp", "passwd -S root", "chsh -s /bin/sh"):
    name, *words = command.split()
    try:
        done = subprocess.run(["/usr/bin/" + name, *words], capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        continue
    if done.returncode == 0: got_out.append((command, done))
write("/tmp/own")
tries("root's own", os.chown, "/tmp/own", 0, 0)
""",
    ),
    "mounts and namespaces": attack(
        """
syscall("unshare", 0x10000000)
syscall("unshare", 0x20000)
syscall("unshare", 0x40000000)
syscall("mount", b"x", b"/tmp", b"tmpfs", 0, None)
syscall("umount2", b"/proc", 2)
tries("chroot", os.chroot, "/tmp")
syscall("setns", os.open("/proc/self/ns/net", 0), 0)
raw("clone", CLONE, 0x10000000 | 17, 0, 0, 0, 0)
raw("clone3", 435, 0, 0)
raw("fsopen", 430, b"tmpfs", 0)
raw("open_tree", 428, -100, b"/", 1)
raw("bpf", BPF, 0, 0, 0)
raw("userfaultfd", USERFAULTFD, 0)
raw("perf", PERF, 0, 0, -1, -1, 0)
""",
    ),
    "a core dump": attack(
        """
os.abort()
""",
        code=-6,
        stdout=b"",
    ),
    "recursion": attack(
        """
def f(): return f()
try: f()
except RecursionError: pass
""",
    ),
    # as a program does that recurses in C past the end of its stack
    "a segmentation fault": attack(
        """
os.kill(os.getpid(), signal.SIGSEGV)
""",
        code=-11,
        stdout=b"",
    ),
    # The work folder.
    "links and rights in the work folder": attack(
        """
os.symlink("/", "/tmp/root")
os.symlink("/proc/1/root", "/tmp/p")
os.symlink("x", "/tmp/x")
os.symlink("/dev/zero", "/tmp/program.js")
os.makedirs("/tmp/a/b/c")
os.symlink("..", "/tmp/a/up")
os.mkfifo("/tmp/a/fifo")
write("/tmp/a/b/file")
os.chmod("/tmp/a/b/c", 0)
os.chmod("/tmp/a/b", 0)
os.chmod("/tmp/a", 0)
os.chmod("/tmp", 0)
""",
    ),
    "a folder too deep": attack(
        """
for _ in range(1500):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
""",
    ),
    "a race in the work folder": attack(
        """
if os.fork() == 0:
    for _ in range(8): os.fork()
    while True:
        try: os.mkdir("/tmp/d"); os.rename("/tmp/d", "/tmp/e"); os.symlink("/", "/tmp/d"); os.unlink("/tmp/d")
        except OSError: pass
time.sleep(0.2)
""",
    ),
    "modules that the driver would import": attack(
        """
for name in ("os", "json", "encodings", "r1kit", "sitecustomize", "ctypes"):
    write(f"/tmp/{name}.py", b"raise SystemExit(3)")
""",
    ),
    # Lying about the result.
    "forged replies": attack(
        r"""
import struct, json
head = json.dumps({"ending": "exit", "code": 0, "sizes": [3, 0, 0]}).encode()
frame = struct.pack(">I", len(head)) + head + b"ok\n"
for fd in range(3, 256):
    tries(fd, os.write, fd, frame)
""",
    ),
    "looking for what is expected": attack(
        """
import gc, inspect
found = [str(o)[:200] for o in gc.get_objects() if type(o) in (dict, list, tuple, str, bytes)]
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps:
        low, high = (int(x, 16) for x in line.split()[0].split("-"))
        if line.split()[1].startswith("rw"):
            try: memory.seek(low); found.append(memory.read(high - low).decode('latin-1'))
            except (OSError, ValueError, OverflowError): pass
if any("EXPECTED-" + mode[:0] + "OUTPUT" in text for text in found): got_out.append("expected")
""",
    ),
    "reading ahead": attack(
        """
rest = sys.stdin.read() + sys.stdin.read()
if rest: got_out.append(rest)
""",
    ),
    "print that lies": attack(
        r"""
import builtins
builtins.print = lambda *a: sys.stdout.write("held\n")
print(got_out)
sys.exit(0)
""",
    ),
}
