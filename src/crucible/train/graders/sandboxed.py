"""What runs a program that nobody trusts? This script, in a process of its own that it first locks up.

On standard input come eight bytes (a length, big-endian) and a job of so many bytes of JSON; the rest is the
program's own input. On the file descriptor argv[1] go lines of JSON: before the program runs, the job's token and
`"begun": true`, or `"refused": [...]` if the machine cannot lock it up as asked, and nothing is run; at the end
`{"error": "..."}`, or the token and `"passed": true`. A program that exits early, or writes there itself, does not
know the token.
It imports nothing of crucible, so that it starts fast and holds nothing worth finding.

A job: `code`, `tests` (or null), `token`, `folder` (the only one it may write to), `readable` (folders and files),
`cpu_seconds`, `memory_mib`, `file_mib`, `strict` (refuse to run where the lock is incomplete), `parent`.
"""

import builtins
import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

_PDEATHSIG, _NO_NEW_PRIVS, _SECCOMP = 1, 38, 22
MEMORY_EXIT = 77
"""The exit code at the limit on memory, where an allocation cannot be made to fail."""


def main() -> None:
    """Lock up, run, tell."""
    out = int(sys.argv[1])
    job = json.loads(_read(int.from_bytes(_read(8), "big")))
    _die_with(job["parent"])
    os.chdir(job["folder"])
    token = job.pop("token")
    refused = _lock_up(job)
    if refused and job["strict"]:
        _tell(out, {"token": token, "refused": refused})
        return
    _tell(out, {"token": token, "begun": True})
    sys.argv = ["program.py"]
    error = _run(job)
    try:
        sys.stdout.flush()
    except BaseException as broken:  # noqa: BLE001  (the program may have put anything there)
        error = error or f"the program's output broke: {_said(broken)}"
    _tell(out, {"error": error} if error else {"token": token, "passed": True})
    os._exit(0)  # whatever threads and exit handlers the program has left


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit(2)
        data += part
    return data


def _tell(out: int, message: dict[str, object]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _run(job: dict[str, Any]) -> str:
    """What the program, and then its tests, came to grief of; "" if nothing."""
    tested = job["tests"] is not None
    names = {"__name__": "program" if tested else "__main__", "__builtins__": __builtins__}
    builtins.exit = builtins.quit = sys.exit  # as they are where `site` is imported
    stage, execute = "the program", exec  # both kept, with the tests, before the program may put others in their place
    try:
        tests = compile(job["tests"] or "", "tests.py", "exec")
        execute(compile(job["code"], "program.py", "exec"), names)
        stage = "the tests"
        execute(tests, names)
    except SystemExit as end:
        if tested or end.code not in (None, 0):
            return f"{stage} ended with sys.exit({_said(end)})"
    except BaseException as error:  # noqa: BLE001  (a program may raise what it likes)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [each.lineno for each in frames if each.filename in ("program.py", "tests.py")]
        where = f" in line {lines[-1]}" if lines else ""
        return f"{stage} raised {type(error).__name__}{where}: {_said(error)}".rstrip(": ")
    return ""


def _said(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:  # noqa: BLE001  (its class may be anything)
        return "(cannot be printed)"


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


# --- the lock ---


def _lock_up(job: dict[str, Any]) -> list[str]:
    """Set every limit; return what this machine cannot keep from the program."""
    _set_limits(job)
    if sys.platform != "linux":
        return []  # sandbox-exec has been put around this process
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    refused: list[str] = []
    for what, lock in (("files", _lock_files), ("network and processes", _lock_system_calls)):
        try:
            lock(libc, job)
        except OSError as error:
            refused.append(f"{what} ({error})")
    return refused


def _set_limits(job: dict[str, Any]) -> None:
    cpu = job["cpu_seconds"]
    size = job["file_mib"] << 20
    for limit, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, size, size),
        (resource.RLIMIT_NOFILE, 64, 64),
    ):
        resource.setrlimit(limit, (soft, hard))
    memory = job["memory_mib"] << 20
    if sys.platform == "darwin":  # where the kernel counts no address space
        threading.Thread(target=_watch_memory, args=(memory,), daemon=True).start()
    else:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _watch_memory(most: int) -> None:
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= most:  # bytes, on macOS
        time.sleep(0.02)
    os._exit(MEMORY_EXIT)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


_RULESET, _RULE, _RESTRICT = 444, 445, 446
"""Landlock's system calls, the same on every machine."""
_WRITE_FILE, _READ_FILE, _READ_FOLDER, _REFER, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 13, 14))
_OWN = sum(1 << bit for bit in (1, 2, 3, 4, 5, 7, 8, 12)) | _REFER | _TRUNCATE
"""Write, read, remove and make plain files, folders and links: no devices, which as root would be the whole disk."""


