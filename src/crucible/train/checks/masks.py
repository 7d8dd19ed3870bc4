"""Which tokens carry loss: some, not all, and the end of each turn among them?"""

from collections.abc import Sequence

import numpy as np

from crucible.train.checks.finding import Finding, percent, rows_text
from crucible.train.checks.seen import Examined, SeenRow
from crucible.train.renderers import RenderedExample, Renderer, TrainOn

MOST = 0.5
"""From this share of the rows or turns on, what is wrong is the setting and not single rows."""
LEAST_TRAINED = 0.005
"""Below this share of trained tokens nearly all the compute goes into reading: a prompt 200 times as long as its
answer is rare enough to say so."""
_STOP_WITHIN = 8
"""Tokens at the end of a turn among which its stop must be: templates write white space after it, and a stop that is
text takes several tokens."""


def trained(examined: Examined) -> Finding:
    """Every row trains some tokens, and no row trains the prompt unasked."""
    rows = examined.rendered
    if not rows:
        return Finding(check="trained", status="skipped", sentence="no row could be rendered")
    shares = [_share(row.examples) for row in rows]
    tokens = sum(len(example.tokens) for _, example in examined.examples())
    overall = sum(_count(example) for _, example in examined.examples()) / max(tokens, 1)
    empty = [row for row, share in zip(rows, shares, strict=True) if share == 0]
    if empty:
        return Finding(
            check="trained",
            status="fail" if len(empty) >= MOST * len(rows) else "warn",
            sentence=f"{rows_text(len(empty))} of {len(rows):,} train no token at all",
            where=empty[0].origin,
            fix="Choose another train_on or renderer, or take those rows out",
        )
    unasked = next((row for row in rows if _trains_all(row, examined.rendering.train_on)), None)
    if unasked is not None:
        return Finding(
            check="trained",
            status="fail",
            sentence=f"the renderer {examined.renderer.name} trains every token, the prompt's too, with "
            f"train_on={examined.rendering.train_on}",
            where=unasked.origin,
            fix="Choose another renderer, or say train_on=all_tokens if that is meant",
        )
    if overall < LEAST_TRAINED:
        return Finding(
            check="trained",
            status="warn",
            sentence=f"only {percent(overall)} of the tokens are trained",
            where=rows[int(np.argmin(shares))].origin,
            fix="Shorten the prompts, or train more of the conversation (train_on)",
        )
    return Finding(
        check="trained",
        status="pass",
        sentence=f"{percent(overall)} of the tokens are trained, in a row at least {percent(min(shares))}",
    )


def end_of_turn(examined: Examined) -> Finding:
    """The token that ends an answer is trained with it: a model that never saw it does not stop."""
    turns, unstopped, first = 0, 0, None
    for row, example in examined.examples():
        ends = _turn_ends(row, example)
        missing = sum(not _stops(example, end, examined.renderer) for end in ends)
        missing = max(missing, min(example.ends_without_stop, len(ends)))
        turns, unstopped = turns + len(ends), unstopped + missing
        first = first or (row.origin if missing else None)
    if not turns:
        why = f"train_on={examined.rendering.train_on} trains no turn of the assistant"
        return Finding(check="end_of_turn", status="skipped", sentence=why)
    if not unstopped:
        count = f"{turns:,} trained turns" if turns > 1 else "the one trained turn"
        return Finding(check="end_of_turn", status="pass", sentence=f"{count} of the assistant end with a stop token")
    return Finding(
        check="end_of_turn",
        status="fail" if unstopped >= MOST * turns else "warn",
        sentence=f"{unstopped:,} of {turns:,} trained turns have no end-of-turn token: the model learns no stop",
        where=first or "",
        fix="Use a renderer or a template that ends a turn with a special token, or a conversation where the user "
        "speaks after the assistant",
    )


def _count(example: RenderedExample) -> int:
    return int(np.count_nonzero(example.weights))


def _share(examples: Sequence[RenderedExample]) -> float:
    return sum(map(_count, examples)) / max(sum(len(example.tokens) for example in examples), 1)


def _trains_all(row: SeenRow, train_on: TrainOn) -> bool:
    """Whether a row trains all its tokens, headers included, which only ALL_TOKENS asks for."""
    if train_on is TrainOn.ALL_TOKENS or len(row.messages) < 2:
        return False
    return any(_count(example) >= len(example.tokens) - 1 > 0 for example in row.examples)


def _turn_ends(row: SeenRow, example: RenderedExample) -> list[int]:
    """The token after each trained turn of the assistant; where all tokens are trained, the end of the whole."""
    answers = {index for index, message in enumerate(row.messages) if message["role"] == "assistant"}
    return [span.end for span in example.spans if (bool(answers) if span.message is None else span.message in answers)]


def _stops(example: RenderedExample, end: int, renderer: Renderer) -> bool:
    last = [int(token) for token in example.tokens[max(end - _STOP_WITHIN, 0) : end]]
    ids = renderer.tokenizer.eos_ids | {stop for stop in renderer.stop_sequences if isinstance(stop, int)}
    if not ids.isdisjoint(last):
        return True
    text = renderer.tokenizer.decode([token for token in last if 0 <= token < renderer.tokenizer.vocab_size])
    return any(stop.strip() in text for stop in renderer.stop_sequences if isinstance(stop, str))
