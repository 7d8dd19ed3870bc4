"""Which tokenizer belongs to a model reference?"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from crucible.adapters.tokenizer.tokenizer import HfTokenizer
from crucible.ports import TokenizerStore


class HfTokenizerStore(TokenizerStore):
    """Reads tokenizers from the folders that `resolve_model` finds; each folder is read once."""

    adapter_name: ClassVar[str] = "hf"

    def __init__(self, *, resolve_model: Callable[[str], Path]) -> None:
        self._resolve = resolve_model
        self._loaded: dict[Path, HfTokenizer] = {}
        self._lock = threading.Lock()

    def load(self, model: str) -> HfTokenizer:
        """See the port."""
        folder = self._resolve(model)
        with self._lock:
            if folder not in self._loaded:
                self._loaded[folder] = HfTokenizer.from_folder(folder)
            return self._loaded[folder]
