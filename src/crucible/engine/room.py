# pyright: standard
# (sets torch's threads)
"""What does the engine's thread hold? Base models, sessions in training, sampling sessions."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from crucible.engine.options import EngineOptions
from crucible.engine.sampler import Sampler
from crucible.engine.shelf import ModelShelf
from crucible.engine.trainer import Trainer
from crucible.engine.writer import Writer


@dataclass(frozen=True, kw_only=True)
class EngineRoom:
    """Everything that only the engine's thread may touch."""

    options: EngineOptions
    shelf: ModelShelf
    trainer: Trainer
    sampler: Sampler

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
        }

    @classmethod
    def open(
        cls,
        options: EngineOptions,
        *,
        resolve_model: Callable[[str], Path],
        should_stop: Callable[[], bool],
        writer: Writer | None = None,
    ) -> Self:
        """Set the thread count, find the device; no model is loaded yet."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        shelf = ModelShelf(options, resolve=resolve_model)
        return cls(
            options=options,
            shelf=shelf,
            trainer=Trainer(options, shelf, should_stop=should_stop, writer=writer or Writer()),
            sampler=Sampler(shelf, should_stop=should_stop),
        )
