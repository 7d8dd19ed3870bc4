"""What can be said of an answer while it is drawn? What nothing that is drawn next can take back.

Text that may be the beginning of something else is held back until it is known: of a stop string, of a tool call, of a
tag, of a character whose bytes are not all there; and white space, which may be the end.
"""

from collections.abc import Sequence

from crucible.train.messages import calls_of, text_of, thinking_of
from crucible.train.renderers.renderer import Renderer

_MARKS = ("<tool_call>", "<think>", "</think>", "<function=", "<|", "<\uff5c", "[TOOL_CALLS]")
"""What a convention's markup begins with: from there on a text may turn out to be none."""


def certain_text(text: str, stops: Sequence[str] = ()) -> str:
    """The beginning of a text to which more may come, as far as it will stay.

    stops: what ends the text, and is not in it.
    """
    for mark in stops:
        found = text.find(mark)
        text = text[:found] if found >= 0 else text[: len(text) - _begun(text, mark)]
    return text.rstrip("\ufffd").rstrip()


def certain_message(renderer: Renderer, tokens: Sequence[int], stops: Sequence[str] = ()) -> tuple[str, str]:
    """Of a message that is being drawn: (reasoning, content), as far as nothing that comes can change them.

    Reasoning that is never closed is content in the end. stops: what ends the content beside the renderer's own.
    """
    parsed = renderer.parse_response(tokens)
    if parsed.ended == "malformed" or calls_of(parsed.message):
        return "", ""
    reasoning, content = certain_text(thinking_of(parsed.message), _MARKS), text_of(parsed.message)
    drawn = [token for token in tokens if 0 <= token < renderer.tokenizer.vocab_size]
    if renderer.reasoning_end and renderer.reasoning_end not in renderer.tokenizer.decode(drawn):
        return reasoning, ""
    if content.lstrip().startswith("{"):  # a call in bare JSON
        return reasoning, ""
    own = [end for end in renderer.stop_sequences if isinstance(end, str)]
    return reasoning, certain_text(content, [*stops, *own, *_MARKS])


def _begun(text: str, mark: str) -> int:
    """Characters at the text's end that are how the mark begins."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
