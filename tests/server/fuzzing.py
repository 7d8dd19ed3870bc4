"""How is the server fuzzed? Without a socket, in rounds: what there is to ask for is made, then asked for wrongly.

A finding is a status of 500 and above, an exception that leaves the application, a request without an answer in
`PATIENCE` seconds, an answer that is neither JSON nor protobuf, a future that says the server failed, an error in the
server's log, or a bystander with another key whose weights, checkpoints or session are not as they were.

    .venv/bin/python tests/server/fuzzing.py --inputs 100000 --seed 1
"""

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from asgi_caller import Answer, call
from fuzz_json import Ids, Input, json_input
from fuzz_protobuf import PATH, PROTOBUF, protobuf_input, valid_request
from starlette.applications import Starlette

from crucible.server.app import create_app
from crucible.server.limits import Limits
from crucible.server.served import Served

PATIENCE = 20.0
ROUND = 100
"""Inputs between two looks at whether all is well."""
API = "/api/v1"
LIMITS = Limits(hold_seconds=0.004, max_body_bytes=1 << 20, max_sessions=64)


@dataclass
class Report:
    """What came of it. statuses: how many answers had each; findings: at most `most`, in words."""

    inputs: int = 0
    futures: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])
    findings: list[str] = field(default_factory=list[str])


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.exc_info and record.exc_info[1]!r}")


class Caller:
    """One key's requests."""

    def __init__(self, app: Starlette, secret: str) -> None:
        self._app, self._key = app, {"x-api-key": secret}

    async def send(self, given: Input) -> Answer:
        """The answer, or TimeoutError."""
        headers = {**self._key, **(given.headers or {})}
        async with asyncio.timeout(PATIENCE):
            return await call(self._app, given.method, given.path, body=given.body, headers=headers, query=given.query)

    async def post(self, path: str, /, **fields: object) -> dict[str, str]:
        """A good request's answer."""
        answer = await self.send(Input(method="POST", path=API + path, body=json.dumps(fields).encode()))
        assert answer.status == 200, f"{path}: {answer.status} {answer.body[:500]!r}"
        return json.loads(answer.body)

    async def outcome(self, request_id: str) -> Answer:
        """What a good request comes to, asked for until it is there."""
        body = json.dumps({"request_id": request_id}).encode()
        until = time.monotonic() + PATIENCE
        while True:
            answer = await self.send(Input(method="POST", path=f"{API}/retrieve_future", body=body))
            if answer.status != 408:
                assert answer.status == 200 and b'"error"' not in answer.body, answer.body[:500]
                return answer
            assert time.monotonic() < until, "a good request has no outcome"

    async def done(self, path: str, /, **fields: object) -> dict[str, str]:
        """What a good request comes to, as JSON."""
        return json.loads((await self.outcome((await self.post(path, **fields))["request_id"])).body)

    async def scored(self, run: str, seq_id: int) -> bytes:
        """The outcome of a good forward_backward that changes nothing."""
        message = valid_request(run, seq_id)
        message.forward_only = True
        del message.data[1:]
        answer = await self.send(Input(method="POST", path=PATH, body=message.SerializeToString(), headers=PROTOBUF))
        assert answer.status == 200, answer.body[:500]
        return (await self.outcome(json.loads(answer.body)["request_id"])).body


async def made(caller: Caller, model: str) -> Ids:
    """A session with a run, a sampler and checkpoints. It takes the run's first four numbers."""
    session = (await caller.post("/create_session", tags=[], sdk_version="1"))["session_id"]
    lora = {"rank": 4}
    run = (await caller.done("/create_model", session_id=session, model_seq_id=0, base_model=model, lora_config=lora))[
        "model_id"
    ]
    await caller.scored(run, 1)
    future = (await caller.post("/optim_step", model_id=run, seq_id=2, adam_params={}))["request_id"]
    saved = await caller.done("/save_weights", model_id=run, seq_id=3, path="one")
    snapshot = await caller.done("/save_weights_for_sampler", model_id=run, seq_id=4, path="one")
    sampler = await caller.post(
        "/create_sampling_session", session_id=session, sampling_session_seq_id=0, model_path=snapshot["path"]
    )
    return Ids(
        session=session,
        run=run,
        sampler=sampler["sampling_session_id"],
        model=model,
        future=future,
        checkpoint=saved["path"],
        snapshot=snapshot["path"],
    )


