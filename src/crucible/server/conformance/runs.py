"""How does a check hold a session, a training run and a sampler of the server under examination?"""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from crucible.server.conformance.answers import Broken, Refused
from crucible.server.conformance.messages import (
    Drawn,
    Row,
    Scores,
    forward_backward_body,
    read_drawn,
    read_scores,
)
from crucible.server.conformance.transport import Reply, Transport

SUITE = "crucible-conformance"
RANK = 8
SEED = 11

_LARGE = 1e7
"""An eps that dwarfs any gradient: Adam's update g / (|g| + eps) is then g / eps, gradient descent."""


def descent(rate: float) -> dict[str, float]:
    """Adam's parameters under which a step is `rate` times the gradient: no memory, no normalisation."""
    return {"learning_rate": rate * _LARGE, "beta1": 0.0, "beta2": 0.0, "eps": _LARGE}


def text(value: Mapping[str, Any], name: str) -> str:
    """A string that a reply must have."""
    found = value.get(name)
    if not isinstance(found, str):
        raise Broken(f"no {name!r} in {str(dict(value))[:200]}")
    return found


def part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside a reply, empty if it has none."""
    found = value.get(name)
    return cast(Mapping[str, Any], found) if isinstance(found, dict) else {}


def served_models(transport: Transport) -> list[str]:
    """The public names of the base models."""
    models = transport.greet().get("supported_models")
    if not isinstance(models, list):
        return []
    entries = [cast(dict[str, Any], each) for each in cast(list[Any], models) if isinstance(each, dict)]
    return [str(each["model_name"]) for each in entries if "model_name" in each]


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A request that was accepted."""

    transport: Transport
    request_id: str
    accepted: Mapping[str, Any]

    def reply(self) -> Reply:
        """Wait for its result; errors as for `Transport.result`."""
        return self.transport.result(self.request_id)

    def scores(self) -> Scores:
        """The result of forward or forward_backward."""
        return read_scores(self.reply())

    def drawn(self) -> Drawn:
        """The result of a sampling request."""
        return read_drawn(self.reply())

    def json(self) -> dict[str, Any]:
        """The result of anything else."""
        return self.reply().json()


def promised(transport: Transport, path: str, body: Mapping[str, object] | bytes) -> Promise:
    """Submit a request."""
    told = transport.ask("POST", path, body)
    return Promise(transport=transport, request_id=text(told, "request_id"), accepted=told)


class Run:
    """A training run. Its requests take the next seq_id unless told another."""

    def __init__(self, transport: Transport, model_id: str) -> None:
        self.transport, self.model_id = transport, model_id
        self._last = 0

    def next_id(self) -> int:
        """A fresh seq_id, to be sent by hand."""
        self._last += 1
        return self._last

    def submit(self, route: str, body: Mapping[str, object], *, seq_id: int | None = None) -> Promise:
        """Submit a request with a JSON body."""
        number = self.next_id() if seq_id is None else seq_id
        return promised(self.transport, route, {"model_id": self.model_id, "seq_id": number, **body})

    def submit_rows(
        self,
        rows: Sequence[Row],
        *,
        loss_fn: str = "cross_entropy",
        config: Mapping[str, float] | None = None,
        forward_only: bool = False,
        seq_id: int | None = None,
    ) -> Promise:
        """Submit a forward_backward, or a forward."""
        body = forward_backward_body(
            rows,
            model_id=self.model_id,
            seq_id=self.next_id() if seq_id is None else seq_id,
            loss_fn=loss_fn,
            config=config,
            forward_only=forward_only,
        )
        return promised(self.transport, "/forward_backward", body)

    def forward(self, rows: Sequence[Row], *, loss_fn: str = "cross_entropy") -> Scores:
        """Score rows; changes nothing."""
        return self.submit_rows(rows, loss_fn=loss_fn, forward_only=True).scores()

    def forward_backward(
        self, rows: Sequence[Row], *, loss_fn: str = "cross_entropy", config: Mapping[str, float] | None = None
    ) -> Scores:
        """Score rows and accumulate their gradient."""
        return self.submit_rows(rows, loss_fn=loss_fn, config=config).scores()

    def submit_step(self, adam: Mapping[str, float], *, seq_id: int | None = None) -> Promise:
        """Submit an optimizer step."""
        return self.submit("/optim_step", {"adam_params": dict(adam)}, seq_id=seq_id)

    def step(self, adam: Mapping[str, float]) -> dict[str, float]:
        """Take an optimizer step; returns its metrics."""
        return self.submit_step(adam).json().get("metrics") or {}

    def descend(self, rate: float, *, grad_clip_norm: float = 0.0) -> None:
        """Take a step of plain gradient descent."""
        self.step({**descent(rate), "grad_clip_norm": grad_clip_norm})

    def save(self, name: str, **more: object) -> str:
        """Save weights and optimizer state; returns the path."""
        return text(self.submit("/save_weights", {"path": name, **more}).json(), "path")

    def save_for_sampler(self, name: str, **more: object) -> str:
        """Save a sampler's weights; returns the path."""
        return text(self.submit("/save_weights_for_sampler", {"path": name, **more}).json(), "path")


