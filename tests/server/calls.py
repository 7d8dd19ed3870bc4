"""What does a client send, without the SDK? The bodies of the API, as plain values."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from crucible.server.wire import messages_pb2 as wire
from serving import FAKE_MODEL

LORA = {"rank": 8, "seed": 1}


def datum(tokens: tuple[int, ...] = (1, 2, 3), weight: float = 1.0) -> wire.Datum:
    """Of `tokens`, each the next one's target."""
    ids = np.array(tokens, dtype=np.int32)
    weights = np.full(len(tokens), weight, dtype=np.float32)
    return wire.Datum(
        model_input=[wire.Chunk(encoded_text=wire.EncodedTextChunk(tokens=ids.tobytes()))],
        loss_fn_inputs={
            "target_tokens": wire.Tensor(dense=(ids + 1).astype(np.int64).tobytes(), dtype=wire.DTYPE_INT64),
            "weights": wire.Tensor(dense=weights.tobytes(), dtype=wire.DTYPE_FLOAT32),
        },
    )


def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes in its own time."""
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    assert holds()


@dataclass(kw_only=True)
class Caller:
    """A client of the raw API, with one session and one model."""

    http: httpx.Client
    session_id: str
    model_id: str = ""
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def new(cls, http: httpx.Client, *, model: bool = True, base_model: str = FAKE_MODEL) -> "Caller":
        """A client that has opened its session, and made its model."""
        opened = http.post("/create_session", json={"tags": [], "sdk_version": "0"})
        assert opened.status_code == 200, opened.text
        caller = cls(http=http, session_id=opened.json()["session_id"])
        if model:
            made = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": base_model, "lora_config": LORA}
            caller.model_id = caller.done(caller.post("/create_model", made))["model_id"]
        return caller

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request that is taken."""
        response = self.http.post(path, json=body)
        assert response.status_code == 200, (response.status_code, response.text)
        return response.json()

    def call(self, path: str, /, **body: Any) -> dict[str, Any]:
        """A request to the model; without a number, the next one."""
        return self.post(path, {"model_id": self.model_id, "seq_id": next(self.numbers), **body})

    def forward_backward(self, number: int, *datums: wire.Datum, **fields: Any) -> httpx.Response:
        """A forward_backward under a number."""
        message = wire.ForwardBackwardRequest(
            model_id=self.model_id, seq_id=number, data=datums or [datum()], loss_fn="cross_entropy", **fields
        )
        return self.http.post("/forward_backward", content=message.SerializeToString())

    def ask(self, taken: dict[str, Any]) -> httpx.Response:
        """Ask for an outcome until it is there."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            response = self.http.post("/retrieve_future", json={"request_id": taken["request_id"]})
            if response.status_code != 408:
                return response
        raise AssertionError("the outcome did not come")

    def done(self, taken: dict[str, Any]) -> dict[str, Any]:
        """An outcome in JSON."""
        response = self.ask(taken)
        assert response.status_code == 200, (response.status_code, response.text)
        return response.json()

    def failure(self, taken: dict[str, Any]) -> tuple[str, str]:
        """What a request failed with, and whose fault it was."""
        outcome = self.done(taken)
        return outcome["error"], outcome["category"]

    def scored(self, response: httpx.Response) -> wire.ForwardBackwardOutput:
        """The outcome of a forward_backward."""
        assert response.status_code == 200, response.text
        outcome = self.ask(response.json())
        assert outcome.headers["content-type"] == "application/x-protobuf", outcome.text
        return wire.ForwardBackwardOutput.FromString(outcome.content)

    def sampler(self, number: int = 0, *, base_model: str = FAKE_MODEL) -> str:
        """A sampling session on the base model."""
        asked = {"session_id": self.session_id, "sampling_session_seq_id": number, "base_model": base_model}
        return self.post("/create_sampling_session", asked)["sampling_session_id"]

    def sample(self, sampler: str, number: int, **fields: Any) -> dict[str, Any]:
        """A sampling request."""
        asked = {
            "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
            "sampling_params": {"max_tokens": 4, "seed": 1},
            **fields,
        }
        return self.post("/asample", {"sampling_session_id": sampler, "seq_id": number, **asked})

    def completed(self, taken: dict[str, Any]) -> wire.SampleResponse:
        """The outcome of a sampling request."""
        outcome = self.ask(taken)
        assert outcome.headers["content-type"] == "application/x-protobuf", outcome.text
        return wire.SampleResponse.FromString(outcome.content)
