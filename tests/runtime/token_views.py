"""Inspections made by hand, for tests of how they are shown."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from crucible.runtime.token_rows import Inspection, ViewRow
from crucible.testing.fakes import FakeTokenizer
from crucible.train.token_texts import TokenReader

TOKENIZER = FakeTokenizer()


def view(text: str, *, trained: str = "", step: int | None = 1, row: int = 0, **more: Any) -> ViewRow:
    """A row whose trained tokens are those of the last occurrence of `trained`, all at logprob -0.25."""
    ids = TOKENIZER.encode(text).ids
    start = len(TOKENIZER.encode(text[: text.rindex(trained)]).ids) if trained else len(ids)
    end = start + len(TOKENIZER.encode(trained).ids)
    weights = [float(start <= place < end) for place in range(len(ids))]
    logprobs = [-0.25 if weight else None for weight in weights]
    made = ViewRow(
        origin=f"rows.jsonl:{row + 1}",
        row=row,
        step=step,
        epoch=0,
        ids=ids,
        texts=TokenReader(TOKENIZER).read(ids),
        weights=weights,
        kept=len(ids),
        logprobs=logprobs,
    )
    return replace(made, **more)


def chat(question: str, answer: str, **more: Any) -> ViewRow:
    """A question and a trained answer."""
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>"
    return view(text, trained=f"{answer}<|im_end|>", **more)


def spread(row: ViewRow, figures: Sequence[float]) -> list[float | None]:
    """The figures over the row's trained tokens, again and again; None elsewhere."""
    places = {place: figures[number % len(figures)] for number, place in enumerate(row.trained)}
    return [places.get(place) for place in range(len(row.ids))]


def inspection(*rows: ViewRow, title: str = "first", notes: tuple[str, ...] = ()) -> Inspection:
    return Inspection(title=title, facts={"model": "tiny", "backend": "torch"}, notes=notes, rows=rows)


def sampled(row: ViewRow) -> ViewRow:
    """The row as reinforcement learning records it."""
    return replace(
        row,
        logprobs=spread(row, [-0.05, -0.3, -0.7, -1.5, -3, -5, -9]),
        sampler_logprobs=spread(row, [-0.05, -0.32, -0.7, -1.2, -3, -6]),
        advantages=spread(row, [0.5, -0.5, 1.0, -1.0, 0.0]),
        policy_version=7,
    )


BROKEN = [math.nan, -math.inf, -0.5]
