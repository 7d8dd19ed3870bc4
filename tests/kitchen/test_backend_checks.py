"""A backend that computes something else than it is asked for is found, through the port alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from crucible.errors import PortError
from crucible.kitchen.backend_checks import TOLERANCES, Bench, check_backend
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.future import Future
from crucible.ports.training_client import SessionConfig
from crucible.testing.fakes import FakeTrainingClient
from crucible.train.checks import Finding


class Honest(FakeTrainingClient):
    """The fake's numbers follow no model, but they add up: here they count as computed."""

    def capabilities(self):
        return replace(super().capabilities(), computes=True)


class Leaking(Honest):
    """A row sees its neighbours."""

    def forward(self, session, datums, **options):
        output = super().forward(session, datums, **options).result()
        seen = [
            {**each, "logprobs": TensorData(each["logprobs"].data - 0.5 * (place > 0))}
            for place, each in enumerate(output.loss_fn_outputs)
        ]
        return Future.ready(replace(output, loss_fn_outputs=seen))


class Averaging(Honest):
    """The gradient of a call is divided by its number of rows."""

    def forward_backward(self, session, datums, **options):
        return super().forward_backward(session, scaled(datums, 1 / len(datums)), **options)


class Normalising(Honest):
    """Weights sum to one whatever they were."""

    def forward(self, session, datums, **options):
        return super().forward(session, [normal(datum) for datum in datums], **options)

    def forward_backward(self, session, datums, **options):
        return super().forward_backward(session, [normal(datum) for datum in datums], **options)


class Lazy(Honest):
    """The loss that comes back is not the one of the logprobs."""

    def forward(self, session, datums, **options):
        output = super().forward(session, datums, **options).result()
        return Future.ready(replace(output, metrics={"loss:sum": 0.7 * output.metrics["loss:sum"]}))


class OneSided(Honest):
    """Negative weights are dropped from the gradient."""

    def forward_backward(self, session, datums, **options):
        clipped = [weighted(datum, np.maximum(datum.loss_fn_inputs["weights"].data, 0)) for datum in datums]
        return super().forward_backward(session, clipped, **options)


class Failing(Honest):
    """It runs out of memory."""

    def forward(self, session, datums, **options):
        what = f"no memory for {len(datums)} rows of {session.model} with {options}"
        raise PortError(what, port="training_client", adapter="failing")


def weighted(datum: Datum, weights: np.ndarray) -> Datum:
    return Datum(datum.model_input, {**datum.loss_fn_inputs, "weights": TensorData(weights)})


def scaled(datums: Sequence[Datum], factor: float) -> list[Datum]:
    return [weighted(datum, datum.loss_fn_inputs["weights"].data * factor) for datum in datums]


def normal(datum: Datum) -> Datum:
    weights = np.abs(datum.loss_fn_inputs["weights"].data)
    return weighted(datum, weights / weights.sum())


def datum(length: int) -> Datum:
    tokens = np.random.default_rng(length).integers(0, 256, length + 1)
    tensors = {"target_tokens": TensorData(tokens[1:]), "weights": TensorData(np.full(length, 1 / length))}
    return Datum(ModelInput.from_ints(tokens[:-1].tolist()), tensors)


def findings(client: FakeTrainingClient, *, only: Sequence[str] = (), datums: Sequence[Datum] | None = None):
    given = [datum(length) for length in (20, 12, 7)] if datums is None else datums
    bench = Bench(
        client=client,
        session=SessionConfig(model="m", lora_rank=2),
        datums=given,
        origins=[f"row {place + 1}" for place in range(len(given))],
        loss_fn="cross_entropy",
        tolerance=TOLERANCES["float32"],
    )
    try:
        return {finding.check: finding for finding in asyncio.run(check_backend(bench, only=only))}
    finally:
        client.close()


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.status == "fail"}


def test_a_backend_that_adds_up_passes() -> None:
    found = findings(Honest())
    assert {finding.status for finding in found.values()} == {"pass"} and len(found) == 3
    assert "follows the weights, and so does its gradient" in found["loss"].sentence


def test_rows_that_see_each_other_are_found_with_the_row() -> None:
    found = findings(Leaking(), only=("batching",))["batching"]
    assert (found.status, found.where) == ("fail", "row 2") and "5.0e-01 nats" in found.sentence


def test_gradients_averaged_per_call_are_found() -> None:
    assert "accumulation" in failed(findings(Averaging()))


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (Normalising, "the loss at doubled weights"),
        (Lazy, "the loss is"),
        (OneSided, "gradients of opposite weights leave"),
    ],
)
def test_a_loss_that_is_not_the_one_configured_is_found(client, told) -> None:
    found = findings(client(), only=("loss",))["loss"]
    assert found.status == "fail" and told in found.sentence


def test_a_backend_that_fails_is_a_finding() -> None:
    found = findings(Failing(), only=("batching",))["batching"]
    assert found.status == "fail" and "no memory for" in found.sentence


def test_a_backend_that_computes_nothing_is_not_judged() -> None:
    found = findings(FakeTrainingClient())
    assert {finding.status for finding in found.values()} == {"skipped"}
    assert "the backend noop computes nothing" in found["loss"].sentence


def test_without_a_row_there_is_nothing_to_compute() -> None:
    assert findings(Honest(), datums=[])["loss"].sentence == "no row trains a token"


def test_no_session_stays_open() -> None:
    client = Honest()
    findings(client)
    assert client._adapters == {}
