"""Which weights does a model's name mean, and which of them are open?

A base model's public name; a checkpoint's `tinker://` path; or a run's id, for the sampler weights that it saved last.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from crucible.ports.sampling_client import SamplingSession
from crucible.ports.tokenizer import Tokenizer
from crucible.server.live import Live
from crucible.server.openai_errors import OpenAiError
from crucible.server.opened import Weights
from crucible.server.tinker_path import SCHEME, parse_path
from crucible.store.server_records import CheckpointRecord
from crucible.train.renderers import Renderer, get_renderer

_MOST_OWNED = 64
"""Weights that are kept to be asked for again."""


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """What a name means. checkpoint: None for a base model. reference: what the ports call the base model."""

    name: str
    reference: str
    checkpoint: CheckpointRecord | None

    @property
    def key(self) -> str:
        """Names of the same weights have one key: a checkpoint's files are never changed."""
        return self.reference if self.checkpoint is None else f"{self.reference}\n{self.checkpoint.engine_path}"


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a base model's text is written and read. renderer: made when a chat first needs it."""

    tokenizer: Tokenizer
    renderer: Renderer


class OpenAiModels:
    """What names mean behind OpenAI's routes. For the event loop's thread alone, but for `find`."""

    def __init__(self, live: Live) -> None:
        self._live, self._served = live, live.served
        self._owned: OrderedDict[str, Weights] = OrderedDict()
        self._voices: dict[str, Voice] = {}

    def find(self, name: str, *, owner: str) -> NamedModel:
        """What the name means to this owner; blocks on the database.

        Raises:
            OpenAiError: 404 if it means nothing to them.
        """
        if name in self._served.models:
            return NamedModel(name=name, reference=self._served.models[name], checkpoint=None)
        checkpoint = self._checkpoint(name, owner)
        if checkpoint is None:
            known = ", ".join(self._served.models)
            said = f"there is no model {name[:200]!r}: give one of {known}, a tinker:// path or a run's id"
            raise OpenAiError(404, said, param="model", code="model_not_found")
        run = self._served.store.run_of(checkpoint)
        return NamedModel(name=name, reference=run.reference, checkpoint=checkpoint)

    async def voice(self, model: NamedModel) -> Voice:
        """The tokenizer and renderer of the base model.

        Raises:
            ModelError, RendererError: if it has no tokenizer that can be read, or no convention fits it.
        """
        if model.reference not in self._voices:
            self._voices[model.reference] = await asyncio.to_thread(self._make_voice, model.reference)
        return self._voices[model.reference]

    @asynccontextmanager
    async def session(self, model: NamedModel) -> AsyncGenerator[SamplingSession]:
        """The weights, open for as long as the block runs.

        Raises:
            CheckpointError, ModelError, PortError: if they cannot be opened.
        """
        weights = await self._owned_weights(model)
        async with self._live.weights.used(weights) as session:
            yield session

    async def _owned_weights(self, model: NamedModel) -> Weights:
        """Ours until others were asked for more lately; whether they are open is not our business."""
        if model.key not in self._owned:
            path = (
                None if model.checkpoint is None else await asyncio.to_thread(self._served.vault.open, model.checkpoint)
            )
            weights = await self._live.weights.own(model.reference, path)
            if model.key in self._owned:  # somebody was faster
                self._live.weights.disown(weights)
            else:
                self._owned[model.key] = weights
        self._owned.move_to_end(model.key)
        while len(self._owned) > _MOST_OWNED:
            self._live.weights.disown(self._owned.popitem(last=False)[1])
        return self._owned[model.key]

    def _checkpoint(self, name: str, owner: str) -> CheckpointRecord | None:
        store = self._served.store
        if name.startswith(SCHEME):
            path = parse_path(name)
            if path.kind == "external_weights":
                raise OpenAiError(400, "external weights are for other programs to load", param="model")
            return store.checkpoint(path.run_id, path.kind, path.name, owner=owner)
        saved = store.checkpoints_of_runs([name], owner=owner)[name]
        return next((record for record in reversed(saved) if record.kind == "sampler_weights"), None)

    def _make_voice(self, reference: str) -> Voice:
        tokenizer = self._served.tokenizers.load(reference)
        return Voice(tokenizer=tokenizer, renderer=get_renderer("auto", tokenizer))
