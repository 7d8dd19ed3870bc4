"""Who starts, feeds, watches and ends the graders' processes? This process: it runs no grader and dies with its parent.

It has one thread, so that forking is safe, and imports our own graders before it forks, so that a new worker costs
milliseconds. Its standard input is a socket: requests come as lines of JSON, answers go out the same way. It adopts
what its workers leave behind, so that nothing outlives a verdict.
"""

import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.processes import adopt_orphans, children, descendants, end_orphans
from crucible.train.graders.worker import Reply, invalid
from crucible.train.graders.worker_process import WorkerProcess

_TICK = 0.05
"""Seconds between looks at the clock and at what busy workers have started."""
_IDLE_TICK = 1.0
_OURS = "crucible."


def main() -> None:
    """Serve the process at the other end of standard input until it hangs up or dies. argv[1]: the settings."""
    parent = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    adopt_orphans()
    settings = json.loads(sys.argv[1])
    keeper = Keeper(
        parent,
        limits=GraderLimits(**settings["limits"]),
        most_workers=settings["workers"],
        items_per_worker=settings["items_per_worker"],
        folder=Path(settings["folder"]),
    )
    try:
        keeper.run()
    finally:
        keeper.end()


def _ring(signum: int, frame: FrameType | None) -> None:
    """A handler, so that the end of a worker wakes the loop: Python writes to the wake-up socket by itself."""


class Keeper:
    """The loop. parent: who asks; items_per_worker: after so many a worker is replaced; folder: for temporary files,
    removed at the end.

    A request is `{"id": 1, "kind": "grade"|"call", "function": "module:name", "argument": ...}` or `{"cancel": 1}`;
    an answer `{"id": 1, "state": ..., "detail": ..., ...}` with the counts so far.
    """

    def __init__(
        self, parent: socket.socket, *, limits: GraderLimits, most_workers: int, items_per_worker: int, folder: Path
    ) -> None:
        self._parent, self._limits, self._folder = parent, limits, folder
        self._most_workers, self._items_per_worker = most_workers, items_per_worker
        self._asker = os.getppid()
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._workers: dict[int, WorkerProcess] = {}
        self._counts = {"workers_started": 0, "workers_killed": 0}
        self._got = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(parent, selectors.EVENT_READ)
        self._bell, self._ringer = socket.socketpair()
        for end in (self._bell, self._ringer):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ring)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> None:
        """Until the parent hangs up or is gone."""
        self._say({"ready": True})
        watched = 0.0
        while os.getppid() == self._asker:
            busy = any(worker.request is not None for worker in self._workers.values())
            for key, events in self._selector.select(_TICK if busy else _IDLE_TICK):
                if key.fileobj is self._parent:
                    if not self._listen():
                        return
                elif key.fileobj is self._bell:
                    self._bell.recv(4096)
                elif key.data.pid in self._workers:
                    self._exchange(key.data, events)
            self._reap()
            if busy and time.monotonic() - watched >= _TICK:
                self._watch()
                watched = time.monotonic()
            self._hand_out()

    def end(self) -> None:
        """End every worker and all that is left of them."""
        for worker in self._workers.values():
            worker.end()
        end_orphans(known=())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self) -> bool:
        """Take what the parent says; whether it is still there."""
        try:
            data = self._parent.recv(1 << 16)
        except ConnectionError:
            return False
        *lines, self._got = (self._got + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "cancel" in request:
                self._cancel(request["cancel"])
            else:
                self._waiting.append(request)
        return bool(data)

    def _cancel(self, number: int) -> None:
        self._waiting = deque(each for each in self._waiting if each["id"] != number)
        for worker in list(self._workers.values()):
            if worker.request is not None and worker.request["id"] == number:
                self._drop(worker)

    def _hand_out(self) -> None:
        """Give each idle worker a request; start workers while there are requests, and room for them."""
        idle = [worker for worker in self._workers.values() if worker.request is None]
        while self._waiting and (idle or len(self._workers) < self._most_workers):
            request = self._waiting.popleft()
            try:
                worker = idle.pop(0) if idle else self._start(request["function"])
            except OSError as error:
                self._answer(request, invalid(f"no process could be started: {error}", repeatable=False))
                continue
            worker.ask(request)
            self._listen_to(worker)

    def _start(self, function: str) -> WorkerProcess:
        module = function.rpartition(":")[0]
        if module.startswith(_OURS) and module not in sys.modules:
            with suppress(Exception):  # the worker meets it again, and says what is wrong
                getattr(importlib.import_module(module), "preload", lambda: None)()
            gc.freeze()  # so that no worker copies those pages when it collects garbage
        worker = WorkerProcess(self._limits, folder=self._folder / str(self._counts["workers_started"]))
        self._workers[worker.pid] = worker
        self._selector.register(worker.line, selectors.EVENT_READ, worker)
        self._counts["workers_started"] += 1
        return worker

    def _listen_to(self, worker: WorkerProcess) -> None:
        """Until its answer is here; for as long as there is something to send, also for room to send it."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.send() else 0)
        self._selector.modify(worker.line, wanted, worker)

    def _exchange(self, worker: WorkerProcess, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._listen_to(worker)
        if events & selectors.EVENT_READ and not self._receive(worker) and worker.pid in self._workers:
            if worker.request is None:
                self._drop(worker)
            else:  # it is dying, or has closed the line and goes on: its end, or a limit, is heard of in another way
                self._selector.unregister(worker.line)

    def _receive(self, worker: WorkerProcess) -> bool:
        """Take what there is of the answer; whether more may come."""
        request = worker.request
        is_open, reply = worker.receive()
        if reply is not None and request is not None:
            self._answer(request, reply)
            if reply.get("retire") or worker.done >= self._items_per_worker or children(worker.pid):
                self._drop(worker)
                return False
            end_orphans(known=self._workers)
        return is_open

    def _reap(self) -> None:
        """Hear of the workers that have ended. What they have sent before is their answer."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.get(pid)
            if worker is None:
                continue
            while worker.request is not None and worker.has_said_more() and self._receive(worker):
                pass
            if pid in self._workers:
                self._end(worker, worker.died(status))

    def _watch(self) -> None:
        """End what is over its limits, and whatever has cut itself loose from its worker."""
        for worker in [each for each in self._workers.values() if each.request is not None]:
            most = self._limits.processes
            if len(descendants(worker.pid, most=most)) > most:
                self._end(worker, invalid(f"started more than {most} processes", repeatable=False))
            elif (verdict := worker.overdue()) is not None:
                self._end(worker, verdict)
        end_orphans(known=self._workers)

    def _end(self, worker: WorkerProcess, verdict: Reply) -> None:
        """The worker is over; so is its request, if it has one."""
        if worker.request is not None:
            self._counts["workers_killed"] += 1
            self._answer(worker.request, verdict)
        self._drop(worker)

    def _drop(self, worker: WorkerProcess) -> None:
        """End it without a word, and wait until it and all it has started are gone."""
        del self._workers[worker.pid]
        with suppress(KeyError):
            self._selector.unregister(worker.line)
        worker.end()
        end_orphans(known=self._workers)

    def _answer(self, request: Mapping[str, Any], reply: Reply) -> None:
        self._say({**reply, "id": request["id"], "counts": self._counts})

    def _say(self, message: Mapping[str, Any]) -> None:
        with suppress(ConnectionError):  # the parent is gone, which the loop sees
            self._parent.sendall(json.dumps(message).encode() + b"\n")
