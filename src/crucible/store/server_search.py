"""Which of an owner's sessions match a search?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, or_, select, tuple_

from crucible.store.server_records import EndReason, SessionRecord
from crucible.store.server_store import ServerStore, session_record
from crucible.store.server_tables import CHECKPOINTS, RUNS, SESSIONS

FINISHED: tuple[EndReason, ...] = ("success", "errored", "interrupted")
"""The reasons by which a client ends a session."""


@dataclass(frozen=True, kw_only=True)
class SessionSearch:
    """What a session must be. An empty field asks for nothing.

    session_id or display_name: either is enough. display_name: words, each of which is somewhere in the name,
    whatever their case. user_metadata: pairs that all hold. active, finished: open, or ended by its client for one
    of these reasons; a session that is neither is found if both are left open. after: the last one of the page
    before, by (created_at, session_id).
    """

    session_id: str | None = None
    display_name: str | None = None
    project_ids: tuple[str, ...] | None = None
    user_metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    active: bool | None = None
    finished: tuple[str, ...] | None = None
    after: tuple[float, str] | None = None


@dataclass(frozen=True, kw_only=True)
class FoundSession:
    """A session, and how many checkpoints of how many bytes its runs have."""

    session: SessionRecord
    checkpoints: int
    size_bytes: int


def search_sessions(store: ServerStore, search: SessionSearch, *, owner: str, limit: int) -> list[FoundSession]:
    """The sessions that match, the newest first, `limit` of them at most.

    Raises:
        StoreError: if the database fails.
    """
    newest = (SESSIONS.c.created_at.desc(), SESSIONS.c.session_id.desc())
    wanted = select(SESSIONS).where(SESSIONS.c.owner == owner, *_conditions(search)).order_by(*newest)
    found: list[SessionRecord] = []
    with store.database.read() as connection:
        for row in connection.execute(wanted):
            session = session_record(row)
            if _named(session, search) and _labelled(session, search):
                found.append(session)
                if len(found) == limit:
                    break
        ids = [session.session_id for session in found]
        sizes = (
            select(RUNS.c.session_id, func.count(), func.sum(CHECKPOINTS.c.size_bytes))
            .join(CHECKPOINTS, CHECKPOINTS.c.run_id == RUNS.c.run_id)
            .where(RUNS.c.session_id.in_(ids))
            .group_by(RUNS.c.session_id)
        )
        counted = {session_id: (count, int(size)) for session_id, count, size in connection.execute(sizes)}
    return [_with_sizes(session, counted.get(session.session_id, (0, 0))) for session in found]


def _with_sizes(session: SessionRecord, counted: tuple[int, int]) -> FoundSession:
    return FoundSession(session=session, checkpoints=counted[0], size_bytes=counted[1])


def _conditions(search: SessionSearch) -> Iterator[ColumnElement[bool]]:
    if search.project_ids is not None:
        yield SESSIONS.c.project_id.in_(search.project_ids)
    if search.session_id is not None and search.display_name is None:
        yield SESSIONS.c.session_id == search.session_id
    if search.active is not None or search.finished is not None:
        ended = SESSIONS.c.end_reason.in_(search.finished if search.finished is not None else ())
        yield or_(SESSIONS.c.ended_at.is_(None), ended) if search.active else ended
    if search.after is not None:
        yield tuple_(SESSIONS.c.created_at, SESSIONS.c.session_id) < tuple_(*search.after)


def _named(session: SessionRecord, search: SessionSearch) -> bool:
    """Here and not in SQL: databases do not agree on the case of letters."""
    if search.display_name is None:
        return True
    if search.session_id == session.session_id:
        return True
    name = (session.display_name or "").casefold()
    return all(word in name for word in search.display_name.casefold().split())


def _labelled(session: SessionRecord, search: SessionSearch) -> bool:
    return all(session.user_metadata.get(key) == value for key, value in search.user_metadata.items())
