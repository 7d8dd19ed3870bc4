"""How is a server started in a test? On a free port of the loopback interface, in a thread, over real parts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.ports.tokenizer import TokenizerStore
from crucible.server.app import create_app
from crucible.server.client_routes import ClientConfig
from crucible.server.limits import Limits
from crucible.server.live import Live
from crucible.server.served import Served
from crucible.server.vault import Vault
from crucible.store.database import Database
from crucible.store.server_store import ServerStore
from crucible.store.server_tables import SERVER
from crucible.testing.fakes import FakeBackend, FakeTokenizerStore

if TYPE_CHECKING:
    import tinker

FAKE_MODEL = "fake/model"
TINY_MODEL = "tiny/llama"
KEY = "tml-local"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that runs. url: what TINKER_BASE_URL would be."""

    url: str
    app: Starlette
    served: Served

    @property
    def live(self) -> Live:
        """What the server holds. Only for looking at: it belongs to the server's thread."""
        return self.app.state.live


@contextmanager
def sdk(url: str) -> Iterator[tinker.ServiceClient]:
    """The official SDK's client of a server, closed at the end."""
    import tinker  # lazy: it takes a second

    service = tinker.ServiceClient(base_url=url, api_key=KEY)
    try:
        yield service
    finally:
        leave(service)


def leave(service: tinker.ServiceClient) -> None:
    """Finish its session, and wait a while for its connections.

    The SDK waits for ever for a poll whose cancellation got lost in httpx on Python 3.11 (seen twice in 1,100
    closings under load); the server has been told by then.
    """
    with suppress(TimeoutError):
        service.close("success").result(timeout=30)


def raw(server: Serving, *, key: str = KEY) -> httpx.Client:
    """A client of the API without the SDK."""
    return httpx.Client(base_url=server.url + "/api/v1", headers={"X-API-Key": key}, timeout=60, trust_env=False)


@contextmanager
def stored(folder: Path, make: Callable[[ServerStore, Vault], Served]) -> Iterator[Served]:
    """What `make` makes over a store and a vault below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{folder / 'server.db'}", schema=SERVER)
    store = ServerStore(database)
    vault = Vault(store=store, folder=folder / "checkpoints")
    vault.recover()
    try:
        yield make(store, vault)
    finally:
        store.close()


@contextmanager
def fake_served(
    folder: Path, *, latency: float = 0.0, limits: Limits | None = None, models: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """The fakes behind the ports: the model FAKE_MODEL, over bytes. latency: seconds of every call."""
    backend = FakeBackend(checkpoint_dir=folder / "checkpoints", latency=latency)
    tokenizers = FakeTokenizerStore()

    def make(store: ServerStore, vault: Vault) -> Served:
        return Served(
            models=models or {FAKE_MODEL: "a-fake"},
            training=backend.training_client,
            sampling=backend.sampling_client,
            tokenizers=tokenizers,
            tokenizer_folder=lambda reference: str(folder / reference),
            store=store,
            vault=vault,
            limits=limits or Limits(),
        )

    try:
        with stored(folder, make) as served:
            yield served
    finally:
        backend.close()


@contextmanager
def torch_served(
    folder: Path,
    model_folders: Mapping[str, Path],
    *,
    tokenizers: TokenizerStore | None = None,
    limits: Limits | None = None,
) -> Iterator[Served]:
    """The engine behind the ports, one thread, float32. model_folders: by public name."""
    from crucible.adapters.torch import TorchBackend  # lazy: the fakes need no engine

    paths = {str(path): path for path in model_folders.values()}
    files = tokenizers or HfTokenizerStore(resolve_model=lambda model: paths[model])
    backend = TorchBackend(
        checkpoint_dir=folder / "checkpoints",
        resolve_model=lambda model: paths[model],
        tokenizers=files,
        device="cpu",
        threads=1,
    )

    def make(store: ServerStore, vault: Vault) -> Served:
        return Served(
            models={name: str(path) for name, path in model_folders.items()},
            training=backend.training_client,
            sampling=backend.sampling_client,
            tokenizers=files,
            tokenizer_folder=lambda reference: reference,
            store=store,
            vault=vault,
            limits=limits or Limits(),
        )

    try:
        with stored(folder, make) as served:
            yield served
    finally:
        backend.close()


@contextmanager
def running(
    served: Served, *, any_key: bool = True, config: ClientConfig | None = None, more: Sequence[BaseRoute] = ()
) -> Iterator[Serving]:
    """The server, until the block ends."""
    app = create_app(served, any_key=any_key, config=config, more=more)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048))
        options = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, ws="none", proxy_headers=False)
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        assert server.started, "the server did not start"
        try:
            yield Serving(url=f"http://127.0.0.1:{listening.getsockname()[1]}", app=app, served=served)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive(), "the server did not end"
