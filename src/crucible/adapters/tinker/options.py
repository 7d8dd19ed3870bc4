"""Where is the service, and with what is it asked?"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from crucible.errors import ManifestError, Problem

ONLY_ALPHA = 32.0
"""The protocol has no `lora_alpha`: the service scales every adapter by 32 / rank."""

_TTL = (3600, 10 * 365 * 86400)
"""Seconds: the service takes an hour to ten years."""


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """What the adapter was told; of each, the option goes before the environment.

    base_url: else TINKER_BASE_URL, else the hosted service. api_key: else TINKER_API_KEY, else what the SDK finds
    itself (TINKER_CREDENTIAL_CMD, `tinker auth login`). project_id: else TINKER_PROJECT_ID.
    ttl_seconds: age at which the service deletes a training state (not the weights for sampling); None: at none.
    exact: whether the service promises equal bytes for equal calls, as `crucible serve` does; it cannot be asked.

    Raises:
        ManifestError: naming every option that is wrong; the key itself is never shown.
    """

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    project_id: str | None = None
    ttl_seconds: int | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.base_url or os.environ.get("TINKER_BASE_URL") or None)
        object.__setattr__(self, "api_key", self.api_key or os.environ.get("TINKER_API_KEY") or None)
        if problems := [*self._problems()]:
            raise ManifestError(problems)

    def _problems(self) -> Iterator[Problem]:
        if self.base_url is not None:
            for what in _address_problems(str(self.base_url)):
                yield Problem(what=what, where="tinker.base_url", fix="Give an address like http://127.0.0.1:8000")
        key = cast(object, self.api_key)  # options come from a command line, whatever their types say
        if key is not None and not (isinstance(key, str) and key.isascii() and key.isprintable()):
            yield Problem(what="holds a character that no key has", where="tinker.api_key")
        project = cast(object, self.project_id)
        if project is not None and not isinstance(project, str):
            yield Problem(what="is no project's id", where="tinker.project_id", given=repr(project))
        exact = cast(object, self.exact)
        if not isinstance(exact, bool):
            yield Problem(what="is neither true nor false", where="tinker.exact", given=repr(exact))
        ttl = cast(object, self.ttl_seconds)
        if ttl is None:
            return
        if not isinstance(ttl, int) or isinstance(ttl, bool) or not _TTL[0] <= ttl <= _TTL[1]:
            yield Problem(
                what=f"is not a whole number of seconds from {_TTL[0]} to {_TTL[1]}",
                where="tinker.ttl_seconds",
                given=repr(ttl),
            )


def _address_problems(base_url: str) -> Iterator[str]:
    """What is wrong with an address, which is not shown: it may hold a password."""
    try:
        parts = urlsplit(base_url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        yield "is no address"
        return
    if not whole:
        yield "is no address that starts with http:// or https://"
    if parts.username or parts.password or parts.query:
        yield "holds a name, a password or a query"
