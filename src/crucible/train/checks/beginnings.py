"""Does every row begin with BOS as the model knows it: once where it has one, never twice?"""

from collections.abc import Sequence

from crucible.train.checks.finding import Finding, rows_text
from crucible.train.checks.seen import Examined, SeenRow
from crucible.train.renderers import RenderedExample


def bos(examined: Examined) -> Finding:
    """BOS once at the start where the model's own template writes one (or there is no template to ask)."""
    token = examined.tokenizer.bos_id
    if token is None:
        return Finding(check="bos", status="skipped", sentence="the model has no BOS token")
    if not any(row.messages for row in examined.rows):
        return Finding(check="bos", status="skipped", sentence="no row is a conversation")
    doubled = [row for row in examined.rows if _doubled(examined, row, token)]
    if doubled:
        return Finding(
            check="bos",
            status="fail",
            sentence=f"{len(doubled):,} of {rows_text(len(examined.rows))} hold BOS twice",
            where=doubled[0].origin,
            fix="Let one of renderer, template and tokenizer write it",
        )
    missing = [row for row, example in examined.examples() if _missing(examined, row, example, token)]
    if missing:
        return Finding(
            check="bos",
            # Where BOS is EOS too (GPT-2's family) models are used without it; elsewhere they break.
            status="warn" if token in examined.tokenizer.eos_ids else "fail",
            sentence=f"{len(missing):,} of {rows_text(len(examined.rows))} begin without the model's BOS",
            where=missing[0].origin,
            fix="Use renderer=auto, or a renderer that writes it",
        )
    begins = any(int(example.tokens[0]) == token for _, example in examined.examples())
    sentence = (
        "every row begins with BOS, once" if begins else "the model's own template writes no BOS, nor do the rows"
    )
    return Finding(check="bos", status="pass", sentence=sentence)


def _doubled(examined: Examined, row: SeenRow, bos_id: int) -> bool:
    """Whether BOS stands at the start twice, or further on more often than the model's own template has it there.

    A row that was refused is judged by the template: a renderer may have refused it for this."""
    starts = [example.tokens[:2].tolist() for example in row.examples] or [list(own[:2]) for own in row.own]
    if [bos_id, bos_id] in starts:
        return True
    if not row.own and examined.tokenizer.chat_template is not None:
        return False
    allowed = max((_later(own, bos_id) for own in row.own), default=0)
    return any(_later(example.tokens.tolist(), bos_id) > allowed for example in row.examples)


def _later(tokens: Sequence[int], bos_id: int) -> int:
    return list(tokens[1:]).count(bos_id)


def _missing(examined: Examined, row: SeenRow, example: RenderedExample, bos_id: int) -> bool:
    if int(example.tokens[0]) == bos_id:
        return False
    return examined.tokenizer.chat_template is None or any(own[:1] == (bos_id,) for own in row.own)
