"""How is the service opened, asked and left?"""

import contextlib
import importlib.metadata
import importlib.util
import os
import socket
import threading
import warnings
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from crucible.adapters.tinker.options import ServiceOptions
from crucible.errors import MissingExtraError

REACHING, LEAVING = 10.0, 10.0
"""Seconds that opening waits for the service's address to answer, and leaving for the service to note that the
session is over."""


class Service:
    """The SDK's clients, made when they are first asked for. Making a Service imports no SDK and sends nothing.

    Raises:
        MissingExtraError: if the SDK is not installed.
    """

    def __init__(self, options: ServiceOptions) -> None:
        if importlib.util.find_spec("tinker") is None:
            raise MissingExtraError.for_extra("tinker", needed_by="the Tinker adapter", module="tinker")
        self.options = options
        self._lock = threading.Lock()
        self._client: Any = None
        self._rest: Any = None
        self._closed = False

    @property
    def client(self) -> Any:
        """The one `tinker.ServiceClient`: its first training or sampling call opens a session and waits for that.

        Untyped, for the calls that wait in one version of the SDK and return a future in another.

        The SDK's telemetry is off unless TINKER_TELEMETRY asks for it.

        Raises:
            OSError: if nobody answers at the address; the SDK would ask for five minutes.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._client is None:
                _require_answer(self.options.base_url)
                os.environ.setdefault("TINKER_TELEMETRY", "0")
                import tinker

                self._client = tinker.ServiceClient(
                    user_metadata={"crucible": importlib.metadata.version("crucible-kitchen")},
                    project_id=self.options.project_id,
                    base_url=self.options.base_url,
                    api_key=self.options.api_key,
                )
            return self._client

    @property
    def rest(self) -> Any:
        """What answers about runs and checkpoints, without a session."""
        client = self.client
        with self._lock:
            if self._rest is None:
                # Deprecated from 0.36 on in favour of RestClient, whose connections nothing closes.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    self._rest = client.create_rest_client()
            return self._rest

    def close(self) -> None:
        """End the session at the service. Safe to call twice."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            with contextlib.suppress(Exception):  # it ends by itself without heartbeats
                client.close("success").future().result(LEAVING)


def _require_answer(base_url: str | None) -> None:
    """Raise OSError unless something listens at the address, where that can be told: none was given, or a proxy
    stands before it, and it cannot."""
    if base_url is None:
        return
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    try:
        socket.create_connection((host, parts.port or (443 if parts.scheme == "https" else 80)), REACHING).close()
    except OSError as error:
        raise OSError(f"{base_url} cannot be reached: {error.strerror or error}") from error
