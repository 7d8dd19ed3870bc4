"""Does every public method of the official SDK work against our server, in its newest version and two before it?"""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import TINY_MODEL, running, torch_served

HERE = Path(__file__).parent
INSTALLED = importlib.metadata.version("tinker")
BEFORE = ("0.36.0", "0.35.0")


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with torch_served(folder, {TINY_MODEL: tiny_model}) as served, running(served) as server:
        yield server.url


def drive(url: str, model: Path, folder: Path, *, sdk: Path | None = None) -> tuple[dict[str, str], str]:
    """Method -> "" where it works, else what was wrong; and the version of the SDK that was driven."""
    named = folder / TINY_MODEL
    named.parent.mkdir(parents=True)
    named.symlink_to(model)  # a sampling client asks transformers for a tokenizer of the model's name
    ran = subprocess.run(
        [sys.executable, "-B", str(HERE / "drive_sdk.py"), url, TINY_MODEL],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(sdk or ""),
            "TINKER_API_KEY": "tml-matrix",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    *rows, last = [json.loads(line) for line in ran.stdout.splitlines()]
    wrong = {row["method"]: "" if row["status"] == "works" else f"{row['status']}: {row['detail']}" for row in rows}
    return wrong, last["sdk"]


def downloaded(version: str, folder: Path) -> Path:
    """The SDK of a version, in a folder of its own; what it depends on is what is installed."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), f"tinker=={version}"],
        check=True,
        timeout=300,
    )
    return folder


def test_every_method_of_the_installed_sdk_works(url: str, tiny_model: Path, tmp_path: Path) -> None:
    rows, version = drive(url, tiny_model, tmp_path)
    assert version == INSTALLED
    assert len(rows) > 90  # 101 in 0.38: the list is the SDK's own
    assert {method: wrong for method, wrong in rows.items() if wrong} == {}


@pytest.mark.slow
@pytest.mark.parametrize("version", BEFORE)
def test_every_method_of_an_earlier_sdk_works(url: str, tiny_model: Path, tmp_path: Path, version: str) -> None:
    rows, driven = drive(url, tiny_model, tmp_path, sdk=downloaded(version, tmp_path / "sdk"))
    assert driven == version
    assert {method: wrong for method, wrong in rows.items() if wrong} == {}
