"""Where are metrics kept? In a JSON-lines file per run."""

from crucible.adapters.metrics.jsonl import JsonlMetricsStore as JsonlMetricsStore

__all__ = ["JsonlMetricsStore"]
