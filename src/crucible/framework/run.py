"""What never changes during a run?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The facts of one run.

    recipe, workflow: their names. config: every value, by key. run_id: names the run in metrics and events.
    run_dir: where it writes; None writes nothing. cache_dir: where outputs of pure stages are kept, for all runs; None
    keeps none. started_at: with its time zone.
    """

    run_id: str
    recipe: str = ""
    workflow: str = ""
    config: Mapping[str, object] = field(default_factory=dict[str, object])
    run_dir: Path | None = None
    cache_dir: Path | None = None
    started_at: datetime = field(default_factory=_now)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))
