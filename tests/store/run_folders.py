"""Run folders for tests: real ones, made by the fakes in a second, and small ones written by hand."""

import json
from pathlib import Path

from hypothesis import strategies as st

import crucible
from crucible.framework import RunResult

CONFIG = {"limit": 40, "batch_size": 4, "eval_rows": 4, "save_every": 2, "eval_every": 2, "max_steps": 6}


def real_run(run_dir: Path, **config: object) -> RunResult:
    """A finished run of the fakes, with its metrics in a file."""
    result = crucible.run(
        "sl_basic", {**CONFIG, **config}, manifest="test", adapters={"metrics_store": "jsonl"}, run_dir=run_dir
    )
    assert isinstance(result, RunResult)
    return result


def written_run(
    run_dir: Path, *, steps: int = 0, status: str | None = None, saves: tuple[int, ...] = (), final: bool = False
) -> Path:
    """A run folder by hand: `steps` steps with a loss and an `eval/nll` of 1/step; a checkpoint at each of `saves`.

    status: of its summary; None for a run that left none.
    """
    run_dir.mkdir(parents=True)
    (run_dir / "experiment.json").write_text('{"id": "sl_basic", "pipeline": [], "config": {"seed": 0}}')
    rows = [{"step": step, "eval/nll": 1 / step, "loss": 2 / step, "tokens": 10} for step in range(1, steps + 1)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in saves:
        save(run_dir, step)
    if final:
        save(run_dir, steps, name="final", final=True)
    if status is not None:
        (run_dir / "summary.json").write_text(json.dumps({"status": status}))
    return run_dir


def save(run_dir: Path, step: int, *, name: str = "", **more: object) -> Path:
    """Add a checkpoint of 1000 bytes to a run folder, and its line."""
    name = name or f"step-{step:06d}"
    folder = run_dir / "checkpoints" / "weights" / name
    folder.mkdir(parents=True)
    (folder / "adapter.safetensors").write_bytes(b"x" * 1000)
    record = {"name": name, "step": step, "state_path": f"runs/{run_dir.name}/checkpoints/weights/{name}", **more}
    with (run_dir / "checkpoints.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    return folder


_GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: json.dumps(text).encode() + b"\n"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "step",
                        "loss",
                        "name",
                        "status",
                        "id",
                        "config",
                        "time_ns",
                        "measurements",
                        "metadata",
                        "artifacts",
                    ]
                )
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode() + b"\n"),
    st.integers(90, 3000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth + b"\n"),
    st.just(b'{"step": 1, "loss": 1, "id": "x", "status": "failed", "n": 1' + b"0" * 6000 + b"}\n"),
    st.just(b'{"step": 1' + b"0" * 400 + b', "loss": 1e999}\n'),
)
_NAMES = ("experiment.json", "config.json", "metrics.jsonl", "checkpoints.jsonl", "summary.json", "events.jsonl")
DAMAGED_FILES = st.dictionaries(st.sampled_from([*_NAMES, "retention.jsonl", "journal.jsonl"]), _GARBAGE)
"""File name to what is in it instead."""
