"""How much of the contracts did a test run not exercise? A pytest hook that says so after the last test."""

from collections import Counter

import pytest

from crucible.testing.contracts.suite import NOT_EXERCISED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what contract tests recorded as not exercised, with counts."""
    reasons: Counter[tuple[str, str]] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            suite = report.nodeid.split("::")[1] if "::" in report.nodeid else report.nodeid
            for name, value in getattr(report, "user_properties", ()):
                if name == NOT_EXERCISED:
                    reasons[suite, str(value)] += 1
    if reasons:
        terminalreporter.section("contract guarantees not exercised")
        for (suite, reason), count in sorted(reasons.items()):
            terminalreporter.line(f"{suite}: {reason}" + (f" ({count} tests)" if count > 1 else ""))
