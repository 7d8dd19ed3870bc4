"""What does a client learn of what went wrong? A sentence, whose fault it was, and nothing of this machine.

Two ways: a request that means nothing is refused with an HTTP status; a request that means something and cannot be done
fails in its future, so that the requests after it have their turn.
"""

import logging
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.errors import PortError, UserError
from crucible.store.failure import StoreError

Category: TypeAlias = Literal["user", "server", "unknown"]
LOGGER = logging.getLogger("crucible.server")
MOST_SHOWN = 2000
_PATH = re.compile(r"(?<![\w:/.~-])(?:[A-Za-z]:)?(?:/[^\s/'\"(),:;]+){2,}/?")


class Refusal(Exception):
    """The HTTP answer to a request that is not taken.

    status: 400 malformed, 404 not there, 410 was there, 413 too large, 415 unknown encoding, 429 later. Never 409: the
    SDK would send it again and again.
    """

    def __init__(self, status: int, message: str, *, category: Category = "user") -> None:
        assert status != 409, "the SDK retries a 409"
        super().__init__(message)
        self.status = status
        self.category: Category = category

    @property
    def body(self) -> dict[str, str]:
        """What is sent; never empty, since the SDK takes an empty 400 for a proxy's."""
        return {"detail": shown(str(self)), "category": self.category}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a future says that failed."""

    error: str
    category: Category


def failure_of(error: BaseException) -> Failure:
    """What the client is told of an exception; what was not foreseen goes to the log, with its traceback."""
    named = f"{type(error).__name__}: {error}"
    if isinstance(error, Refusal):
        return Failure(error=shown(str(error)), category=error.category)
    if isinstance(error, PortError | StoreError | OSError):
        LOGGER.error("a backend failed: %s", named)
        return Failure(error=shown(named), category="server")
    if isinstance(error, UserError | ValueError):
        return Failure(error=shown(named), category="user")
    LOGGER.error("a request failed on something that nobody foresaw", exc_info=error)
    return Failure(
        error=f"{type(error).__name__}: this is the server's own fault; its log has more", category="unknown"
    )


def shown(text: str) -> str:
    """The text without this machine's paths, and not longer than a page."""
    return _PATH.sub("(a path of the server)", text)[:MOST_SHOWN]
