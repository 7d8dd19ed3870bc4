"""A pool of two workers with short limits, closed after the test, with nothing left of it."""

import os
from collections.abc import Iterator

import hostile_graders as hostile_graders  # registers them
import pytest
from watching import children_of, open_files

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.pool import GraderPool


@pytest.fixture
def pool() -> Iterator[GraderPool]:
    files, processes = open_files(), children_of(os.getpid())
    with GraderPool(workers=2, limits=GraderLimits(cpu_seconds=1.0, memory_mib=512)) as pool:
        yield pool
    assert open_files() == files
    assert children_of(os.getpid()) == processes
