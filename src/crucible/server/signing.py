"""How may a file be downloaded by who has its URL alone? The URL carries what it is good for, signed.

The key lives as long as the process: after a restart a client asks for its URLs again.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import cast


class Signer:
    """Makes and reads signed tokens. clock: seconds since 1970."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._key, self._clock = secrets.token_bytes(32), clock

    def sign(self, words: Sequence[str], *, expires_at: float) -> str:
        """A token of URL-safe characters that says these words until then."""
        body = json.dumps([expires_at, *words]).encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def read(self, token: str) -> list[str] | None:
        """The words; None if the token is not ours or its time is over."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, body = raw[:32], raw[32:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        expires_at, *words = cast("list[float | str]", json.loads(body))
        assert isinstance(expires_at, float | int)
        return [str(word) for word in words] if self._clock() < expires_at else None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)
