"""Who is it that calls a server? API keys: made, listed, given a new secret, revoked, recognised."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, insert, select, update

from crucible.errors import ConfigError
from crucible.store.database import Database
from crucible.store.server_records import KeyRecord
from crucible.store.server_tables import KEYS

_SHAPE = re.compile(r"tml-([0-9a-f]{16})-[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_NO_DIGEST = "0" * 64


class KeyStore:
    """The API keys of a server.

    A secret is `tml-ID-` and 256 random bits. What is kept is its SHA-256: with so many random bits nothing can be
    guessed from it, and no second secret has to be kept to make it. Every method raises StoreError if the database
    fails.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def create(self, name: str) -> tuple[KeyRecord, str]:
        """A new key, and its secret, which nobody can ask for again.

        Raises:
            ConfigError: if the name is taken, by a revoked key too, or is no plain name.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError.of(
                "a key's name is up to 64 letters, digits and ._@- and begins with a letter or a digit", given=name
            )
        record = KeyRecord(key_id=secrets.token_hex(8), name=name, created_at=self._clock())
        secret = _new_secret(record.key_id)
        with self._database.write() as connection:
            if connection.execute(select(KEYS.c.key_id).where(KEYS.c.name == name)).first() is not None:
                raise ConfigError.of("there is a key of this name, or was one", given=name, fix="Choose another name")
            row = {"key_id": record.key_id, "name": name, "created_at": record.created_at, "digest": _digest(secret)}
            connection.execute(insert(KEYS), row)
        return record, secret

    def renew(self, name: str) -> tuple[KeyRecord, str]:
        """A new secret for a key that owns what it owned; the old secret is refused from now on.

        Raises:
            ConfigError: if there is no such key, or it is revoked.
        """
        record = self._named(name)
        if record.revoked_at is not None:
            raise ConfigError.of("the key is revoked", given=name, fix="Create another one")
        secret = _new_secret(record.key_id)
        with self._database.write() as connection:
            connection.execute(update(KEYS).where(KEYS.c.key_id == record.key_id).values(digest=_digest(secret)))
        return record, secret

    def revoke(self, name: str) -> KeyRecord:
        """Refuse the key from now on; what it owns stays, and nobody sees it. Safe to call twice.

        Raises:
            ConfigError: if there is no such key.
        """
        record = self._named(name)
        with self._database.write() as connection:
            open_key = (KEYS.c.key_id == record.key_id) & KEYS.c.revoked_at.is_(None)
            connection.execute(update(KEYS).where(open_key).values(revoked_at=self._clock()))
        return self._named(name)

    def all(self) -> tuple[KeyRecord, ...]:
        """Every key there ever was, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.key_id))
            return tuple(_record(row) for row in rows)

    def any_in_force(self) -> bool:
        """Whether there is a key that is not revoked."""
        with self._database.read() as connection:
            return (
                connection.execute(select(KEYS.c.key_id).where(KEYS.c.revoked_at.is_(None)).limit(1)).first()
                is not None
            )

    def owner_of(self, secret: str) -> str | None:
        """The id of the key whose secret this is; None if it is of no key, or of a revoked one."""
        shape = _SHAPE.fullmatch(secret)
        if shape is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.key_id == shape[1])).first()
        kept = _NO_DIGEST if row is None or row.revoked_at is not None else row.digest
        same = hmac.compare_digest(kept, _digest(secret))
        return shape[1] if same else None

    def _named(self, name: str) -> KeyRecord:
        with self._database.read() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.name == name)).first()
        if row is None:
            raise ConfigError.of("there is no key of this name", given=name, fix="See them with: crucible keys list")
        return _record(row)


def _new_secret(key_id: str) -> str:
    return f"tml-{key_id}-{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(row: Row[Any]) -> KeyRecord:
    return KeyRecord(key_id=row.key_id, name=row.name, created_at=row.created_at, revoked_at=row.revoked_at)
