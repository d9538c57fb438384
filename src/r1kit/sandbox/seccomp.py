"""The system calls that a caged program is refused, as a BPF filter for `bwrap --seccomp`.

Namespaces, limits and the read-only root work without it. The filter closes what they leave open: memory that
no limit counts (memfd, System V), other processes' address spaces and limits (ptrace, prlimit of another
process), sockets that a network namespace does not isolate (vsock), new namespaces, and much of the kernel's
attack surface. A refused call returns EPERM; a call of a foreign architecture ends the process.
Not covered: misuse of allowed system calls.
"""

import errno
import struct

# BPF opcodes (linux/bpf_common.h): load a word; jump if equal, if at least, if any bit is set; return.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT_0 = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
# x32 calls have the architecture of x86_64, but other numbers, which the filter would not recognise.
_X32_BIT = 0x40000000
_NEW_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS to CLONE_NEWNET, of clone's first argument
_AF_UNIX = 1

# linux/audit.h, by platform.machine()
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64)
_REFUSED = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "syslog": (103, 116),
    "acct": (163, 89),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
}
# Refused by their arguments, or in another way; (x86_64, aarch64).
_CLONE = (56, 220)
_CLONE3 = (435, 435)  # a filter can't read its flags: ENOSYS makes libc fall back to clone
_SOCKET = (41, 198)
_PRLIMIT = (302, 261)


def seccomp_filter(machine: str) -> bytes:
    """The filter for a machine of `ARCHITECTURES`, as an array of struct sock_filter."""
    column = list(ARCHITECTURES).index(machine)
    refuse = _ERRNO | errno.EPERM
    # wrong architecture: the numbers below would mean other calls
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    for numbers in _REFUSED.values():
        program += [(_JUMP_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, refuse)]
    program += [(_JUMP_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program += _by_argument(_CLONE[column], (_JUMP_SET, 0, 1, _NEW_NAMESPACE_FLAGS), refuse)
    program += _by_argument(_SOCKET[column], (_JUMP_EQUAL, 1, 0, _AF_UNIX), refuse)
    # pid 0: the process's own limits
    program += _by_argument(_PRLIMIT[column], (_JUMP_EQUAL, 1, 0, 0), refuse)
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _by_argument(
    number: int, test: tuple[int, int, int, int], refuse: int
) -> list[tuple[int, int, int, int]]:
    """Checks one system call: `test` inspects its first argument (low word); falling through refuses."""
    return [
        (_JUMP_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENT_0),
        test,
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
    ]
