"""Are the rendered tokens those that the model's own chat template gives, token for token?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crucible.ports.tokenizer import Tokenizer
from crucible.train.checks.finding import Finding, rows_text
from crucible.train.checks.seen import Examined, SeenRow
from crucible.train.messages import calls_of, thinking_of
from crucible.train.renderers import Renderer, get_renderer
from crucible.train.renderers.family import FamilyRenderer
from crucible.train.renderers.role_colon import RoleColonRenderer

MEANT: Mapping[str, str] = {
    "mistral_v3": "a system message stays where it was, which the template writes only before a question",
}
"""Renderers that `auto` takes and that write plain conversations otherwise than the template on purpose, and why
(docs/decisions/0011-renderers.md lists every difference)."""
_CONTEXT = 6
"""Tokens shown before the first difference."""


@dataclass(frozen=True)
class _Compared:
    """A row beside what the model's own template makes of it.

    cut: the text is the same, and every token but those that would reach over the border of a prompt and its answer:
    they are sampled apart, so they are trained apart. by_tools: it has tools, calls or reasoning, which conventions
    write in more ways than one.
    """

    row: SeenRow
    ours: Sequence[int]
    own: Sequence[int]
    same: bool
    cut: bool = False
    by_tools: bool = False


def template(examined: Examined) -> Finding:
    """The rendered tokens of the user's own first rows are the model's own template's."""
    if examined.tokenizer.chat_template is None:
        return Finding(check="template", status="skipped", sentence="the model has no chat template to compare with")
    compared = [_compare(row, examined.tokenizer) for row in examined.rendered if row.own]
    if not compared:
        why = "no row could be written by the model's own template as it stands"
        return Finding(check="template", status="skipped", sentence=why)
    different = [each for each in compared if not each.same and not each.cut]
    if not different:
        told = f"{rows_text(len(compared))} written by the model's own template give the same tokens"
        if cut := sum(each.cut for each in compared):
            told += f", but that in {cut:,} of them prompt and answer are cut into tokens apart, as in sampling"
        return Finding(check="template", status="pass", sentence=told)
    plain = [each for each in different if not each.by_tools]
    first = (plain or different)[0]
    meant = _meant(examined.renderer)
    told = _difference(first.ours, first.own, examined.tokenizer)
    return Finding(
        check="template",
        status="fail" if plain and not meant else "warn",
        sentence=f"{len(different):,} of {rows_text(len(compared))} have other tokens than the model's own template "
        f"gives: {f'{meant}; ' if meant else ''}{told}",
        where=first.row.origin,
        fix="Use renderer=template, unless the difference is meant",
    )


def _meant(renderer: Renderer) -> str:
    """Why the renderer may differ; "" where it must not.

    A family's renderer was compared with the template on short conversations when it was made. One that `auto` would
    not have taken is a variant that someone chose; of a plug-in nothing is known, so it is held to the template.
    """
    if renderer.name in MEANT:
        return MEANT[renderer.name]
    if not isinstance(renderer, FamilyRenderer | RoleColonRenderer):
        return ""
    chosen = type(get_renderer("auto", renderer.tokenizer)) is not type(renderer)
    return f"{renderer.name} is another convention, chosen by name" if chosen else ""


def _compare(row: SeenRow, tokenizer: Tokenizer) -> _Compared:
    """With the nearest of the template's ways to write the row."""
    ours: list[int] = row.examples[-1].tokens.tolist()
    own = max(row.own, key=lambda other: _shared(ours, other))
    if _same(ours, own, tokenizer):
        return _Compared(row, ours, own, same=True)
    by_tools = bool(row.tools) or any(
        message["role"] == "tool" or calls_of(message) or thinking_of(message) for message in row.messages
    )
    return _Compared(row, ours, own, same=False, cut=_cut_apart(row, ours, own, tokenizer), by_tools=by_tools)


def _cut_apart(row: SeenRow, ours: Sequence[int], own: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Whether the text is the same, and each piece between two borders has the tokens that it has alone."""
    if _text(ours, tokenizer) != _text(own, tokenizer):
        return False
    borders = sorted({0, len(ours), *(place for span in row.examples[-1].spans for place in (span.start, span.end))})
    pieces = (list(ours[start:end]) for start, end in pairwise(borders))
    return all(list(tokenizer.encode(tokenizer.decode(piece)).ids) == piece for piece in pieces)


def _same(ours: Sequence[int], own: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Equal, but for white space after the last turn, which nothing trains and nothing follows."""
    shorter, longer = sorted((list(ours), list(own)), key=len)
    return longer[: len(shorter)] == shorter and not _text(longer[len(shorter) :], tokenizer)


def _shared(ours: Sequence[int], own: Sequence[int]) -> int:
    """How many tokens the two begin with together."""
    pairs = enumerate(zip(ours, own, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ours), len(own)))


def _text(tokens: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode([token for token in tokens if 0 <= token < tokenizer.vocab_size]).rstrip()


def _difference(ours: Sequence[int], own: Sequence[int], tokenizer: Tokenizer) -> str:
    at = _shared(ours, own)
    after = _text(ours[max(at - _CONTEXT, 0) : at], tokenizer)
    both = f"{_shown(ours, at, tokenizer)} and the template {_shown(own, at, tokenizer)}"
    return f"at token {at} it has {both}, after {after!r}"


def _shown(tokens: Sequence[int], at: int, tokenizer: Tokenizer) -> str:
    if at >= len(tokens):
        return "nothing more"
    known = 0 <= tokens[at] < tokenizer.vocab_size
    return f"{tokenizer.token_text(tokens[at])!r} ({tokens[at]})" if known else f"the id {tokens[at]}"
