"""How is a renderer measured? One core, one clock around rows it has not seen, one line of JSON."""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

WARM_UP_ROWS = 99
"""Rows rendered before the clock starts, and not again: whoever remembers texts gains nothing from a second pass."""

Conversation: TypeAlias = list[dict[str, str]]
Rendered: TypeAlias = tuple[Sequence[int], Sequence[float] | None]
"""Token ids, and the loss weight of each; None from those that give none."""


def contestant_arguments(description: str, names: Sequence[str]) -> argparse.Namespace:
    """The options that every contestant takes, parsed; from here on the process keeps to one core."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", choices=names, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--conversations", type=Path, required=True, help="JSON: a list of lists of messages")
    parser.add_argument("--rendered", type=Path, required=True, help="where to write every row's ids and weights")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return arguments


def measure(
    arguments: argparse.Namespace,
    render: Callable[[list[Any]], Sequence[Any]],
    *,
    read: Callable[[Any], Rendered],
    prepare: Callable[[Conversation], Any] = lambda messages: messages,
) -> None:
    """Render all rows once, the first of them before the clock starts; print the line, and write down what came out.

    render: a list of conversations to as many results. prepare: what it takes in their place, made before the clock
    starts. read: a result's ids and weights, when the clock has stopped.
    """
    conversations: list[Conversation] = json.loads(arguments.conversations.read_text(encoding="utf-8"))
    rows = [prepare(messages) for messages in conversations]
    first, rest = list(render(rows[:WARM_UP_ROWS])), rows[WARM_UP_ROWS:]
    wall, cpu = time.perf_counter(), time.process_time()
    results = render(rest)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rendered = [read(result) for result in [*first, *results]]
    arguments.rendered.write_text(json.dumps(rendered), encoding="utf-8")
    tokens = sum(len(ids) for ids, _ in rendered[WARM_UP_ROWS:])
    line = {"name": arguments.name, "rows": len(rest), "tokens": tokens, "wall_seconds": wall, "cpu_seconds": cpu}
    print(json.dumps(line), flush=True)
