"""How does Prometheus watch a run? It scrapes an endpoint that this handler opens."""

from collections.abc import Mapping
from typing import ClassVar

from crucible.errors import ConfigError, MissingExtraError
from crucible.telemetry.event import Event

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
except ModuleNotFoundError as error:
    raise MissingExtraError.for_extra(
        "prometheus", needed_by="the telemetry handler prometheus", module="prometheus-client"
    ) from error

DEFAULT_PORT = 9400

_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)
_RUN = ("run_id", "recipe")
_MOST_RUNS = 64
_MOST_NAMES = 256
_GAUGES = {
    "step": ("crucible_training_step", "The last optimizer step that finished"),
    "total_steps": ("crucible_training_steps_planned", "How many steps the run has in all"),
    "loss": ("crucible_training_loss", "The last step's loss, nats per trained token"),
    "learning_rate": ("crucible_training_learning_rate", "The last step's learning rate"),
    "tokens_per_second": ("crucible_training_tokens_per_second", "Input tokens per second in the last step"),
}
_COUNTERS = {
    "tokens": ("crucible_training_tokens", "Input tokens trained on"),
    "trained_tokens": ("crucible_training_trained_tokens", "Tokens with a loss weight"),
}


class Prometheus:
    """A handler with a scrape endpoint: `http://ADDRESS:PORT/metrics`.

    Labels are run_id, recipe and, for stages, stage (or the error's or evaluation's name). A process shows at most
    64 runs and 256 names of each kind; whatever comes after is `other`, so a long-lived process stays small.

    port: 0 for any free one; `port` tells which. address: this machine only by default.

    Raises:
        ConfigError: if the port cannot be opened.
    """

    events: ClassVar[tuple[str, ...]] = (
        *("workflow", "stage.stop", "stage.exception", "stage.retry"),
        *("training.step", "training.epoch", "training.checkpoint", "eval.result"),
    )

    def __init__(self, *, port: int = DEFAULT_PORT, address: str = "127.0.0.1") -> None:
        self.registry = CollectorRegistry()
        self._runs, self._stages, self._errors, self._evals = (
            _Bounded(_MOST_RUNS),
            *(_Bounded(_MOST_NAMES) for _ in range(3)),
        )
        self._recipes: dict[str, str] = {}
        self._make_metrics()
        try:
            self._server, self._thread = start_http_server(port, addr=address, registry=self.registry)
        except (OSError, OverflowError) as error:
            raise ConfigError.of(
                f"no scrape endpoint can be opened here: {getattr(error, 'strerror', None) or error}",
                where="the telemetry handler prometheus",
                given=f"{address}:{port}",
                fix="Give another port, or 0 for any free one",
            ) from error
        self.port: int = self._server.server_port
        self.url = f"http://{address}:{self.port}/metrics"

    def __call__(self, event: Event) -> None:
        labels = self._labels(event.metadata)
        match event.name:
            case "workflow.start" | "workflow.resume":
                self._running.labels(*labels).set(1)
            case "workflow.stop":
                self._running.labels(*labels).set(0)
            case "workflow.exception":
                self._running.labels(*labels).set(0)
                self._failures.labels(*labels, self._errors(event.metadata.get("error"))).inc()
            case "training.step":
                self._step(event.measurements, labels)
            case "training.epoch":
                self._epochs.labels(*labels).inc()
            case "training.checkpoint":
                self._checkpoints.labels(*labels).inc()
            case "eval.result":
                self._eval(event, labels)
            case _:
                self._stage(event, labels)

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _make_metrics(self) -> None:
        def gauge(name: str, told: str, *labels: str) -> Gauge:
            return Gauge(name, told, (*_RUN, *labels), registry=self.registry)

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(name, told, (*_RUN, *labels), registry=self.registry)

        def histogram(name: str, told: str, *labels: str) -> Histogram:
            return Histogram(name, told, (*_RUN, *labels), registry=self.registry, buckets=_SECONDS)

        self._gauges = {key: gauge(*about) for key, about in _GAUGES.items()}
        self._counters = {key: counter(*about) for key, about in _COUNTERS.items()}
        self._steps = counter("crucible_training_steps", "Optimizer steps that finished in this process")
        self._step_seconds = histogram("crucible_training_step_seconds", "How long a step took")
        self._epochs = counter("crucible_training_epochs", "Epochs that finished in this process")
        self._checkpoints = counter("crucible_training_checkpoints", "Checkpoints saved by this process")
        self._eval_results = gauge("crucible_eval_result", "The last value of an evaluation", "eval", "label")
        self._stage_seconds = histogram("crucible_stage_seconds", "How long a stage took", "stage")
        self._stage_failures = counter("crucible_stage_exceptions", "Stages that raised", "stage", "error")
        self._retries = counter("crucible_stage_retries", "Stages that were tried again", "stage")
        self._running = gauge("crucible_workflow_running", "1 while the run's workflow runs, else 0")
        self._failures = counter("crucible_workflow_exceptions", "Workflows that raised", "error")

    def _labels(self, metadata: Mapping[str, object]) -> tuple[str, str]:
        run = self._runs(metadata.get("run_id"))
        if "recipe" in metadata:
            self._recipes[run] = str(metadata["recipe"]) if run != _OTHER else _OTHER
        return run, self._recipes.get(run, "")

    def _step(self, measured: Mapping[str, float], labels: tuple[str, str]) -> None:
        self._steps.labels(*labels).inc()
        for key, gauge in self._gauges.items():
            if key in measured:
                gauge.labels(*labels).set(measured[key])
        for key, counter in self._counters.items():
            if key in measured:
                counter.labels(*labels).inc(measured[key])
        if "seconds" in measured:
            self._step_seconds.labels(*labels).observe(measured["seconds"])

    def _eval(self, event: Event, labels: tuple[str, str]) -> None:
        label = self._evals(event.metadata.get("label"))
        for name, value in event.measurements.items():
            if name not in ("step", "rows"):
                self._eval_results.labels(*labels, self._evals(name), label).set(value)

    def _stage(self, event: Event, labels: tuple[str, str]) -> None:
        stage = self._stages(event.metadata.get("stage"))
        if event.name == "stage.exception":
            self._stage_failures.labels(*labels, stage, self._errors(event.metadata.get("error"))).inc()
        if event.name == "stage.retry":
            self._retries.labels(*labels, stage).inc()
        elif event.measurements.get("duration_ns"):  # a skipped stage tells none
            self._stage_seconds.labels(*labels, stage).observe(event.measurements["duration_ns"] / 1e9)


_OTHER = "other"


class _Bounded:
    """A label's values: the first `most` that come, then `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: object) -> str:
        text = "" if value is None else str(value)
        if text not in self._known:
            if len(self._known) >= self._most:
                return _OTHER
            self._known.add(text)
        return text
