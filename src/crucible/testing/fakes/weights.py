"""What are a fake backend's weights, and where do the saved ones live?

The weights are a count of updates: enough to tell a snapshot from what training did afterwards.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from crucible.errors import CheckpointError

FILE_NAME = "fake_weights.json"


@dataclass(frozen=True, kw_only=True)
class FakeWeights:
    """updates: optimizer steps that moved the weights. optimizer_steps: None where saved without that state.
    policy_version: all optimizer steps."""

    model: str
    lora_rank: int
    updates: int = 0
    optimizer_steps: int | None = 0
    policy_version: int = 0

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class WeightsShelf:
    """Saved weights by path: in memory, or one folder each below `checkpoint_dir`.

    A training and a sampling fake that share a shelf share what is saved on it.
    """

    def __init__(self, checkpoint_dir: Path | None = None) -> None:
        self._dir = checkpoint_dir
        self._memory: dict[str, FakeWeights] = {}

    def save(self, weights: FakeWeights, *, kind: str, name: str, overwrite: bool = False) -> str:
        """Save under a name, a fresh one unless it may be overwritten; returns the path that loads it.

        Raises:
            CheckpointError: if the name is not a plain file name, or is taken.
        """
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise CheckpointError.of("a checkpoint's name is a plain file name", given=repr(name))
        if self._dir is None:
            path = f"memory:{kind}/{name}"
            if path in self._memory and not overwrite:
                raise _taken(path)
            self._memory[path] = weights
            return path
        if overwrite:
            shutil.rmtree(self._dir / kind / name, ignore_errors=True)
        return str(_write_folder(self._dir / kind / name, weights))

    def delete(self, path: str) -> None:
        """Forget what is saved at `path`, if anything is."""
        if self._memory.pop(path, None) is None and (Path(path) / FILE_NAME).is_file():
            shutil.rmtree(path)

    def load(self, path: str) -> FakeWeights:
        """The weights saved at `path`.

        Raises:
            CheckpointError: if there are none, or they cannot be read.
        """
        if path in self._memory:
            return self._memory[path]
        file = Path(path) / FILE_NAME
        try:
            return FakeWeights(**json.loads(file.read_text()))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError.of("there is no such checkpoint", given=path) from error
        except (ValueError, TypeError) as error:
            raise CheckpointError.of("this checkpoint is damaged", given=path) from error


def _taken(path: object) -> CheckpointError:
    return CheckpointError.of("a checkpoint of that name exists", given=str(path), fix="Choose another name")


def _write_folder(folder: Path, weights: FakeWeights) -> Path:
    """The folder appears whole or not at all: it is filled under a temporary name, then renamed."""
    if folder.exists():
        raise _taken(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".saving-"))
    (temporary / FILE_NAME).write_text(json.dumps(asdict(weights), sort_keys=True))
    os.rename(temporary, folder)  # noqa: PTH104  (os.rename names the system call that is atomic)
    return folder
