"""Who may call the server, and as whom?

A key is sent as `X-API-Key` (the Tinker SDK) or as `Authorization: Bearer` (OpenAI's clients). A server without keys
takes any `tml-...` key: everything belongs to LOCAL then. Such a server listens on the loopback interface, and as a
web page in the user's browser may reach that under a name of its own (DNS rebinding), requests that name a foreign
host are refused.
"""

import asyncio
import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from crucible.store.server_keys import KeyStore
from crucible.store.server_records import LOCAL

_PREFIX = "tml-"
_RECALLED_SECONDS = 2.0  # how long a revoked key may still work; it saves a database read on nearly every request
_MOST_RECALLED = 4096
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain")


class Auth:
    """ASGI middleware that sets `request.state.owner`, or answers 401.

    any_key: there are no keys: any one in the form of a key is taken. loopback: refuse foreign hosts as well.
    open_paths: whole paths that need no key; open_prefixes: those below which the routes check a signature.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyStore,
        any_key: bool,
        loopback: bool = True,
        open_paths: tuple[str, ...] = ("/healthz", "/api/v1/healthz"),
        open_prefixes: tuple[str, ...] = ("/api/v1/signed_downloads/",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._keys, self._any_key, self._clock = app, keys, any_key, clock
        self._check_host = any_key and loopback
        self._open_paths = (*open_paths, "/metrics") if any_key else open_paths
        self._open_prefixes = open_prefixes
        self._recalled: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through as its owner's, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if self._check_host and not _is_local(headers.get("host", "")):
            answer = _refusal(403, "a server without keys answers to the names of this machine alone", "host_refused")
            await answer(scope, receive, send)
        elif path in self._open_paths or path.startswith(self._open_prefixes):
            await self._app(scope, receive, send)
        elif (owner := await self._owner(_secret(headers))) is None:
            answer = _refusal(401, "this API key is not one of the server's, or was revoked", "invalid_api_key")
            await answer(scope, receive, send)
        else:
            scope.setdefault("state", {})["owner"] = owner
            await self._app(scope, receive, send)

    async def _owner(self, secret: str) -> str | None:
        if not secret.startswith(_PREFIX):
            return None
        if self._any_key:
            return LOCAL
        digest, now = hashlib.sha256(secret.encode()).digest(), self._clock()  # a secret is not kept, here either
        found = self._recalled.get(digest)
        if found is not None and now < found[1]:
            return found[0]
        owner = await asyncio.to_thread(self._keys.owner_of, secret)
        self._recalled.pop(digest, None)
        if owner is not None:
            self._recalled[digest] = owner, now + _RECALLED_SECONDS
            if len(self._recalled) > _MOST_RECALLED:
                self._recalled.popitem(last=False)
        return owner


def _secret(headers: Headers) -> str:
    """The key that a request carries; empty where it carries none."""
    given = headers.get("x-api-key", "")
    if given:
        return given
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@lru_cache(maxsize=256)
def _is_local(host: str) -> bool:
    """Whether a Host header names this machine, or an address, which no name server can turn into another."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() in _LOOPBACK_NAMES:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(status: int, sentence: str, code: str) -> JSONResponse:
    """In the form of both APIs."""
    error = {"message": sentence, "type": "invalid_request_error", "param": None, "code": code}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": sentence, "error": error}, status_code=status, headers=headers)
