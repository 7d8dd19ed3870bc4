"""What does a `tinker://RUN/KIND/NAME` path name?"""

from dataclasses import dataclass

from crucible.errors import CheckpointError
from crucible.store.server_records import CHECKPOINT_KINDS, CheckpointKind

SCHEME = "tinker://"


@dataclass(frozen=True, kw_only=True)
class TinkerPath:
    """A checkpoint's run, kind and name: what the store looks it up by. None of them is ever a path on a disk."""

    run_id: str
    kind: CheckpointKind
    name: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.run_id}/{self.kind}/{self.name}"


def parse_path(path: str) -> TinkerPath:
    """Read a path.

    Raises:
        CheckpointError: unless it has exactly the three parts, the second of them a known kind.
    """
    parts = path.removeprefix(SCHEME).split("/")
    if not path.startswith(SCHEME) or len(parts) != 3 or not all(parts) or parts[1] not in CHECKPOINT_KINDS:
        raise CheckpointError.of(
            "this is no path of a checkpoint",
            given=path[:200],
            fix=f"Give {SCHEME}RUN/KIND/NAME, with KIND one of {', '.join(CHECKPOINT_KINDS)}",
        )
    return TinkerPath(run_id=parts[0], kind=parts[1], name=parts[2])
