"""Do three seeds of `rl_basic` all learn? On SmolLM2, and on a model from scratch; with a picture.

    .venv/bin/python -m benchmarks.rl_learning.run --seeds 0 1 2 --task smollm2
    .venv/bin/python -m benchmarks.rl_learning.run --seeds 0 1 2 --task scratch

Each seed is a run of the command line, in a folder of its own; the curves are read from its `metrics.jsonl`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contest import CACHE, REPOSITORY, Spread, machine, markdown, say, warn_if_busy, write_report
from tests.rl_letters import write_letter_model


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task. values: of the config; reached: the mean reward of the last steps below which a seed has not learned."""

    recipe: str
    values: tuple[str, ...]
    title: str
    reached: float


TASKS: Mapping[str, Task] = {
    "smollm2": Task(recipe="rl_basic", values=(), title="rl_basic on SmolLM2-135M-Instruct", reached=0.85),
    "scratch": Task(
        recipe="rl_grpo",
        values=(
            "env=letters:copy",
            "group_size=8",
            "groups_per_batch=8",
            "max_tokens=1",
            "learning_rate=3e-3",
            "max_steps=80",
            "lora_rank=16",
            "eval_groups=8",
        ),
        title="rl_grpo on a model of random weights: copy a letter",
        reached=0.6,
    ),
}
LAST = 3
"""Steps at a run's end whose mean reward says whether it has learned."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One seed's run. seconds: from the first step's beginning to each step's end."""

    seed: int
    rewards: list[float]
    gaps: list[float]
    seconds: list[float]
    held_out: tuple[float, float]

    @property
    def reached(self) -> float:
        """The mean reward of the last steps."""
        return sum(self.rewards[-LAST:]) / len(self.rewards[-LAST:])


def run(task: Task, *, seed: int, model: Path | None, folder: Path, manifest: str) -> Curve:
    """Run one seed to its end.

    Raises:
        RuntimeError: if the command fails.
    """
    values = [*task.values, f"seed={seed}", *((f"model={model}",) if model else ())]
    command = [str(REPOSITORY / ".venv" / "bin" / "crucible"), "run", task.recipe, *values]
    done = subprocess.run([*command, "--manifest", manifest, "--run-dir", str(folder)], cwd=REPOSITORY, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "reward/mean" in row]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    took = [event["measurements"]["seconds"] for event in events if event["name"] == "training.step"]
    summary = json.loads((folder / "summary.json").read_text())
    return Curve(
        seed=seed,
        rewards=[row["reward/mean"] for row in steps],
        gaps=[row["kl_sample_train"] for row in steps if "kl_sample_train" in row],
        seconds=[sum(took[: number + 1]) for number in range(len(took))],
        held_out=(summary["eval_reward_mean_before"], summary["eval_reward_mean_after"]),
    )


def scratch_model(folder: Path) -> Path:
    """The tests' model of random weights over forty characters; made once."""
    return folder if (folder / "model.safetensors").exists() else write_letter_model(folder)


def draw(curves: Sequence[Curve], path: Path, *, title: str) -> None:
    """Mean reward by step, a line per seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(range(1, len(curve.rewards) + 1), curve.rewards, linewidth=1.4, label=f"seed {curve.seed}")
    axes.set(xlabel="step", ylabel="mean reward", ylim=(min(0.0, *(min(c.rewards) for c in curves)), 1.05))
    axes.set_title(title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> int:
    """Run, draw, print the table; 1 if a seed has not learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), default="smollm2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--manifest", default="local")
    parser.add_argument("--picture", type=Path, default=None, help="default: docs/pictures/rl-TASK.svg")
    parser.add_argument("--out", type=Path, default=None, help="default: benchmarks/results/rl_learning_TASK.json")
    parser.add_argument("--folder", type=Path, default=CACHE / "rl_learning")
    args = parser.parse_args()
    warn_if_busy()
    task = TASKS[args.task]
    args.folder.mkdir(parents=True, exist_ok=True)
    model = scratch_model(args.folder / "scratch-model") if args.task == "scratch" else None
    curves: list[Curve] = []
    for seed in args.seeds:
        number = 1 + len(list(args.folder.glob(f"{args.task}-{seed}-*")))
        place = args.folder / f"{args.task}-{seed}-{number}"
        curves.append(run(task, seed=seed, model=model, folder=place, manifest=args.manifest))
    write_report(
        args.out or REPOSITORY / "benchmarks" / "results" / f"rl_learning_{args.task}.json",
        {"machine": machine(), "task": asdict(task), "runs": [asdict(curve) for curve in curves]},
    )
    draw(curves, args.picture or REPOSITORY / "docs" / "pictures" / f"rl-{args.task}.svg", title=task.title)
    rows = [
        [
            str(curve.seed),
            f"{curve.rewards[0]:.3f}",
            f"{curve.reached:.3f}",
            f"{curve.held_out[0]:.3f} to {curve.held_out[1]:.3f}",
            f"{curve.seconds[-1] / 60:.1f} min",
            f"{max(map(abs, curve.gaps), default=0.0):.1e}",
        ]
        for curve in curves
    ]
    header = [
        "seed",
        "first step",
        f"last {LAST} steps",
        "held-out, before to after",
        "time",
        "largest KL to the sampler",
    ]
    print(markdown(header, rows))
    print(f"minutes: {Spread.of([curve.seconds[-1] / 60 for curve in curves]).shown(1)}")
    failed = [curve for curve in curves if curve.reached < task.reached]
    for curve in failed:
        say(f"FAILED: seed {curve.seed} came to {curve.reached:.3f}, not {task.reached}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
