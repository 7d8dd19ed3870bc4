"""Does the server stand what happens to servers? Kills, half-open uploads, bodies without end, clients that vanish."""

import json
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import tinker
from calls import Caller
from killed_server import Client, ServerProcess

from crucible.server.limits import Limits
from serving import KEY, Serving, fake_served, running

CLIENTS = 8


def killed_under_load(folder: Path, *, kills: int, seed: int) -> tuple[list[Client], ServerProcess]:
    """What clients came to while their server was killed and started again; it runs."""
    draw, stop, server = random.Random(seed), threading.Event(), ServerProcess(folder)
    server.start()
    clients = [Client(number=number, url=server.url) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.work, args=(stop,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        before = [len(client.saved) for client in clients]
        while not any(len(client.saved) > count for client, count in zip(clients, before, strict=True)):
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        server.kill()
        server.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "a client waits for ever"
    return clients, server


def check_saved(clients: list[Client], server: ServerProcess) -> None:
    """Every checkpoint that a client was told of is there, and is what it was."""
    with tinker.ServiceClient(base_url=server.url, api_key=KEY) as service:
        for client in clients:
            for path, loss in list(client.saved.items())[-3:]:
                model = service.create_training_client_from_state_with_optimizer(path).result()
                assert client.loss(model) == loss
    with httpx.Client(base_url=server.url, headers={"X-API-Key": KEY}, trust_env=False) as http:
        for path in (path for client in clients for path in client.saved):
            assert http.post("/api/v1/weights_info", json={"tinker_path": path}).status_code == 200


def test_a_server_killed_under_load_loses_no_saved_checkpoint(tmp_path: Path) -> None:
    clients, server = killed_under_load(tmp_path, kills=1, seed=0)
    check_saved(clients, server)
    server.kill()
    assert not [error for client in clients for error in client.errors]
    assert sum(client.refused for client in clients) > 0


@pytest.mark.slow
def test_nor_does_one_that_is_killed_again_and_again(tmp_path: Path) -> None:
    clients, server = killed_under_load(tmp_path, kills=8, seed=1)
    check_saved(clients, server)
    server.kill()
    assert not [error for client in clients for error in client.errors]


@contextmanager
def http_client(server: Serving) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": KEY}
    with httpx.Client(base_url=server.url + "/api/v1", headers=headers, timeout=60, trust_env=False) as http:
        yield http


def request_head(path: str, *, length: int) -> bytes:
    lines = [f"POST /api/v1{path} HTTP/1.1", "host: 127.0.0.1", f"x-api-key: {KEY}", f"content-length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def connected(server: Serving) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)))


@pytest.mark.parametrize("sent", [0, 10, 1000])
def test_uploads_that_stop_half_way_do_not_stop_others(fake_server: Serving, sent: int) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            half_open = stack.enter_context(connected(fake_server))
            half_open.sendall((request_head("/forward_backward", length=5000) + bytes(5000))[: 130 + sent])
        with http_client(fake_server) as http:
            caller = Caller.new(http)
            assert caller.scored(caller.forward_backward(1)).metrics["loss:sum"] > 0


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(fake_server: Serving) -> None:
    with connected(fake_server) as link:
        link.sendall(request_head("/forward_backward", length=1 << 40))
        assert link.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_end_is_refused_when_it_is_too_large(tmp_path: Path) -> None:
    with (
        fake_served(tmp_path, limits=Limits(max_body_bytes=1 << 16)) as served,
        running(served) as server,
        connected(server) as link,
    ):
        head = request_head("/telemetry", length=0).replace(b"content-length: 0", b"transfer-encoding: chunked")
        link.sendall(head)
        for _ in range(20):
            link.sendall(b"2000\r\n" + bytes(0x2000) + b"\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/create_session", "/asample", "/optim_step", "/retrieve_future", "/sessions/search"])
def test_no_route_takes_a_body_over_the_limit(tmp_path: Path, path: str) -> None:
    with (
        fake_served(tmp_path, limits=Limits(max_body_bytes=1000)) as served,
        running(served) as server,
        http_client(server) as http,
    ):
        assert http.post(path, json={"tags": ["x" * 2000]}).status_code == 413


def waiting(server: Serving) -> int:
    """How many questions are held: a look from outside, between two of the server's steps."""
    return sum(len(result.waiting) for result in list(server.live.results._all.values()))


def held_back(caller: Caller) -> dict[str, str]:
    """A request whose outcome does not come before `let_go`: the one before it is missing."""
    return caller.post("/optim_step", {"model_id": caller.model_id, "seq_id": 2})


def let_go(caller: Caller) -> None:
    """Send the missing one."""
    assert caller.forward_backward(1).status_code == 200


def ask(link: socket.socket, taken: dict[str, str]) -> None:
    """Send the question for an outcome."""
    body = json.dumps({"request_id": taken["request_id"]}).encode()
    link.sendall(request_head("/retrieve_future", length=len(body)) + body)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Serving]:
    """A server that holds a question for as long as a test may take."""
    with fake_served(tmp_path, limits=Limits(hold_seconds=300)) as served, running(served) as server:
        yield server


def test_clients_that_vanish_leave_no_one_waiting(patient: Serving) -> None:
    with http_client(patient) as http:
        caller = Caller.new(http)
        taken = held_back(caller)
        links = [connected(patient) for _ in range(100)]
        for link in links:
            ask(link, taken)
        while waiting(patient) < len(links):
            time.sleep(0.01)
        for link in links:
            # No farewell: the kernel sends a reset, as for a client that was killed.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.close()
        while waiting(patient):
            time.sleep(0.01)
        let_go(caller)
        assert "metrics" in caller.done(taken)


def beside_polls(server: Serving, *, polls: int) -> None:
    """A heartbeat is answered while so many questions wait; then they all are."""
    with http_client(server) as http, ExitStack() as stack:
        caller = Caller.new(http)
        taken = held_back(caller)
        links = [stack.enter_context(connected(server)) for _ in range(polls)]
        for link in links:
            ask(link, taken)
        while waiting(server) < polls:
            time.sleep(0.01)
        assert http.post("/session_heartbeat", json={"session_id": caller.session_id}).status_code == 200
        assert waiting(server) == polls
        let_go(caller)
        assert all(link.recv(1000).startswith(b"HTTP/1.1 200 ") for link in links)


def test_hundreds_of_waiting_polls_do_not_starve_a_heartbeat(patient: Serving) -> None:
    beside_polls(patient, polls=200)


@pytest.mark.slow
def test_nor_do_two_thousand(patient: Serving) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(files, 8192), most), most))
    beside_polls(patient, polls=2000)
