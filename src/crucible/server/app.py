"""How do the routes become an application?"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route

from crucible.server import (
    client_routes,
    future_routes,
    openai_routes,
    rest_routes,
    sampling_routes,
    session_routes,
    training_routes,
    weights_routes,
)
from crucible.server.answers import http_error
from crucible.server.auth import Auth
from crucible.server.client_routes import ClientConfig
from crucible.server.live import Live
from crucible.server.sampling_line import MOST_AT_BACKEND
from crucible.server.served import Served
from crucible.server.straight import Straight
from crucible.server.sweeping import sweep_forever

PREFIX = "/api/v1"
OPENAI_PREFIXES = ("/v1", "/oai/api/v1")


def create_app(
    served: Served,
    *,
    any_key: bool,
    loopback: bool = True,
    config: ClientConfig | None = None,
    at_backend: int = MOST_AT_BACKEND,
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application. Its state, `app.state.live`, is what is open.

    any_key, loopback: see `Auth`. config: what clients are told of how to behave; None follows the limits.
    at_backend: see `Live`; a few times the engine's slots.
    more: further routes, such as /metrics.
    """
    live = Live(served, at_backend=at_backend)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        del app
        background = [asyncio.create_task(work) for work in (live.expire_forever(), sweep_forever(served))]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await live.close()

    steps = _under_prefix([*future_routes.routes(live), *training_routes.routes(live), *sampling_routes.routes(live)])
    app = Starlette(
        routes=[*steps, *_others(live, config), *_openai(live), *more],
        middleware=[
            Middleware(Auth, keys=served.store.keys, any_key=any_key, loopback=loopback),
            Middleware(Straight, routes=steps),
        ],
        exception_handlers={HTTPException: http_error},
        lifespan=lifespan,
    )
    app.state.live = live
    return app


def _others(live: Live, config: ClientConfig | None) -> list[Route]:
    """The Tinker routes that are called now and then."""
    found = [
        *session_routes.routes(live),
        *weights_routes.routes(live),
        *client_routes.routes(live, config=config),
        *rest_routes.routes(live.served),
    ]
    return _under_prefix(found)


def _under_prefix(routes: Sequence[Route]) -> list[Route]:
    return [Route(PREFIX + route.path, route.endpoint, methods=list(route.methods or ())) for route in routes]


def _openai(live: Live) -> list[Mount]:
    shared = openai_routes.routes(live)
    return [Mount(prefix, routes=shared) for prefix in OPENAI_PREFIXES]
