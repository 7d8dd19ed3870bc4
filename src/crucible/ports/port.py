"""What is a port? An abstract class that names a kind of outside service and promises its behaviour.

An adapter subclasses it explicitly; the port's docstrings are the contract, and `crucible.testing` has one
suite per port that every adapter passes. What an adapter lacks it says through `capabilities()`.
"""

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar


class Port(ABC):
    """Base of every port. Explicit option > environment variable > default; secrets never reach a repr."""

    port_name: ClassVar[str]
    """The key of this port in manifests, for example `training_client`."""
    adapter_name: ClassVar[str] = "unnamed"
    """The adapter's registered name, for example `torch`."""
    is_noop: ClassVar[bool] = False
    """True for adapters that do no real work; a strict manifest refuses them."""

    def statistics(self) -> Mapping[str, float]:
        """What this adapter holds and has before it now, for a metrics page; by names in snake case. Cheap, and safe
        from any thread."""
        return {}

    def close(self) -> None:  # noqa: B027  (most adapters hold nothing to release)
        """Release threads, files and connections. Safe to call twice."""
