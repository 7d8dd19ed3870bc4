"""Two runs to compare with: one that went straight through, and one that `kill -9` ended after its tenth step."""

import signal
from pathlib import Path

import pytest
from faulty import SmallDisk, in_a_child


@pytest.fixture(scope="session")
def straight(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    in_a_child(folder, tiny_model, rows, check=0)
    return folder


@pytest.fixture(scope="session")
def killed(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has checkpoints of the steps 4 and 8, and metrics of 10."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    in_a_child(folder, tiny_model, rows, "kill", check=-signal.SIGKILL)
    return folder


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> SmallDisk:
    return SmallDisk.at(tmp_path_factory.mktemp("disk"))
