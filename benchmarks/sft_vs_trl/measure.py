"""How is a contestant measured? One clock, one memory reading, one line of JSON, the same for all of them."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sft_vs_trl.rows import Row

WARM_UP_STEPS = 1
"""Steps before the clock starts: the first one allocates, builds kernels and faults pages in."""

BATCH_SIZE = 8
ADAM_BETAS, ADAM_EPS, GRAD_CLIP_NORM = (0.9, 0.95), 1e-8, 1.0
LORA_RANK, LORA_ALPHA = 32, 32


class Meter:
    """Seconds of the measured steps, and the process's peak memory with and without model loading.

    Call `loaded()` before the warm-up, `start()` after it, `stop()` when the last step's update is applied.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.load_peak = 0
        self.train_peak: int | None = None
        self._began = 0.0
        self._resettable = False

    def loaded(self) -> None:
        """The model is in memory; what grows from here on is training."""
        self.load_peak = _max_rss()
        self._resettable = _forget_peak()

    def start(self) -> None:
        """The warm-up is over."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """The last update is applied."""
        self.seconds = time.perf_counter() - self._began
        self.train_peak = _max_rss() if self._resettable else None

    def report(self, *, name: str, dtype: str, useful_tokens: int, losses: Sequence[float], **more: object) -> None:
        """Print the contestant's one line on the real stdout, last."""
        line = {
            "name": name,
            "dtype": dtype,
            "useful_tokens": useful_tokens,
            "seconds": self.seconds,
            "steps": len(losses) - WARM_UP_STEPS,
            "peak_rss_bytes": max(self.load_peak, _max_rss()),
            "train_peak_rss_bytes": self.train_peak,
            "first_loss": losses[0],
            "last_loss": losses[-1],
            **more,
        }
        sys.stderr.flush()
        print(json.dumps(line), flush=True)


def contestant_arguments(description: str) -> argparse.ArgumentParser:
    """The options that every contestant takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="folder of the converted model")
    parser.add_argument("--rows", type=Path, required=True, help="the tokenised rows that all contestants share")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--steps", type=int, required=True, help="measured steps, after the warm-up step")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    return parser


def measured_tokens(rows: Sequence[Row]) -> int:
    """Tokens of the rows after the warm-up: prompts and answers, no padding."""
    return sum(len(row.input_ids) for row in rows[WARM_UP_STEPS * BATCH_SIZE :])


def _max_rss() -> int:
    """getrusage's peak, in bytes: Linux counts KiB, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> bool:
    """Restart the kernel's high-water mark at the present size; False where the system cannot (not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
