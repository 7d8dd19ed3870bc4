"""How does the server listen, and how does it stop? On sockets that are ours before a model is loaded."""

import asyncio
import resource
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from crucible.errors import ConfigError
from crucible.server.draining import Draining

_BACKLOG = 4096
_KEEP_ALIVE = 75  # seconds; clients keep thousands of connections, and opening them again costs more than keeping them
_GRACE = 10  # seconds that requests have when the server is asked to end


def bind(host: str, port: int) -> socket.socket:
    """A socket that nobody else can take while the models are loaded. port: 0 for any free one.

    Raises:
        ConfigError: if the address is in use, or not this machine's.
    """
    try:
        (family, kind, proto, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError.of(
            f"the server cannot listen here: {getattr(error, 'strerror', None) or error}",
            given=f"{host}:{port}",
            fix="Give another --port, or 0 for any free one",
        ) from error
    return listener


def listen(make_app: Callable[[], ASGIApp], listener: socket.socket, *, on_ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM: what was begun is ended, for ten seconds at most; a second one ends it at once.

    make_app: called in the event loop that serves it. on_ready: called when requests are taken.
    """
    _allow_many_files()

    async def serve() -> None:
        app = Draining(make_app())
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                proxy_headers=False,  # nobody's word is taken for where a request comes from
                access_log=False,  # a signed URL is as good as a key, and belongs in no log
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GRACE,
                backlog=_BACKLOG,
                ws="none",
                lifespan="on",
            ),
            on_ready=on_ready,
        )
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.force_exit = server.should_exit
            server.should_exit = True
            app.end()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            await server.serve(sockets=[listener])
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=uvicorn.Config(app="", log_config=None).get_loop_factory()) as runner:
        runner.run(serve())


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: they end the process where we end the work."""

    def __init__(self, config: uvicorn.Config, *, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Nothing: see `listen`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _allow_many_files() -> None:
    """Each of thousands of waiting clients is an open file; the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
