"""How is a program run that nobody trusts? In a locked process of its own, for a while, with its output counted."""

import functools
import json
import math
import os
import resource
import secrets
import shutil
import signal
import sys
import sysconfig
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from crucible.errors import ConfigError, Problem
from crucible.train.graders.program_process import ProgramProcess
from crucible.train.graders.worker import MEMORY_EXIT

_SCRIPT = Path(__file__).with_name("sandboxed.py")
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/share/zoneinfo", "/etc/localtime", "/dev/urandom", "/dev/zero")
_FILE_MIB = 16
"""A program's largest file."""
_LEAST_MIB = 64
_MAC_PROFILE = """(version 1)(allow default)(deny network*)(deny process-fork)(deny signal (target others))
(deny file-write*)(allow file-write* (subpath "{folder}") (literal "/dev/null"))"""

Sandbox: TypeAlias = Literal["full", "limits"]
"""`full`: no network, no other process, no signal to one, files read only where a Python needs them and written only in
a temporary folder, limits; what the machine cannot keep from the program is refused by name. `limits`: the limits, and
of the rest what the machine can."""


Ended: TypeAlias = Literal["passed", "failed", "cpu", "output", "wall", "refused", "broken"]


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What one run of a program may use.

    cpu_seconds: of CPU time, in whole seconds, the start of Python (some hundredths) included. wall_seconds: on the
    clock, the last resort. memory_mib: of address space. output_kib: of standard output, and of standard error.
    """

    cpu_seconds: float = 2.0
    wall_seconds: float = 30.0
    memory_mib: int = 512
    output_kib: int = 256

    def __post_init__(self) -> None:
        problems = [
            Problem(what="a program's limit must be above zero", where=name, given=repr(value))
            for name, value in vars(self).items()
            if not (math.isfinite(value) and value > 0)
        ]
        if self.memory_mib < _LEAST_MIB or self.memory_mib % 1:
            what = f"a program's memory is a whole number from {_LEAST_MIB}, in MiB: Python itself must fit in"
            problems.append(Problem(what=what, where="memory_mib", given=repr(self.memory_mib)))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """What came of it.

    ended: `passed`: program and tests ran to their end; `failed`: something was raised, or it ended early; `cpu`,
    `output`: at that limit; `wall`: at the clock's; `refused`: it was not run, since the machine cannot lock it up;
    `broken`: it was not run, since what should have run it failed.
    why: in a few words, if it did not pass. stdout, stderr: what it wrote, up to the limit.
    """

    ended: Ended
    why: str = ""
    stdout: bytes = b""
    stderr: bytes = b""


@functools.cache
def sandbox_problems() -> tuple[Problem, ...]:
    """What this machine cannot keep from a program under `sandbox="full"`: nothing, one hopes."""
    run = run_program("", tests=None, limits=ProgramLimits(cpu_seconds=10.0, wall_seconds=60.0))
    if run.ended == "passed":
        return ()
    return (
        Problem(
            what=f"this machine cannot lock up a program that nobody trusts: {run.why}",
            where="grader 'code'",
            fix="run in a machine or container with Landlock and seccomp, or accept less with sandbox=limits",
        ),
    )


def run_program(
    code: str, *, tests: str | None, stdin: str = "", limits: ProgramLimits, sandbox: Sandbox = "full"
) -> ProgramRun:
    """Run Python code, and after it, in the same process and with its names, the tests.

    tests: code that raises unless all is well; None to run the program as `__main__` for what it writes. In the full
    sandbox it has the standard library, and no other package.
    """
    command = [sys.executable, "-P", "-s", "-S", "-B", str(_SCRIPT)]
    with tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as folder:
        home = Path(folder).resolve()
        if sys.platform == "darwin" and sandbox == "full":
            if shutil.which("sandbox-exec") is None:
                return ProgramRun(ended="refused", why="network, processes and files (there is no sandbox-exec)")
            command = ["sandbox-exec", "-p", _MAC_PROFILE.format(folder=home), *command]
        token = secrets.token_hex(16)
        job = json.dumps(_job(code, tests, home, limits, sandbox) | {"token": token}).encode()
        before = _children_cpu()
        program = ProgramProcess(command, folder=home)
        try:
            how = program.converse(
                len(job).to_bytes(8, "big") + job + stdin.encode(errors="replace"),
                most=limits.output_kib << 10,
                wall_seconds=limits.wall_seconds,
            )
        finally:
            code_of_exit = program.end()
    over = _children_cpu() - before >= math.ceil(limits.cpu_seconds)
    ended, why = _ended(how, program, code_of_exit, token=token, over=over, limits=limits, tested=tests is not None)
    written = program.written
    return ProgramRun(ended=ended, why=why, stdout=bytes(written["stdout"]), stderr=bytes(written["stderr"]))


def _job(code: str, tests: str | None, folder: Path, limits: ProgramLimits, sandbox: Sandbox) -> dict[str, Any]:
    """For `sandboxed.py`, which says what is in it."""
    library = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    return {
        "code": code,
        "tests": tests,
        "folder": str(folder),
        "readable": [*library, f"{sys.base_prefix}/lib", *_SYSTEM],
        "cpu_seconds": math.ceil(limits.cpu_seconds),
        "memory_mib": int(limits.memory_mib),
        "file_mib": _FILE_MIB,
        "strict": sandbox == "full",
        "parent": os.getpid(),
    }


def _ended(
    how: str, program: ProgramProcess, code: int, *, token: str, over: bool, limits: ProgramLimits, tested: bool
) -> tuple[Ended, str]:
    if how == "wall":
        return "wall", f"not done after {limits.wall_seconds:g} s on the clock"
    if how == "output":
        return "output", f"wrote more than {limits.output_kib} KiB"
    told = _told(bytes(program.written["told"]))
    ours = [each for each in told if each.get("token") == token]
    if not ours:
        said = bytes(program.written["stderr"]).decode(errors="replace").strip().rpartition("\n")[2]
        return "broken", f"the sandbox itself failed, with exit code {code}: {said}"
    if "refused" in ours[0]:
        return "refused", "; ".join(ours[0]["refused"])
    if errors := [each["error"] for each in told if "error" in each]:
        return "failed", str(errors[0])
    if "passed" in ours[-1] or (code == 0 and not tested):
        return "passed", ""
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and over):
        return "cpu", f"used more than {math.ceil(limits.cpu_seconds)} s of CPU time"
    if code == MEMORY_EXIT:
        return "failed", f"used more than {limits.memory_mib} MiB of memory"
    how_it_ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended early, with exit code {code}"
    return "failed", f"the program {how_it_ended}"


def _told(lines: bytes) -> list[dict[str, Any]]:
    """What the script said, and whatever the program wrote in its place."""
    told: list[dict[str, Any]] = []
    for line in lines.split(b"\n"):
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                told.append(cast("dict[str, Any]", message))
    return told


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
