"""A server over the fakes in a process of its own, which something happens to: python served_child.py FOLDER PORT"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvicorn

from crucible.server.app import create_app
from serving import fake_served


def main(folder: Path, port: int) -> None:
    """Serve until killed."""
    with fake_served(folder, latency=0.002) as served:
        uvicorn.run(create_app(served, any_key=True), port=port, log_level="error", access_log=False, ws="none")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
