"""How does each token of a sequence read? As its part of the text, special tokens by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crucible.ports.tokenizer import Tokenizer

_HALF = "\ufffd"  # how a tokenizer shows bytes that are no whole character
_LONGEST = 8  # tokens that one character may take; after so many, broken text is shown as such


@dataclass(frozen=True)
class TokenText:
    """One token as it reads. text: its part of the sequence's text, a special token's name; of the tokens that make
    up one character, the first has it and the others have none. special: it is a control token, or no token at all."""

    text: str
    special: bool = False


@dataclass
class TokenReader:
    """Reads sequences of one tokenizer's tokens; without a tokenizer, tokens read as their ids."""

    tokenizer: Tokenizer | None
    _names: Mapping[int, str] = field(init=False)
    _seen: dict[tuple[int | None, int], str] = field(init=False, default_factory=dict[tuple[int | None, int], str])

    def __post_init__(self) -> None:
        tokenizer = self.tokenizer
        self._names = {token: text for text, token in tokenizer.special_tokens.items()} if tokenizer else {}

    def read(self, ids: Sequence[int]) -> list[TokenText]:
        """One for each id; joined, those that are not special are the text between the special tokens."""
        texts: list[TokenText] = []
        before: int | None = None
        pending: list[int] = []
        for token in ids:
            if not self._is_text(token):
                texts += self._broken(before, pending)
                texts.append(TokenText(self._name(token), special=True))
                before, pending = (token if token in self._names else None), []
                continue
            pending.append(token)
            text = self._text(before, pending)
            if text.endswith(_HALF) and len(pending) < _LONGEST:
                continue
            texts += _spread(text, len(pending))
            before, pending = token, []
        return [*texts, *self._broken(before, pending)]

    def _is_text(self, token: int) -> bool:
        return self.tokenizer is not None and 0 <= token < self.tokenizer.vocab_size and token not in self._names

    def _name(self, token: int) -> str:
        if token < 0:
            return "<|no text|>"
        return self._names.get(token) or f"<|{token}|>"

    def _text(self, before: int | None, pending: Sequence[int]) -> str:
        """What the pending tokens add to the text: decoders treat a sequence's first token in a way of its own."""
        if len(pending) > 1:
            return self._added(before, pending)
        key = (before, pending[0])
        if key not in self._seen:
            self._seen[key] = self._added(before, pending)
        return self._seen[key]

    def _added(self, before: int | None, pending: Sequence[int]) -> str:
        assert self.tokenizer is not None, "without a tokenizer there is no text"
        if before is None:
            return self.tokenizer.decode(pending)
        return self.tokenizer.decode([before, *pending])[len(self.tokenizer.decode([before])) :]

    def _broken(self, before: int | None, pending: Sequence[int]) -> list[TokenText]:
        return _spread(self._text(before, pending), len(pending)) if pending else []


def _spread(text: str, tokens: int) -> list[TokenText]:
    return [TokenText(text), *[TokenText("")] * (tokens - 1)]
