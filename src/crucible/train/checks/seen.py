"""What do the checks look at? The first rows as messages and tokens, and what every row is told apart by."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from crucible.errors import Problem, RendererError
from crucible.ports.dataset_store import Row, RowSet
from crucible.ports.model_facts import ModelFacts
from crucible.ports.tokenizer import Tokenizer
from crucible.train.checks.own_tokens import own_tokens
from crucible.train.data import RowError, RowRenderer, row_to_messages
from crucible.train.data.formats import row_tools
from crucible.train.messages import Message, Tool, text_of
from crucible.train.renderers import RenderedExample, Renderer, RewrittenHistory

TEMPLATE_ROWS = 64
"""Rows that the model's own template writes too. A convention that differs does so in its first rows; a rare case (an
empty system message) is met in some dozens."""

R = TypeVar("R", "SeenRow", "RowKey")

_NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenRow:
    """One row, rendered.

    messages: empty if the row is no conversation. examples: what it trains, before any cut by `max_length`; empty if
    it was refused. refused: the first thing wrong with it. own: what the model's own template makes of the messages
    that the last example holds, each way to write them; empty where there is nothing to compare.
    """

    origin: str
    messages: Sequence[Message] = ()
    tools: Sequence[Tool] = ()
    examples: Sequence[RenderedExample] = ()
    refused: Problem | None = None
    own: tuple[tuple[int, ...], ...] = ()

    @property
    def characters(self) -> int:
        """How long the conversation is."""
        return sum(len(text_of(message)) for message in self.messages)


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """What a conversation is told apart by. exact: all that it says; loose: its words alone, in lower case.
    characters: how long it is."""

    origin: str
    characters: int
    exact: bytes
    loose: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """What is examined.

    rows: the first rows. train, heldout: keys of the rows, as many as were looked at for repetition.
    rendering: how rows become tokens. learning_rate: the peak; None where nothing is trained.
    model: its reference; facts: what the backend says of it. computes: whether a model stands behind the backend.
    """

    rows: Sequence[SeenRow]
    train: Sequence[RowKey]
    heldout: Sequence[RowKey]
    rendering: RowRenderer
    learning_rate: float | None = None
    model: str = ""
    facts: ModelFacts | None = None
    computes: bool = True

    @property
    def renderer(self) -> Renderer:
        """What makes tokens of messages."""
        return self.rendering.renderer

    @property
    def tokenizer(self) -> Tokenizer:
        """The renderer's."""
        return self.rendering.renderer.tokenizer

    @property
    def rendered(self) -> list[SeenRow]:
        """The rows that were not refused."""
        return [row for row in self.rows if row.examples]

    def examples(self) -> Iterator[tuple[SeenRow, RenderedExample]]:
        """Every example with its row."""
        return ((row, example) for row in self.rows for example in row.examples)


def look(
    rows: RowSet,
    *,
    heldout: RowSet,
    rendering: RowRenderer,
    first: int,
    told_apart: int,
    characters: int | None = None,
    learning_rate: float | None = None,
    model: str = "",
    facts: ModelFacts | None = None,
    computes: bool = True,
) -> Examined:
    """Render the `first` rows, and tell `told_apart` rows of each set apart.

    characters: about how much text is read for each of these at most, so that very long rows cost no more time (None:
        all). One row is always looked at.
    """
    return Examined(
        rows=list(_within(characters, (_seen(rows, index, rendering) for index in range(min(first, len(rows)))))),
        train=list(_within(characters, _keys(rows, rendering.row_format, told_apart))),
        heldout=list(_within(characters, _keys(heldout, rendering.row_format, told_apart))),
        rendering=rendering,
        learning_rate=learning_rate,
        model=model,
        facts=facts,
        computes=computes,
    )


def _within(characters: int | None, items: Iterable[R]) -> Iterator[R]:
    """The first of them, up to so much text."""
    read = 0
    for item in items:
        yield item
        read += item.characters
        if characters is not None and read >= characters:
            return


def _seen(rows: RowSet, index: int, rendering: RowRenderer) -> SeenRow:
    origin, renderer = rows.origin(index), rendering.renderer
    try:
        messages, tools = _conversation(rows[index], rendering.row_format)
    except RowError as error:
        return SeenRow(origin=origin, refused=error.problems[0])
    examples: list[RenderedExample] = []
    refused, shown = None, messages
    try:
        examples, shown = _examples(rendering, messages, tools)
    except RendererError as error:
        refused = error.problems[0]
    own = own_tokens(renderer, shown, tools) if index < TEMPLATE_ROWS else ()
    return SeenRow(origin=origin, messages=messages, tools=tools, examples=examples, refused=refused, own=own)


def _examples(
    rendering: RowRenderer, messages: list[Message], tools: Sequence[Tool]
) -> tuple[list[RenderedExample], list[Message]]:
    """What the row trains, and the messages that the last example holds: where history is rewritten, it ends with the
    last turn that is trained."""
    renderer, train_on = rendering.renderer, rendering.train_on
    examples = renderer.build_supervised_examples(messages, train_on=train_on, tools=tools)
    try:
        renderer.build_supervised_example(messages, train_on=train_on, tools=tools)
    except RewrittenHistory:
        return examples, messages[: max(span.message or 0 for span in examples[-1].spans) + 1]
    return examples, messages


def _conversation(row: Row, row_format: str) -> tuple[list[Message], Sequence[Tool]]:
    return row_to_messages(row, row_format), row_tools(row)


def _keys(rows: RowSet, row_format: str, count: int) -> Iterator[RowKey]:
    """Of the rows that are conversations; the others are refused for themselves."""
    for index in range(min(count, len(rows))):
        try:
            messages, _ = _conversation(rows[index], row_format)
        except RowError:
            continue
        words = " ".join(_NOT_WORDS.sub(" ", text_of(message).lower()).strip() for message in messages)
        exact = json.dumps(messages, sort_keys=True, default=str)
        yield RowKey(origin=rows.origin(index), characters=len(exact), exact=_digest(exact), loose=_digest(words))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
