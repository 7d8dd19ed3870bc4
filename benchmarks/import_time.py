"""How long does `import crucible` take, and does it load anything heavy?

    .venv/bin/python -m benchmarks.import_time

The figure is the median of fresh processes that import crucible minus the median of fresh processes that do
nothing; the two kinds take turns. The files are warm in the page cache after a first, unmeasured pair.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contest import REPOSITORY, Spread, machine, markdown, say, warn_if_busy, write_report

LIMIT_SECONDS = 0.3
FORBIDDEN = ("torch", "transformers", "datasets", "ray", "tinker", "starlette")
NOTED = (
    "numpy",
    "pyarrow",
    "huggingface_hub",
    "matplotlib",
    "tokenizers",
    "pandas",
    "peft",
    "accelerate",
    "rich",
    "typer",
)
"""Allowed, or guarded elsewhere, but worth a line in the report when they are loaded."""


def process_seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    return time.perf_counter() - began


def loaded_modules() -> set[str]:
    """Top-level names in sys.modules after `import crucible`."""
    code = "import crucible, json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def main() -> int:
    """Measure, print the table; 1 if the import is too slow or loads a forbidden module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "import_time.json")
    args = parser.parse_args()
    warn_if_busy()
    about = machine()
    bare: list[float] = []
    importing: list[float] = []
    for repeat in range(args.repeats + 1):
        pair = process_seconds("pass"), process_seconds("import crucible")
        if repeat:
            bare.append(pair[0])
            importing.append(pair[1])
    seconds = Spread.of(importing).median - Spread.of(bare).median
    loaded = loaded_modules()
    heavy = [name for name in FORBIDDEN if name in loaded]
    noted = [name for name in NOTED if name in loaded]
    print(
        markdown(
            ["", "seconds, median (range)"],
            [
                ["bare python", Spread.of(bare).shown(3)],
                ["python -c 'import crucible'", Spread.of(importing).shown(3)],
                ["import crucible", f"{seconds:.3f}"],
            ],
        )
    )
    print(f"\nforbidden modules loaded: {', '.join(heavy) or 'none'}; others of note: {', '.join(noted) or 'none'}")
    write_report(
        args.out,
        {
            "machine": about,
            "import_seconds": seconds,
            "bare": bare,
            "importing": importing,
            "heavy": heavy,
            "noted": noted,
        },
    )
    if seconds >= LIMIT_SECONDS or heavy:
        say(f"FAILED: the limit is {LIMIT_SECONDS} s and none of {', '.join(FORBIDDEN)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
