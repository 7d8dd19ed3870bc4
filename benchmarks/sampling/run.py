"""How many tokens does a CPU second sample here, beside transformers' `generate` and peft?

    .venv/bin/python -m benchmarks.sampling.run --repeats 5

The contestants take turns, each in a fresh process on the same number of threads, and sample the same job: a group
of 8 x 64 tokens after a prompt of 256, and 32 ragged requests, both through a LoRA adapter of rank 32.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import (
    CACHE,
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    markdown,
    run_once,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)
from benchmarks.sampling.job import GREEDY_TOKENS, GROUP_SIZE, GROUP_TOKENS, Job

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A contestant. module: its program; ours: what it is compared with; limit: times its tokens ours is to draw."""

    module: str
    words: str
    ours: str
    limit: float | None = None


KINDS: Mapping[str, Kind] = {
    "ours_group": Kind(module="ours", words="group: this engine, exact", ours="ours_group"),
    "hf_group": Kind(module="hf", words="group: `generate`, merged weights", ours="ours_group", limit=1.7),
    "hf_group_prefix": Kind(
        module="hf", words="group: `generate`, merged, the prompt read once by hand", ours="ours_group"
    ),
    "peft_group": Kind(module="hf", words="group: `generate` through peft", ours="ours_group", limit=3.0),
    "ours_ragged": Kind(module="ours", words="ragged: this engine, exact", ours="ours_ragged"),
    "hf_ragged": Kind(
        module="hf", words="ragged: `generate`, merged, static batches of 8", ours="ours_ragged", limit=1.8
    ),
}


def prepared(folder: Path) -> tuple[list[str], Job]:
    """The arguments that name the shared model, adapter and job; and the job. Made anew when a file is missing."""
    python = REPOSITORY / ".venv" / "bin" / "python"
    arguments = ["--out", str(folder)]
    made = run_once(
        Contestant(key="prepare", python=python, module="benchmarks.sampling.prepare", arguments=arguments),
        timeout=600,
    )
    paths = {"--model": made["model"], "--adapter": made["adapter"], "--peft": str(folder / "peft")}
    job = folder / "job.json"
    return [*(part for pair in paths.items() for part in pair), "--job", str(job)], Job.read(job)


def contestants(
    names: Sequence[str], dtypes: Sequence[str], shared: Sequence[str], *, threads: int
) -> list[Contestant]:
    """How each is started."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    return [
        Contestant(
            key=f"{name}/{dtype}",
            python=REPOSITORY / ".venv" / "bin" / "python",
            module=f"benchmarks.sampling.{KINDS[name].module}",
            arguments=["--name", name, "--dtype", dtype, "--threads", str(threads), *shared],
            environment=environment,
        )
        for dtype in dtypes
        for name in names
    ]


def check_same_work(lines: Mapping[str, Sequence[Line]], job: Job) -> None:
    """Every contestant drew what was asked for, and all agree on the greedy tokens in fp32.

    Raises:
        AssertionError: if one did not.
    """
    wanted = {"group": [GROUP_TOKENS] * GROUP_SIZE, "ragged": [one.max_tokens for one in job.ragged]}
    greedy = next((runs[0]["greedy"] for key, runs in lines.items() if key == "hf_group/float32"), None)
    for key, runs in lines.items():
        which = "ragged" if "ragged" in key else "group"
        for run in runs:
            assert run["lengths"] == wanted[which], f"{key} drew {run['lengths']} tokens"
            assert run["distinct"] == len(wanted[which]), f"{key}: only {run['distinct']} completions differ"
            if greedy is not None and run["greedy"] is not None:
                agreed = run["greedy"] == greedy and len(greedy) == GREEDY_TOKENS
                assert agreed, f"{key}: greedy tokens {run['greedy']}, those of generate {greedy}"


def speed(runs: Sequence[Line], clock: str) -> Spread:
    """Tokens per second by that clock."""
    return Spread.of([run["tokens"] / run[clock] for run in runs])


def ratio(lines: Mapping[str, Sequence[Line]], name: str, dtype: str) -> Spread | None:
    """Ours over the contestant, tokens per CPU second, turn by turn; None if ours did not run."""
    ours, theirs = lines.get(f"{KINDS[name].ours}/{dtype}"), lines[f"{name}/{dtype}"]
    if ours is None:
        return None
    return Spread.of(
        [theirs_run["cpu_seconds"] / ours_run["cpu_seconds"] for ours_run, theirs_run in zip(ours, theirs, strict=True)]
    )


def table(lines: Mapping[str, Sequence[Line]], dtype: str) -> str:
    """The contestants of one dtype."""
    rows: list[list[str]] = []
    for name, kind in KINDS.items():
        if f"{name}/{dtype}" not in lines:
            continue
        runs, found = lines[f"{name}/{dtype}"], ratio(lines, name, dtype)
        limit = f"{kind.limit}x" if kind.limit else ""
        shown = found.shown(2) if found else ""
        rows.append(
            [kind.words, speed(runs, "cpu_seconds").shown(1), speed(runs, "wall_seconds").shown(1), shown, limit]
        )
    header = [dtype, "tokens per CPU second", "per second", "ours to it, turn by turn", "limit"]
    return markdown(header, rows)


def failures(lines: Mapping[str, Sequence[Line]]) -> list[str]:
    """The limits that were not kept, by the median of the turns."""
    broken: list[str] = []
    for key in lines:
        name, dtype = key.split("/")
        limit, found = KINDS[name].limit, ratio(lines, name, dtype)
        if limit and found and found.median < limit:
            broken.append(f"{dtype}: {limit} times the tokens of {KINDS[name].words}: {found.shown(2)}")
    return broken


def main() -> int:
    """Measure, check, print the tables; 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--contestants", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "sampling.json")
    args = parser.parse_args()
    warn_if_busy()
    about = machine()
    shared, job = prepared(CACHE / "sampling")
    turns = contestants(args.contestants, args.dtypes, shared, threads=args.threads)
    lines = take_turns(turns, repeats=args.repeats, timeout=600)
    write_report(args.out, {"machine": about, "threads": args.threads, "runs": lines})
    check_same_work(lines, job)
    print("\n\n".join(table(lines, dtype) for dtype in args.dtypes))
    broken = failures(lines)
    for limit in broken:
        say(f"FAILED: {limit}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