class Fuzzer:
    """Sends inputs drawn from a seed, and looks at what comes back.

    new_caller: one with a key of its own, for each round: some inputs revoke the key that they come with.
    """

    def __init__(self, new_caller: Callable[[], Caller], *, model: str, seed: int) -> None:
        self._new_caller, self._model = new_caller, model
        self._caller, self._bystander = new_caller(), new_caller()
        self._draw = random.Random(seed)
        self._errors = _Errors()
        self.report = Report()

    async def run(self, inputs: int) -> Report:
        """So many inputs."""
        logger = logging.getLogger("crucible.server")
        logger.addHandler(self._errors)
        try:
            ids = await made(self._bystander, self._model)
            scores, turn = await self._bystander.scored(ids.run, 5), 6
            while self.report.inputs < inputs:
                await self._round(min(ROUND, inputs - self.report.inputs))
                self._look(await self._bystander.scored(ids.run, turn) == scores, "the bystander's weights have moved")
                turn += 1
                for path in (ids.checkpoint, ids.snapshot):
                    await self._bystander.post("/weights_info", tinker_path=path)
                await self._bystander.post("/session_heartbeat", session_id=ids.session)
        finally:
            logger.removeHandler(self._errors)
        return self.report

    async def _round(self, inputs: int) -> None:
        self._caller = self._new_caller()
        ids = await made(self._caller, self._model)
        for _ in range(inputs):
            kind = protobuf_input if self._draw.random() < 0.3 else json_input
            given = kind(self._draw, ids)
            await self._one(given)
            self.report.inputs += 1
        await self._finish(ids.session)

    async def _finish(self, session: str) -> None:
        body = b'{"reason": {"type": "success"}}'
        await self._caller.send(Input(method="POST", path=f"{API}/sessions/{session}/finish", body=body))

    async def _one(self, given: Input) -> None:
        shown = (
            f"input {self.report.inputs}: {given.method} {given.path[:200]}?{given.query[:200]} {given.body[:600]!r}"
        )
        try:
            answer = await self._caller.send(given)
        except TimeoutError:
            self._look(False, f"no answer in {PATIENCE:g} s: {shown}")
            return
        except Exception as error:  # noqa: BLE001  (whatever leaves the application is a finding)
            self._look(False, f"{error!r} left the application: {shown}")
            return
        self.report.statuses[answer.status] += 1
        self._look(answer.status < 500, f"{answer.status} {answer.body[:300]!r}: {shown}")
        self._look(_readable(answer, given.method), f"unreadable {answer.status} {answer.body[:300]!r}: {shown}")
        if answer.status == 200 and given.method == "POST":
            await self._follow(answer, shown)
        for text in self._errors.texts:
            self._look(False, f"logged {text[:500]!r}: {shown}")
        self._errors.texts.clear()

    async def _follow(self, answer: Answer, shown: str) -> None:
        """Read the future that a request opened, and end the session that it began."""
        told = json.loads(answer.body) if answer.headers.get("content-type") == "application/json" else {}
        if "session_id" in told and told.get("type") == "create_session":
            await self._finish(told["session_id"])
        if "request_id" not in told or "queue_state" in told:
            return
        self.report.futures += 1
        body = json.dumps({"request_id": told["request_id"]}).encode()
        found = await self._caller.send(Input(method="POST", path=f"{API}/retrieve_future", body=body))
        self._look(found.status in (200, 408, 404, 410), f"its future: {found.status} {found.body[:300]!r}: {shown}")
        if found.headers.get("content-type") == "application/json" and found.status == 200:
            failed = json.loads(found.body)
            self._look(failed.get("category", "user") == "user", f"its future: {found.body[:300]!r}: {shown}")

    def _look(self, well: bool, otherwise: str) -> None:
        if not well:
            self.report.findings.append(otherwise)


def _readable(answer: Answer, method: str) -> bool:
    """JSON (never empty where something is wrong: the SDK takes an empty 400 for a proxy's), protobuf or events."""
    if answer.status == 204 or method in ("HEAD", "OPTIONS"):
        return True
    if answer.status in (302, 307):
        return bool(answer.headers.get("location"))
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json":
        return isinstance(json.loads(answer.body), dict | list)
    return answer.status == 200 and kind in ("application/x-protobuf", "text/event-stream", "text/plain")


@asynccontextmanager
async def fuzzer(served: Served, *, seed: int) -> AsyncGenerator[Fuzzer]:
    """A fuzzer of a server of two keys, over what is served."""
    numbers = itertools.count()
    app = create_app(served, any_key=False)
    async with app.router.lifespan_context(app):
        yield Fuzzer(
            lambda: Caller(app, served.store.keys.create(f"key-{next(numbers)}")[1]),
            model=next(iter(served.models)),
            seed=seed,
        )


async def fuzzed(served: Served, *, inputs: int, seed: int) -> Report:
    """What so many inputs come to."""
    async with fuzzer(replace(served, limits=LIMITS), seed=seed) as one:
        return await one.run(inputs)


def main() -> int:
    """Fuzz, print what was found; 1 if anything was."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from conftest import write_tiny_model
    from serving import TINY_MODEL, fake_served, torch_served

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=["fake", "torch"], default="fake")
    args = parser.parse_args()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.backend == "fake":
            parts = fake_served(folder / "data")
        else:
            parts = torch_served(folder / "data", {TINY_MODEL: write_tiny_model(folder / "tiny")})
        began = time.process_time()
        with parts as served:
            report = asyncio.run(fuzzed(served, inputs=args.inputs, seed=args.seed))
    print(f"{report.inputs} inputs, {report.futures} futures, {time.process_time() - began:.0f} CPU seconds")
    print("statuses:", dict(sorted(report.statuses.items())))
    print(f"{len(report.findings)} findings", *report.findings[:100], sep="\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
