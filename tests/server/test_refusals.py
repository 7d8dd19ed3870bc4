"""Does a client learn what went wrong and whose fault it was, and nothing of the server's machine?"""

import logging

import httpx
import pytest
from calls import Caller

from crucible.errors import CheckpointError, PortError
from crucible.server.refusals import Refusal, failure_of, shown
from crucible.store.failure import StoreError
from serving import Serving


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (ValueError("the prompt is empty"), "user"),
        (CheckpointError.of("there is no such checkpoint"), "user"),
        (Refusal(410, "over"), "user"),
        (PortError("no memory", port="engine", adapter="torch"), "server"),
        (StoreError.of("the disk is full"), "server"),
        (OSError(28, "No space left on device"), "server"),
        (ZeroDivisionError("a bug of ours"), "unknown"),
    ],
)
def test_every_failure_is_somebodys(error: Exception, category: str, caplog: pytest.LogCaptureFixture) -> None:
    assert failure_of(error).category == category
    assert bool(caplog.records) == (category != "user")


def test_our_own_bugs_are_in_the_log_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    assert "secret" not in failure_of(KeyError("secret")).error
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("damaged (given: /var/lib/crucible/weights/ab12)", "damaged (given: (a path of the server))"),
        ("No such file: '/home/me/x.bin'", "No such file: '(a path of the server)'"),
        ("no checkpoint tinker://run:train:0/weights/a", "no checkpoint tinker://run:train:0/weights/a"),
        ("it serves Qwen/Qwen3-8B and org/model", "it serves Qwen/Qwen3-8B and org/model"),
        ("1/2 of it, and/or less", "1/2 of it, and/or less"),
    ],
)
def test_paths_of_the_machine_are_not_told(text: str, told: str) -> None:
    assert shown(text) == told


def test_a_backend_that_fails_is_the_servers_fault(http: httpx.Client, fake_server: Serving) -> None:
    caller = Caller.new(http)
    fake_server.served.training.close()
    message, category = caller.failure(caller.forward_backward(1).json())
    assert (category, message.startswith("PortError")) == ("server", True)
    answer = http.post("/create_session", json={})
    assert answer.status_code == 200
