"""How many conversations does a core render in a second, here, in transformers, TRL and tinker-cookbook?

    .venv/bin/python -m benchmarks.rendering.run --repeats 5

The contestants take turns, each on one core, and must give the same tokens for the same rows.
"""

import argparse
import json
import subprocess
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
    make_venv,
    markdown,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)

from crucible.adapters.assets import fetch
from crucible.train.data import row_to_messages

TORCH, COOKBOOK = "torch==2.13.0", "tinker-cookbook==0.6.1"
OURS, REFERENCE = "ours", "hf"
FASTER = 1.5
"""How many times the rows of the fastest peer a core is to render. (All rows in one call is no peer: a run renders the
rows of a batch when their turn comes, and has the reason of each that cannot be rendered.)"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A contestant: its module, what it does in words, and whether it is a peer that ours must outrun."""

    module: str
    words: str
    peer: bool = False


KINDS: Mapping[str, Kind] = {
    "ours": Kind(module="ours", words="this project's renderer (qwen3)"),
    "ours_template": Kind(module="ours", words="this project's renderer that runs the model's template"),
    "hf": Kind(module="peers", words="transformers: apply_chat_template, row by row", peer=True),
    "hf_batch": Kind(module="peers", words="transformers: apply_chat_template, all rows in one call"),
    "trl": Kind(module="peers", words="TRL: messages with assistant_only_loss", peer=True),
    "trl_prompt_completion": Kind(module="peers", words="TRL: prompt and completion", peer=True),
    "cookbook": Kind(module="peers", words="tinker-cookbook: build_supervised_example", peer=True),
    "ours_datum": Kind(module="ours", words="this project, from messages to datums"),
    "cookbook_datum": Kind(module="peers", words="tinker-cookbook, from messages to datums"),
    "encode_batch": Kind(module="ours", words="the tokenizer alone: encode_batch of the texts"),
    "encode_batch_fast": Kind(module="ours", words="the tokenizer alone: encode_batch_fast of the texts"),
}
ONE_CORE = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": "",
}


def peers_python() -> Path:
    """The Python of the peers' venv."""
    here = REPOSITORY / "benchmarks"
    python = make_venv(here / ".venv-cookbook", here / "requirements-cookbook.txt", first=[TORCH])
    # Its other requirements are for other parts of it, and one of them no longer has the release that it asks for.
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", COOKBOOK]
    if not list(here.glob(f".venv-cookbook/lib/*/site-packages/tinker_cookbook-{COOKBOOK.partition('==')[2]}.*")):
        subprocess.run(pip, check=True)
    return python


def qwen3_tokenizer() -> Path:
    """The folder of Qwen3's tokenizer, as the renderers' tests fetch it."""
    sys.path.append(str(REPOSITORY / "tests" / "renderers"))
    from families import family_folder

    return family_folder("qwen3")


def conversations(out: Path) -> Path:
    """The rows as messages, which is what every contestant starts from."""
    rows = json.loads(fetch("alpaca_en_demo").read_text(encoding="utf-8"))
    out.write_text(json.dumps([row_to_messages(row, "alpaca") for row in rows]), encoding="utf-8")
    return out


def contestants(names: Sequence[str], folder: Path) -> list[Contestant]:
    """How each is started. folder: where the rows and what is made of them go."""
    pythons = {"ours": REPOSITORY / ".venv" / "bin" / "python", "peers": peers_python()}
    rows = conversations(folder / "conversations.json")
    common = ["--tokenizer", str(qwen3_tokenizer()), "--conversations", str(rows)]
    return [
        Contestant(
            key=name,
            python=pythons[KINDS[name].module],
            module=f"benchmarks.rendering.{KINDS[name].module}",
            arguments=["--name", name, *common, "--rendered", str(folder / f"{name}.json")],
            environment=ONE_CORE,
        )
        for name in names
    ]


