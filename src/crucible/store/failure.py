"""What went wrong with the store?"""

from typing import Self

from crucible.errors import UserError


class StoreError(UserError):
    """The store cannot be opened, read or written. damaged: its file is no database any more."""

    damaged: bool = False

    @classmethod
    def of_damage(cls, what: str, *, where: str) -> Self:
        """The error for a database file that has to be made again."""
        error = cls.of(what, where=where, fix="Make it again from the run folders: crucible runs reindex")
        error.damaged = True
        return error
