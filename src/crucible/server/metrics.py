"""What does Prometheus see of a server? `/metrics`: requests, what waits, what is open, tokens.

Nothing in it names a user, a run or a model's path: labels are routes as they are written in the code, methods and
statuses.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crucible.server.app import create_app
from crucible.server.live import Live
from crucible.server.served import Served

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
_UNKNOWN = "other"
_COUNTED = {
    "tokens_prompted": "Prompt tokens of sampling requests that are done",
    "tokens_sampled": "Tokens that were sampled",
    "tokens_trained": "Input tokens of forward_backward",
    "tokens_scored": "Input tokens of forward",
    "optimizer_steps": "Optimizer steps that were taken",
}


class Metrics(Collector):
    """Counts requests as they pass, and asks the server what it holds when it is scraped."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "crucible_server_requests", "Requests answered", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "crucible_server_request_seconds",
            "From a request's arrival to the last byte of its answer; retrieve_future waits for its result",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(self)

    def watch(self, live: Live) -> None:
        """From now on, tell what this holds."""
        self._live = live

    def collect(self) -> Iterable[Metric]:
        """What is open and waits right now, and how much was done."""
        if self._live is None:
            return
        for name, (said, value) in _gauges(self._live).items():
            yield GaugeMetricFamily(f"crucible_server_{name}", said, value=value)
        backend = GaugeMetricFamily(
            "crucible_server_backend", "What the backend holds and has before it", labels=["what"]
        )
        for name, value in sorted(self._live.served.training.statistics().items()):
            backend.add_metric([name], value)
        yield backend
        for name, said in _COUNTED.items():
            yield CounterMetricFamily(f"crucible_server_{name}", said, value=getattr(self._live.served.meters, name))

    async def scrape(self, request: Request) -> Response:
        """GET /metrics"""
        del request
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def request_done(self, scope: Scope, *, status: int, seconds: float) -> None:
        """Count a request."""
        route: str = getattr(scope.get("route"), "path", _UNKNOWN)
        method: str = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class Measured:
    """ASGI middleware that counts and times requests. 499 is the status of one whose client left before its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            raise
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.request_done(scope, status=status, seconds=time.perf_counter() - began)


def measured_app(served: Served, *, any_key: bool, loopback: bool) -> ASGIApp:
    """The server's application with `/metrics`, and `/healthz` where load balancers look for it; see `create_app`."""
    metrics = Metrics()
    more = [Route("/metrics", metrics.scrape), Route("/healthz", _healthz)]
    app = create_app(served, any_key=any_key, loopback=loopback, more=more)
    metrics.watch(app.state.live)
    return Measured(app, metrics)


async def _healthz(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})


def _gauges(live: Live) -> Mapping[str, tuple[str, float]]:
    under_way, kept, kept_bytes = live.results.counts
    return {
        "requests_under_way": ("Requests whose result is not there yet", under_way),
        "results_kept": ("Results that can be read again", kept),
        "results_bytes": ("Their size", kept_bytes),
        "sessions": ("Sessions that are open", len(live.sessions)),
        "models": ("Models in training that are open", len(live.runs)),
        "samplers": ("Sampling sessions that are open", len(live.samplers)),
        "waiting_samples": ("Completions asked for and not done", live.waiting_samples),
    }
