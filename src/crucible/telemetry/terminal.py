"""How does text reach a person's terminal as it is?"""

import os
from contextlib import suppress

from rich.console import Console


class Terminal(Console):
    """A rich console that prints what it is given: `[x]` and `:100:` are text, not markup and a picture.

    When nobody reads any more (`crucible ... | head`), it falls silent; the run goes on.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # a stream without a descriptor has nothing left to flush at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
