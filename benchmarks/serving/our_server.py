"""Our server as a process of its own, over the fakes (its cost alone) or the engine with a tiny model.

    .venv/bin/python -m benchmarks.serving.our_server --backend fake --folder FOLDER --port 8000

`--profile FILE` writes what cProfile saw of the server's own thread when the process is ended.
"""

import argparse
import cProfile
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from benchmarks.contest import REPOSITORY

from crucible.server.app import create_app
from crucible.server.limits import Limits
from crucible.server.served import Served

FAKE_MODEL, TINY_MODEL = "fake/model", "tiny/llama"


def served(stack: ExitStack, backend: str, *, folder: Path, model: Path | None, latency: float) -> Served:
    """What is served, until the stack is closed."""
    sys.path.append(str(REPOSITORY / "tests"))
    from serving import fake_served, torch_served

    if model is None or backend == "fake":
        return stack.enter_context(fake_served(folder, latency=latency, models={FAKE_MODEL: "a-fake"}))
    limits = Limits(max_models=1024)  # clients that are gone leave theirs open until they expire
    return stack.enter_context(torch_served(folder, {TINY_MODEL: model}, limits=limits))


def run(server: uvicorn.Server, *, profile: Path | None) -> None:
    """Serve until SIGTERM; then write the profile."""
    seen = cProfile.Profile()
    # uvicorn raises the signal anew when it has shut down: an exit, then, and not the process's death.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        seen.runcall(server.run) if profile else server.run()
    finally:
        if profile:
            seen.dump_stats(profile)


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["fake", "torch"], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where its database and checkpoints go")
    parser.add_argument("--model", type=Path, help="folder of the base model, for torch")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a call of the fake takes")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--profile", type=Path)
    args = parser.parse_args()
    with ExitStack() as stack:
        parts = served(stack, args.backend, folder=args.folder, model=args.model, latency=args.latency)
        app = create_app(parts, any_key=True)
        options = uvicorn.Config(
            app,
            port=args.port,
            log_level="warning",
            access_log=False,
            backlog=4096,
            timeout_graceful_shutdown=1,
            ws="none",
            proxy_headers=False,
        )
        run(uvicorn.Server(options), profile=args.profile)


if __name__ == "__main__":
    main()
