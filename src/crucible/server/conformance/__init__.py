"""Does a server speak the Tinker API, and are its numbers right?

A suite of checks over raw HTTP, for any server. `examine(url, key=...)` gives a `Scorecard`.
"""

from crucible.server.conformance.answers import Unreachable
from crucible.server.conformance.suite import GROUPS, Finding, Scorecard, Status, examine

__all__ = ["GROUPS", "Finding", "Scorecard", "Status", "Unreachable", "examine"]