def speeds(lines: Mapping[str, Sequence[Line]], clock: str) -> dict[str, Spread]:
    """Rows per second by that clock, per contestant."""
    return {name: Spread.of([run["rows"] / run[clock] for run in runs]) for name, runs in lines.items()}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a contestant's rows differ from others'.

    other_ids: rows whose ids are not apply_chat_template's, nor these without the last one.
    shorter: rows that lack the last one, the line break after the end of turn.
    trained: (tokens trained that ours does not, tokens that ours alone trains) of each row; None: it gives no weights.
    """

    other_ids: int
    shorter: int
    trained: list[tuple[int, int]] | None

    @property
    def ids_in_words(self) -> str:
        """For the table."""
        shorter = f"the same, but for the last line break in {self.shorter} rows" if self.shorter else "the same"
        return f"others in {self.other_ids} rows" if self.other_ids else shorter

    @property
    def weights_in_words(self) -> str:
        """For the table."""
        if self.trained is None:
            return "none"
        more, fewer = (sum(row[which] for row in self.trained) / len(self.trained) for which in (0, 1))
        return f"{more:g} more, {fewer:g} fewer trained a row" if more or fewer else "as ours"


def agreement(names: Sequence[str], folder: Path) -> dict[str, Agreement]:
    """Every contestant beside apply_chat_template (ids) and ours (weights), row by row."""
    rendered = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    return {name: _compared(rows, rendered[REFERENCE], rendered[OURS]) for name, rows in rendered.items()}


def _compared(
    rows: Sequence[tuple[list[int], list[float] | None]],
    reference: Sequence[tuple[list[int], object]],
    ours: Sequence[tuple[object, list[float]]],
) -> Agreement:
    same = shorter = 0
    trained: list[tuple[int, int]] = []
    for (ids, weights), (wanted, _), (_, our_weights) in zip(rows, reference, ours, strict=True):
        same += ids == wanted
        shorter += ids == wanted[:-1]
        if weights is not None:
            theirs, mine = ({at for at, weight in enumerate(one) if weight} for one in (weights, our_weights))
            trained.append((len(theirs - mine), len(mine - theirs)))
    return Agreement(other_ids=len(rows) - same - shorter, shorter=shorter, trained=trained or None)


def table(lines: Mapping[str, Sequence[Line]], agreed: Mapping[str, Agreement]) -> str:
    """Every contestant's speed, and where it does not agree."""
    cpu, wall = speeds(lines, "cpu_seconds"), speeds(lines, "wall_seconds")
    rows = [
        [
            KINDS[name].words,
            cpu[name].shown(),
            wall[name].shown(),
            f"{cpu[OURS].median / cpu[name].median:.2f}x",
            agreed[name].ids_in_words,
            agreed[name].weights_in_words,
        ]
        for name in lines
    ]
    header = ["contestant", "rows per CPU second", "per second", "ours to it", "token ids", "loss weights"]
    return markdown(header, rows)


def failures(lines: Mapping[str, Sequence[Line]], agreed: Mapping[str, Agreement]) -> list[str]:
    """The limits that were not kept."""
    cpu = speeds(lines, "cpu_seconds")
    fastest = max((name for name in lines if KINDS[name].peer), key=lambda name: cpu[name].median)
    ratio = cpu[OURS].median / cpu[fastest].median
    broken = [f"{name} gives the same tokens" for name, found in agreed.items() if found.other_ids]
    broken += [f"{name} leaves out no token" for name in lines if name.startswith(OURS) and agreed[name].shorter]
    if ratio < FASTER:
        broken.append(f"a core renders {FASTER} times the rows of the fastest peer ({fastest}: {ratio:.2f}x)")
    return broken


def main() -> int:
    """Measure, print the table; 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "rendering.json")
    args = parser.parse_args()
    folder = CACHE / "rendering"
    folder.mkdir(parents=True, exist_ok=True)
    turns = contestants(tuple(KINDS), folder)
    warn_if_busy()
    about = machine()
    lines = take_turns(turns, repeats=args.repeats, timeout=120)
    agreed = agreement(tuple(KINDS), folder)
    print(table(lines, agreed))
    words = {name: {"ids": found.ids_in_words, "weights": found.weights_in_words} for name, found in agreed.items()}
    write_report(args.out, {"machine": about, "agreement": words, "runs": lines})
    broken = failures(lines, agreed)
    for limit in broken:
        say(f"FAILED: {limit}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
