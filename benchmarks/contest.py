"""How are contestants run, and how are their figures summed up?

Each run is a fresh process of its own interpreter, one at a time, and ends by printing one line of JSON. The
contestants take turns (A B C A B C ...), so that a slow minute of the machine falls on all of them.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / "benchmarks" / ".cache"
QUIET_LOAD = 0.5
"""One-minute load average above which another program is likely to share the cores."""

Line: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A program to measure. module: run as `python -m module *arguments` from the repository's root."""

    key: str
    python: Path
    module: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and extremes of a few repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def shown(self, digits: int = 0) -> str:
        """`median (low-high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def take_turns(contestants: Sequence[Contestant], *, repeats: int, timeout: float) -> dict[str, list[Line]]:
    """Every contestant's JSON lines, `repeats` of each, with the load average seen before each run.

    Raises:
        RuntimeError: if one fails; its last words are in the message.
        subprocess.TimeoutExpired: if one takes longer than `timeout` seconds.
    """
    lines: dict[str, list[Line]] = {contestant.key: [] for contestant in contestants}
    for repeat in range(repeats):
        for contestant in contestants:
            load = os.getloadavg()[0]
            say(f"{repeat + 1}/{repeats} {contestant.key} (load {load:.2f})")
            line = {**run_once(contestant, timeout=timeout), "load_before": load}
            say(json.dumps(line))  # an interrupted hour keeps its figures
            lines[contestant.key].append(line)
    return lines


def run_once(contestant: Contestant, *, timeout: float) -> Line:
    """Run it and read the last line of its output. Errors as for `take_turns`."""
    done = subprocess.run(
        [contestant.python, "-m", contestant.module, *contestant.arguments],
        cwd=REPOSITORY,
        env={**os.environ, **contestant.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{contestant.key} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_venv(folder: Path, requirements: Path, *, first: Sequence[str] = (), maker: str = sys.executable) -> Path:
    """The Python of a venv that holds what the requirements file lists; made anew when the file has changed.

    first: installed before anything else, in a pip call of its own. maker: the Python that makes it.
    """
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = "\n".join([*first, requirements.read_text(encoding="utf-8")])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    say(f"making {folder.relative_to(REPOSITORY)}")
    subprocess.run([maker, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if first:
        subprocess.run([*pip, *first], check=True)
    subprocess.run([*pip, *first, "-r", requirements], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def machine() -> dict[str, object]:
    """What the figures hold for."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": os.getloadavg()[0],
    }


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_report(path: Path, content: Mapping[str, object]) -> None:
    """Write the figures as JSON, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(f"wrote {path}")


def warn_if_busy() -> None:
    """Say so when another program seems to be using the machine."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        say(f"WARNING: the load average is {load:.2f}: these figures will be too low, and their ratios rough")


def say(message: str) -> None:
    """Progress, on stderr: stdout carries the table."""
    print(message, file=sys.stderr, flush=True)
