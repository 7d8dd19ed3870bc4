"""Are the requests that take the straight way answered as the router would, and all others by the router?"""

import httpx
import pytest
from calls import Caller


def test_a_pattern_of_a_path_is_no_path_of_a_request(http: httpx.Client) -> None:
    answer = http.post("/samplers/{sampler_id}", json={})
    assert (answer.status_code, answer.json()["category"]) == (405, "user")


@pytest.mark.parametrize("path", ["/optim_step", "/asample", "/retrieve_future"])
def test_a_step_by_another_method_is_refused(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["category"]) == (405, "user")


def test_a_step_without_a_key_is_refused_before_it_is_read(http: httpx.Client) -> None:
    answer = http.post("/optim_step", json={}, headers={"x-api-key": "none"})
    assert answer.status_code == 401


def test_a_step_that_goes_wrong_is_answered_in_json(http: httpx.Client) -> None:
    answer = http.post("/optim_step", json={"model_id": "no-model", "seq_id": 1})
    assert answer.status_code == 404 and "no-model" in answer.json()["detail"]


def test_steps_are_done_that_way(http: httpx.Client) -> None:
    caller = Caller.new(http)
    stepped = caller.post("/optim_step", {"model_id": caller.model_id, "seq_id": 1, "adam_params": {}})
    assert caller.done(stepped)["type"] == "optim_step"
