"""What does the server cost beside the SDK's own floor, and beside SkyRL's server?

    .venv/bin/python -m benchmarks.serving.run
    .venv/bin/python -m benchmarks.serving.run --skyrl python3.12     # a Python of 3.12 or newer: SkyRL asks for one

Every server runs in a process of its own. Servers that are compared take turns, update by update, in one client.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.contest import (
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    markdown,
    run_once,
    say,
    warn_if_busy,
    write_report,
)
from benchmarks.serving.servers import ENVIRONMENT, Server, ours, skyrl, skyrl_python, stub

PYTHON = REPOSITORY / ".venv" / "bin" / "python"
FLOOR_MS, TIMES_FASTER = 2.0, 10.0
"""The limits: milliseconds above the SDK's floor, and how many times less of them than SkyRL's."""
SAMPLES = 2000
CLIENTS, ADAPTERS = 16, 4
PARTS = ("latency", "skyrl", "crowd", "clients", "wire")
LATENCY = ("SDK", "server", "ms an update (quartiles)", "beyond the floor", "client CPU ms", "server CPU ms")
SECONDS = ("seconds", "client CPU", "server CPU")


def client(module: str, arguments: Sequence[str], *, python: Path = PYTHON) -> Line:
    """What a client prints."""
    environment = {key: value for key, value in ENVIRONMENT.items() if key.startswith(("TINKER", "OMP", "HF"))}
    environment |= {"PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    return run_once(
        Contestant(
            key=module,
            python=python,
            module=f"benchmarks.serving.{module}",
            arguments=arguments,
            environment=environment,
        ),
        timeout=1800,
    )


def latency(servers: Sequence[Server], *, updates: int, python: Path = PYTHON) -> Line:
    """Milliseconds of every update, by server, and what the servers used."""
    named = [part for server in servers for part in ("--server", server.name, server.url, server.model)]
    client("latency", [*named, "--updates", "1"], python=python)  # whatever is loaded or compiled once is there now
    before = {server.name: server.cpu_seconds() for server in servers}
    line = client("latency", [*named, "--updates", str(updates)], python=python)
    line["server_cpu_seconds"] = {server.name: server.cpu_seconds() - before[server.name] for server in servers}
    return line


def counted(server: Server, module: str, arguments: Sequence[str]) -> Line:
    """A client's figures, and the CPU seconds of the server meanwhile."""
    before = server.cpu_seconds()
    line = client(module, ["--url", server.url, "--model", server.model, *arguments])
    say(f"{module} on {server.name}: {line}")
    return {**line, "server_cpu_seconds": server.cpu_seconds() - before, "server": server.name}


def measure(folder: Path, parts: Sequence[str], *, updates: int, repeats: int, maker: str | None) -> dict[str, Any]:
    """The parts asked for; each is shown as it comes, so that an interrupted run keeps its figures."""
    model = tiny_model(folder)
    found: dict[str, Any] = {}
    with stub() as floor, ours("fake", folder / "fake") as fake, ours("torch", folder / "torch", model=model) as torch:
        if "latency" in parts:
            found["latency"] = latency([floor, fake, torch], updates=updates)
            say(markdown(LATENCY, latency_rows(found["latency"])))
        if "skyrl" in parts and maker is not None:
            python = skyrl_python(maker)
            (folder / "skyrl").mkdir()
            with skyrl(python, folder / "skyrl", model=model) as theirs:
                found["skyrl"] = latency([floor, theirs], updates=updates, python=python)
            say(markdown(LATENCY, latency_rows(found["skyrl"])))
        if "crowd" in parts:
            many = ["--samples", str(SAMPLES)]
            found["crowd"] = [counted(each, "crowd", many) for _ in range(repeats) for each in (floor, fake, torch)]
        if "clients" in parts:
            alone = ["--clients", "1", "--adapters", "1", "--updates", "64"]
            many = ["--clients", str(CLIENTS), "--adapters", str(ADAPTERS), "--updates", "4"]
            turns = [(counted(torch, "many_clients", one), one) for _ in range(repeats) for one in (alone, many)]
            found["alone"] = [line for line, one in turns if one is alone]
            found["many"] = [line for line, one in turns if one is many]
        if "wire" in parts:
            found["wire"] = [counted(fake, "wire_cost", []) for _ in range(repeats)]
    return found


