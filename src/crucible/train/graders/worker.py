"""How is one item graded? In a process that ends with the limit, by a function that may do anything but answer."""

import importlib
import importlib.util
import json
import math
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from numbers import Real
from types import ModuleType
from typing import Any, NoReturn

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.processes import die_with
from crucible.train.graders.verdict import Verdict

LOAD_SECONDS = 120.0
"""Of CPU time that the import of a grader's module may take, once in each process."""
_MOST_DETAIL = 400
"""Characters of a verdict's detail that are kept."""
_MOST_VALUE = 1 << 20
"""Bytes of a called function's value."""
_WATCH = 0.05
MEMORY_EXIT = 77
"""The exit code of a process that used more memory than it may, where an allocation cannot be made to fail."""

_serving = False

Reply = dict[str, Any]
"""`state` and `detail`; with `state` = `score` also `score` (of a grader), or `value` (of a called function)."""


def serve(keeper: socket.socket, parent: int, limits: GraderLimits, *, folder: str) -> NoReturn:
    """Answer requests until the keeper hangs up or a limit ends this process. folder: for temporary files.

    A request is a line `{"id": 1, "kind": "grade"|"call", "function": "module:name", "argument": ...}`; an answer is
    `{"id": 1, "state": ...}`; `{"id": 1, "started": true}` comes before it where the module had to be imported first.
    """
    global _serving
    _serving = True
    os.setsid()  # a group of its own: the terminal's Ctrl-C is not for it, and it can be ended with all it starts
    die_with(parent)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    _limit(limits)
    functions: dict[str, Callable[..., object]] = {}
    with keeper.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            answer = _answer(request, functions, limits, keeper)
            keeper.sendall(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
    os._exit(0)


def is_worker() -> bool:
    """Whether this process serves requests: then it may start no graders of its own."""
    return _serving


def out_of_memory(limits: GraderLimits) -> str:
    """A verdict's detail."""
    return f"ran out of memory (limit {limits.memory_mib} MiB)"


def _limit(limits: GraderLimits) -> None:
    """What holds for the whole life of this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = limits.memory_mib << 20
    if sys.platform == "darwin":  # where the kernel counts no address space
        threading.Thread(target=_watch_memory, args=(memory,), daemon=True).start()
    else:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory if hard < 0 else min(memory, hard), hard))


def _watch_memory(most: int) -> None:
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <= most:  # bytes, on macOS
        time.sleep(_WATCH)
    os._exit(MEMORY_EXIT)


def _answer(
    request: Mapping[str, Any], functions: dict[str, Callable[..., object]], limits: GraderLimits, out: socket.socket
) -> Reply:
    name, me, threads = request["function"], os.getpid(), threading.active_count()
    try:
        if name not in functions:
            _allow(LOAD_SECONDS)
            functions[name] = _load(name)
            out.sendall(b'{"id": %d, "started": true}\n' % request["id"])
        _allow(limits.cpu_seconds)
        function, argument = functions[name], request["argument"]
        if request["kind"] == "grade":
            reply = _verdict(function(argument))
        else:
            reply = _value(function(*argument["positional"], **argument["named"]))
    except MemoryError:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # so that the answer does not fail in its turn
        reply = invalid(out_of_memory(limits)) | {"retire": True}
    except BaseException as error:  # noqa: BLE001  (whatever a grader raises, its exit included, is its verdict)
        reply = invalid(_said(error))
    if os.getpid() != me:  # the grader forked, and this is the copy: it has no say
        os._exit(0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    if threading.active_count() > threads:  # which would compute on at the next item's cost
        reply["retire"] = True
    return reply


def _allow(seconds: float) -> None:
    """Let this process use so much more CPU time. The default of both signals ends it at once."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = math.ceil(time.process_time() + seconds) + 1  # whole seconds: behind the timer, should a grader reset that
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard < 0 else min(most, hard), hard))


def _load(name: str) -> Callable[..., object]:
    """The function `module:name`, or `path.py:name` of a script, which is imported under another name than
    `__main__`."""
    place, _, function = name.rpartition(":")
    module = _script(place) if place.endswith(".py") else importlib.import_module(place)
    return getattr(module, function)


def _script(path: str) -> ModuleType:
    name = "__crucible_main__"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _verdict(made: object) -> Reply:
    if isinstance(made, Verdict) and made.state != "score":
        return {"state": made.state, "detail": _one_line(made.detail), "repeatable": made.repeatable}
    detail: object = ""
    if isinstance(made, Verdict):
        made, detail = made.score, made.detail
    elif isinstance(made, tuple) and len(made) == 2:  # pyright: ignore[reportUnknownArgumentType]  (anything's)
        made, detail = made  # pyright: ignore[reportUnknownVariableType]  (anything's)
    if not isinstance(made, Real) or not isinstance(detail, str):
        return invalid(f"the grader returned a {type(made).__name__}, which is no score")  # pyright: ignore[reportUnknownArgumentType]  (anything's)
    score = float(made)
    if not math.isfinite(score):
        return invalid(f"the grader returned {score}")
    return {"state": "score", "score": score, "detail": _one_line(detail)}


def _value(made: object) -> Reply:
    text = json.dumps(made)
    if len(text) > _MOST_VALUE:
        return invalid(f"the value is {len(text)} bytes long; at most {_MOST_VALUE} are sent back")
    return {"state": "score", "value": json.loads(text), "detail": ""}


def invalid(detail: str, *, repeatable: bool = True) -> Reply:
    """No score, and why."""
    return {"state": "invalid", "detail": _one_line(detail), "repeatable": repeatable}


def _said(error: BaseException) -> str:
    """What an exception says of itself, if it does: its class may be anything."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:  # noqa: BLE001  (see above)
        return f"{name}, which cannot be printed"


def _one_line(text: str) -> str:
    """The text's beginning. Halves of surrogate pairs are no characters, and become marks."""
    begin = text[: 8 * _MOST_DETAIL].encode(errors="replace").decode()
    line = " ".join(begin.split())
    return line if len(line) <= _MOST_DETAIL else line[: _MOST_DETAIL - 1] + "…"
