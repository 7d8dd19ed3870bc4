"""Which JSON requests does the fuzzer send? Valid ones of every route, with something done to them."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = Any


@dataclass(frozen=True, kw_only=True)
class Input:
    """One request of the fuzzer."""

    method: str
    path: str
    body: bytes = b""
    query: str = ""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Ids:
    """What there is to ask for: made by the driver before each round."""

    session: str
    run: str
    sampler: str
    model: str
    future: str
    checkpoint: str
    snapshot: str


def _asample(ids: Ids) -> Json:
    return {
        "sampling_session_id": ids.sampler,
        "seq_id": 1,
        "num_samples": 2,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
        "sampling_params": {"max_tokens": 3, "seed": 1, "temperature": 1.0, "top_k": -1, "top_p": 1.0, "stop": []},
        "prompt_logprobs": True,
        "topk_prompt_logprobs": 2,
        "topk_sample_logprobs": 1,
        "prompt_alt_tokens_k": 1,
        "prompt_logprobs_last_n": 2,
        "target_prompt_logprobs": {"data": [1, 2], "dtype": "int64", "shape": [2, 1]},
    }


def _sparse_asample(ids: Ids) -> Json:
    tensor = {
        "data": [1, 2],
        "dtype": "int64",
        "shape": [2, 4],
        "sparse_crow_indices": [0, 1, 2],
        "sparse_col_indices": [0, 3],
    }
    return {**_asample(ids), "target_prompt_logprobs": tensor}


def _chat(ids: Ids) -> Json:
    return {
        "model": ids.model,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2,
        "n": 1,
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 1,
        "stream": False,
    }


_LORA = {"rank": 8, "seed": 1, "train_unembed": False, "train_mlp": True, "train_attn": True}
POSTS: Mapping[str, Callable[[Ids], Json]] = {
    "/api/v1/client/config": lambda _: {"sdk_version": "0.38.0"},
    "/api/v1/client/dynamic_config": lambda _: {"sdk_version": "0.38.0"},
    "/api/v1/create_session": lambda _: {"tags": ["a"], "user_metadata": {"a": "b"}, "sdk_version": "1"},
    "/api/v1/session_heartbeat": lambda ids: {"session_id": ids.session},
    "/api/v1/sessions/{session}/finish": lambda _: {"reason": {"type": "success"}, "detail": "done"},
    "/api/v1/create_custom_loss": lambda ids: {"session_id": ids.session, "custom_loss_seq_id": 1, "name": "n"},
    "/api/v1/create_model": lambda ids: {
        "session_id": ids.session,
        "model_seq_id": 7,
        "base_model": ids.model,
        "user_metadata": {"a": "b"},
        "lora_config": _LORA,
        "optimizer_config": {"type": "adamw"},
    },
    "/api/v1/get_info": lambda ids: {"model_id": ids.run},
    "/api/v1/optim_step": lambda ids: {
        "model_id": ids.run,
        "seq_id": 2,
        "adam_params": {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "grad_clip_norm": 1.0},
    },
    "/api/v1/save_weights": lambda ids: {"model_id": ids.run, "seq_id": 2, "path": "a", "ttl_seconds": 60},
    "/api/v1/save_weights_for_sampler": lambda ids: {"model_id": ids.run, "seq_id": 2, "path": "b"},
    "/api/v1/save_weights_external": lambda ids: {"model_id": ids.run, "seq_id": 2, "path": "c"},
    "/api/v1/load_weights": lambda ids: {
        "session_id": ids.session,
        "model_seq_id": 9,
        "path": ids.checkpoint,
        "optimizer": True,
    },
    "/api/v1/create_sampling_session": lambda ids: {
        "session_id": ids.session,
        "sampling_session_seq_id": 3,
        "base_model": ids.model,
        "model_path": ids.snapshot,
    },
    "/api/v1/join_sampling_session": lambda ids: {"sampling_session_id": ids.sampler},
    "/api/v1/asample": _asample,
    "/api/v1/asample?": _sparse_asample,
    "/api/v1/retrieve_future": lambda ids: {"request_id": ids.future, "allow_metadata_only": True},
    "/api/v1/retrieve_futures": lambda ids: {
        "target": {"sampling_session_id": ids.sampler, "cloned_sampler_id": 0},
        "prev_cursor": 0,
        "timeout": 0.01,
        "retrieved_request_ids": ["a"],
    },
    "/api/v1/cancel_future": lambda ids: {"request_id": ids.future},
    "/api/v1/telemetry": lambda ids: {"events": [{"a": 1}], "platform": "p", "session_id": ids.session},
    "/api/v1/weights_info": lambda ids: {"tinker_path": ids.checkpoint},
    "/api/v1/copy_weights": lambda ids: {"source_path": ids.checkpoint, "destination_path": "copy"},
    "/api/v1/sessions/search": lambda _: {"limit": 5, "statuses": [{"type": "active"}], "owner": {"type": "own"}},
    "/api/v1/training_runs/{run}/checkpoints/weights/one/publish": lambda _: {},
    "/v1/chat/completions": _chat,
    "/v1/completions": lambda ids: {"model": ids.model, "prompt": "a", "max_tokens": 2, "echo": True, "logprobs": 1},
}
PUTS: Mapping[str, Callable[[Ids], Json]] = {
    "/api/v1/training_runs/{run}/checkpoints/weights/one/ttl": lambda _: {"ttl_seconds": 100},
    "/api/v1/sessions/{session}/project": lambda _: {"project_id": "p"},
}
GETS = (
    "/api/v1/healthz",
    "/api/v1/get_server_capabilities",
    "/api/v1/samplers/{sampler}",
    "/api/v1/training_runs",
    "/api/v1/training_runs/{run}",
    "/api/v1/training_runs/{run}/checkpoints",
    "/api/v1/checkpoints",
    "/api/v1/sessions",
    "/api/v1/sessions/{session}",
    "/api/v1/sessions/{session}/trace_export",
    "/api/v1/auth/apikey/me",
    "/api/v1/audit",
    "/api/v1/billing/usage/events",
    "/api/v1/billing/usage/checkpoints/current",
    "/api/v1/training_runs/{run}/checkpoints/external_weights/one/external_weights_urls",
    "/api/v1/training_runs/{run}/checkpoints/sampler_weights/one/archive",
    "/api/v1/signed_downloads/a/b",
    "/v1/models",
    "/v1/models/{model}",
)
ODD: tuple[Json, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    2**70,
    0.5,
    -0.0,
    1e308,
    1e-320,
    "",
    "a",
    "\x00",
    "é\U0001f600",
    "\u2028",
    "../../etc/passwd",
    "..",
    "a/b",
    "tinker://",
    "tinker://a/weights/b",
    "tinker://a:train:0/weights/../../x",
    "x" * 5000,
    [],
    {},
    [None],
    [[]],
    [-1],
    [2**31],
    {"": ""},
    {"type": "x"},
    "own",
    "adamw",
    "dimuon",
)
RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b'"\xff"',
    b"[" * 3000,
    b"{",
    b"",
    b"\x00",
    b"01",
    b"'a'",
)
"""What `json.dumps` does not write."""
_MARK = "\ue000raw\ue000"


def _places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))]


def _changed(value: Json, path: tuple[Any, ...], change: Callable[[Json], Json]) -> Json:
    """The value with what is at the path changed; a copy of what is on the way."""
    if not path:
        return change(value)
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _changed(copied[path[0]], path[1:], change)
    return copied


def mutated(draw: random.Random, value: Json) -> bytes:
    """The value as JSON, with one to three changes to its parts or its bytes."""
    raw: list[bytes] = []

    def change(part: Json) -> Json:
        kind = draw.randrange(9)
        if kind == 0 and isinstance(part, dict) and part:
            return {key: inner for key, inner in part.items() if key != draw.choice(list(part))}
        if kind == 1 and isinstance(part, dict):
            return {**part, draw.choice(["extra", "type", "seq_id", "data", ""]): draw.choice(ODD)}
        if kind == 2 and isinstance(part, list):
            return part * draw.choice([2, 100])
        if kind == 3 and isinstance(part, int | float):
            return draw.choice([-part, part + 1, part * 10**6, float(part), str(part), 2 ** draw.randrange(80)])
        if kind == 4 and isinstance(part, str):
            return draw.choice([part.upper(), part + "x", part[:-1], part * 50, part + "\x00", part.replace("/", "//")])
        if kind == 5:
            raw.append(draw.choice(RAW))
            return _MARK
        return draw.choice(ODD)

    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = _changed(value, draw.choice(_places(value)), change)
    body = json.dumps(value).encode()
    mark = json.dumps(_MARK).encode()
    for text in raw:
        body = body.replace(mark, text, 1)
    return damaged(draw, body) if draw.random() < 0.1 else body


def damaged(draw: random.Random, body: bytes) -> bytes:
    """The bytes with bits flipped, a part cut out, doubled or put elsewhere."""
    if not body:
        return draw.randbytes(draw.randrange(64))
    start, end = sorted((draw.randrange(len(body)), draw.randrange(len(body) + 1)))
    kind = draw.randrange(5)
    if kind == 0:
        return body[:start]
    if kind == 1:
        return body[:start] + body[end:]
    if kind == 2:
        return body[:end] + body[start:]
    if kind == 3:
        return body[:start] + draw.randbytes(draw.choice((1, 4, 300))) + body[start:]
    flipped = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 8))):
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


_SEGMENTS = ("", "..", "%2e%2e", "a" * 3000, "\x00", "é", "a:b", "weights", "null", "-1", "a?b", "{run}", " ")
_QUERIES = ("limit", "offset", "access_scope", "project_id", "cursor", "sort", "after", "since", "")


def _path(draw: random.Random, template: str, ids: Ids) -> str:
    path = template.partition("?")[0]
    for name in ("session", "run", "sampler", "model"):
        path = path.replace("{" + name + "}", getattr(ids, name))
    if draw.random() < 0.15:
        parts = path.split("/")
        parts[draw.randrange(1, len(parts))] = draw.choice(_SEGMENTS)
        path = "/".join(parts)
    return path


def json_input(draw: random.Random, ids: Ids) -> Input:
    """A request to one of the JSON routes, or to none."""
    kind = draw.random()
    if kind < 0.25:
        query = "&".join(f"{draw.choice(_QUERIES)}={draw.choice(ODD)}" for _ in range(draw.randrange(3)))
        method = draw.choice(("GET",) * 8 + ("DELETE", "HEAD", "OPTIONS"))
        return Input(method=method, path=_path(draw, draw.choice(GETS), ids), query=query)
    posts = kind < 0.95
    template, make = draw.choice(list((POSTS if posts else PUTS).items()))
    valid = make(ids)
    if "seq_id" in valid and draw.random() < 0.7:  # where the line of requests goes on: else most would wait for ever
        valid = {**valid, "seq_id": draw.randrange(1, 12)}
    method = "POST" if posts else "PUT"
    headers = draw.choice(
        (None,) * 12 + ({"content-type": "text/plain"}, {"content-encoding": "gzip"}, {"x-api-key": "é"})
    )
    return Input(method=method, path=_path(draw, template, ids), body=mutated(draw, valid), headers=headers)
