"""A pool of two workers with short limits, closed after the test, with nothing left of it."""

import os
from collections.abc import Iterator

import hostile_graders as hostile_graders  # registers them
import pytest
from watching import children_of, comes_true, folders_named_by_children, open_files, processes_with

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.pool import GraderPool


@pytest.fixture
def pool() -> Iterator[GraderPool]:
    files, processes = open_files(), children_of(os.getpid())
    with GraderPool(workers=2, limits=GraderLimits(cpu_seconds=1.0, memory_mib=512)) as pool:
        yield pool
        marks = folders_named_by_children()
    for mark in marks:  # every process of the pool was forked with it in its command line
        assert comes_true(lambda mark=mark: not processes_with(mark))
    assert open_files() <= files  # what earlier tests had left may have ended meanwhile
    assert set(children_of(os.getpid())) <= set(processes)
