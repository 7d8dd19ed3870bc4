"""Does a server's database keep what clients made, and keep it from everybody else?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, insert, inspect, select, text

from crucible.errors import CheckpointError, ConfigError
from crucible.store.database import Database
from crucible.store.failure import StoreError
from crucible.store.holding import held
from crucible.store.schema import Schema
from crucible.store.server_records import CheckpointRecord, RunRecord, SamplerRecord, SessionRecord
from crucible.store.server_search import SessionSearch, search_sessions
from crucible.store.server_store import ServerStore
from crucible.store.server_tables import SERVER
from crucible.store.tables import RUN_INDEX

ALICE, BOB = "alice", "bob"
LORA = {"rank": 4, "alpha": 32.0, "seed": 0, "train_attn": True, "train_mlp": True, "train_unembed": False}
SESSION = SessionRecord(session_id="s", owner=ALICE, created_at=10.5, tags=("a", "b"), user_metadata={"k": "v"})
RUN = RunRecord(
    run_id="s:train:0",
    owner=ALICE,
    session_id="s",
    base_model="org/tiny",
    reference="/tiny",
    lora=LORA,
    created_at=11.0,
    last_request_at=12.0,
)
SAVED = CheckpointRecord(
    run_id="s:train:0",
    kind="weights",
    name="final",
    owner=ALICE,
    engine_path="weights/00",
    digest="d",
    policy_version=3,
    size_bytes=100,
    created_at=13.0,
    optimizer=True,
    user_metadata={"policy": 3},
)


class Clock:
    """Seconds since 1970, as a test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[ServerStore]:
    with ServerStore(Database(url, schema=SERVER), clock=clock) as opened:
        opened.add_session(SESSION)
        opened.add_run(RUN)
        yield opened


def test_what_was_written_is_read_by_another_server_on_the_same_database(store: ServerStore, url: str) -> None:
    sampler = SamplerRecord(
        sampler_id="s:sample:0", owner=ALICE, session_id="s", base_model="m", model_path=None, created_at=1.0
    )
    store.add_sampler(sampler)
    store.add_checkpoint(SAVED)
    with ServerStore(Database(url, schema=SERVER)) as again:
        assert again.session("s", owner=ALICE) == SESSION
        assert again.run("s:train:0", owner=ALICE) == RUN
        assert again.samplers_of_session("s", owner=ALICE) == (sampler,)
        assert again.checkpoint("s:train:0", "weights", "final", owner=ALICE) == SAVED


def test_another_owners_things_are_answered_as_those_that_do_not_exist(store: ServerStore) -> None:
    store.add_checkpoint(SAVED)
    assert store.session("s", owner=BOB) is None
    assert store.run("s:train:0", owner=BOB) is None
    assert store.checkpoint("s:train:0", "weights", "final", owner=BOB) is None
    assert store.checkpoints_of_runs(["s:train:0"], owner=BOB) == {"s:train:0": []}
    assert store.runs_of_session("s", owner=BOB) == ()
    assert [store.sessions(owner=BOB, limit=9).total, store.runs(owner=BOB, limit=9).total] == [0, 0]
    assert not store.assign_project("s", "p", owner=BOB)


def test_a_public_checkpoint_is_read_by_everybody_and_listed_by_its_owner_alone(store: ServerStore) -> None:
    store.add_checkpoint(SAVED)
    store.set_public(SAVED, public=True)
    seen = store.checkpoint("s:train:0", "weights", "final", owner=BOB)
    assert seen == replace(SAVED, public=True)
    assert store.run_of(seen) == RUN
    assert store.checkpoints(owner=BOB, limit=9).total == 0


def test_an_expired_checkpoint_does_not_exist_and_gives_up_its_name(store: ServerStore, clock: Clock) -> None:
    store.add_checkpoint(replace(SAVED, expires_at=101.0))
    assert store.checkpoint("s:train:0", "weights", "final", owner=ALICE) is not None
    clock.now = 101.0
    assert store.checkpoint("s:train:0", "weights", "final", owner=ALICE) is None
    assert store.checkpoints(owner=ALICE, limit=9).items == ()
    assert [record.name for record in store.expired()] == ["final"]
    replaced = store.add_checkpoint(replace(SAVED, engine_path="weights/01"))
    assert replaced is not None
    assert replaced.engine_path == "weights/00"
    assert store.expired() == ()


