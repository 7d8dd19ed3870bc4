"""What does every contestant do in one GRPO step, and how is it measured?

Eight few-shot prompts, eight completions of each at temperature 1, a reward for each, one update of a LoRA adapter. The
next step samples from the updated adapter. Nothing here needs more than Python: every contestant imports it.
"""

import argparse
import json
import random
import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GROUPS, GROUP_SIZE, MAX_TOKENS = 8, 8, 16
LORA_RANK, LORA_ALPHA = 16, 32
ADAM_BETAS, ADAM_EPS, GRAD_CLIP_NORM, LEARNING_RATE = (0.9, 0.95), 1e-8, 1.0, 1e-4
WARM_UP_STEPS = 1
"""Steps before the clock starts: the first one allocates, builds kernels and faults pages in."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt, and the number that answers it."""

    prompt: str
    answer: int


def questions(step: int, *, seed: int = 0) -> list[Question]:
    """The problems of one step: the greater of two digits, after two examples."""
    draw = random.Random(f"{seed} {step}")
    pairs = [(draw.randrange(10), draw.randrange(10)) for _ in range(GROUPS)]
    return [Question(prompt=f"max(3, 8) = 8\nmax(9, 4) = 9\nmax({a}, {b}) =", answer=max(a, b)) for a, b in pairs]


def reward(completion: str, answer: int) -> float:
    """1 for the right number at the start.

    And a little for the number of different characters, so that no group's members are all equal: one whose rewards are
    could be left out of the update, and not every contestant would.
    """
    found = re.match(r"\s*(\d+)", completion)
    return float(found is not None and int(found[1]) == answer) + 0.01 * len(set(completion))


class Meter:
    """Wall and CPU seconds of the measured steps, and the process's peak memory with and without model loading.

    Call `loaded()` before the first step, `step(...)` after every one.
    """

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.rewards: list[float] = []
        self.tokens: list[float] = []
        self.load_peak = 0
        self._last = (0.0, 0.0)
        self._resettable = False

    def loaded(self) -> None:
        """The model is in memory; what grows from here on is sampling and training."""
        self.load_peak = _max_rss()
        self._resettable = _forget_peak()
        self._last = (time.perf_counter(), time.process_time())

    def step(self, *, reward: float, tokens: float) -> None:
        """An update was applied. reward: the mean of the step's members; tokens: sampled in it."""
        now = (time.perf_counter(), time.process_time())
        self.wall.append(now[0] - self._last[0])
        self.cpu.append(now[1] - self._last[1])
        self.rewards.append(reward)
        self.tokens.append(tokens)
        self._last = now

    def report(self, **more: object) -> None:
        """Print the contestant's one line on the real stdout, last."""
        peak = _max_rss()
        line = {
            "seconds": self.wall[WARM_UP_STEPS:],
            "cpu_seconds": self.cpu[WARM_UP_STEPS:],
            "rewards": self.rewards,
            "sampled_tokens": self.tokens,
            "peak_rss_bytes": max(self.load_peak, peak),
            "step_peak_rss_bytes": peak if self._resettable else None,
            **more,
        }
        sys.stderr.flush()
        print(json.dumps(line), flush=True)


def contestant_arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every contestant takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True, help="folder of the converted model")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--steps", type=int, required=True, help="measured steps, after the warm-up step")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


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
