"""What is every contestant asked to sample, and how is it measured? One prompt for a group, 32 for the ragged job."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

GROUP_SIZE, GROUP_PROMPT, GROUP_TOKENS = 8, 256, 64
RAGGED_REQUESTS, RAGGED_PROMPT, RAGGED_LONGEST, RAGGED_SHORTEST = 32, 64, 128, 8
STATIC_BATCH = 8
GREEDY_TOKENS = 32
"""Tokens of the greedy completion that everybody must agree on in fp32."""
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and the number of tokens to draw: nothing else ends a completion."""

    prompt: list[int]
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is sampled. group: `GROUP_SIZE` completions of it; ragged: one completion each, in this order of arrival."""

    group: Request
    ragged: list[Request]

    def write(self, path: Path) -> None:
        """As JSON."""
        rows = [[one.prompt, one.max_tokens] for one in (self.group, *self.ragged)]
        path.write_text(json.dumps(rows), encoding="utf-8")

    def shortened(self) -> "Job":
        """A small piece of the same work, for the warm-up."""
        group, *ragged = [replace(one, max_tokens=4) for one in (self.group, *self.ragged[:STATIC_BATCH])]
        return Job(group=group, ragged=ragged)

    @classmethod
    def read(cls, path: Path) -> "Job":
        """What `write` wrote."""
        rows = json.loads(path.read_text(encoding="utf-8"))
        group, *ragged = [Request(prompt=prompt, max_tokens=tokens) for prompt, tokens in rows]
        return cls(group=group, ragged=ragged)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What every contestant is told. adapter: a checkpoint of ours; peft: the same adapter, in peft's layout."""

    name: str
    dtype: str
    threads: int
    model: Path
    adapter: Path
    peft: Path
    job: Job


def contestant_arguments(description: str, names: Sequence[str]) -> Arguments:
    """The command line, parsed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", choices=names, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the converted model")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--peft", type=Path, required=True)
    parser.add_argument("--job", type=Path, required=True)
    given = parser.parse_args()
    return Arguments(
        name=given.name,
        dtype=given.dtype,
        threads=given.threads,
        model=given.model,
        adapter=given.adapter,
        peft=given.peft,
        job=Job.read(given.job),
    )


def measure(
    arguments: Arguments,
    sample: Callable[[Job], list[list[int]]],
    *,
    greedy: Callable[[], list[int]],
) -> None:
    """Run `sample` once between the clocks, and print the line.

    sample: to the completions, without their prompts; a shortened job warms it up. greedy: the `GREEDY_TOKENS`
    likeliest tokens after the group's prompt; asked for in fp32, after the clocks have stopped.
    """
    sample(arguments.job.shortened())
    wall, cpu = time.perf_counter(), time.process_time()
    completions = sample(arguments.job)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    line: dict[str, Any] = {
        "name": arguments.name,
        "dtype": arguments.dtype,
        "tokens": sum(len(one) for one in completions),
        "lengths": [len(one) for one in completions],
        "distinct": len({tuple(one) for one in completions}),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "greedy": greedy() if arguments.dtype == "float32" else None,
    }
    print(json.dumps(line), flush=True)
