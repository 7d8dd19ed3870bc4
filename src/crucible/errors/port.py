"""What failed behind a port, and may it be tried again?"""

from collections.abc import Mapping


class PortError(RuntimeError):
    """A backend's failure, translated at the adapter's edge (always `raise ... from` the original).

    port: the port's name, for example `training_client`.
    adapter: the adapter's registered name, for example `torch`.
    retryable: True only if the same call may succeed later without a change by the user.
    """

    def __init__(
        self,
        message: str,
        *,
        port: str,
        adapter: str,
        retryable: bool = False,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{port} ({adapter}): {message}")
        self.message = message
        self.port = port
        self.adapter = adapter
        self.retryable = retryable
        self.details = dict(details or {})
