"""How does a conversation become tokens while it is written down, and where does each message's part begin and end?"""

from collections.abc import Callable, Sequence

from crucible.train.renderers.renderer import Span


class Page:
    """A conversation in the making: control tokens by id, and text between them.

    Text that is written piece by piece is tokenised as one text up to the next control token or border, as the
    model's own template and tokenizer do with the whole. A border is set where sampling takes over from the prompt,
    so that prompt and answer are tokenised apart in training as they are in sampling.

    trained: messages whose content gets borders of its own although it is never sampled.
    """

    def __init__(self, trained: frozenset[int] = frozenset()) -> None:
        self.rewritten: set[int] = set()
        self._trained = trained
        self._items: list[int | str] = []
        self._joins = False
        self._open: tuple[int, int] | None = None
        self._spans: list[tuple[int, int, int]] = []

    def token(self, token: int) -> None:
        """Write a control token."""
        self._items.append(token)
        self._joins = False

    def text(self, text: str) -> None:
        """Write text. A special token's text in it stays text."""
        if not text:
            return
        if self._joins:
            self._items[-1] += text  # pyright: ignore[reportOperatorIssue, reportArgumentType]  (it is text if it joins)
        else:
            self._items.append(text)
            self._joins = True

    def begin(self, message: int) -> None:
        """From here on the message's own part is written: for an answer, what the model must generate."""
        assert self._open is None, "one message at a time"
        self._open = (message, len(self._items))
        self._joins = False

    def end(self) -> None:
        """The message's own part is written, its end of turn included."""
        assert self._open is not None, "a message was begun"
        message, start = self._open
        self._spans.append((message, start, len(self._items)))
        self._open, self._joins = None, False

    def said(self, message: int, text: str, *, stop: int | None = None) -> None:
        """Write the content of a message that is never sampled, and the control token that closes it, if one does."""
        if message in self._trained:
            self.begin(message)
        self.text(text)
        if stop is not None:
            self.token(stop)
        if message in self._trained:
            self.end()

    def history(self, message: int) -> None:
        """This answer is written otherwise than the model would have to generate it."""
        self.rewritten.add(message)

    def tokens(self, encode: Callable[[Sequence[str]], list[list[int]]]) -> tuple[list[int], list[Span]]:
        """The tokens of all that was written, and the part of each message that was begun, ascending."""
        encoded = iter(encode([item for item in self._items if isinstance(item, str)]))
        ids: list[int] = []
        places = [0]
        for item in self._items:
            if isinstance(item, int):
                ids.append(item)
            else:
                ids += next(encoded)
            places.append(len(ids))
        return ids, [Span(message=i, start=places[start], end=places[end]) for i, start, end in self._spans]
