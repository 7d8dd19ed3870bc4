"""Are a model's requests done in order, once each, and does a mistake of one never stop the next?"""

from pathlib import Path

import httpx
import pytest
from calls import LORA, Caller, datum

from crucible.server.limits import Limits
from serving import FAKE_MODEL, fake_served, raw, running


@pytest.fixture
def caller(http: httpx.Client) -> Caller:
    return Caller.new(http)


def losses(caller: Caller, *responses: httpx.Response) -> list[float]:
    return [caller.scored(response).metrics["loss:sum"] for response in responses]


def test_parts_that_arrive_in_any_order_are_done_in_that_of_their_numbers(caller: Caller) -> None:
    step = {"model_id": caller.model_id, "seq_id": 4, "adam_params": {"learning_rate": 0.1}}
    after = caller.post("/optim_step", step)
    last = caller.forward_backward(5)
    third, second, first = (caller.forward_backward(number) for number in (3, 2, 1))
    loss = losses(caller, first)[0]
    assert losses(caller, second, third) == [loss, loss]
    assert caller.done(after)["metrics"]["grad_norm"] == pytest.approx(3 * loss)
    assert losses(caller, last)[0] < loss


def test_a_replay_has_the_first_ones_id_and_is_done_once(caller: Caller) -> None:
    first, again = caller.forward_backward(1), caller.forward_backward(1)
    assert first.json() == again.json()
    loss = losses(caller, first)[0]
    assert caller.done(caller.post("/optim_step", {"model_id": caller.model_id, "seq_id": 2}))["metrics"][
        "grad_norm"
    ] == pytest.approx(loss)
    assert caller.forward_backward(1).json() == first.json()


def test_another_request_under_a_used_number_is_refused_and_not_done(caller: Caller) -> None:
    first, other = caller.forward_backward(1), caller.forward_backward(1, datum((7, 8)))
    message, category = caller.failure(other.json())
    assert (category, "under the number 1" in message) == ("user", True)
    assert losses(caller, first, caller.forward_backward(2))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"loss_fn_config": {"beta": 1.0}}, "beta"),
        ({"data": [datum((1, 2)), datum((999,))]}, "999 is no token id"),
    ],
)
def test_a_users_mistake_fails_its_future_and_uses_up_its_number(
    caller: Caller, fields: dict[str, object], what: str
) -> None:
    data = fields.pop("data", [])
    message, category = caller.failure(caller.forward_backward(1, *data, **fields).json())
    assert (category, what in message) == ("user", True), message
    assert losses(caller, caller.forward_backward(2))


def test_json_of_the_wrong_kind_uses_up_its_number_if_that_can_be_read(caller: Caller) -> None:
    message, category = caller.failure(caller.call("/optim_step", adam_params={"learning_rate": "fast"}))
    assert (category, "$.adam_params.learning_rate" in message) == ("user", True), message
    assert caller.done(caller.call("/optim_step"))["metrics"] == {"grad_norm": 0.0}


def test_what_has_no_number_is_refused_at_once(caller: Caller) -> None:
    assert caller.forward_backward(0).status_code == 400
    response = caller.http.post("/optim_step", json={"model_id": caller.model_id})
    assert (response.status_code, "seq_id" in response.json()["detail"]) == (400, True)
    assert caller.http.post("/forward_backward", content=b"\xff\xff").status_code == 400


def test_a_request_that_never_arrives_does_not_hold_the_others_for_ever(tmp_path: Path) -> None:
    limits = Limits(missing_request_timeout=0.1)
    with fake_served(tmp_path, limits=limits) as served, running(served) as server, raw(server) as http:
        caller = Caller.new(http)
        message, category = caller.failure(caller.forward_backward(2).json())
        assert (category, "request 1 of this model did not arrive" in message) == ("user", True)
        assert losses(caller, caller.forward_backward(3))
        assert "too late" in caller.failure(caller.forward_backward(1).json())[0]


def test_a_model_asked_for_twice_is_made_once(caller: Caller) -> None:
    asked = {"session_id": caller.session_id, "model_seq_id": 1, "base_model": FAKE_MODEL, "lora_config": LORA}
    first, again = caller.post("/create_model", asked), caller.post("/create_model", asked)
    assert first == again
    assert caller.done(first) == {"model_id": f"{caller.session_id}:train:1", "type": "create_model"}
    other = caller.post("/create_model", {**asked, "lora_config": {"rank": 4}})
    assert caller.failure(other)[1] == "user"


def test_more_requests_than_may_wait_are_asked_to_come_later(tmp_path: Path) -> None:
    with (
        fake_served(tmp_path, limits=Limits(max_waiting_training=3)) as served,
        running(served) as server,
        raw(server) as http,
    ):
        caller = Caller.new(http)
        waiting = [caller.forward_backward(number) for number in (2, 3, 4)]
        late = caller.forward_backward(5)
        assert (late.status_code, late.headers["retry-after"]) == (429, "1")
        assert losses(caller, caller.forward_backward(1), *waiting, caller.forward_backward(5))
