# pyright: standard
# (hands torch tensors between the engine's parts)
"""Which weights do sampling sessions hold? Fixed ones, whatever training does.

A session of saved weights holds a copy of them; sessions of the same weights share one. What is sampled holds its
weights itself, so that closing a session takes nothing from a request under way, and the copy goes with its last user.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from crucible.engine import checkpoint
from crucible.engine.aside import Aside
from crucible.engine.lora import LoraAdapter, fill_adapter
from crucible.engine.memory import MemoryLedger
from crucible.engine.model import LoadedModel, adapter_for, adapter_parameters
from crucible.engine.shelf import ModelShelf
from crucible.engine.worker import Steps, awaited
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import SessionConfig


@dataclass(frozen=True, kw_only=True)
class OpenWeights:
    """A sampling session's weights: a base model, and an adapter that nothing changes (None: the base model itself)."""

    session: SamplingSession
    loaded: LoadedModel
    adapter: LoraAdapter | None


class SamplingWeights:
    """Sampling sessions: weights by id. Only the engine's thread calls it."""

    def __init__(self, shelf: ModelShelf, *, memory: MemoryLedger, aside: Aside) -> None:
        self._shelf, self._memory, self._aside = shelf, memory, aside
        self._sessions: dict[str, OpenWeights] = {}
        self._shared: WeakValueDictionary[tuple[str, str], LoraAdapter] = WeakValueDictionary()
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Sessions open."""
        return len(self._sessions)

    def open(self, *, base_model: str | None, model_path: str | None) -> Steps[SamplingSession]:
        """See `SamplingClient.start_session`.

        Raises:
            PortError: if there is no memory for the weights.
        """
        if model_path is None:
            if base_model is None:
                raise ValueError("give base_model, model_path, or both")
            loaded = yield from self._shelf.load(base_model)
            return self._keep(SamplingSession(session_id=self._new_id(), base_model=base_model), loaded, None)
        reading = self._aside.run(lambda: checkpoint.read(Path(model_path), optimizer=False), name="crucible-reader")
        saved = yield from awaited(reading)
        reference = saved.base_model if base_model is None else base_model
        loaded = yield from self._shelf.load(reference)
        checkpoint.require_model(saved, loaded.fingerprint, given=reference)
        session = SamplingSession(
            session_id=self._new_id(),
            base_model=reference,
            model_path=model_path,
            digest=saved.digest,
            policy_version=saved.policy_version,
        )
        return self._keep(session, loaded, self._adapter(loaded, saved))

    def of(self, handle: SamplingSession) -> OpenWeights:
        """An open session's weights.

        Raises:
            ValueError: if it is not open.
        """
        if handle.session_id not in self._sessions:
            raise ValueError(f"there is no open sampling session {handle.session_id!r}")
        return self._sessions[handle.session_id]

    def close(self, handle: SamplingSession) -> None:
        """See `SamplingClient.close_session`."""
        self._sessions.pop(handle.session_id, None)

    def _adapter(self, loaded: LoadedModel, saved: checkpoint.SavedAdapter) -> LoraAdapter:
        key = (loaded.fingerprint, saved.digest)
        adapter = self._shared.get(key)
        if adapter is None:
            config = SessionConfig(model=saved.base_model, **saved.lora)
            size = 4 * adapter_parameters(loaded, config)
            with self._memory.room_for(size, what=f"an adapter of rank {config.lora_rank}") as held_by:
                adapter = held_by(adapter_for(loaded, config))
                fill_adapter(adapter, saved.adapter)
            self._shared[key] = adapter
        return adapter

    def _new_id(self) -> str:
        return f"sample-{next(self._numbers)}"

    def _keep(self, session: SamplingSession, loaded: LoadedModel, adapter: LoraAdapter | None) -> SamplingSession:
        self._sessions[session.session_id] = OpenWeights(session=session, loaded=loaded, adapter=adapter)
        return session
