"""How is SkyRL's server started without `uv`? Run in its own venv by `benchmarks.serving`.

SkyRL 0.4 starts its engine as `uv run ... -m skyrl.tinker.engine`; here it is this venv's Python instead. Nothing
else of it is changed. Its JAX backend computes on the CPU.
"""

import argparse
import json
import sys
from pathlib import Path

import skyrl.tinker.api as api
import uvicorn
from skyrl.tinker.config import EngineConfig, config_to_argv


def engine_command(parent: list[str], config: EngineConfig) -> list[str]:
    """The engine's process, in place of `uv run`."""
    del parent
    return [sys.executable, "-m", "skyrl.tinker.engine", *config_to_argv(config)]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--folder", type=Path, required=True, help="where its database and checkpoints go")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    api._build_uv_run_cmd_engine = engine_command
    api.app.state.engine_config = EngineConfig.model_validate(
        {
            "base_model": args.model,
            "backend": "jax",
            "backend_config": json.loads('{"max_lora_adapters": 8, "max_lora_rank": 8}'),
            "checkpoints_base": str(args.folder / "checkpoints"),
            "database_url": f"sqlite:///{args.folder / 'tinker.db'}",
        }
    )
    uvicorn.run(api.app, host="127.0.0.1", port=args.port, log_level="warning", timeout_keep_alive=75)


if __name__ == "__main__":
    main()
