"""How do requests reach the engine? Through one queue, in order, into one thread that holds everything.

Training and sampling sessions share the thread and the base models in it. Torch is imported there, on the
first request.
"""

import concurrent.futures
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from crucible.engine.facts import model_facts
from crucible.engine.options import EngineOptions
from crucible.engine.worker import Worker
from crucible.engine.writer import Writer
from crucible.errors import MissingExtraError
from crucible.ports.future import Future
from crucible.ports.model_facts import ModelFacts
from crucible.ports.training_client import Estimate, SessionConfig, Workload

if TYPE_CHECKING:
    from crucible.engine.room import EngineRoom

T = TypeVar("T")


class Engine:
    """The embedded engine. Making one is cheap: no thread, no torch, no model before the first request.

    resolve_model: from a model reference (packaged name, hub id, folder, GGUF file) to a local folder; it raises
        ModelError for an unknown one.
    guard: a context manager around every request, where an adapter translates foreign exceptions.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        resolve_model: Callable[[str], Path],
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._options, self._resolve_model = options, resolve_model
        self._worker = Worker("crucible-engine", guard=guard)
        self._writer = Writer(guard=guard)
        self._room: EngineRoom | None = None

    def submit(self, call: "Callable[[EngineRoom], T | concurrent.futures.Future[T]]") -> Future[T]:
        """Run `call` in the engine's thread after everything submitted before.

        Raises (through the future):
            MissingExtraError: if torch or transformers is not installed.
            ManifestError: if the machine lacks the device of the options.
            Exception: whatever `call` raised, as `guard` translated it.
        """
        return self._worker.submit(lambda: call(self._open()))

    def estimate(self, config: SessionConfig, workload: Workload) -> Estimate:
        """What the workload would cost here; loads no model.

        Raises:
            MissingExtraError: if torch is not installed.
            ModelError: if the model cannot be found or its weights cannot be read.
        """
        try:
            from crucible.engine.estimate import estimate
        except ModuleNotFoundError as error:
            missing = error.name or "torch"
            raise MissingExtraError.for_extra("torch", needed_by="the embedded engine", module=missing) from error
        return estimate(self._resolve_model(config.model), config, workload, options=self._options)

    def model_facts(self, model: str) -> ModelFacts | None:
        """What the model's folder says of it; loads nothing.

        Raises:
            ModelError: if the model cannot be found or its config.json cannot be read.
        """
        return model_facts(self._resolve_model(model))

    def close(self) -> None:
        """End the thread and free the models. Safe to call twice.

        Waits for the request that is running, which ends with a CancelledError before its next micro-batch or token.
        Requests still waiting fail with one too.
        """
        self._worker.close()
        self._writer.close()
        self._room = None

    def _open(self) -> "EngineRoom":
        if self._room is None:
            try:
                from crucible.engine.room import EngineRoom
            except ModuleNotFoundError as error:
                missing = error.name or "torch"
                raise MissingExtraError.for_extra("torch", needed_by="the embedded engine", module=missing) from error
            self._room = EngineRoom.open(
                self._options,
                resolve_model=self._resolve_model,
                writer=self._writer,
                should_stop=lambda: self._worker.closing,
            )
        return self._room
