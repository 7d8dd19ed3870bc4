# pyright: standard
# (holds torch devices)
"""Which base models are in memory, and how does a reference become one?"""

import gc
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import torch

from crucible.engine.model import LoadedModel, load_model
from crucible.engine.options import DeviceName, EngineOptions
from crucible.errors import ManifestError


class ModelShelf:
    """Loaded base models by folder. A model stays while a session uses it, and the latest one until the next.

    resolve: from a model reference to its local folder; it raises ModelError for an unknown one.

    Raises:
        ManifestError: if the machine lacks the device of the options.
    """

    def __init__(self, options: EngineOptions, *, resolve: Callable[[str], Path]) -> None:
        self._options, self._resolve = options, resolve
        self._device = _device(options.device)
        self._loaded: WeakValueDictionary[Path, LoadedModel] = WeakValueDictionary()
        self._latest: LoadedModel | None = None

    @property
    def device_name(self) -> str:
        """Where the models are: `cpu`, `mps`, or the GPU's own name."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type

    def get(self, reference: str) -> LoadedModel:
        """The model, loaded if it is not yet.

        Raises:
            ModelError: if it cannot be found or is of an unsupported kind.
        """
        folder = self._resolve(reference).resolve()
        loaded = self._loaded.get(folder)
        if loaded is None:
            self._latest = None
            gc.collect()  # a model that no session uses makes room before the next is read
            loaded = load_model(folder, dtype=self._options.dtype, device=self._device)
            self._loaded[folder] = loaded
        self._latest = loaded
        return loaded


def _device(name: DeviceName) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(known for known in available if available[known]) if name == "auto" else name
    if not available[chosen]:
        raise ManifestError.of("this machine has no such device", where="device", given=name, fix="Use device=auto")
    return torch.device(chosen)
