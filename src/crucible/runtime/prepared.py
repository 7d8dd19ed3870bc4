"""What is a run before it runs? Resolved, checked, and nothing touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crucible.framework import Workflow
from crucible.ir import Experiment
from crucible.runtime.wiring import Wiring


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that has been resolved and checked, and has touched nothing: what `dry_run` returns.

    ports: port name to the name of the adapter behind it. origins: where each config value came from.
    """

    experiment: Experiment
    workflow: Workflow
    wiring: Wiring
    origins: Mapping[str, str]
    notes: Sequence[str]

    @property
    def ports(self) -> dict[str, str]:
        """Port name to adapter name."""
        return self.wiring.names
