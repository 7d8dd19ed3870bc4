"""How does a run show its metrics at Weights & Biases? `WandbMetricsStore`, a mirror of the local store."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from crucible.adapters.metrics.courier import Patience
from crucible.adapters.metrics.jsonl import JsonlMetricsStore
from crucible.adapters.metrics.mirrored import Mirrored
from crucible.adapters.metrics.tracker import Tracker
from crucible.errors import ManifestError, MissingExtraError
from crucible.ports.metrics_store import MetricsRow

_SCRIPT = Path(__file__).with_name("wandb_child.py")
_FAILED_S = 10.0
"""How long a child that reported a failure is waited for, in the courier's thread."""


class WandbMetricsStore(Mirrored):
    """`metrics.jsonl`, mirrored to a W&B run of the run's name.

    folder: a run's own folder (its name is the run's id), or a folder of such folders; W&B's files lie in its
    folder `wandb`.
    project: else WANDB_PROJECT, else `crucible`. entity: else WANDB_ENTITY, else the account's own.
    mode: `online` or `offline` (files that `wandb sync` uploads later); else WANDB_MODE, else online.

    The key is W&B's own affair (WANDB_API_KEY, or its login): it never passes through here.

    Raises:
        MissingExtraError: if W&B is not installed.
        ManifestError: if the mode is another word.
    """

    adapter_name: ClassVar[str] = "wandb"

    def __init__(
        self,
        folder: Path | str,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        patience: Patience | None = None,
    ) -> None:
        if find_spec("wandb") is None:
            raise MissingExtraError.for_extra("wandb", needed_by="the metrics store wandb", module="wandb")
        if mode not in ("online", "offline", None):
            raise ManifestError.of("must be online or offline", where="wandb.mode", given=mode)
        local = JsonlMetricsStore(folder)
        project = project or os.environ.get("WANDB_PROJECT") or "crucible"

        def tracker(run_id: str) -> WandbTracker:
            return WandbTracker(local.path(run_id).parent, name=run_id, project=project, entity=entity, mode=mode)

        super().__init__(local, tracker, name=self.adapter_name, patience=patience)


class WandbTracker(Tracker):
    """A W&B run, in a process of its own: `wandb_child.py`.

    W&B starts threads, hooks into the interpreter's exit and its streams, and may wait for the network for minutes;
    in the child none of that reaches the run. The child lives in a session of its own, so Ctrl-C does not reach it;
    when the run's process is killed, it still finishes what it was given.

    folder: the run's; name: the run's id. The others as in `WandbMetricsStore`.
    """

    def __init__(self, folder: Path, *, name: str, project: str, entity: str | None, mode: str | None) -> None:
        self._folder = folder / "wandb"
        self._settings: dict[str, Any] = {"name": name, "project": project, "entity": entity, "mode": mode}
        self._lock = threading.Lock()
        self._closed = False
        self._child: _Child | None = None

    def send(self, first: int, rows: Sequence[MetricsRow]) -> None:
        try:
            child = self._child
            if child is None:
                child = self._start()
                child.ask({**self._settings, "id": _own_id(self._folder / "run-id", self._settings["name"])})
            child.ask({"first": first, "rows": [{"step": row.step, **row.values} for row in rows]})
        except BaseException:
            child, self._child = self._child, None  # the next one starts anew
            if child is not None:
                child.end(patience=_FAILED_S)
            raise

    def close(self, *, patience: float) -> None:
        with self._lock:
            self._closed = True
        if self._child is not None and not self._child.end(patience=patience) and patience:
            raise TimeoutError(
                f"W&B did not finish in {patience:.0f} seconds and is left to itself for a minute; "
                f"`wandb sync` uploads what is then missing of {self._folder}"
            )

    def _start(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._child = _Child(self._folder)
            return self._child


class _Child:
    """The process, and its pipes. What it prints goes to `crucible.log` in the folder."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "crucible.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT), str(os.getpid()), str(folder.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._messages, self._answers = self._process.stdin, self._process.stdout

    def ask(self, message: Mapping[str, Any]) -> None:
        """Return when the child has done what the message says.

        Raises:
            RuntimeError: if it could not.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            self._messages.write(json.dumps(message).encode() + b"\n")
            self._messages.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"W&B's process ended; see {self._log}")
        if (error := json.loads(answer).get("error")) is not None:
            raise RuntimeError(error)

    def end(self, *, patience: float) -> bool:
        """Let the child finish, which it does for a while also when nobody waits; whether it did in time.

        patience: seconds; 0 ends it, and W&B's own processes, at once: it may not be listening any more.
        """
        if not patience:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self._messages.close()  # which is what the child takes for the end
        try:
            self._process.wait(patience or None)
        except subprocess.TimeoutExpired:
            threading.Thread(target=self._process.wait, daemon=True).start()  # no zombie, whenever that is
            return False
        finally:
            self._answers.close()
        return patience > 0


def _own_id(path: Path, name: str) -> str:
    """The run's id at W&B, drawn once: two machines may both have a run `first` in one project."""
    if not path.exists():
        slug = re.sub(r"[^a-zA-Z0-9._-]", "-", name)[:48]
        temporary = path.with_suffix(".new")
        temporary.write_text(f"{slug}-{secrets.token_hex(4)}")
        temporary.replace(path)
    return path.read_text()
