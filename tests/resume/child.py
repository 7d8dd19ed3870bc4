"""`crucible run` of a tiny model, in a process that something happens to.

python child.py RUN_DIR MODEL ROWS              nothing
python child.py RUN_DIR MODEL ROWS kill         kill -9, after the tenth step
python child.py RUN_DIR MODEL ROWS checkpoint   from the fifth step on, the disk takes a part of an optimizer's state
python child.py RUN_DIR MODEL ROWS metrics      from the fifth step on, it takes a part of a row
python child.py RUN_DIR MODEL ROWS journal      at the second checkpoint, it takes a part of the journal's record

The disk's refusal is the kernel's: a limit on the size of files (RLIMIT_FSIZE), which no file may grow over.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from crucible.__main__ import main
from crucible.telemetry import Event, default_bus

CONFIG = ("batch_size=4", "epochs=3", "max_steps=12", "eval_rows=2", "lora_rank=4", "save_every=4")


def command(run_dir: Path, model: Path, rows: Path) -> list[str]:
    data = [f"model={model}", f"dataset={rows}", *CONFIG]
    return ["run", "sl_basic", *data, "--manifest", "local", "-o", "torch.threads=1", "--run-dir", str(run_dir)]


def at(event: str, number: int, do: Callable[[], None]) -> None:
    """Do it when an event is emitted for the n-th time."""
    seen = 0

    def listen(_: Event) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            do()

    default_bus().attach(event, event, listen)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def limit(file: Path, more: int) -> None:
    """Let no file grow beyond the size of this one and so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + more, resource.RLIM_INFINITY))


def expect(what: str, run_dir: Path) -> None:
    match what:
        case "kill":
            at("training.step", 10, kill)
        case "checkpoint":
            optimizer = run_dir / "checkpoints" / "weights" / "step-000004" / "optimizer.safetensors"
            at("training.step", 5, lambda: limit(optimizer, -1000))
        case "metrics":
            at("training.step", 5, lambda: limit(run_dir / "metrics.jsonl", 20))
        case "journal":
            at("training.checkpoint", 2, lambda: limit(run_dir / "journal.jsonl", 20))
        case _:
            pass


if __name__ == "__main__":
    run_dir, model, rows = map(Path, sys.argv[1:4])
    expect("".join(sys.argv[4:]), run_dir)
    sys.exit(main(command(run_dir, model, rows)))
