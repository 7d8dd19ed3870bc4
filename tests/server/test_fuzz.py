"""Does the server take whatever is sent to it? Thousands of wrong requests, and wrong bytes for the codec."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import zstandard
from asgi_caller import call
from fuzz_json import damaged
from fuzz_protobuf import PROTOBUF, bomb, valid_request
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from crucible.ports.datum import Datum
from crucible.server.app import create_app
from crucible.server.limits import Limits
from crucible.server.refusals import failure_of
from crucible.server.wire import messages_pb2 as wire
from crucible.server.wire.tensors import Room, read_tensor
from crucible.server.wire.training import parse_forward_backward, read_datums
from serving import TINY_MODEL, fake_served, torch_served

_DIMENSIONS = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-1, 8)), max_size=12)
_INDICES = st.lists(st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)), max_size=6)
_BYTES = st.binary(max_size=64)


async def test_thousands_of_wrong_requests_fail_nothing_and_move_nobody(tmp_path: Path) -> None:
    with fake_served(tmp_path) as served:
        report = await fuzzed(served, inputs=3000, seed=0)
    assert not report.findings
    assert report.futures > 300
    assert report.statuses[200] > 500  # the inputs are near enough to valid ones to be taken


async def test_a_server_that_fails_is_found_out(tmp_path: Path) -> None:
    def broken(*args: object, **options: object) -> None:
        raise LookupError("nobody foresaw this")

    with fake_served(tmp_path) as served:
        served.sampling.sample = broken  # pyright: ignore[reportAttributeAccessIssue]  (no good request of a round samples)
        report = await fuzzed(served, inputs=300, seed=0)
    assert any("LookupError" in finding for finding in report.findings)


@pytest.mark.slow
async def test_tens_of_thousands_do_neither(tmp_path: Path) -> None:
    with fake_served(tmp_path) as served:
        report = await fuzzed(served, inputs=20_000, seed=1)
    assert not report.findings


async def test_wrong_requests_do_not_reach_the_engine_as_its_own_failures(tmp_path: Path, tiny_model: Path) -> None:
    with torch_served(tmp_path, {TINY_MODEL: tiny_model}) as served:
        report = await fuzzed(served, inputs=500, seed=2)
    assert not report.findings


@pytest.mark.parametrize("seed", range(12))
async def test_a_packed_body_is_read_or_refused_whatever_it_says_of_itself(tmp_path: Path, seed: int) -> None:
    body = bomb(random.Random(seed), valid_request("x", 1).SerializeToString())
    with fake_served(tmp_path, limits=Limits(max_body_bytes=1 << 16)) as served:
        app = create_app(served, any_key=True)
        headers = {**PROTOBUF, "content-encoding": "zstd"}
        answer = await call(app, "POST", "/api/v1/forward_backward", body=body, headers=headers)
    assert answer.status in (400, 404, 413)


async def test_a_gigabyte_of_zeros_is_refused_for_its_size(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    body = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    with fake_served(tmp_path) as served:
        app = create_app(served, any_key=True)
        answer = await call(app, "POST", "/api/v1/forward_backward", body=body, headers={"content-encoding": "zstd"})
    assert answer.status == 413


def read(body: bytes) -> list[Datum]:
    """The datums of a request; what is wrong with it must be its client's fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_datums(parse_forward_backward(body).data, room=Room(1 << 20))
    except Exception as error:  # noqa: BLE001  (any but a user's error is a finding)
        assert failure_of(error).category == "user"
        return []


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_the_clients_error(body: bytes) -> None:
    read(body)


@given(st.randoms(use_true_random=False))
def test_a_damaged_request_is_a_request_or_the_clients_error(draw: random.Random) -> None:
    read(damaged(draw, valid_request("model", 1).SerializeToString()))


@given(dense=_BYTES, shape=_DIMENSIONS, dtype=st.integers(0, 6))
def test_a_dense_tensor_has_the_shape_that_it_states_or_is_refused(dense: bytes, shape: list[int], dtype: int) -> None:
    message = wire.Tensor(dense=dense, shape=shape)
    message.dtype = dtype  # pyright: ignore[reportAttributeAccessIssue]  (enums are open in proto3)
    try:
        tensor = read_tensor(message, name="t", room=Room(1 << 20))
    except ValueError:
        return
    assert not shape or tensor.shape == tuple(shape)


@given(values=_BYTES, crow=_INDICES, col=_INDICES, shape=_DIMENSIONS, dtype=st.integers(0, 6))
def test_a_sparse_tensor_has_the_cells_that_it_states_or_is_refused(
    values: bytes, crow: list[int], col: list[int], shape: list[int], dtype: int
) -> None:
    message = wire.Tensor(shape=shape)
    message.dtype = dtype  # pyright: ignore[reportAttributeAccessIssue]  (enums are open in proto3)
    message.sparse_csr.values = values
    message.sparse_csr.crow_indices = np.asarray(crow, dtype="<i8").tobytes()
    message.sparse_csr.col_indices = np.asarray(col, dtype="<i8").tobytes()
    try:
        tensor = read_tensor(message, name="t", room=Room(1 << 20))
    except ValueError:
        return
    assert tensor.shape == tuple(shape) and np.count_nonzero(tensor.data) <= len(col)
