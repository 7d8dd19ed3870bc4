"""How fast and how large is supervised training here, beside TRL and a hand-written loop?

    .venv/bin/python -m benchmarks.sft_vs_trl.run --repeats 3

`--tune` instead runs every TRL setting that was tried, once.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.contest import (
    CACHE,
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    make_venv,
    markdown,
    run_once,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)

from crucible.adapters.assets import fetch, resolve_model

ROOM = "benchmarks.sft_vs_trl"
THREADS = 2
TORCH = "torch==2.13.0"
DTYPES = ("float32", "bfloat16")
CONTESTANTS = ("ours", "trl", "trl_no_checkpointing", "trl_best", "peft_loop", "matmul_peak")
TRL_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "trl": {"float32": "trl", "bfloat16": "trl"},
    "trl_no_checkpointing": {"float32": "no_checkpointing", "bfloat16": "no_checkpointing"},
    "trl_best": {"float32": "row_by_row", "bfloat16": "row_by_row"},
}
TUNED = {
    "float32": (
        "trl",
        "no_checkpointing",
        "grouped",
        "padding_free",
        "packed",
        "row_by_row",
        "row_by_row_checkpointed",
    ),
    "bfloat16": (
        "trl",
        "no_checkpointing",
        "grouped",
        "padding_free",
        "packed",
        "row_by_row",
        "row_by_row_checkpointed",
        "bf16_weights",
        "row_by_row_bf16_weights",
        "row_by_row_bf16_weights_no_autocast",
    ),
}
SAME_WORK = 1e-3
"""Largest relative difference of two contestants' first loss in fp32: same rows, same weights, LoRA's B = 0."""
REORDERED = ("grouped", "packed")
"""TRL settings that change which rows the first step sees: their first loss cannot be compared."""


def contestant(
    name: str, *, dtype: str, setting: str | None, pythons: Mapping[str, Path], job: Sequence[str]
) -> Contestant:
    """How the contestant is started."""
    environment = {
        "OMP_NUM_THREADS": str(THREADS),
        "MKL_NUM_THREADS": str(THREADS),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    module = "trl_sft" if setting else name
    arguments = ["--dtype", dtype, *(job[:2] if name == "matmul_peak" else job)]
    if setting:
        arguments += ["--setting", setting, "--name", name]
    return Contestant(
        key=f"{name}/{dtype}",
        python=pythons["ours" if name == "ours" else "trl"],
        module=f"{ROOM}.{module}",
        arguments=arguments,
        environment=environment,
    )


def check_same_work(lines: Mapping[str, Sequence[Line]]) -> None:
    """Every first loss in fp32 agrees with the hand-written loop's.

    Raises:
        AssertionError: if one does not: then the contestants did not do the same work.
    """
    reference = lines["peft_loop/float32"][0]["first_loss"]
    for key, runs in lines.items():
        name, dtype = key.split("/")
        if dtype != "float32" or name in REORDERED or "first_loss" not in runs[0]:
            continue
        difference = abs(runs[0]["first_loss"] / reference - 1)
        assert difference < SAME_WORK, f"{key}: first loss {runs[0]['first_loss']}, the loop's {reference}"
        say(f"first loss of {key}: {runs[0]['first_loss']:.6f}, off the loop's by {difference:.1e}")


def table(lines: Mapping[str, Sequence[Line]], dtype: str) -> str:
    """The contestants of one dtype, with speed and memory relative to TRL's."""
    speeds = {
        key: Spread.of([run["useful_tokens"] / run["seconds"] for run in runs])
        for key, runs in lines.items()
        if key.endswith(dtype) and "seconds" in runs[0]
    }
    memory = {key: Spread.of([run["peak_rss_bytes"] / 1e9 for run in lines[key]]) for key in speeds}
    base, loop = f"trl/{dtype}", f"peft_loop/{dtype}"
    rows: list[list[str]] = []
    for key, speed in speeds.items():
        ratios = [f"{speed.median / speeds[to].median:.2f}x" if to in speeds else "" for to in (base, loop)]
        share = f"{memory[key].median / memory[base].median:.2f}x" if base in speeds else ""
        first, last = (Spread.of([run[which] for run in lines[key]]).median for which in ("first_loss", "last_loss"))
        name = key.split("/")[0]
        rows.append([name, speed.shown(), *ratios, memory[key].shown(1), share, f"{first:.4f}", f"{last:.4f}"])
    peaks = lines.get(f"matmul_peak/{dtype}")
    if peaks:
        bound = Spread.of([peak["bound_tokens_per_second"] for peak in peaks])
        to_loop = f"{bound.median / speeds[loop].median:.2f}x" if loop in speeds else ""
        to_trl = f"{bound.median / speeds[base].median:.2f}x" if base in speeds else ""
        gflops = Spread.of([peak["gflops"] for peak in peaks])
        shapes = Spread.of([peak["model_shapes_gflops"] for peak in peaks])
        name = f"matmul bound: {gflops.shown()} GFLOPS ({shapes.median:.0f} at the model's shapes)"
        rows.append([name, bound.shown(), to_trl, to_loop, "", "", "", ""])
    header = [
        "contestant",
        "useful tokens/s",
        "to trl",
        "to peft_loop",
        "peak RSS, GB",
        "RSS to trl",
        "first loss",
        "last loss",
    ]
    return f"**{dtype}**\n\n" + markdown(header, rows)


