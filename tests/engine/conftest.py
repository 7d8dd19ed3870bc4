"""What do the engine's tests share? One thread, and folders of tiny models with random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From an architecture of `tiny_models` to a folder with such a model, written once per session."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            tiny_models.write(name, root / name)
        return root / name

    return folder


@pytest.fixture
def llama(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("llama")
