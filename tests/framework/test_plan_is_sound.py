"""Does every workflow that the plan lets through run to its end, with the same numbers at every depth?"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_workflows import names, outcome, specs, workflow
from toys import run_nodes

from crucible.errors import WorkflowError
from crucible.framework import Workflow, check


@settings(deadline=None, max_examples=400)
@given(st.sets(names, min_size=3), specs, st.integers(1, 3))
async def test_what_the_plan_lets_through_runs_and_depth_changes_nothing(
    start: set[str], part: Sequence[Any], depth: int
) -> None:
    if check(Workflow("w", body=workflow(start, part, 0))):
        with pytest.raises(WorkflowError):
            await run_nodes(*workflow(start, part, 0))
        return
    now, ahead = [await run_nodes(*workflow(start, part, ahead)) for ahead in (0, depth)]
    assert outcome(ahead) == outcome(now)
