"""When is a completion complete?"""

from collections.abc import Sequence
from dataclasses import dataclass

from crucible.ports.sampling_client import SamplingParams
from crucible.ports.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """What ends a completion: any of these tokens, or any of these texts appearing in it."""

    tokens: frozenset[int]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, params: SamplingParams, tokenizer: Tokenizer) -> "StopRule":
        """The rule that `params.stop` states; None stands for the tokenizer's EOS ids.

        Raises:
            ValueError: if it mixes ids and texts, or has an empty text.
        """
        stop = params.stop
        if stop is None:
            return cls(tokens=tokenizer.eos_ids, texts=())
        given = [stop] if isinstance(stop, str) else list(stop)
        texts = tuple(entry for entry in given if isinstance(entry, str))
        tokens = frozenset(entry for entry in given if isinstance(entry, int))
        if texts and tokens:
            raise ValueError(f"stop must be texts or token ids, not both: {given!r}")
        if "" in texts:
            raise ValueError("stop has an empty text, which would stop before the first token")
        return cls(tokens=tokens, texts=texts)


class StopWatch:
    """Follows one completion, token by token.

    A text may span tokens, and a token's text may depend on those before it, so the tail that a stop could still
    begin in is decoded again with each token; what lies before it is not.
    """

    def __init__(self, rule: StopRule, tokenizer: Tokenizer) -> None:
        self._rule, self._tokenizer = rule, tokenizer
        self._longest = max(map(len, rule.texts), default=0)
        self._tail: list[int] = []

    def complete(self, token: int) -> bool:
        """Take the next token; True if the completion ends with it."""
        if token in self._rule.tokens:
            return True
        if not self._rule.texts:
            return False
        self._tail.append(token)
        text = self._tokenizer.decode(self._tail)
        if any(stop in text for stop in self._rule.texts):
            return True
        while self._readable(self._tail[1:]) >= self._longest:
            del self._tail[0]
        return False

    def _readable(self, tokens: Sequence[int]) -> int:
        """Characters of the tokens' text, without those cut off at its ends (they show as U+FFFD)."""
        return len(self._tokenizer.decode(tokens).strip("\ufffd"))
