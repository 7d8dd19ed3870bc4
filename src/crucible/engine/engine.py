"""How do requests reach the engine? In one thread that holds everything, a session's in order, sessions in turns.

Training and sampling sessions share the thread and the base models in it. Torch is imported there, on the
first request.
"""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from crucible.engine.aside import Aside
from crucible.engine.facts import model_facts
from crucible.engine.memory import MemoryLedger
from crucible.engine.options import EngineOptions
from crucible.engine.worker import Outcome, Worker
from crucible.engine.writer import Writer
from crucible.errors import MissingExtraError
from crucible.ports.future import Future
from crucible.ports.model_facts import ModelFacts
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import Estimate, SessionConfig, Workload

if TYPE_CHECKING:
    from crucible.engine.checkpoint import Kind
    from crucible.engine.room import EngineRoom
    from crucible.engine.sampler import Sampler
    from crucible.engine.weights import OpenWeights

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
        self._worker = Worker("crucible-engine", guard=guard, at_end=self._end)
        self._writer = Writer(guard=guard)
        self._aside = Aside()
        self._memory = MemoryLedger(options.max_memory)
        self._room: EngineRoom | None = None

    def submit(
        self,
        call: "Callable[[EngineRoom], Outcome[T]]",
        *,
        session: str | None = None,
        paths: Sequence[str] = (),
    ) -> Future[T]:
        """Run `call` in the engine's thread.

        session: the calls of one run in the order they were submitted, and share a part of the engine's time; without
            one, a call runs beside all others.
        paths: checkpoints that it writes, reads or deletes: those of one path run in the order they were submitted.

        Raises (through the future):
            MissingExtraError: if torch or transformers is not installed.
            ManifestError: if the machine lacks the device of the options.
            Exception: whatever `call` raised, as `guard` translated it.
        """
        return self._worker.submit(
            lambda: call(self._open()),
            tenant=session or "",
            lanes=() if session is None else (session,),
            claims=tuple({Path(path).absolute() for path in paths}),
        )

    def sample(
        self,
        session: SamplingSession,
        ask: "Callable[[Sampler, OpenWeights], concurrent.futures.Future[T]]",
    ) -> Future[T]:
        """Hand the sampler a request on the session's weights. Requests run beside each other and beside training."""

        def hand_in() -> "concurrent.futures.Future[T]":
            room = self._open()
            return room.sampling.take(session.session_id, ask(room.sampler, room.weights.of(session)))

        # A tenant of its own, whose calls take no time: requests are at hand before the next token is drawn.
        return self._worker.submit(hand_in, tenant="requests", lanes=(session.session_id,))

    def checkpoint_path(self, kind: "Kind", name: str) -> str:
        """Where a checkpoint of this name is saved."""
        return str(self._options.checkpoint_dir / kind / name)

    def statistics(self) -> Mapping[str, float]:
        """What the engine holds and has before it now. Safe from any thread; starts nothing."""
        room = self._room
        known: dict[str, float] = {"calls_waiting": self._worker.waiting, "memory_bytes": self._memory.used}
        if self._memory.limit is not None:
            known["memory_limit_bytes"] = self._memory.limit
        if room is not None:
            known |= {"training_sessions": len(room.trainer), "sampling_sessions": len(room.weights)}
            known |= room.sampler.statistics()
        return known

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

        Waits for the unit that is running: what is not done by then, or waiting, fails with a CancelledError. A
        checkpoint that is being written is finished, a model that is being read too.
        """
        self._worker.close()
        self._writer.close()
        self._aside.close()
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
                worker=self._worker,
                writer=self._writer,
                memory=self._memory,
                aside=self._aside,
            )
        return self._room

    def _end(self) -> None:
        if self._room is not None:
            self._room.sampling.end()
