"""Contract tests say at the end of the run what they could not exercise."""

from crucible.testing.contracts.report import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