def test_a_name_that_is_taken_is_refused_unless_it_is_to_be_overwritten(store: ServerStore) -> None:
    store.add_checkpoint(SAVED)
    other = replace(SAVED, engine_path="weights/01")
    with pytest.raises(CheckpointError, match="a checkpoint of this name exists"):
        store.add_checkpoint(other)
    assert store.add_checkpoint(other, overwrite=True) == SAVED
    assert store.engine_paths() == {"weights/01"}


def test_a_checkpoint_that_was_replaced_is_not_deleted_by_who_still_holds_the_old_record(store: ServerStore) -> None:
    store.add_checkpoint(SAVED)
    store.add_checkpoint(replace(SAVED, engine_path="weights/01"), overwrite=True)
    assert not store.delete_checkpoint(SAVED)
    assert store.is_used("weights/01")


def test_pages_come_newest_first_with_the_number_of_all(store: ServerStore) -> None:
    for number in range(5):
        store.add_checkpoint(replace(SAVED, name=f"step{number}", created_at=20.0 + number))
    page = store.checkpoints(owner=ALICE, limit=2, offset=1)
    assert ([record.name for record in page.items], page.total) == (["step3", "step2"], 5)


def test_a_session_that_was_open_is_lost_when_the_server_starts_again(store: ServerStore, clock: Clock) -> None:
    store.add_session(replace(SESSION, session_id="done"))
    store.end_session("done", reason="success")
    clock.now = 200.0
    assert store.end_open_sessions(reason="lost", detail="the server was started again") == 1
    lost, done = (store.session(name, owner=ALICE) for name in ("s", "done"))
    assert lost is not None
    assert (lost.ended_at, lost.end_reason, lost.end_detail) == (200.0, "lost", "the server was started again")
    assert done is not None
    assert (done.ended_at, done.end_reason) == (100.0, "success")


def test_runs_are_listed_by_their_last_use_and_their_project(store: ServerStore) -> None:
    store.add_run(replace(RUN, run_id="s:train:1", last_request_at=5.0))
    store.touch_runs(["s:train:1"], at=50.0)
    assert [run.run_id for run in store.runs(owner=ALICE, limit=9).items] == ["s:train:1", "s:train:0"]
    assert store.assign_project("s", "p", owner=ALICE)
    assert store.runs(owner=ALICE, limit=9, project_id="p").total == 2
    assert store.runs(owner=ALICE, limit=9, project_id="q").total == 0


def test_storage_is_counted_by_project(store: ServerStore) -> None:
    store.add_checkpoint(SAVED)
    store.add_checkpoint(replace(SAVED, name="other", size_bytes=50))
    assert store.storage(owner=ALICE) == [(None, 2, 150)]
    assert store.storage(owner=BOB) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (SessionSearch(), ["s2", "s1", "s0"]),
        (SessionSearch(display_name="NIGHT one"), ["s1"]),
        (SessionSearch(session_id="s0", display_name="night"), ["s2", "s1", "s0"]),
        (SessionSearch(session_id="s2"), ["s2"]),
        (SessionSearch(user_metadata={"n": "1"}), ["s1"]),
        (SessionSearch(active=True, finished=()), ["s2"]),
        (SessionSearch(active=False, finished=("errored",)), ["s1"]),
        (SessionSearch(active=True, finished=("success",)), ["s2", "s0"]),
        (SessionSearch(project_ids=("p",)), ["s0"]),
        (SessionSearch(after=(21.0, "s1")), ["s0"]),
    ],
)
def test_sessions_are_searched(url: str, search: SessionSearch, found: list[str]) -> None:
    with ServerStore(Database(url, schema=SERVER)) as store:
        for number, name in enumerate(["Night zero", "night ONE", "day and night"]):
            session = replace(SESSION, session_id=f"s{number}", created_at=20.0 + number, display_name=name)
            store.add_session(replace(session, user_metadata={"n": str(number)}))
        store.end_session("s0", reason="success")
        store.end_session("s1", reason="errored")
        store.assign_project("s0", "p", owner=ALICE)
        hits = search_sessions(store, search, owner=ALICE, limit=9)
        assert [hit.session.session_id for hit in hits] == found
        assert search_sessions(store, search, owner=BOB, limit=9) == []


