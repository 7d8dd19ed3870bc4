"""Does `parse_response` read back what the last answer of a row trains?"""

import re
import unicodedata

from crucible.train.checks.finding import Finding, rows_text
from crucible.train.checks.seen import Examined, SeenRow
from crucible.train.messages import Message, calls_of, shown, text_of, thinking_of
from crucible.train.renderers import ParsedResponse

_THINKING_TAGS = re.compile(r"</?think(?:ing)?>")


def round_trip(examined: Examined) -> Finding:
    """The trained tokens of the last answer, taken for a sampled response, give the message back.

    White space counts for nothing, nor does it whether reasoning stands apart or in tags: templates trim and re-wrap.
    Nor does the form of a composed character, which some tokenizers normalise.
    """
    tried, wrong = 0, list[tuple[SeenRow, str]]()
    for row in examined.rendered:
        answer = _last_answer(row)
        if answer is None:
            continue
        message, tokens = answer
        parsed = examined.renderer.parse_response(tokens)
        if message.get("tool_calls") and not parsed.message.get("tool_calls"):
            continue  # a template that is not known by name says how calls are written, not how they are read
        tried += 1
        problem = _problem(message, parsed)
        if problem:
            wrong.append((row, problem))
    if not tried:
        return Finding(check="round_trip", status="skipped", sentence="no row ends with a trained answer to read back")
    if not wrong:
        sentence = f"the last answers of {rows_text(tried)} read back as they were"
        return Finding(check="round_trip", status="pass", sentence=sentence)
    row, problem = wrong[0]
    return Finding(
        check="round_trip",
        # One odd answer is the row's fault, all of them the renderer's.
        status="fail" if len(wrong) == tried else "warn",
        sentence=f"{len(wrong):,} of {rows_text(tried)} read back otherwise than they were written: {problem}",
        where=row.origin,
        fix="Take turn marks and tags out of those answers; if every row is named, use renderer=auto",
    )


def _last_answer(row: SeenRow) -> tuple[Message, list[int]] | None:
    """The last message and its trained tokens, if it is the assistant's."""
    last = len(row.messages) - 1
    if row.messages[last]["role"] != "assistant":
        return None
    span = row.examples[-1].spans[-1]
    tokens: list[int] = row.examples[-1].tokens[span.start : span.end].tolist()
    return (row.messages[last], tokens) if span.message == last else None


def _problem(message: Message, parsed: ParsedResponse) -> str:
    if parsed.ended == "malformed":
        return "the answer is malformed as a response"
    if _said(parsed.message) != _said(message):
        return f"it reads {shown(text_of(parsed.message))}"
    wrote, read = calls_of(message), calls_of(parsed.message)
    if [(call.name, call.object) for call in wrote] != [(call.name, call.object) for call in read]:
        return f"it calls {', '.join(call.name for call in read) or 'no tool'}"
    return ""


def _said(message: Message) -> str:
    said = "".join(_THINKING_TAGS.sub("", thinking_of(message) + text_of(message)).split())
    return unicodedata.normalize("NFC", said)
