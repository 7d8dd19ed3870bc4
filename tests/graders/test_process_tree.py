"""Are all the processes that came of one found and ended, however they have cut themselves off?"""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from watching import children_of, comes_true, lives

from crucible.train.graders import processes

FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        time.sleep(10_000)
time.sleep(10_000)
"""
KEEPER = """
import os, sys, time
from crucible.train.graders.processes import adopt_orphans, children, end_orphans
adopt_orphans()
for _ in range(5):
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(10_000)
        os._exit(0)
    os.waitpid(between, 0)
print(len(children(os.getpid())))
kept = os.fork() or time.sleep(10_000)
end_orphans(known=[kept])
print(children(os.getpid()) == [kept])
os.kill(kept, 9)
"""


@pytest.mark.parametrize("by", ["the kernel's list", "looking at every process"])
def test_descendants_are_those_that_the_system_knows(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "looking at every process":
        monkeypatch.setattr(processes, "_has_lists", lambda: False)
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as family:
        assert comes_true(lambda: len(children_of(family.pid)) == 4)
        assert sorted(processes.descendants(family.pid)) == sorted(children_of(family.pid))
        members = [psutil.Process(pid) for pid in (family.pid, *children_of(family.pid))]
        processes.end_tree(family.pid)
        assert family.wait() == -signal.SIGKILL
    assert comes_true(lambda: not any(lives(member) for member in members))


def test_what_has_lost_its_parent_is_adopted_and_ended_and_the_known_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", KEEPER], capture_output=True, text=True, check=True)
    assert done.stdout == "5\nTrue\n"


def test_a_process_that_is_gone_has_no_children() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert processes.children(gone.pid) == []
    assert sorted(processes.children(os.getpid())) == sorted(child.pid for child in psutil.Process().children())
