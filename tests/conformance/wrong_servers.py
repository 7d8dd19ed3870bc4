"""How do these tests get a server that is wrong? The real one, with a part of it replaced."""

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from crucible.server.app import create_app
from crucible.server.limits import Limits
from serving import TINY_MODEL, torch_served


def as_it_is(part: Any) -> Any:
    """No fault."""
    return part


@contextmanager
def wrong_server(
    model: Path,
    folder: Path,
    *,
    training: Callable[[Any], Any] = as_it_is,
    sampling: Callable[[Any], Any] = as_it_is,
    app: Callable[[Any], Any] = as_it_is,
    hold_seconds: float = 2.0,
) -> Iterator[str]:
    """Serve a model as TINY_MODEL for the time of the block; gives the URL.

    training, sampling, app: what to put in the place of the engine's clients and of the application.
    """
    with torch_served(folder, {TINY_MODEL: model}, limits=Limits(hold_seconds=hold_seconds)) as served:
        served = dataclasses.replace(served, training=training(served.training), sampling=sampling(served.sampling))
        with _listening(app(create_app(served, any_key=True))) as url:
            yield url


@contextmanager
def _listening(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as free:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server ended as it started"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