def _lock_files(libc: ctypes.CDLL, job: dict[str, Any]) -> None:
    """Landlock (Linux 5.13): read what a Python needs, write to one folder, nothing else."""
    version = _checked(libc.syscall(_RULESET, None, 0, 1), "landlock")
    known = (1 << 13) - 1 | (_REFER if version > 1 else 0) | (_TRUNCATE if version > 2 else 0)
    attributes = ctypes.create_string_buffer(struct.pack("=Q", known))
    ruleset = _checked(libc.syscall(_RULESET, attributes, ctypes.c_size_t(8), 0), "landlock")
    _allow(libc, ruleset, job["folder"], known & _OWN)
    for path in job["readable"]:
        if (place := Path(path)).exists():
            _allow(libc, ruleset, path, _READ_FILE | (_READ_FOLDER if place.is_dir() else 0))
    _allow(libc, ruleset, "/dev/null", known & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
    _checked(libc.syscall(_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH)
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, handle))
    _checked(libc.syscall(_RULE, ruleset, 1, rule, 0), f"landlock on {path}")
    os.close(handle)


_MACHINES = {
    # audit architecture, and the numbers of the system calls
    "x86_64": (0xC000003E, 0),
    "aarch64": (0xC00000B7, 1),
}
_DENIED = """
socket 41 198, fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, tkill 200 130, rt_sigqueueinfo 129 138,
rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, process_mrelease 448 448,
move_pages 279 239, migrate_pages 256 238, kcmp 312 272, setrlimit 160 164, setpriority 141 140,
sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274, ioprio_set 251 30, setsid 112 157,
setpgid 109 154, unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, chroot 161 51, pivot_root 155 41,
move_mount 429 429, open_tree 428 428, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
mount_setattr 442 442, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425,
memfd_create 319 279, memfd_secret 447 447, fanotify_init 300 262, open_by_handle_at 304 265, mknod 133 -,
mknodat 259 33, shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semctl 66 191, semop 65 193,
msgget 68 186, msgctl 71 187, msgsnd 69 189, msgrcv 70 188, mq_open 240 180, mq_unlink 241 181, keyctl 250 219,
add_key 248 217, request_key 249 218, chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -,
fchown 93 55, lchown 94 -, fchownat 260 54, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16, setxattrat 463 463, removexattrat 466 466, utime 132 -, utimes 235 -,
futimesat 261 -, utimensat 280 88, reboot 169 142, kexec_load 246 104, kexec_file_load 320 294,
init_module 175 105, finit_module 313 273, delete_module 176 106, iopl 172 -, ioperm 173 -, settimeofday 164 170,
clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266, sethostname 170 161, setdomainname 171 162,
swapon 167 224, swapoff 168 225, syslog 103 116, acct 163 89, quotactl 179 60, quotactl_fd 443 443, vhangup 153 58,
setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
setfsuid 122 151, setfsgid 123 152, setgroups 116 159, capset 126 91, file_setattr 469 469
"""
"""System calls with their numbers on x86_64 and aarch64: a new socket, process or program, a reach into others, time,
devices, whatever outlives the process, and the owner and mode of files, which Landlock does not watch."""
_KILL, _TGKILL, _CLONE, _CLONE3, _PRLIMIT = (62, 129), (234, 131), (56, 220), (435, 435), (302, 261)
_CLONE_THREAD = 0x00010000
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where they are in `struct seccomp_data`; arguments take eight bytes each, the low half first."""


def _lock_system_calls(libc: ctypes.CDLL, _: dict[str, Any]) -> None:
    """seccomp (seccomp(2)): no socket, no new process, no program, no signal to others, no limit raised."""
    if platform.machine() not in _MACHINES:
        raise OSError(95, f"no filter of system calls for {platform.machine()}")
    architecture, column = _MACHINES[platform.machine()]
    program = _filter(architecture, column, os.getpid())
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    size = struct.pack("@HP", len(program), ctypes.addressof(code))
    _checked(libc.prctl(_SECCOMP, 2, ctypes.c_char_p(size), 0, 0), "seccomp")


def _filter(architecture: int, column: int, me: int) -> list[tuple[int, int, int, int]]:
    """Instructions (code, jump if true, jump if false, value) of BPF."""
    denied, absent = (_RETURN, 0, 0, _ERRNO | 1), (_RETURN, 0, 0, _ERRNO | 38)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_ABOVE, 0, 1, 0x40000000),  # the x32 calls of x86_64, which are others
        denied,
        (_EQUAL, 0, 1, _CLONE3[column]),
        absent,  # so that libc falls back to clone, whose flags can be looked at
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),
        denied,
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 6, _PRLIMIT[column]),
        (_LOAD, 0, 0, _ARGUMENTS + 16),
        (_EQUAL, 0, 2, 0),
        (_LOAD, 0, 0, _ARGUMENTS + 20),
        (_EQUAL, 1, 0, 0),
        denied,
        (_RETURN, 0, 0, _ALLOW),
    ]
    for number in (_KILL[column], _TGKILL[column]):
        program += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS),
            (_EQUAL, 1, 0, me),
            denied,
            (_RETURN, 0, 0, _ALLOW),
        ]
    for entry in _DENIED.replace("\n", " ").split(","):
        if (number := entry.split()[1 + column]) != "-":
            program += [(_EQUAL, 0, 1, int(number)), denied]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


if __name__ == "__main__":
    main()