def tiny_model(folder: Path) -> Path:
    """The tests' own: two layers, random weights, a real tokenizer."""
    make = "import sys, pathlib, conftest; conftest.write_tiny_model(pathlib.Path(sys.argv[1]))"
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY / "tests")}
    subprocess.run([PYTHON, "-c", make, folder / "tiny"], check=True, env=environment, stderr=subprocess.DEVNULL)
    return folder / "tiny"


def latency_rows(line: Line) -> list[list[str]]:
    """The servers of one client, and what each takes beyond the floor, turn by turn."""
    floor = line["wall_ms"]["stub"]
    rows: list[list[str]] = []
    for name, wall in line["wall_ms"].items():
        over = Spread.of([mine - least for mine, least in zip(wall, floor, strict=True)])
        server = 1e3 * line["server_cpu_seconds"][name] / (len(wall) + line["warm_up"])
        cpu = Spread.of(line["client_cpu_ms"][name])
        rows.append([line["sdk"], name, quartiles(wall), f"{over.median:.1f}", f"{cpu.median:.1f}", f"{server:.1f}"])
    return rows


def quartiles(values: Sequence[float]) -> str:
    """`median (quarter to three quarters)`: the extremes of a hundred turns are the machine's."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[len(ordered) * 3 // 4]
    return f"{Spread.of(values).median:.1f} ({low:.1f} to {high:.1f})"


def tables(found: Mapping[str, Any]) -> list[str]:
    """Everything that was measured, in Markdown."""
    lines = [found[key] for key in ("latency", "skyrl") if key in found]
    parts = [markdown(LATENCY, [row for line in lines for row in latency_rows(line)])] if lines else []
    if "crowd" in found:
        rows = [[run["server"], str(run["complete"]), *seconds(run)] for run in found["crowd"]]
        parts.append(markdown([f"{SAMPLES} samples at once", "complete", *SECONDS], rows))
    if "many" in found:
        words = {"alone": "1 client, 1 adapter", "many": f"{CLIENTS} clients, {ADAPTERS} adapters each"}
        rows = [
            [f"{text}: {run['updates']} updates", *seconds(run), fairness(run)]
            for key, text in words.items()
            for run in found[key]
        ]
        parts.append(markdown(["tiny model", *SECONDS, "first client done at"], rows))
    if "wire" in found:
        rows = [[f"{run['tokens']:,}", *seconds(run)] for run in found["wire"]]
        parts.append(markdown(["tokens in one forward_backward", *SECONDS], rows))
    return parts


def seconds(run: Line) -> list[str]:
    """As `SECONDS` names them."""
    return [f"{run[key]:.2f}" for key in ("wall_seconds", "client_cpu_seconds", "server_cpu_seconds")]


def fairness(run: Line) -> str:
    """When the first client was done, as a share of the time of the last."""
    return f"{min(run['client_seconds']) / max(run['client_seconds']):.0%}"


def failures(found: Mapping[str, Any]) -> list[str]:
    """The limits that were not kept."""
    broken: list[str] = []
    if "latency" in found and (beyond := _beyond(found["latency"], "ours_fake")) > FLOOR_MS:
        broken.append(f"an update within {FLOOR_MS} ms of the SDK's floor: {beyond:.1f} ms beyond it")
    if "latency" in found and "skyrl" in found:
        ratio = _beyond(found["skyrl"], "skyrl") / _beyond(found["latency"], "ours_torch")
        if ratio < TIMES_FASTER:
            broken.append(f"{TIMES_FASTER} times less than SkyRL's server, beyond the floor: {ratio:.1f} times")
    if any(run["complete"] < SAMPLES for run in found.get("crowd", ())):
        broken.append(f"all of {SAMPLES} samples at once complete")
    return broken


def _beyond(line: Line, name: str) -> float:
    pairs = zip(line["wall_ms"][name], line["wall_ms"]["stub"], strict=True)
    return Spread.of([mine - floor for mine, floor in pairs]).median


def main() -> int:
    """Measure, print the tables; 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--skyrl", metavar="PYTHON", help="measure SkyRL's server too, in a venv made by this Python")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "serving.json")
    args = parser.parse_args()
    warn_if_busy()
    about = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = measure(folder, args.parts, updates=args.updates, repeats=args.repeats, maker=args.skyrl)
    write_report(args.out, {"machine": about, **found})
    print("\n\n".join(tables(found)))
    broken = failures(found)
    for limit in broken:
        say(f"FAILED: {limit}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
