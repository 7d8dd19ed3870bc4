"""Does rendering show in the time of a training step?

    .venv/bin/python -m benchmarks.rendering.step_time

sl_basic fine-tunes SmolLM2-135M with 4 rows a step. Its steps take turns: the batch is rendered in time, was rendered
before, or is rendered a hundred times over. With pipeline_depth=1 (the default) the next batch is rendered while the
engine trains; with 0 the engine waits. The engine is a thread of the same process, so that much rendering takes turns
with its Python part: the slow kind shows how much of it is hidden.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contest import (
    CACHE,
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    markdown,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)

from crucible.adapters.assets import fetch, resolve_model
from crucible.adapters.tokenizer import HfTokenizer
from crucible.train.data import row_to_messages
from crucible.train.renderers import TrainOn, get_renderer

MODEL, BATCH = "smollm2-135m", 4
DEPTHS = (1, 0)
NOISE = 0.03
"""A difference of two medians that says nothing, as a share of a step, where the steps themselves vary less."""
SHARE = 0.01
"""Rendering a batch, as a share of a step: what it could add if nothing of it overlapped."""


def write_data(out: Path, *, rows: int, tokens: int) -> Path:
    """The `rows` rows of alpaca_en_demo whose length is nearest to `tokens`: steps of the same work."""
    renderer = get_renderer("auto", HfTokenizer.from_folder(resolve_model(MODEL)))
    found = json.loads(fetch("alpaca_en_demo").read_text(encoding="utf-8"))

    def distance(row: Mapping[str, str]) -> int:
        messages = row_to_messages(row, "alpaca")
        example = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)
        return abs(len(example.tokens) - tokens)

    nearest = sorted(found, key=distance)[:rows]
    out.write_text("".join(f"{json.dumps(row)}\n" for row in nearest), encoding="utf-8")
    return out


def pooled(runs: Sequence[Line], which: str) -> dict[str, Spread]:
    """Of all repeats, by kind."""
    return {kind: Spread.of([seconds for run in runs for seconds in run[which][kind]]) for kind in runs[0][which]}


def table(lines: Mapping[str, Sequence[Line]]) -> str:
    """A step's seconds by depth and kind, and what rendering adds to it."""
    rows: list[list[str]] = []
    for key, runs in lines.items():
        step, rendering = pooled(runs, "step"), pooled(runs, "rendering")
        free = step["free"].median
        rows += [
            [
                f"{key}, {kind}",
                f"{rendering[kind].median * 1e3:.1f}",
                step[kind].shown(3),
                f"{(step[kind].median - free) * 1e3:+.0f} ({(step[kind].median / free - 1) * 100:+.1f} %)",
            ]
            for kind in step
        ]
    return markdown(["", "rendering, ms a batch", "step, s", "more than free, ms"], rows)


def failures(lines: Mapping[str, Sequence[Line]]) -> list[str]:
    """The limits that were not kept."""
    broken: list[str] = []
    for key, runs in lines.items():
        step, rendering = pooled(runs, "step"), pooled(runs, "rendering")
        free = step["free"]
        varies = max((free.high - free.low) / 2, NOISE * free.median)
        if key == "depth 1" and step["rendered"].median - free.median > varies:
            broken.append(f"{key}: rendering adds less to a step than steps vary ({varies:.3f} s)")
        if rendering["rendered"].median > SHARE * free.median:
            broken.append(f"{key}: rendering a batch takes {SHARE:.0%} of a step at most")
    return broken


def main() -> int:
    """Measure, print the table; 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--steps", type=int, default=19, help="3 of which warm up")
    parser.add_argument("--tokens", type=int, default=60, help="of a row")
    parser.add_argument("--threads", type=int, default=1, help="of the engine: rendering has the other core")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "rendering_steps.json")
    args = parser.parse_args()
    folder = CACHE / "rendering"
    folder.mkdir(parents=True, exist_ok=True)
    data = write_data(folder / "rows.jsonl", rows=args.steps * BATCH, tokens=args.tokens)
    job = ["--steps", str(args.steps), "--data", str(data), "--threads", str(args.threads), "--dtype", args.dtype]
    turns = [
        Contestant(
            key=f"depth {depth}",
            python=REPOSITORY / ".venv" / "bin" / "python",
            module="benchmarks.rendering.step_run",
            arguments=["--depth", str(depth), *job],
            environment={"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": ""},
        )
        for depth in DEPTHS
    ]
    warn_if_busy()
    about = machine()
    lines = take_turns(turns, repeats=args.repeats, timeout=600)
    print(table(lines))
    write_report(args.out, {"machine": about, "options": {**vars(args), "out": ""}, "runs": lines})
    broken = failures(lines)
    for limit in broken:
        say(f"FAILED: {limit}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