def test_a_secret_is_shown_once_and_only_its_hash_is_kept(url: str) -> None:
    with ServerStore(Database(url, schema=SERVER)) as store:
        record, secret = store.keys.create("alice")
        assert secret.startswith(f"tml-{record.key_id}-")
        assert store.keys.owner_of(secret) == record.key_id
        assert store.keys.owner_of(secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None
        with store.database.read() as connection:
            kept = str(connection.execute(text("SELECT * FROM server_keys")).all())
    assert secret not in kept
    assert secret.rpartition("-")[2] not in kept


@pytest.mark.parametrize("secret", ["", "tml-", "tml-local", f"tml-{'0' * 16}-{'x' * 43}", "tml-" + "\ud800" * 60])
def test_what_is_no_secret_of_ours_is_nobodys(url: str, secret: str) -> None:
    with ServerStore(Database(url, schema=SERVER)) as store:
        store.keys.create("alice")
        assert store.keys.owner_of(secret) is None


def test_a_revoked_key_is_refused_and_its_name_is_not_given_again(url: str) -> None:
    with ServerStore(Database(url, schema=SERVER)) as store:
        _, secret = store.keys.create("alice")
        assert store.keys.revoke("alice").revoked_at is not None
        assert store.keys.owner_of(secret) is None
        assert not store.keys.any_in_force()
        for name, wrong in [
            ("alice", "there is a key of this name"),
            ("../x", "a key's name is"),
            ("", "a key's name"),
        ]:
            with pytest.raises(ConfigError, match=wrong):
                store.keys.create(name)


def test_a_renewed_key_owns_what_it_owned_and_its_old_secret_is_refused(url: str) -> None:
    with ServerStore(Database(url, schema=SERVER)) as store:
        record, old = store.keys.create("alice")
        again, new = store.keys.renew("alice")
        assert again == record
        assert (store.keys.owner_of(old), store.keys.owner_of(new)) == (None, record.key_id)


def _schema(version: int, **options: Any) -> tuple[Schema, Table]:
    metadata = MetaData()
    versions = Table("own_schema", metadata, Column("version", Integer, primary_key=True))
    rows = Table("own_rows", metadata, Column("id", Integer, primary_key=True))
    return Schema(metadata=metadata, version_table=versions, version=version, refillable=False, **options), rows


def test_data_of_an_older_version_are_migrated_and_never_dropped(url: str) -> None:
    first, rows = _schema(1)
    database = Database(url, schema=first)
    with database.write() as connection:
        connection.execute(insert(rows).values(id=7))
    database.close()
    steps = {1: lambda connection: connection.exec_driver_sql("ALTER TABLE own_rows ADD COLUMN said TEXT")}
    second, _ = _schema(2, migrations=steps)
    database = Database(url, schema=second)
    with database.read() as connection:
        assert connection.execute(text("SELECT id, said FROM own_rows")).all() == [(7, None)]
    database.close()
    with pytest.raises(StoreError, match="written by a newer version"):
        Database(url, schema=first)


def test_data_that_no_migration_reaches_are_refused_and_left_as_they_are(url: str) -> None:
    first, rows = _schema(1)
    database = Database(url, schema=first)
    with database.write() as connection:
        connection.execute(insert(rows).values(id=7))
    database.close()
    third, _ = _schema(3, migrations={2: print})
    with pytest.raises(StoreError, match="written by an older version of crucible: its schema is 1, ours is 3"):
        Database(url, schema=third)
    database = Database(url, schema=first)
    with database.read() as connection:
        assert connection.execute(select(rows.c.id)).scalar() == 7
    database.close()


def test_a_database_is_held_by_one_at_a_time(url: str) -> None:
    first, second = Database(url, schema=SERVER), Database(url, schema=SERVER)
    with held(first, number=7, by="a server"):
        with pytest.raises(StoreError, match="a server uses this"), held(second, number=7, by="a server"):
            pass
        with second.read() as connection:
            assert connection.execute(select(SERVER.version_table)).all() == [(1,)]
    with held(second, number=7, by="a server"):
        pass
    first.close()
    second.close()


def test_a_servers_tables_and_an_index_of_runs_share_a_database(url: str) -> None:
    Database(url, schema=SERVER).close()
    Database(url, schema=RUN_INDEX).close()
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    assert {*SERVER.metadata.tables, *RUN_INDEX.metadata.tables} <= names


def test_another_programs_tables_are_not_taken_for_ours(url: str) -> None:
    engine = create_engine(url)
    metadata = MetaData()
    Table("server_runs", metadata, Column("x", Text))
    metadata.create_all(engine)
    engine.dispose()
    with pytest.raises(StoreError, match="tables of another program: server_runs"):
        Database(url, schema=SERVER)
