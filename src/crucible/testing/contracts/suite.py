"""What do all contract suites share? A way to say what a test did not exercise."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

NOT_EXERCISED = "not_exercised"
"""The pytest property under which a test records a guarantee it could not exercise."""

NotExercised: TypeAlias = Callable[[str], None]


class Suite:
    """The parent of every contract suite."""

    @pytest.fixture
    def not_exercised(self, record_property: Callable[[str, object], None]) -> NotExercised:
        """Record what was not exercised, and why; the test then passes, and the report counts it."""

        def record(reason: str) -> None:
            record_property(NOT_EXERCISED, reason)

        return record


def needed(fixture: str) -> pytest.UsageError:
    """The error for a fixture that the subclass has to give."""
    return pytest.UsageError(f"a contract suite's subclass provides the fixture {fixture!r}")
