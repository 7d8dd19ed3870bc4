"""What does a checkpoint cost, as a fraction of a training step? SmolLM2-135M, LoRA of rank 32 on every layer.

    .venv/bin/python -m benchmarks.checkpoint_cost

A checkpoint is the adapter and AdamW's state, saved through the `TrainingClient` port as a run does: hashed, synced
to the disk, renamed into place. Three kinds of step take turns: one alone; one that is submitted right after a
checkpoint, so that the writing overlaps it; and a checkpoint with nothing beside it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.contest import CACHE, REPOSITORY, Spread, machine, markdown, say, warn_if_busy, write_report

from crucible.adapters.assets import resolve_model
from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingClient, TrainingSession

MODEL, LORA_RANK = "smollm2-135m", 32
ROWS, TOKENS = 8, 64
"""Rows in a step, and tokens in a row: 512 tokens, a small step, beside which a checkpoint is large."""
SAVE_EVERY = 50
"""Steps between two checkpoints, for the last column: what a short run uses."""


def datums() -> list[Datum]:
    """Rows of arbitrary tokens; the loss is on all of them."""
    drawn = np.random.default_rng(0)
    rows = [drawn.integers(0, 40_000, size=TOKENS + 1) for _ in range(ROWS)]
    weights = np.full(TOKENS, 1 / (ROWS * TOKENS), dtype=np.float32)
    return [
        Datum(
            ModelInput.from_ints(row[:-1].tolist()),
            {"target_tokens": TensorData(row[1:].astype(np.int64)), "weights": TensorData(weights)},
        )
        for row in rows
    ]


class Bench:
    """A session, and the three things that are timed on it."""

    def __init__(self, client: TrainingClient, session: TrainingSession) -> None:
        self._client, self._session, self._rows, self._saved = client, session, datums(), 0

    def step(self) -> float:
        """Seconds of an update, from its submission until its weights are there."""
        began = time.perf_counter()
        self._client.forward_backward(self._session, self._rows, logprobs="weighted")
        self._client.optim_step(self._session, AdamParams(learning_rate=1e-4)).result()
        return time.perf_counter() - began

    def save(self) -> float:
        """Seconds of a checkpoint while nothing else goes on."""
        began = time.perf_counter()
        self._client.save_checkpoint(self._session, self._name()).result()
        return time.perf_counter() - began

    def step_behind_a_save(self) -> tuple[float, float]:
        """Seconds of an update that is submitted right after a checkpoint, and until both are done."""
        began = time.perf_counter()
        saving = self._client.save_checkpoint(self._session, self._name())
        step = self.step()
        saving.result()
        return step, time.perf_counter() - began

    def _name(self) -> str:
        self._saved += 1
        return f"checkpoint-{self._saved}"


def measure(repeats: int, *, dtype: str, threads: int | None) -> dict[str, list[float]]:
    """Seconds of each, and the bytes of a checkpoint."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[float]] = {"step": [], "save": [], "step_behind_a_save": [], "both": []}
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        backend = TorchBackend(
            checkpoint_dir=Path(folder),
            resolve_model=resolve_model,
            tokenizers=HfTokenizerStore(resolve_model=resolve_model),
            dtype=dtype,  # pyright: ignore[reportArgumentType]  (argparse has checked it)
            threads=threads,
        )
        client = backend.training_client
        session = client.start_session(SessionConfig(model=MODEL, lora_rank=LORA_RANK, seed=0)).result()
        bench = Bench(client, session)
        bench.step()
        bench.save()
        for repeat in range(repeats):
            found["step"].append(bench.step())
            found["save"].append(bench.save())
            behind, both = bench.step_behind_a_save()
            found["step_behind_a_save"].append(behind)
            found["both"].append(both)
            say(f"{repeat + 1}/{repeats} " + "  ".join(f"{name} {values[-1]:.3f}" for name, values in found.items()))
        files = [file.stat().st_size for file in Path(folder).rglob("checkpoint-1/*")]
        found["bytes"] = [float(sum(files))]
        backend.close()
    return found


def rows_of(found: dict[str, list[float]]) -> list[list[str]]:
    """What is measured, its seconds, and its share of a step: of the fastest ones, because what other programs take
    from a shared machine only ever adds."""
    fastest = {key: min(values) for key, values in found.items()}
    delay = fastest["step_behind_a_save"] - fastest["step"]
    words = {
        "step": "a step alone",
        "save": "a checkpoint with nothing beside it",
        "step_behind_a_save": "a step while a checkpoint is written",
    }
    rows = [
        [text, f"{fastest[key]:.2f}", Spread.of(found[key]).shown(2), f"{fastest[key] / fastest['step']:.1%}"]
        for key, text in words.items()
    ]
    return [
        *rows,
        ["what the checkpoint delays the step by", f"{delay:.2f}", "", f"{delay / fastest['step']:.1%}"],
        [f"that, with one every {SAVE_EVERY} steps", "", "", f"{delay / fastest['step'] / SAVE_EVERY:.2%}"],
    ]


def main() -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, help="the engine's default if not given")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "checkpoint_cost.json")
    args = parser.parse_args()
    warn_if_busy()
    about = machine()
    found = measure(args.repeats, dtype=args.dtype, threads=args.threads)
    print(markdown([args.dtype, "seconds, fastest", "median (range)", "of a step"], rows_of(found)))
    print(f"\na checkpoint takes {found['bytes'][0] / 1e6:.0f} MB")
    setting = {"dtype": args.dtype, "threads": args.threads, "rows": ROWS, "tokens": TOKENS}
    write_report(args.out, {"machine": about, **setting, "seconds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
