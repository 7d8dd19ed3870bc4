"""How do tokens look on a terminal? Coloured by loss weight, or, where there are no colours, with marks round them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from crucible.runtime.token_rows import ViewRow
from crucible.train.token_texts import TokenText

State: TypeAlias = Literal["trained", "not trained", "cut off"]

_STYLES: dict[State, str] = {"trained": "bold green", "not trained": "default", "cut off": "strike red"}
_AROUND = 24  # characters shown before and after a token in a list


@dataclass(frozen=True)
class Marks:
    """What stands round trained tokens, round those that were cut off and round special ones (text may look like
    one), for a newline, a tab, and between facts. plain: every character beyond ASCII is spelt."""

    trained: tuple[str, str]
    cut: tuple[str, str]
    special: tuple[str, str]
    newline: str
    tab: str
    dot: str
    plain: bool = False

    def round(self, state: State) -> tuple[str, str]:
        """What opens and what closes a stretch of that kind."""
        return self.trained if state == "trained" else self.cut if state == "cut off" else ("", "")


_UNICODE = Marks(("⟦", "⟧"), ("⟪", "⟫"), ("«", "»"), "⏎", "⇥", " · ")
_ASCII = Marks(("[[", "]]"), ("{{", "}}"), ("`", "`"), "\\n", "\\t", " - ", plain=True)


def marks_for(console: Console) -> Marks:
    """The marks that the console can show."""
    return _UNICODE if console.encoding.lower().startswith("utf") else _ASCII


def is_coloured(console: Console) -> bool:
    """Whether colours tell what is otherwise told by marks."""
    return console.color_system is not None and not console.no_color


def print_legend(console: Console) -> None:
    """What the colours, or the marks, mean."""
    marks, states = marks_for(console), list(_STYLES)
    coloured = is_coloured(console)
    parts = [_stretch(state, [TokenText(state)], marks, coloured) for state in states]
    parts.append(_stretch("not trained", [TokenText("special token", special=True)], marks, coloured))
    console.print(Text("   ").join([*parts, Text(f"{marks.newline} newline", style="dim")]), soft_wrap=True)


def print_row(row: ViewRow, console: Console) -> None:
    """Where the row is from and what it comes to, its problems and notes, its tokens."""
    marks = marks_for(console)
    console.print(Text("\n" + shown(_heading(row, marks), marks), style="bold"), soft_wrap=True)
    for problem in row.problems:
        console.print(Text(f"! {shown(problem, marks)}", style="yellow"), soft_wrap=True)
    for note in row.notes:
        console.print(Text(shown(note, marks), style="dim"), soft_wrap=True)
    if row.ids:
        console.print(_tokens(row, marks, coloured=is_coloured(console)), soft_wrap=True)


def shown(text: str, marks: Marks) -> str:
    """The text with every character visible: newlines and tabs marked, control characters spelt (they would reach the
    terminal), everything else as it is."""
    return "".join(_visible(character, marks) for character in text)


def steps_table(rows: Sequence[ViewRow]) -> Table:
    """One line for each step: its rows, tokens and how likely the trained ones were."""
    table = _table("step", "rows", "tokens", "trained", "mean NLL", "lowest logprob", "problems")
    for step, group in groupby(rows, key=lambda row: row.step):
        these = list(group)
        known = [logprob for row in these for logprob, _ in row.trained_logprobs]
        trained = sum(len(row.trained) for row in these)
        troubled = sum(bool(row.problems) for row in these)
        table.add_row(
            "-" if step is None else f"{step:,}",
            f"{sum(bool(row.ids) for row in these):,}",
            f"{sum(len(row.ids) for row in these):,}",
            f"{trained:,}",
            f"{-sum(known) / len(known):.4f}" if known else "-",
            f"{min(known):.3f}" if known else "-",
            f"{troubled:,}" if troubled else "",
        )
    return table


@dataclass(frozen=True)
class Found:
    """A trained token and the number that it was found for."""

    value: float
    row: ViewRow
    place: int


def least_likely(rows: Iterable[ViewRow], count: int) -> list[Found]:
    """The trained tokens with the lowest logprobs, the lowest first; one that is no number before all."""
    found = [Found(value, row, place) for row in rows for value, place in row.trained_logprobs]
    return sorted(found, key=lambda one: -math.inf if math.isnan(one.value) else one.value)[:count]


def largest_gaps(rows: Iterable[ViewRow], count: int) -> list[Found]:
    """The trained tokens whose logprobs by trainer and sampler differ most, that one first."""
    found = [Found(gap, row, place) for row in rows for gap, place in _gaps(row)]
    return sorted(found, key=lambda one: -math.inf if math.isnan(one.value) else -abs(one.value))[:count]


def tokens_table(found: Sequence[Found], console: Console, *, head: str) -> Table:
    """One line for each token: the number, the token within its text, and where it stands."""
    table = _table(head, "token in its text", "step", "row", "position", "from")
    table.columns[1].justify = table.columns[5].justify = "left"
    table.columns[1].no_wrap, table.columns[1].overflow = True, "ellipsis"
    table.columns[5].overflow = "fold"
    marks = marks_for(console)
    for one in found:
        row = one.row
        step = "-" if row.step is None else f"{row.step:,}"
        index = "-" if row.row is None else f"{row.row + 1:,}"
        origin = Text(shown(row.origin.rpartition("/")[2], marks))
        table.add_row(f"{one.value:.3f}", _within(one, marks), step, index, f"{one.place + 1:,}", origin)
    return table


def _gaps(row: ViewRow) -> Iterator[tuple[float, int]]:
    for logprob, place in row.trained_logprobs:
        sampled = row.sampler_logprobs[place] if row.sampler_logprobs else None
        if sampled is not None:
            yield logprob - sampled, place


def _within(one: Found, marks: Marks) -> Text:
    texts = [shown(read.text, marks).replace("\n", "") for read in one.row.texts]
    before, after = "".join(texts[max(0, one.place - 40) : one.place]), "".join(texts[one.place + 1 : one.place + 41])
    opening, closing = marks.trained
    token = (f"{opening}{texts[one.place]}{closing}", "bold")
    return Text.assemble((before[-_AROUND:], "dim"), token, (after[:_AROUND], "dim"))


def _heading(row: ViewRow, marks: Marks) -> str:
    parts = [] if row.step is None else [f"step {row.step:,}"]
    parts += [] if row.row is None else [f"row {row.row + 1:,}"]
    parts.append(row.origin)
    if row.kept:
        trained = len(row.trained)
        parts.append(f"{len(row.ids):,} tokens, {trained:,} trained ({trained / row.kept:.0%})")
    if row.kept < len(row.ids):
        parts.append(f"{len(row.ids) - row.kept:,} cut off")
    return marks.dot.join(parts)


def _tokens(row: ViewRow, marks: Marks, *, coloured: bool) -> Text:
    states: list[State] = [_state(row, place) for place in range(len(row.ids))]
    text, start = Text(), 0
    for state, group in groupby(states):
        end = start + sum(1 for _ in group)
        text.append_text(_stretch(state, row.texts[start:end], marks, coloured))
        start = end
    return text


def _state(row: ViewRow, place: int) -> State:
    return "cut off" if place >= row.kept else "trained" if row.weights[place] != 0 else "not trained"


def _stretch(state: State, texts: Sequence[TokenText], marks: Marks, coloured: bool) -> Text:
    opening, closing = ("", "") if coloured else marks.round(state)
    text = Text(opening)
    for special, group in groupby(texts, key=lambda read: read.special):
        words = [shown(read.text, marks) for read in group]
        if special:
            before, after = ("", "") if coloured else marks.special
            words = [f"{before}{word}{after}" for word in words]
        text.append("".join(words), style=f"{_STYLES[state]} reverse" if special and coloured else _STYLES[state])
    return text.append(closing)


def _visible(character: str, marks: Marks) -> str:
    if character == "\n":
        return f"{marks.newline}\n"
    if character == "\t":
        return marks.tab
    if character.isprintable() and (character.isascii() or not marks.plain):
        return character
    return character.encode("unicode_escape").decode()


def _table(*heads: str) -> Table:
    columns = (Column(header=Text(head), justify="right") for head in heads)
    return Table(*columns, box=None, pad_edge=False, header_style="bold")
