# pyright: standard
# (some of wandb's types are incomplete)
"""What speaks to W&B? This script, in a process of its own: messages come on standard input, answers go out.

Arguments: the parent's process id, and the run's folder. Each message and each answer is a line of JSON. First the
W&B run's settings, then batches: `{"first": 0, "rows": [{"step": 1, "loss": 2.5}]}`. An answer is `{}`, or
`{"error": "..."}`. The end of the input ends the W&B run.
It imports nothing of crucible, so that it starts fast and finds `wandb` wherever its parent does.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import IO, Any

LINGER_S = 60.0
"""How long W&B may take to finish after its parent is done or dead."""


def main() -> None:
    """Serve one parent until it closes the input or dies."""
    parent, folder = sys.argv[1:]
    messages, answers = _own_pipes()
    over = threading.Event()
    threading.Thread(target=_end_with, args=(int(parent), over), daemon=True).start()
    run = None
    try:
        run = _start(json.loads(messages.readline()), folder)
        _answer(answers, {})
        for line in messages:
            _log(run, json.loads(line))
            _answer(answers, {})
    except Exception as error:  # noqa: BLE001  (said to the parent, which starts another process)
        _answer(answers, {"error": _without_key(f"{type(error).__name__}: {error}")})
    over.set()
    if run is not None:
        run.finish()


def _own_pipes() -> tuple[IO[str], IO[str]]:
    """The parent's pipes, under numbers that neither W&B's prints nor its processes know."""
    messages, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return messages, answers


def _start(settings: dict[str, Any], folder: str) -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    run = wandb.init(
        **settings,
        dir=folder,
        resume="allow",
        settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True),
    )
    run.define_metric("*", step_metric="step")
    return run


def _log(run: Any, batch: dict[str, Any]) -> None:
    """A row's index is W&B's own step: a row that comes again is the same row there."""
    for index, row in enumerate(batch["rows"], start=batch["first"]):
        run.log(row, step=index, commit=True)


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    except BrokenPipeError:
        return  # nobody is left to tell; the input ends too


def _without_key(text: str) -> str:
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "(the key)") if key else text


def _end_with(parent: int, over: threading.Event) -> None:
    """End this process and W&B's own, a while after the parent is done or dead, whatever they wait for."""
    while os.getppid() == parent and not over.wait(1.0):
        pass
    time.sleep(LINGER_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
