"""How are many answers graded at once, by code that may hang, crash or eat the machine? In processes that are ended."""

import asyncio
import itertools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from crucible.errors import ConfigError, DataError
from crucible.train.graders.graders import Graders
from crucible.train.graders.keeper_link import KeeperLink
from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.registry import find_grader
from crucible.train.graders.verdict import Verdict

_ATTEMPTS = 2
"""How often a request is tried: the second time only if the keeper itself was killed."""


class CallFailedError(RuntimeError):
    """A function that was called in the pool gave no value. verdict: why not."""

    def __init__(self, function: str, verdict: Verdict) -> None:
        super().__init__(f"{function}: {verdict.state}: {verdict.detail}")
        self.verdict = verdict


@dataclass(frozen=True, kw_only=True)
class GraderStatistics:
    """Since the pool was made. items: that came back, by what they came back as. workers_killed: while at work, at a
    limit or by their own doing. keepers_started: more than one, if the process that starts the workers was killed."""

    items: int
    scores: int
    invalid: int
    timed_out: int
    workers_started: int
    workers_killed: int
    keepers_started: int


@dataclass(kw_only=True, eq=False)
class _Request:
    line: str
    answer: "Future[Mapping[str, Any]]"
    attempts: int = 0


class GraderPool(Graders):
    """Grades in worker processes: each has its limits, and is ended, with all it has started, when it goes beyond
    them, when it has graded `items_per_worker` items, and when this process ends, by kill -9 too.

    Nothing is started before the first item. It belongs to no event loop: one pool may serve many, and threads.

    workers: at most so many at a time; None: one for each CPU, at most 4.
    """

    def __init__(
        self, *, workers: int | None = None, limits: GraderLimits | None = None, items_per_worker: int = 200
    ) -> None:
        for name, value in (("workers", workers), ("items_per_worker", items_per_worker)):
            if value is not None and value < 1:
                raise ConfigError.of("graders need at least one", where=name, given=value)
        self.limits = limits or GraderLimits()
        self._settings = {
            "workers": workers or min(4, os.cpu_count() or 1),
            "limits": asdict(self.limits),
            "items_per_worker": items_per_worker,
        }
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Request] = {}
        self._link: KeeperLink | None = None
        self._closed = False
        self._states = {"score": 0, "invalid": 0, "timed_out": 0}
        self._counts = {"workers_started": 0, "workers_killed": 0}
        self._counts_before = dict(self._counts)
        self._keepers = 0

    async def grade(self, grader: str, item: Mapping[str, Any], *, place: str) -> Verdict:
        del place  # of account to those who keep records
        answer = await self._ask("grade", find_grader(grader), item, name=grader)
        return _verdict(answer)

    async def call(
        self, function: str, positional: Sequence[Any] = (), *, named: Mapping[str, Any] | None = None
    ) -> Any:
        """The value of `module:function(*positional, **named)`, called in a worker under the same limits. Arguments
        and value are JSON data.

        Raises:
            CallFailedError: if it hangs, dies, raises, or its value is no JSON.
        """
        argument = {"positional": list(positional), "named": dict(named or {})}
        answer = await self._ask("call", function, argument, name=function)
        if answer["state"] != "score":
            raise CallFailedError(function, _verdict(answer))
        return answer["value"]

    def statistics(self) -> GraderStatistics:
        """What has come back so far."""
        with self._lock:
            started, killed = (self._counts_before[key] + self._counts[key] for key in self._counts)
            return GraderStatistics(
                items=sum(self._states.values()),
                scores=self._states["score"],
                invalid=self._states["invalid"],
                timed_out=self._states["timed_out"],
                workers_started=started,
                workers_killed=killed,
                keepers_started=self._keepers,
            )

    def close(self) -> None:
        """End every process and return when they are gone. Safe to call twice, and from any thread."""
        with self._lock:
            self._closed, link, self._link = True, self._link, None
            asked, self._asked = self._asked, {}
        for request in asked.values():
            _fail(request, RuntimeError("the pool of graders was closed"))
        if link is not None:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _ask(self, kind: str, function: str, argument: object, *, name: str) -> Mapping[str, Any]:
        number = next(self._numbers)
        line = {"id": number, "kind": kind, "function": function, "argument": argument}
        try:
            text = json.dumps(line)
        except (TypeError, ValueError) as error:
            raise DataError.of(f"what is to be graded is no JSON data: {error}", where=f"grader {name!r}") from error
        request = _Request(line=text, answer=Future())
        with self._lock:
            self._send(number, request)
        try:
            return await asyncio.wrap_future(request.answer)
        finally:
            with self._lock:
                if self._asked.pop(number, None) is not None and self._link is not None:  # nobody waits any more
                    self._link.send(json.dumps({"cancel": number}))

    def _send(self, number: int, request: _Request) -> None:
        """With the lock held."""
        if self._closed:
            raise RuntimeError("the pool of graders is closed")
        if self._link is None:
            self._link = KeeperLink(self._settings, on_message=self._take, on_end=self._replace)
            self._keepers += 1
        self._asked[number] = request
        request.attempts += 1
        self._link.send(request.line)

    def _take(self, message: Mapping[str, Any]) -> None:
        """An answer, in the link's thread."""
        with self._lock:
            self._counts = message["counts"]
            request = self._asked.pop(message["id"], None)
            if request is not None:
                self._states[message["state"]] += 1
        if request is not None:
            _settle(request, message)

    def _replace(self, link: KeeperLink, how: str) -> None:
        """The keeper was killed: its workers died with it. Ask another, once; in the link's thread."""
        with self._lock:
            if link is not self._link:
                return
            self._link = None
            for key in self._counts:
                self._counts_before[key] += self._counts[key]
            self._counts = dict.fromkeys(self._counts, 0)
            given_up = [number for number, each in self._asked.items() if not link.ready or each.attempts >= _ATTEMPTS]
            lost = [self._asked.pop(number) for number in given_up]
            self._states["invalid"] += len(lost) if link.ready else 0
            for number, request in list(self._asked.items()):
                self._send(number, request)
        link.close()
        for request in lost:
            if link.ready:
                detail = f"the process that keeps the graders {how}"
                _settle(request, {"state": "invalid", "detail": detail, "repeatable": False})
            else:
                _fail(request, RuntimeError(f"the process that keeps the graders {how} before it was ready"))


def _settle(request: _Request, answer: Mapping[str, Any]) -> None:
    with suppress(InvalidStateError):  # whoever waited for it was cancelled
        request.answer.set_result(answer)


def _fail(request: _Request, error: Exception) -> None:
    with suppress(InvalidStateError):  # as above
        request.answer.set_exception(error)


def _verdict(answer: Mapping[str, Any]) -> Verdict:
    return Verdict(
        state=answer["state"],
        score=answer.get("score"),
        detail=answer["detail"],
        repeatable=answer.get("repeatable", True),
    )
