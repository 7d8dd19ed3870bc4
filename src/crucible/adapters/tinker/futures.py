"""How does the SDK's future become the port's: one to one, and no thread waits for it?"""

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from crucible.adapters.tinker.failures import Edge

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Sent(Generic[V]):
    """A request on its way. convert: from the SDK's answer to the port's. edge: where its failure is translated."""

    source: "concurrent.futures.Future[Any]"
    convert: Callable[[Any], V]
    edge: Edge

    def into(self, outcome: "concurrent.futures.Future[V]") -> None:
        """Let `outcome` end as the request does; the SDK's own thread brings it."""

        def done(source: "concurrent.futures.Future[Any]") -> None:
            try:
                with self.edge.answered():
                    value = self.convert(source.result())
            except BaseException as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
                outcome.set_exception(error)
            else:
                outcome.set_result(value)

        self.source.add_done_callback(done)


def concurrent_of(made: object) -> "concurrent.futures.Future[Any]":
    """The standard future of what an SDK call returned (before 0.38 some calls return one as it is)."""
    import tinker

    if isinstance(made, tinker.APIFuture):
        return cast("tinker.APIFuture[Any]", made).future()
    assert isinstance(made, concurrent.futures.Future), f"{type(made).__name__} is no future of the SDK"
    return cast("concurrent.futures.Future[Any]", made)


def settled(made: object, kind: type[T]) -> T:
    """Wait for a client that the SDK makes (before 0.38 the call itself waits)."""
    import tinker

    pending = isinstance(made, tinker.APIFuture)
    value = cast("tinker.APIFuture[object]", made).future().result() if pending else made
    assert isinstance(value, kind)
    return value
