# pyright: standard
# (holds torch devices)
"""Which base models are in memory, and how does a reference become one?"""

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import torch

from crucible.engine.aside import Aside
from crucible.engine.estimate import activation_bytes, weight_bytes
from crucible.engine.memory import MemoryLedger
from crucible.engine.model import LoadedModel, load_model
from crucible.engine.options import DeviceName, EngineOptions
from crucible.engine.worker import Steps, awaited
from crucible.errors import ManifestError


class ModelShelf:
    """Loaded base models by folder. A model stays while a session uses it, and the latest one until the next.

    resolve: from a model reference to its local folder; it raises ModelError for an unknown one.
    memory: where a model's weights and its micro-batch are counted.
    aside: where models are read.

    Raises:
        ManifestError: if the machine lacks the device of the options.
    """

    def __init__(
        self, options: EngineOptions, *, resolve: Callable[[str], Path], memory: MemoryLedger, aside: Aside
    ) -> None:
        self._options, self._resolve, self._memory, self._aside = options, resolve, memory, aside
        self._device = _device(options.device)
        self._lock = threading.Lock()
        self._loaded: WeakValueDictionary[Path, LoadedModel] = WeakValueDictionary()
        self._latest: LoadedModel | None = None

    @property
    def device_name(self) -> str:
        """Where the models are: `cpu`, `mps`, or the GPU's own name."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type

    def load(self, reference: str) -> Steps[LoadedModel]:
        """The model, read if it is not in memory yet, beside the engine's thread.

        Raises:
            ModelError: if it cannot be found or is of an unsupported kind.
            PortError: if there is no memory for it.
        """
        return awaited(self._aside.run(lambda: self.get(reference), name="crucible-loader"))

    def get(self, reference: str) -> LoadedModel:
        """`load`, in this thread; models are read one at a time."""
        with self._lock:
            folder = self._resolve(reference).resolve()
            loaded = self._loaded.get(folder)
            if loaded is None:
                self._latest = None
                gc.collect()  # a model that no session uses makes room before the next is read
                loaded = self._loaded[folder] = self._read(folder, reference)
            self._latest = loaded
            return loaded

    def _read(self, folder: Path, reference: str) -> LoadedModel:
        size = 0
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):  # else `load_model` says what is
            size = weight_bytes(folder, dtype=self._options.dtype) + activation_bytes(folder, options=self._options)
        with self._memory.room_for(size, what=f"the base model {reference}") as held_by:
            return held_by(load_model(folder, dtype=self._options.dtype, device=self._device))


def _device(name: DeviceName) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(known for known in available if available[known]) if name == "auto" else name
    if not available[chosen]:
        raise ManifestError.of("this machine has no such device", where="device", given=name, fix="Use device=auto")
    return torch.device(chosen)
