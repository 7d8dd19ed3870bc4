"""What is a schema to a database: which tables, of which version, and what becomes of an older one?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlalchemy import Connection, MetaData
from sqlalchemy.sql.schema import Table

Migration: TypeAlias = Callable[[Connection], None]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Tables that belong together and change together.

    version_table: the table of one row that holds the version; one of `metadata`'s.
    refillable: what is in the tables can be made again from elsewhere, so tables of an older version are dropped.
        Otherwise nothing is ever dropped, and a commit is on the disk before it is acknowledged.
    migrations: from version n, the step that makes n + 1 of it; an older version without one is refused.
    """

    metadata: MetaData
    version_table: Table
    version: int
    refillable: bool
    migrations: Mapping[int, Migration] = field(default_factory=dict[int, Migration])
