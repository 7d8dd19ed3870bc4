"""What does a row become for a training backend, and what is lost on the way?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crucible.errors import RendererError
from crucible.ports.dataset_store import Row
from crucible.ports.datum import Datum
from crucible.train.data.datum import BuiltDatum, Reduction, data_from_examples
from crucible.train.data.dropped import DropCount, Dropped
from crucible.train.data.formats import TOKENS, RowError, row_to_messages, row_tools
from crucible.train.data.token_rows import example_from_tokens
from crucible.train.renderers.renderer import RenderedExample, Renderer
from crucible.train.renderers.train_on import TrainOn


@dataclass(frozen=True, kw_only=True)
class RenderedBatch:
    """A batch as datums, and an account of every row that is not among them.

    datums: one per usable row, or several where a row's history is rewritten; rows: the index of each datum's row;
        cut_tokens: how many tokens `max_length` took from each.
    dropped: reason -> rows left out. truncated: datums that `max_length` cut; cut_trained_tokens: trained
        tokens lost that way, those of rows dropped for it included.
    tokens: input positions of the datums; trained_tokens: those with a loss weight.
    ends_without_stop: trained turns without an end-of-turn token.
    """

    datums: tuple[Datum, ...]
    rows: tuple[int, ...]
    cut_tokens: tuple[int, ...]
    dropped: Mapping[str, Dropped]
    truncated: int
    cut_trained_tokens: int
    tokens: int
    trained_tokens: int
    ends_without_stop: int


@dataclass(frozen=True, kw_only=True)
class RenderedRow:
    """One row as examples, usually one, and as what they become (a `datum` of None if no trained token is left)."""

    examples: tuple[RenderedExample, ...]
    built: tuple[BuiltDatum, ...]

    @property
    def usable(self) -> bool:
        """Whether anything of it is trained."""
        return any(built.datum is not None for built in self.built)


@dataclass(frozen=True, kw_only=True)
class RowRenderer:
    """How rows become datums. max_length: the most tokens kept of a row (None: all). Rows of tokens bring their own
    weights: `train_on` has no part in them."""

    renderer: Renderer
    train_on: TrainOn
    row_format: str
    max_length: int | None
    reduction: Reduction

    def row(self, row: Row, origin: str, drops: DropCount) -> RenderedRow | None:
        """One row; None if it cannot be rendered. That, and a row without a trained token, is counted in `drops`."""
        try:
            examples = self._examples(row)
        except (RowError, RendererError) as error:
            drops.add(error, origin=origin)
            return None
        built = data_from_examples(examples, max_length=self.max_length, reduction=self.reduction)
        rendered = RenderedRow(examples=tuple(examples), built=tuple(built))
        if not rendered.usable:
            drops.add(_untrained(built[0], self.max_length), origin=origin)
        return rendered

    def _examples(self, row: Row) -> list[RenderedExample]:
        if self.row_format == TOKENS:
            return [example_from_tokens(row, self.renderer.tokenizer)]
        messages, tools = row_to_messages(row, self.row_format), row_tools(row)
        return self.renderer.build_supervised_examples(messages, train_on=self.train_on, tools=tools)

    def batch(self, rows: Iterable[tuple[int, Row, str]]) -> RenderedBatch:
        """Rows as datums, in their order; those that cannot be used are counted, never raised.

        rows: each with its index and its origin.
        """
        drops, kept = DropCount(), list[tuple[int, RenderedExample, BuiltDatum, Datum]]()
        cut_trained = 0
        for index, values, origin in rows:
            row = self.row(values, origin, drops)
            if row is None:
                continue
            for example, built in zip(row.examples, row.built, strict=True):
                cut_trained += built.cut_trained_tokens
                if built.datum is not None:
                    kept.append((index, example, built, built.datum))
        return RenderedBatch(
            datums=tuple(datum for _, _, _, datum in kept),
            rows=tuple(index for index, _, _, _ in kept),
            cut_tokens=tuple(built.cut_tokens for _, _, built, _ in kept),
            dropped=drops.by_reason(),
            truncated=sum(built.cut_tokens > 0 for _, _, built, _ in kept),
            cut_trained_tokens=cut_trained,
            tokens=sum(datum.model_input.length for _, _, _, datum in kept),
            trained_tokens=sum(built.trained_tokens for _, _, built, _ in kept),
            ends_without_stop=sum(example.ends_without_stop for _, example, _, _ in kept),
        )


def _untrained(built: BuiltDatum, max_length: int | None) -> RowError:
    if built.cut_trained_tokens:
        return RowError.of(
            "max_length cuts the row off before its first trained token",
            given=f"{built.tokens} tokens with max_length={max_length}",
            fix="Raise max_length, or leave the row out",
        )
    return RowError.of("the row has no trained token")
