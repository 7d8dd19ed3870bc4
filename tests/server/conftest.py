"""What do the server's tests share? A server that runs, and the official SDK's client of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tinker

from serving import TINY_MODEL, Serving, fake_served, raw, running, sdk, torch_served


@pytest.fixture(autouse=True)
def quiet_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry."""
    monkeypatch.setenv("TINKER_TELEMETRY", "0")


@pytest.fixture
def fake_server(tmp_path: Path) -> Iterator[Serving]:
    """The fakes, over a socket."""
    with fake_served(tmp_path / "server") as served, running(served) as serving:
        yield serving


@pytest.fixture
def fake_service(fake_server: Serving) -> Iterator[tinker.ServiceClient]:
    with sdk(fake_server.url) as service:
        yield service


@pytest.fixture
def http(fake_server: Serving) -> Iterator[httpx.Client]:
    """Raw requests below /api/v1."""
    with raw(fake_server) as client:
        yield client


@pytest.fixture(scope="module")
def torch_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Serving]:
    """The engine on a tiny model, over a socket."""
    folder = tmp_path_factory.mktemp("torch-server")
    with torch_served(folder, {TINY_MODEL: tiny_model}) as served, running(served) as serving:
        yield serving


@pytest.fixture
def torch_service(torch_server: Serving) -> Iterator[tinker.ServiceClient]:
    with sdk(torch_server.url) as service:
        yield service
