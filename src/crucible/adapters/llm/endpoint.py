"""How does a JSON request reach a server, and how does its failure come back? `Endpoint`, over the standard library."""

import http.client
import json
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from crucible.errors import ManifestError, PortError, Problem

_PASSING = frozenset({408, 409, 425, 429})
"""HTTP statuses below 500 that may pass by themselves."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server's address and the key that it takes. Proxies come from the environment; no redirect is followed.

    timeout: seconds of silence after which a request fails.
    port, adapter: whose failures these are.

    Raises:
        ManifestError: naming every option that is wrong; the key itself is never shown.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    timeout: float
    port: str
    adapter: str

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise ManifestError(problems)

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The answer's bytes.

        Raises:
            PortError: if there is none; see `translated`.
        """
        with self.translated(), self._open(path, body) as response:
            return response.read()

    def events(self, path: str, body: Mapping[str, Any]) -> Generator[str]:
        """The data of each server-sent event, as it comes, up to `[DONE]` or the end.

        Raises:
            PortError: as `post`.
        """
        with self.translated(), self._open(path, body) as response:
            for line in response:
                name, _, data = line.decode("utf-8", "replace").strip().partition(":")
                if name != "data":
                    continue
                if data.strip() == "[DONE]":
                    return
                yield data

    def failure(self, message: str, *, retryable: bool, details: Mapping[str, object] | None = None) -> PortError:
        """The port's error, without the key, should the server have repeated it."""
        shown = message.replace(self.api_key, "[api_key]") if self.api_key else message
        return PortError(shown, port=self.port, adapter=self.adapter, retryable=retryable, details=details)

    @contextmanager
    def translated(self) -> Generator[None]:
        """Turn the library's errors into PortError: the one edge where they are.

        Network trouble, silence, 408, 409, 425, 429 and 5xx are retryable; `details` has `status`, and `retry_after`
        where the server said so. A certificate that is not trusted and every other status are not.
        """
        try:
            yield
        except HTTPError as error:
            with error:
                told = _told(error)
            after = error.headers.get("Retry-After")
            raise self.failure(
                f"the server answered {error.code}: {told}",
                retryable=error.code in _PASSING or error.code >= 500,
                details={"status": error.code, **({} if after is None else {"retry_after": after})},
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise self.failure(
                f"{self.base_url} cannot be reached: {reason or type(reason).__name__}",
                retryable=not isinstance(reason, ssl.SSLCertVerificationError),
            ) from error

    def _problems(self) -> Iterator[Problem]:
        for what, fix in _address_problems(str(self.base_url)):
            yield Problem(what=what, where=f"{self.adapter}.base_url", fix=fix)
        key = cast(object, self.api_key)  # options come from a command line, whatever their types say
        if key is not None and not (isinstance(key, str) and key.isascii() and key.isprintable()):
            yield Problem(what="holds a character that no key has", where=f"{self.adapter}.api_key")
        seconds = cast(object, self.timeout)
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
            where = f"{self.adapter}.timeout"
            yield Problem(what="is not a number of seconds above 0", where=where, given=repr(seconds))

    def _open(self, path: str, body: Mapping[str, Any]) -> http.client.HTTPResponse:
        request = Request(
            self.base_url.rstrip("/") + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "crucible-kitchen"},
        )
        if self.api_key:
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        return cast(http.client.HTTPResponse, build_opener(_NoRedirect).open(request, timeout=self.timeout))


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an error: a key and a conversation go to the address that was given, and to no other."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _address_problems(base_url: str) -> Iterator[tuple[str, str]]:
    """(what, fix). The address is not shown: it may hold a password."""
    fix = "Give an address like http://localhost:8000/v1, and a key as api_key"
    try:
        parts = urlsplit(base_url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        yield "is no address", fix
        return
    if not whole:
        yield "is no address that starts with http:// or https://", fix
    if parts.username or parts.password or parts.query:
        yield "holds a name, a password or a query", fix


def _told(error: HTTPError) -> str:
    """What the server said of an error: its JSON's `error.message`, or the start of its text."""
    try:
        text = error.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        body: Any = json.loads(text)
        said = body["error"]
        return str(cast(dict[str, Any], said)["message"] if isinstance(said, dict) else said)
    except (ValueError, LookupError, TypeError):
        return " ".join(text.split())[:300] or error.reason