def prepare_rows(model: Path, python: Path, *, max_length: int, seed: int) -> Path:
    """The shared rows file, tokenised anew: it takes seconds and can then never be stale."""
    out = CACHE / f"rows-{max_length}-{seed}.json"
    arguments = ["--model", str(model), "--data", str(fetch("alpaca_en_demo")), "--out", str(out)]
    arguments += ["--max-length", str(max_length), "--seed", str(seed)]
    run_once(Contestant(key="rows", python=python, module=f"{ROOM}.rows", arguments=arguments), timeout=300)
    return out


def chosen(args: argparse.Namespace) -> list[tuple[str, str, str | None]]:
    """(name, dtype, TRL setting or None) of every run."""
    if args.tune:
        return [(setting, dtype, setting) for dtype in args.dtypes for setting in TUNED[dtype]] + [
            ("peft_loop", dtype, None) for dtype in args.dtypes
        ]
    return [(name, dtype, TRL_SETTINGS.get(name, {}).get(dtype)) for dtype in args.dtypes for name in args.contestants]


def main() -> None:
    """Run, check that the work was the same, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after one warm-up step")
    parser.add_argument("--max-length", type=int, default=512, help="of a row; less than 512 only to try things")
    parser.add_argument("--seed", type=int, default=0, help="of the rows' order")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--tune", action="store_true", help="every TRL setting that was tried")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one run")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "sft_vs_trl.json")
    args = parser.parse_args()

    requirements = REPOSITORY / "benchmarks" / "sft_vs_trl" / "requirements-trl.txt"
    trl = make_venv(REPOSITORY / "benchmarks" / ".venv-trl", requirements, first=[TORCH])
    pythons = {"ours": REPOSITORY / ".venv" / "bin" / "python", "trl": trl}
    model = resolve_model(args.model)
    rows = prepare_rows(model, trl, max_length=args.max_length, seed=args.seed)
    job = ["--model", str(model), "--rows", str(rows), "--steps", str(args.steps)]
    runs = [
        contestant(name, dtype=dtype, setting=setting, pythons=pythons, job=job)
        for name, dtype, setting in chosen(args)
    ]
    warn_if_busy()
    about = machine()
    lines = take_turns(runs, repeats=args.repeats, timeout=args.timeout)
    write_report(
        args.out,
        {
            "machine": about,
            "threads": THREADS,
            "steps": args.steps,
            "max_length": args.max_length,
            "seed": args.seed,
            "runs": lines,
        },
    )
    if "peft_loop/float32" in lines:
        check_same_work(lines)
    print("\n\n".join(table(lines, dtype) for dtype in args.dtypes))


if __name__ == "__main__":
    main()
