"""How does a training session get into a checkpoint and out again? Through its backend."""

from collections.abc import Awaitable, Generator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import msgspec

from crucible.errors import CheckpointError
from crucible.framework import Codec, Place, Slot, register_codec
from crucible.ports import TrainingClient
from crucible.ports.future import Future
from crucible.ports.training_client import SavedWeights, SessionConfig, TrainingSession


class SessionCodec(Codec):
    """A LoRA session: its adapter and optimizer, saved and loaded by the run's training backend.

    The backend saves in its own order of calls, so what is saved is the session as of the call, while later steps
    may be on their way.
    """

    cheap: ClassVar[bool] = False

    def save(self, slot: Slot[Any], value: TrainingSession, place: Place) -> Awaitable[Any]:
        del slot
        return _Described(_client(place).save_checkpoint(value, place.name, overwrite=True), value.config, place)

    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> TrainingSession:
        try:
            config = msgspec.convert(saved["config"], SessionConfig)
            path, digest = str(saved["path"]), str(saved["digest"])
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise CheckpointError.of(f"is no saved session: {error!r}", where=slot.name) from error
        client = _client(place)
        session = await client.start_session(config)
        try:
            await client.load_checkpoint(session, place.found(path), optimizer=True, digest=digest)
        except BaseException:
            await client.close_session(session)
            raise
        return session

    def told(self, saved: Any) -> Mapping[str, Any]:
        return {"state_path": saved["path"]}

    async def discard(self, saved: Any, place: Place) -> None:
        await _client(place).delete_checkpoint(place.found(saved["path"]))


class _Described(Awaitable[dict[str, Any]]):
    """What was saved, as JSON data. No coroutine: a run that fails may never await it."""

    def __init__(self, saving: Future[SavedWeights], config: SessionConfig, place: Place) -> None:
        self._saving, self._config, self._place = saving, config, place

    def __await__(self) -> Generator[object, None, dict[str, Any]]:
        saved = yield from self._saving.__await__()
        return {"path": self._place.recorded(saved.path), "digest": saved.digest, "config": asdict(self._config)}


def _client(place: Place) -> TrainingClient:
    client = place.ports.get(TrainingClient.port_name)
    assert isinstance(client, TrainingClient), "a stage that made the session has declared the port"
    return client


register_codec("session", SessionCodec())
