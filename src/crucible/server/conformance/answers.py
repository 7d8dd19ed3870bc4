"""What can a server answer to the suite, other than a result?"""


class Refused(Exception):
    """The server said no, in words: a 4xx, or a future that failed.

    status: of the HTTP reply (200 for a failed future). category: of a failed future: user, server or unknown.
    """

    def __init__(self, words: str, *, status: int, category: str = "") -> None:
        super().__init__(words)
        self.words, self.status, self.category = words, status, category


class Broken(Exception):
    """The server answered what the protocol does not know: a 5xx, a malformed reply, or nothing in time."""


class Mismatch(Exception):
    """The server answered, and it is wrong."""

    def __init__(self, what: str, *, expected: str, got: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
        self.what, self.expected, self.got = what, expected, got


class Unreachable(Exception):
    """There is no such server at the URL, or it takes no such key."""
