"""Is a body that is too large, cut off, or not what it says it is refused, and is nothing left behind?"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from calls import Caller, datum

from crucible.server.limits import Limits
from crucible.server.wire import messages_pb2 as wire
from serving import KEY, Serving, fake_served, raw, running

MOST = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with fake_served(tmp_path, limits=Limits(max_body_bytes=MOST, max_datums=4)) as served, running(served) as serving:
        yield serving


@pytest.fixture
def caller(server: Serving) -> Iterator[Caller]:
    with raw(server) as http:
        yield Caller.new(http)


def body(caller: Caller, number: int, *datums: wire.Datum) -> bytes:
    message = wire.ForwardBackwardRequest(model_id=caller.model_id, seq_id=number, data=datums, loss_fn="cross_entropy")
    return message.SerializeToString()


def test_a_body_is_refused_as_soon_as_it_is_too_large(caller: Caller) -> None:
    whole = caller.http.post("/forward_backward", content=b"x" * (MOST + 1))
    parts = caller.http.post("/forward_backward", content=(b"x" * 1000 for _ in range(1000)))
    for response in (whole, parts):
        assert (response.status_code, str(MOST) in response.json()["detail"]) == (413, True)


def test_a_compressed_body_is_what_it_would_be_plain(caller: Caller) -> None:
    packed = zstandard.compress(body(caller, 1, datum()))
    response = caller.http.post("/forward_backward", content=packed, headers={"Content-Encoding": "zstd"})
    assert caller.scored(response).metrics["loss:sum"] > 0


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (zstandard.compress(b"\0" * 50_000_000), "zstd", 413),
        (b"no zstd at all", "zstd", 400),
        (b"x", "br", 415),
    ],
    ids=["a bomb", "not compressed", "another encoding"],
)
def test_a_body_that_does_not_unpack_is_refused(caller: Caller, content: bytes, encoding: str, status: int) -> None:
    response = caller.http.post("/forward_backward", content=content, headers={"Content-Encoding": encoding})
    assert (response.status_code, bool(response.json()["detail"])) == (status, True)
    assert caller.scored(caller.forward_backward(1))


def test_more_datums_than_one_request_may_have_fail_in_its_future(caller: Caller) -> None:
    many = caller.http.post("/forward_backward", content=body(caller, 1, *[datum()] * 5))
    assert "at most 4" in caller.failure(many.json())[0]
    none = caller.http.post("/forward_backward", content=body(caller, 2))
    assert "no datums" in caller.failure(none.json())[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model_id": 1, "seq_id": 1}', b"[" * 50_000, b"\xff"])
def test_json_that_is_none_is_refused_with_a_sentence(caller: Caller, content: bytes) -> None:
    response = caller.http.post("/optim_step", content=content)
    assert (response.status_code, bool(response.json()["detail"])) == (400, True)


def test_a_client_that_goes_in_the_middle_of_a_body_leaves_nothing_behind(caller: Caller, server: Serving) -> None:
    content = body(caller, 1, datum())
    head = f"POST /api/v1/forward_backward HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n"
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:20])
        time.sleep(0.1)
    assert caller.scored(caller.forward_backward(1))
    assert server.live.runs[caller.model_id].turns.pending == 0


def test_a_large_request_arrives_whole(tmp_path: Path) -> None:
    with fake_served(tmp_path / "large") as served, running(served) as serving, raw(serving) as http:
        caller = Caller.new(http)
        datums = [datum(tuple(range(200))) for _ in range(400)]
        read = caller.scored(caller.http.post("/forward_backward", content=body(caller, 1, *datums)))
        assert read.loss_fn_outputs[0].num_datums == 400
