"""How does the suite talk to a server? Raw HTTP with the protocol's long polls: nothing retried or smoothed over."""

import json
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from crucible.errors import ConfigError
from crucible.server.conformance.answers import Broken, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Generator

PROTOBUF = "application/x-protobuf"
_LONGEST_HOLD = 45.0
"""Seconds after which the SDK gives up one poll of `/retrieve_future`."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP reply: its status, its body, and the seconds it took."""

    status: int
    body: bytes
    protobuf: bool
    seconds: float

    def json(self) -> dict[str, Any]:
        """The JSON object in it."""
        try:
            value: object = json.loads(self.body or b"null")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Broken(f"expected a JSON object, got {self.words()!r} (status {self.status})")
        return cast(dict[str, Any], value)

    def words(self) -> str:
        """What it says of an error, in the server's words."""
        text = self.body[:2000].decode("utf-8", "replace")
        try:
            value = json.loads(text)
        except ValueError:
            return text[:300] or "(empty body)"
        if isinstance(value, dict):
            told = cast(dict[str, object], value)
            return str(told.get("error") or told.get("detail") or told.get("message") or text)[:300]
        return text[:300]


class Transport:
    """One server and one key. Safe to use from several threads.

    patience: seconds that a result may take before the server counts as broken.
    """

    def __init__(self, url: str, *, key: str, patience: float) -> None:
        try:
            import httpx
        except ImportError as error:
            raise ConfigError.of(
                "the conformance suite needs httpx",
                where="crucible conformance",
                fix="pip install 'crucible-kitchen[serve]'",
            ) from error
        self.url, self.patience = url.rstrip("/"), patience
        self._timeout = httpx.Timeout(_LONGEST_HOLD + 15.0, connect=5.0)
        self._client = httpx.Client(
            headers={"X-API-Key": key, "Accept": f"{PROTOBUF}, application/json"}, timeout=self._timeout
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def greet(self) -> dict[str, Any]:
        """Ask what the server can do; returns its capabilities.

        Raises:
            Unreachable: if nothing answers, the key is refused, or no such API is there.
        """
        try:
            reply = self.exchange("GET", "/get_server_capabilities")
        except Broken as error:
            raise Unreachable(str(error)) from error
        if reply.status in (401, 403):
            raise Unreachable(f"{self.url} refuses the key: {reply.words()}")
        if reply.status != 200:
            raise Unreachable(f"no Tinker API at {self.url}: {reply.status} {reply.words()}")
        try:
            return reply.json()
        except Broken as error:
            raise Unreachable(f"no Tinker API at {self.url}: {error}") from error

    def exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request, and return whatever comes back.

        Raises:
            Broken: if no reply comes.
        """
        sent: dict[str, Any] = {"headers": dict(headers or {})}
        if isinstance(body, bytes):
            sent["content"] = body
            sent["headers"].setdefault("Content-Type", PROTOBUF)
        elif body is not None:
            sent["json"] = {name: value for name, value in body.items() if value is not None}
        began = time.monotonic()
        with self._broken_when_lost(method, path):
            reply = self._client.request(method, f"{self.url}/api/v1{path}", **sent)
        return Reply(
            status=reply.status_code,
            body=reply.content,
            protobuf=reply.headers.get("content-type", "").startswith(PROTOBUF),
            seconds=time.monotonic() - began,
        )

    @contextmanager
    def _broken_when_lost(self, method: str, path: str) -> "Generator[None]":
        import httpx

        try:
            yield
        except httpx.HTTPError as error:
            raise Broken(f"no reply to {method} {path}: {type(error).__name__}: {error}") from error

    def ask(self, method: str, path: str, body: Mapping[str, object] | bytes | None = None) -> dict[str, Any]:
        """Send one request that must succeed, and return its JSON object (empty for a 204).

        Raises:
            Refused: at a 4xx. Broken: at anything else that is no success.
        """
        reply = self.accepted(method, path, body)
        return reply.json() if reply.body.strip() else {}

    def accepted(self, method: str, path: str, body: Mapping[str, object] | bytes | None = None) -> Reply:
        """Send one request that must succeed; errors as for `ask`."""
        reply = self.exchange(method, path, body)
        if reply.status >= 500 or reply.status < 200:
            raise Broken(f"{method} {path} answered {reply.status}: {reply.words()}")
        if reply.status >= 300:
            raise Refused(f"{reply.status}: {reply.words()}", status=reply.status)
        return reply

    def poll(self, promise: str, *, allow_metadata_only: bool = False) -> Reply:
        """Ask once for a result; holds as long as the server does."""
        body = {"request_id": promise, "allow_metadata_only": allow_metadata_only}
        return self.exchange("POST", "/retrieve_future", body)

    def result(self, promise: str) -> Reply:
        """Wait for a result.

        Raises:
            Refused: if the future failed. Broken: if none comes in `patience` seconds.
        """
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            reply = self.poll(promise)
            if reply.status == 408:
                continue
            if reply.status == 429:
                time.sleep(1.0)
                continue
            if reply.status >= 500:
                raise Broken(f"retrieve_future answered {reply.status}: {reply.words()}")
            if reply.status != 200:
                raise Refused(f"{reply.status}: {reply.words()}", status=reply.status)
            if reply.protobuf:
                return reply
            told = reply.json()
            if told.get("type") == "try_again":
                continue
            if told.get("error") is not None:
                raise Refused(str(told["error"])[:300], status=200, category=str(told.get("category", "")))
            return reply
        raise Broken(f"no result in {self.patience:g} s")
