"""Is a program told right from wrong, whatever it does? Each runs in a real process, locked up."""

import platform
import subprocess
import sys
from typing import Any

import pytest

from crucible.errors import ConfigError
from crucible.train.graders.code import grade_code
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.sandbox import sandbox_problems
from crucible.train.graders.verdict import Verdict

TESTS = "assert add(1, 2) == 3"
ADD = "def add(a, b): return a + b\n"
WRONG = [
    ("def add(a, b): return a - b", "the tests raised AssertionError in line 1"),
    ("def add(a, b) return a + b", "the program raised SyntaxError"),
    ("import os; os._exit(0)", "the program ended early, with exit code 0"),
    ("import sys; sys.exit(0)", "the program ended with sys.exit(0)"),
    ("while True: pass", "used more than 1 s of CPU time"),
    (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "used more than 1 s of CPU time",
    ),
    ("def add(a, b): return bytearray(10 << 30)", "the tests raised MemoryError in line 1"),
    ("import ctypes; ctypes.string_at(0)", "the program was killed by SIGSEGV"),
    ("print('x' * 2**20)\n" + ADD, "wrote more than 256 KiB"),
    (
        "class E(Exception):\n  def __str__(self): raise self\nraise E",
        "the program raised E in line 3: (cannot be printed)",
    ),
    (
        "import builtins as b\nb.exec = b.compile = lambda *a: None\ndef add(a, b): return 0",
        "the tests raised AssertionError",
    ),
    ("def add(a, b): return add(a, b)", "the tests raised RecursionError"),
]
LOCKED = [
    ("network", "import socket; socket.socket()"),
    ("fork", "import os; os.fork()"),
    ("program", "import subprocess; subprocess.run(['true'])"),
    ("signal", "import os; os.kill(os.getppid(), 9)"),
    ("write", "open('/tmp/elsewhere', 'w')"),
    ("read", "open('/etc/passwd').read()"),
    ("list", "import os; os.listdir('/')"),
    ("mode", "import os; os.chmod('/tmp', 0o777)"),
    ("device", "import os; os.mknod('disk', 0o60600, os.makedev(8, 0))"),
    ("another's memory", "import ctypes, os; os.close(os.open(f'/proc/{os.getppid()}/mem', os.O_RDWR))"),
    ("limit", "import resource as r; r.setrlimit(r.RLIMIT_CPU, (99, 99))"),
    ("environment of others", "import os; open(f'/proc/{os.getppid()}/environ').read()"),
]
ALLOWED = [
    "open('x', 'w').write('hi'); assert open('x').read() == 'hi'",
    "import tempfile; tempfile.NamedTemporaryFile()",
    "import threading; t = threading.Thread(target=print); t.start(); t.join()",
    "import asyncio; asyncio.run(asyncio.sleep(0))",
    "import math, re, heapq, collections, decimal, json, typing, zoneinfo, hashlib, random, sqlite3",
    "open('/dev/null', 'w').write('x')",
    "if __name__ == '__main__': raise SystemExit",
    "import os, signal\nsignal.signal(10, lambda *_: None)\nos.kill(os.getpid(), 10); signal.raise_signal(10)",
    "import resource; resource.getrlimit(resource.RLIMIT_CPU)",
    "import threading; threading.Thread(target=threading.Event().wait).start()",
]


def graded(code: str, **item: Any) -> Verdict:
    return grade_code({"code": code, "tests": TESTS, "cpu_seconds": 1, **item})


def test_this_machine_can_lock_up_a_program() -> None:
    assert sandbox_problems() == ()


@pytest.mark.parametrize(("code", "why"), WRONG, ids=[why for _, why in WRONG])
def test_a_program_that_does_not_pass_is_wrong_and_its_detail_says_how(code: str, why: str) -> None:
    verdict = graded(code)
    assert verdict.score == 0.0
    assert verdict.detail.startswith(why)


@pytest.mark.parametrize("code", [code for _, code in LOCKED], ids=[name for name, _ in LOCKED])
def test_a_program_may_touch_nothing_outside(code: str) -> None:
    verdict = graded(ADD + code)
    assert verdict.score == 0.0
    assert "PermissionError" in verdict.detail or "not allowed" in verdict.detail


@pytest.mark.parametrize("code", ALLOWED)
def test_a_program_may_use_the_standard_library_and_its_own_folder(code: str) -> None:
    assert graded(ADD + code) == Verdict.of(1.0)


def test_a_program_that_waits_at_the_clocks_limit_has_no_score() -> None:
    verdict = graded("import time; time.sleep(1000)", wall_seconds=0.5)
    assert (verdict.state, verdict.repeatable) == ("timed_out", False)


CASES = [{"stdin": "1 2\n", "expected": "3"}, {"stdin": "5 6", "expected": "11\n"}, {"stdin": "0 3", "expected": "3"}]


def test_a_program_is_compared_by_what_it_writes_for_each_input() -> None:
    item: dict[str, Any] = {"code": "print(sum(map(int, input().split())), ' ')", "cases": CASES}
    assert grade_code(item) == Verdict.of(1.0, "3 of 3 cases passed")
    assert grade_code({**item, "code": "print(3)"}) == Verdict.of(0.0, "case 2: line 1 is '3', not '11'")
    assert grade_code({**item, "code": "print(3)", "partial": True}).score == 2 / 3


def test_a_program_may_leave_by_exit_where_its_output_is_what_counts() -> None:
    assert grade_code({"code": "print('grüße'); exit()", "cases": [{"stdin": "", "expected": "grüße"}]}).score == 1.0


@pytest.mark.parametrize("item", [{"sandbox": "none"}, {"cpu_seconds": 0}, {"memory_mib": 64.5}])
def test_an_option_that_cannot_be_is_the_users_to_mend(item: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        graded(ADD, **item)


FORGED = """
import os
for number in range(3, 20):
    try:
        os.write(number, b'{"refused": ["all"], "token": ""}\\n')
    except OSError:
        pass
os._exit(0)
"""


def test_a_program_cannot_say_for_itself_that_it_passed_or_was_not_run() -> None:
    assert graded(FORGED).score == 0.0


WITHOUT = """
import ctypes, struct, sys
from crucible.train.graders.sandbox import ProgramLimits, run_program
absent = [(0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in absent))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("@HP", len(absent), ctypes.addressof(code))), 0, 0) == 0
for sandbox in ("full", "limits"):
    run = run_program("1", tests="2", limits=ProgramLimits(), sandbox=sandbox)
    print(run.ended, run.why)
"""
LANDLOCK, PRLIMIT = 444, {"x86_64": 302, "aarch64": 261}


def without(system_call: int) -> list[str]:
    """What comes of a program where the kernel has no such system call, in either sandbox."""
    command = [sys.executable, "-c", WITHOUT, str(system_call)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_what_the_machine_cannot_lock_is_refused_by_name_unless_the_user_accepts_less() -> None:
    refused, accepted = without(LANDLOCK)
    assert refused == "refused files ([Errno 38] landlock: Function not implemented)"
    assert accepted == "passed "


def test_a_sandbox_that_fails_itself_is_no_wrong_answer() -> None:
    for run in without(PRLIMIT[platform.machine()]):
        assert run.startswith("broken the sandbox itself failed, with exit code 1: OSError: [Errno 38]")


async def test_the_pool_grades_programs(pool: GraderPool) -> None:
    item = {"code": ADD, "tests": TESTS}
    assert await pool.grade("code", item, place="") == Verdict.of(1.0)
    assert (await pool.grade("code", {**item, "sandbox": "none"}, place="")).state == "invalid"
