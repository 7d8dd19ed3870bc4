"""What is saved under which path, and what is known of it?

A path is never used twice: a name that is saved again gets a number (`rolling`, `rolling-2`), and what it replaces is
deleted. So a path names its content and serves as its digest.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from crucible.errors import CheckpointError

Kind: TypeAlias = Literal["weights", "sampler_weights"]

UNKNOWN = -1
"""The policy version of a checkpoint that does not say its own: another program saved it."""

_VERSION, _OPTIMIZER = "crucible_policy_version", "crucible_optimizer"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the service keeps of a checkpoint for us, as its metadata.

    optimizer: False if it was saved to be loaded without its optimizer state only (the service saves that always).
    """

    policy_version: int = UNKNOWN
    optimizer: bool = True

    def metadata(self) -> dict[str, str]:
        """As the service takes it."""
        return {_VERSION: str(self.policy_version), _OPTIMIZER: "yes" if self.optimizer else "no"}

    @classmethod
    def of(cls, metadata: Mapping[str, str] | None) -> "Known":
        """As the service gives it back."""
        told = metadata or {}
        version = told.get(_VERSION, "")
        return cls(
            policy_version=int(version) if version.isdecimal() else UNKNOWN, optimizer=told.get(_OPTIMIZER) != "no"
        )


def run_of(path: str) -> str:
    """The training run that a path belongs to.

    Raises:
        CheckpointError: if it is no `tinker://RUN/KIND/NAME`.
    """
    parts = path.removeprefix("tinker://").split("/")
    if not path.startswith("tinker://") or len(parts) != 3 or not all(parts):
        raise CheckpointError.of(
            "there is no such checkpoint on a Tinker service",
            given=path,
            fix="Give a path like tinker://RUN/weights/NAME",
        )
    return parts[0]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something is about to be saved: a session's name, for the count-th time. told: the name for the service."""

    session: str
    kind: Kind
    name: str
    count: int

    @property
    def told(self) -> str:
        return self.name if self.count == 1 else f"{self.name}-{self.count}"


class Shelf:
    """The checkpoints that this process saved: their names by session and kind, and what is known of each path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, Kind, str], tuple[int, str]] = {}  # count and path, "" while it is being saved
        self._used: set[tuple[str, Kind, str]] = set()
        self._known: dict[str, Known] = {}

    def reserve(self, session: str, kind: Kind, name: str, *, overwrite: bool) -> Place:
        """Where to save under a name.

        Raises:
            CheckpointError: if the name is not a plain file name, or is taken and not to be overwritten.
        """
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            raise CheckpointError.of("a checkpoint's name is a plain file name", given=name)
        with self._lock:
            if (session, kind, name) in self._taken and not overwrite:
                raise CheckpointError.of("a checkpoint of this name exists", given=name, fix="Choose another name")
            place = Place(session=session, kind=kind, name=name, count=1)
            while (session, kind, place.told) in self._used:
                place = replace(place, count=place.count + 1)
            self._used.add((session, kind, place.told))
            self._taken.setdefault((session, kind, name), (0, ""))
            return place

    def saved(self, place: Place, path: str, known: Known) -> str:
        """Note what was saved; the path that nobody needs any more: the one before, or this one if a later one is
        there already. "" if there is none."""
        with self._lock:
            key = (place.session, place.kind, place.name)
            count, before = self._taken.get(key, (0, ""))
            self._known[path] = known
            if count > place.count:
                return path
            self._taken[key] = (place.count, path)
            return before

    def failed(self, place: Place) -> None:
        """Give a name back that nothing was saved under."""
        with self._lock:
            key = (place.session, place.kind, place.name)
            if self._taken.get(key) == (0, ""):
                del self._taken[key]

    def forget(self, path: str) -> None:
        """Note that a path was deleted: its name is free."""
        with self._lock:
            self._known.pop(path, None)
            for key in [key for key, (_, held) in self._taken.items() if held == path]:
                del self._taken[key]

    def known(self, path: str) -> Known | None:
        """What is known of it here; None for what another process saved."""
        with self._lock:
            return self._known.get(path)
