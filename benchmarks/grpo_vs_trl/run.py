"""What does one GRPO step cost, end to end, beside TRL's GRPOTrainer?

    .venv/bin/python -m benchmarks.grpo_vs_trl.run --repeats 3

`--tune` instead runs every TRL setting that was tried, once.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contest import (
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    make_venv,
    markdown,
    take_turns,
    warn_if_busy,
    write_report,
)
from benchmarks.grpo_vs_trl.job import GROUP_SIZE, GROUPS, LORA_RANK, MAX_TOKENS, mean

from crucible.adapters.assets import resolve_model

ROOM = "benchmarks.grpo_vs_trl"
TORCH = "torch==2.13.0"
TRL_SETTINGS: Mapping[str, str] = {"trl": "trl", "trl_best": "accumulated_no_checkpointing"}
OURS = {"ours": "ours", "ours_recipe": "recipe"}
CONTESTANTS = (*OURS, *TRL_SETTINGS)
TUNED = (
    "trl",
    "no_checkpointing",
    "accumulated",
    "accumulated_no_checkpointing",
    "bf16_weights",
    "bf16_weights_no_checkpointing",
    "bf16_weights_no_autocast",
    "accumulated_bf16_weights_no_autocast",
)


def contestant(
    name: str, *, setting: str | None, threads: int, pythons: Mapping[str, Path], job: list[str]
) -> Contestant:
    """How the contestant is started."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    return Contestant(
        key=name,
        python=pythons["ours" if setting is None else "trl"],
        module=f"{ROOM}.{OURS.get(name, 'trl_grpo')}",
        arguments=job if setting is None else [*job, "--setting", setting, "--name", name],
        environment=environment,
    )


def table(lines: Mapping[str, Sequence[Line]]) -> str:
    """Seconds and memory of a step, and ours to each."""
    wall = {key: Spread.of([mean(run["seconds"]) for run in runs]) for key, runs in lines.items()}
    memory = {key: Spread.of([run["peak_rss_bytes"] / 1e9 for run in runs]) for key, runs in lines.items()}
    rows: list[list[str]] = []
    for key, runs in lines.items():
        cpu = Spread.of([mean(run["cpu_seconds"]) for run in runs])
        tokens = Spread.of([mean(run["sampled_tokens"]) for run in runs])
        faster = f"{wall[key].median / wall['ours'].median:.2f}x" if "ours" in wall else ""
        smaller = f"{memory['ours'].median / memory[key].median:.2f}x" if "ours" in memory else ""
        earned = Spread.of([mean(run["rewards"]) for run in runs])
        rows.append([key, wall[key].shown(2), faster, cpu.shown(2), memory[key].shown(1), smaller])
        rows[-1] += [tokens.shown(), earned.shown(2)]
    header = ["contestant", "seconds a step", "to ours", "CPU seconds", "peak RSS, GB", "ours to it"]
    return markdown([*header, "tokens sampled", "mean reward"], rows)


def phases(lines: Mapping[str, Sequence[Line]]) -> str:
    """Where our CPU seconds go."""
    runs = [run for run in lines.get("ours", ()) if "phases" in run]
    if not runs:
        return ""
    rows = [
        [phase, Spread.of([run["phases"][phase] / len(run["seconds"]) for run in runs]).shown(2)]
        for phase in runs[0]["phases"]
    ]
    return "\n\n" + markdown(["phase of ours", "CPU seconds a step"], rows)


def main() -> None:
    """Run, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps, after one warm-up step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--tune", action="store_true", help="every TRL setting that was tried")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "grpo_vs_trl.json")
    args = parser.parse_args()

    requirements = REPOSITORY / "benchmarks" / "sft_vs_trl" / "requirements-trl.txt"
    trl = make_venv(REPOSITORY / "benchmarks" / ".venv-trl", requirements, first=[TORCH])
    pythons = {"ours": REPOSITORY / ".venv" / "bin" / "python", "trl": trl}
    job = ["--model", str(resolve_model(args.model)), "--dtype", args.dtype]
    job += ["--steps", str(args.steps), "--threads", str(args.threads)]
    chosen = {name: name for name in TUNED} if args.tune else TRL_SETTINGS
    names = ("ours", *TUNED) if args.tune else args.contestants
    runs = [
        contestant(name, setting=chosen.get(name), threads=args.threads, pythons=pythons, job=job) for name in names
    ]
    warn_if_busy()
    about = machine()
    lines = take_turns(runs, repeats=args.repeats, timeout=args.timeout)
    write_report(
        args.out,
        {
            "machine": about,
            "threads": args.threads,
            "dtype": args.dtype,
            "groups": GROUPS,
            "group_size": GROUP_SIZE,
            "max_tokens": MAX_TOKENS,
            "lora_rank": LORA_RANK,
            "runs": lines,
        },
    )
    print(table(lines) + phases(lines))


if __name__ == "__main__":
    main()