class Sampler:
    """A sampling session."""

    def __init__(self, transport: Transport, sampling_session_id: str) -> None:
        self.transport, self.sampling_session_id = transport, sampling_session_id
        self._last = 0

    def submit(
        self,
        prompt: Sequence[int],
        params: Mapping[str, object],
        *,
        num_samples: int = 1,
        seq_id: int | None = None,
        report: Mapping[str, object] | None = None,
    ) -> Promise:
        """Submit a sampling request. params: `sampling_params`; report: fields beside them."""
        self._last += 1
        return promised(
            self.transport,
            "/asample",
            {
                "sampling_session_id": self.sampling_session_id,
                "seq_id": self._last if seq_id is None else seq_id,
                "num_samples": num_samples,
                "prompt": {"chunks": [{"type": "encoded_text", "tokens": list(prompt)}]},
                "sampling_params": dict(params),
                **(report or {}),
            },
        )

    def sample(
        self,
        prompt: Sequence[int],
        params: Mapping[str, object],
        *,
        num_samples: int = 1,
        report: Mapping[str, object] | None = None,
    ) -> Drawn:
        """Sample and wait."""
        return self.submit(prompt, params, num_samples=num_samples, report=report).drawn()

    def prompt_logprobs(self, prompt: Sequence[int]) -> Any:
        """(L,) logprobs of a prompt's tokens, NaN for the first."""
        drawn = self.sample(prompt, {"max_tokens": 1, "temperature": 1.0}, report={"prompt_logprobs": True})
        if drawn.prompt_logprobs is None:
            raise Broken("no prompt_logprobs, which were asked for")
        return drawn.prompt_logprobs


class Session:
    """A session, finished when the block ends."""

    def __init__(self, transport: Transport, *, base_model: str) -> None:
        self.transport, self.base_model = transport, base_model
        body = {"tags": [SUITE], "user_metadata": {"suite": SUITE}, "sdk_version": SUITE}
        self.session_id = text(transport.ask("POST", "/create_session", body), "session_id")
        self._models, self._samplers = 0, 0
        self._opened: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.transport.ask("POST", f"/sessions/{self.session_id}/finish", {"reason": {"type": "success"}})
        except (Refused, Broken):
            self._unload()  # an older protocol's way; `session_finish` is a check of its own

    def _unload(self) -> None:
        """Free the runs one by one, where the server can; it frees them itself some time after the last heartbeat."""
        for model_id in self._opened:
            with suppress(Refused, Broken):
                self.transport.ask("POST", "/unload_model", {"model_id": model_id})

    def create_body(self, *, rank: int = RANK, seed: int | None = SEED, **lora: bool) -> dict[str, object]:
        """The body of a create_model for the next run."""
        self._models += 1
        layers = {"train_attn": True, "train_mlp": True, "train_unembed": False, **lora}
        return {
            "session_id": self.session_id,
            "model_seq_id": self._models,
            "base_model": self.base_model,
            "lora_config": {"rank": rank, **({} if seed is None else {"seed": seed}), **layers},
            "optimizer_config": {"type": "adamw"},
        }

    def run(self, *, rank: int = RANK, seed: int | None = SEED, **lora: bool) -> Run:
        """A fresh run: the same seed gives the same adapter."""
        told = promised(self.transport, "/create_model", self.create_body(rank=rank, seed=seed, **lora)).json()
        self._opened.append(text(told, "model_id"))
        return Run(self.transport, self._opened[-1])

    def run_from(self, path: str, *, optimizer: bool) -> Run:
        """A run that goes on from a checkpoint."""
        self._models += 1
        number = self._models
        body = {"session_id": self.session_id, "model_seq_id": number, "path": path, "optimizer": optimizer}
        promised(self.transport, "/load_weights", body).reply()
        return Run(self.transport, f"{self.session_id}:train:{number}")

    def next_sampler_id(self) -> int:
        """A fresh sampling_session_seq_id."""
        self._samplers += 1
        return self._samplers

    def sampler(self, model_path: str | None = None) -> Sampler:
        """A sampler of saved weights, or of the base model."""
        body = {
            "session_id": self.session_id,
            "sampling_session_seq_id": self.next_sampler_id(),
            "base_model": self.base_model if model_path is None else None,
            "model_path": model_path,
        }
        told = self.transport.ask("POST", "/create_sampling_session", body)
        return Sampler(self.transport, text(told, "sampling_session_id"))


def unique(stem: str) -> str:
    """A checkpoint name that no earlier run of the suite used."""
    return f"{stem}-{uuid.uuid4().hex[:8]}"
