"""What is written to the store comes back, from either database."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, update

from crucible.errors import ConfigError
from crucible.store.address import folder_key, store_url
from crucible.store.database import Database
from crucible.store.failure import StoreError
from crucible.store.index import RunIndex
from crucible.store.records import (
    ArtifactRecord,
    CheckpointRecord,
    Edge,
    ExperimentRecord,
    MetricLine,
    RunContents,
    RunRecord,
    StageRecord,
)
from crucible.store.tables import METADATA, SCHEMA, SCHEMA_VERSION


def run(name: str = "a", **fields: object) -> RunContents:
    metrics = fields.pop("metrics", ())
    known = {"state": "completed", "recipe": "sl_basic", "config": {}, "results": {}, **fields}
    return RunContents(run=RunRecord(name=name, **known), metrics=metrics)


def edge(source: str, relation: str, target: str) -> Edge:
    return Edge(source_kind="run", source=source, relation=relation, target_kind="checkpoint", target=target)


FULL = RunContents(
    run=RunRecord(
        name="a",
        state="failed",
        recipe="sl_basic",
        experiment="f00",
        config={"seed": {"value": None, "origin": "default"}, "é\0\ud800": {"value": [1, {"x": "\0"}], "origin": "é"}},
        results={"eval_nll_after": 6.7, "rows": {"train": 38}},
        started_at=1795314072.076,
        seconds=4.9,
        step=2,
        total_steps=2**62,
        loss=6.72,
        tokens=188,
        error="ValueError: é",
        fingerprint="abc",
    ),
    experiment=ExperimentRecord(digest="f00", recipe="sl_basic", workflow="supervised", description="d"),
    stages=(
        StageRecord(path="supervised > load", position=0, started=1, finished=1, failed=0, seconds=1e-3, longest=1e-3),
    ),
    checkpoints=(CheckpointRecord(line=0, name="final", step=2, final=True, record={"state_path": "checkpoints/x"}),),
    metrics=(
        MetricLine(line=0, step=0, values={"eval/nll": 6.75}),
        MetricLine(line=1, step=1, values={"loss": math.inf, "grad": -math.inf, "lr": 5e-324}),
    ),
    artifacts=(ArtifactRecord(name="B", path="b"), ArtifactRecord(name="a", path="x/checkpoints/final")),
    edges=(edge("a", "loads", "b/final"),),
)


@pytest.fixture
def index(url: str) -> Iterator[RunIndex]:
    with RunIndex(Database(url), folder=".") as opened:
        yield opened


def test_a_run_comes_back_as_it_was_written(index: RunIndex) -> None:
    index.write(FULL, whole=True)
    assert index.contents("a") == FULL and index.runs() == [FULL.run]


def test_writing_the_same_thing_again_changes_nothing(index: RunIndex) -> None:
    for whole in (True, False, True, False):
        index.write(FULL, whole=whole)
    assert index.contents("a") == FULL and index.count_metrics("a") == 4


def test_nan_is_kept_as_a_metric_and_as_a_loss_and_differs_from_none(index: RunIndex) -> None:
    index.write(run(loss=math.nan, metrics=(MetricLine(line=0, step=1, values={"loss": math.nan}),)), whole=True)
    index.write(run("b", loss=None), whole=True)
    (nan, none) = (found.loss for found in index.runs())
    assert nan is not None and math.isnan(nan) and none is None
    ((step, value),) = index.curve("a", "loss")
    assert step == 1 and math.isnan(value)


def test_a_whole_writing_replaces_and_another_adds(index: RunIndex) -> None:
    first, second = (MetricLine(line=n, step=n, values={"loss": float(n)}) for n in (0, 1))
    index.write(run(metrics=(first,)), whole=True)
    index.write(run(metrics=(second,)), whole=False)
    assert index.curve("a", "loss") == [(0, 0.0), (1, 1.0)]
    index.write(run(metrics=(second,)), whole=True)
    assert index.curve("a", "loss") == [(1, 1.0)]


def test_a_batch_that_fails_leaves_nothing_of_itself(index: RunIndex) -> None:
    index.write(run(metrics=(MetricLine(line=0, step=0, values={"loss": 0.0}),)), whole=True)
    broken = MetricLine(line=2, step=0, values={"loss": "no number"})
    with pytest.raises((StoreError, TypeError)):
        index.append_metrics("a", [MetricLine(line=1, step=1, values={"loss": 1.0}), broken])
    assert index.curve("a", "loss") == [(0, 0.0)]


def test_metrics_of_a_run_that_is_not_there_are_refused(index: RunIndex) -> None:
    with pytest.raises(StoreError, match="no such run"):
        index.append_metrics("ghost", [MetricLine(line=0, step=0, values={"loss": 0.0})])


def test_runs_are_listed_newest_first_and_by_state_and_recipe(index: RunIndex) -> None:
    for name, started, state, recipe in (
        ("old", 1.0, "completed", "sl_basic"),
        ("new", 2.0, "killed", "sl_basic"),
        ("other", 3.0, "killed", "chat_sl"),
        ("unknown", None, "killed", "x"),
    ):
        index.write(run(name, started_at=started, state=state, recipe=recipe), whole=True)
    assert [found.name for found in index.runs()] == ["other", "new", "old", "unknown"]
    assert [found.name for found in index.runs(state="killed", recipe="sl_basic")] == ["new"]
    assert [found.name for found in index.runs(limit=1)] == ["other"]


def test_a_forgotten_run_leaves_nothing_and_its_neighbour_everything(index: RunIndex) -> None:
    index.write(FULL, whole=True)
    index.write(run("b", metrics=(MetricLine(line=0, step=0, values={"loss": 1.0}),)), whole=True)
    index.forget(["a", "never was"])
    assert index.contents("a") is None and index.count_metrics("a") == 0 and index.count_metrics("b") == 1


def test_folders_share_a_database_and_not_their_runs(url: str) -> None:
    for folder, loss in (("host:/x", 1.0), ("host:/y", 2.0)):
        with RunIndex(Database(url), folder=folder) as index:
            index.write(run(loss=loss), whole=True)
    with RunIndex(Database(url), folder="host:/x") as index:
        assert [found.loss for found in index.runs()] == [1.0]
        index.forget(["a"])
    with RunIndex(Database(url), folder="host:/y") as index:
        assert [found.loss for found in index.runs()] == [2.0]


def test_what_loads_a_runs_checkpoints_is_found(index: RunIndex) -> None:
    for name, target in (("b", "a/weights/final"), ("c", "a%/weights"), ("d", "ab/weights/final")):
        index.write(RunContents(run=run(name).run, edges=(edge(name, "loads", target),)), whole=True)
    assert index.edges_into("a") == [edge("b", "loads", "a/weights/final")]


def test_known_runs_have_the_fingerprint_they_were_written_with(index: RunIndex) -> None:
    index.write(run(fingerprint="abc", state="running"), whole=True)
    (fingerprint, state, at) = index.known()["a"]
    assert (fingerprint, state) == ("abc", "running") and at > 1e9


def test_a_newer_schema_is_refused_in_one_sentence(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(update(SCHEMA).values(version=SCHEMA_VERSION + 1))
    database.close()
    with pytest.raises(StoreError, match="newer version"):
        Database(url)


def test_an_older_schema_is_emptied(url: str) -> None:
    with RunIndex(Database(url), folder=".") as index:
        index.write(FULL, whole=True)
    database = Database(url)
    with database.write() as connection:
        connection.execute(update(SCHEMA).values(version=0))
    database.close()
    with RunIndex(Database(url), folder=".") as index:
        assert index.runs() == []


def test_the_tables_of_another_program_are_neither_used_nor_dropped(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE runs (run_uuid VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO runs VALUES ('kept')")
    with pytest.raises(StoreError, match="tables of another program: runs"):
        Database(url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT run_uuid FROM runs").scalar() == "kept"
    engine.dispose()


def test_a_file_that_is_no_database_is_damage_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="crucible runs reindex") as caught:
        Database(f"sqlite:///{tmp_path / 'runs.db'}")
    assert caught.value.damaged


def test_a_password_is_in_no_repr_and_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://me@127.0.0.1:1/x?password=hunter2",
        "postgres://me:hunter2@127.0.0.1:1/x",
        "postgresql+nonsense://me:hunter2@127.0.0.1:1/x",
        "postgresql://me:hunter2@127.0.0.1:port/x",
    ):
        with pytest.raises((StoreError, ConfigError)) as caught:
            Database(url, patience=1)
        assert "hunter2" not in repr(caught.value) and "hunter2" not in str(caught.value)
    monkeypatch.setenv("CRUCIBLE_STORE_URL", "mysql://me:hunter2@host/x")
    with pytest.raises(ConfigError, match="neither SQLite nor PostgreSQL") as refused:
        store_url(Path("runs"))
    assert "hunter2" not in str(refused.value)


def test_an_open_store_shows_no_password(url: str) -> None:
    index = RunIndex(Database(url), folder=".")
    index.close()
    assert url.partition(":")[0] in repr(index) and len(METADATA.tables) == 8


def test_the_argument_wins_over_the_variable_and_that_over_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"sqlite:///{tmp_path / 'runs.db'}"
    assert store_url(tmp_path) == own and folder_key(tmp_path, own) == "."
    monkeypatch.setenv("CRUCIBLE_STORE_URL", "postgresql://host/x")
    assert store_url(tmp_path) == "postgresql://host/x"
    assert store_url(tmp_path, "none") == "sqlite://"
    assert str(tmp_path) in folder_key(tmp_path, "postgresql://host/x")
