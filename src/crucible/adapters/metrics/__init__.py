"""Where are metrics kept? In a JSON-lines file or a SQLite database per run; a tracker may mirror them."""

from crucible.adapters.metrics.courier import Patience as Patience
from crucible.adapters.metrics.jsonl import JsonlMetricsStore as JsonlMetricsStore
from crucible.adapters.metrics.mirrored import Mirrored as Mirrored
from crucible.adapters.metrics.sqlite import SqliteMetricsStore as SqliteMetricsStore
from crucible.adapters.metrics.tracker import Tracker as Tracker
from crucible.adapters.metrics.weights_and_biases import WandbMetricsStore as WandbMetricsStore

__all__ = ["JsonlMetricsStore", "Mirrored", "Patience", "SqliteMetricsStore", "Tracker", "WandbMetricsStore"]
