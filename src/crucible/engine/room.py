# pyright: standard
# (sets torch's threads)
"""What does the engine's thread hold? Base models, sessions in training, sampling sessions, and what they share."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from crucible.engine.aside import Aside
from crucible.engine.memory import MemoryLedger
from crucible.engine.mixing import Mixer
from crucible.engine.options import EngineOptions
from crucible.engine.sampler import Sampler
from crucible.engine.shared_turns import SharedTurns
from crucible.engine.shelf import ModelShelf
from crucible.engine.trainer import Trainer
from crucible.engine.weights import SamplingWeights
from crucible.engine.worker import Worker
from crucible.engine.writer import Writer


@dataclass(frozen=True, kw_only=True)
class EngineRoom:
    """Everything that only the engine's thread may touch."""

    options: EngineOptions
    shelf: ModelShelf
    trainer: Trainer
    weights: SamplingWeights
    sampler: Sampler
    sampling: SharedTurns

    def environment(self) -> dict[str, str]:
        """What the bytes of a result depend on beside the calls."""
        return {
            "torch": str(torch.__version__),
            "transformers": importlib.metadata.version("transformers"),
            "device": self.shelf.device_name,
            "dtype": self.options.dtype,
            "threads": str(torch.get_num_threads()),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "token_budget": str(self.options.token_budget),
            "slots": str(self.options.slots),
            **({"mix_adapters": "on"} if self.options.mix_adapters else {}),
        }

    @classmethod
    def open(
        cls,
        options: EngineOptions,
        *,
        resolve_model: Callable[[str], Path],
        worker: Worker,
        writer: Writer,
        memory: MemoryLedger,
        aside: Aside,
    ) -> Self:
        """Set the thread count, find the device; no model is loaded yet."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        shelf = ModelShelf(options, resolve=resolve_model, memory=memory, aside=aside)
        mixer, sampler = Mixer(token_budget=options.token_budget), Sampler(options, room=memory.room_to_grow)
        memory.also = lambda: sum(sampler.statistics()[name] for name in ("kv_bytes", "packed_bytes"))
        mixed = SharedTurns(worker, mixer, tenant="training together")
        return cls(
            options=options,
            shelf=shelf,
            trainer=Trainer(options, shelf, writer=writer, memory=memory, aside=aside, mixer=mixer, mixed=mixed),
            weights=SamplingWeights(shelf, memory=memory, aside=aside),
            sampler=sampler,
            sampling=SharedTurns(worker, sampler, tenant="sampling"),
        )
