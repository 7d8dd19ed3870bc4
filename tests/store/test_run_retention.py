"""Checkpoints go when nothing keeps them, and never when a resume, another run or a person may need them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import real_run, save, written_run

import crucible
from crucible.errors import ConfigError
from crucible.framework import RunResult
from crucible.runtime.run_lock import locked
from crucible.runtime.run_reading import FolderReader
from crucible.runtime.run_retention import Policy, RunPlan, apply, plan_all, plan_run
from crucible.runtime.run_store import RunStore

BEST_1 = Policy(keep_best=1)
NOTHING = Policy(keep_best=0)


def planned(run_dir: Path, policy: Policy, *, after: float = 0.0) -> RunPlan:
    contents = FolderReader(run_dir).read(running=False).contents
    return plan_run(run_dir, contents, policy, now=time.time() + after)


def names(plan: RunPlan) -> list[str]:
    return [one.name for one in plan.doomed]


def point(number: int, **slots: str) -> str:
    saved = {name: {"codec": "session", "name": "x", "data": {"path": path}} for name, path in slots.items()}
    return line({"kind": "point", "number": number, "slots": saved})


def line(record: dict[str, Any]) -> str:
    """As the journal writes it."""
    body = json.dumps(record)
    return f'{{"sha256":"{hashlib.sha256(body.encode()).hexdigest()[:16]}","record":{body}}}\n'


def test_the_best_the_final_and_no_other_checkpoint_of_a_completed_run_stay(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=8, status="completed", saves=(2, 4, 6), final=True)
    assert names(planned(run_dir, Policy(keep_best=2))) == ["step-000002", "step-000004"]  # final is the best
    assert names(planned(run_dir, NOTHING)) == ["step-000002", "step-000004", "step-000006"]
    higher = Policy(keep_best=1, higher_is_better=True)
    assert names(planned(run_dir, higher)) == ["step-000004", "step-000006"]


def test_a_checkpoint_whose_metric_is_not_a_number_is_not_among_the_best(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=2, status="completed", saves=(1, 2, 3))
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "eval/nll": "NaN"}\n')
    assert names(planned(run_dir, BEST_1)) == ["step-000001", "step-000003"]


def test_nothing_goes_by_a_metric_that_no_checkpoint_has(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=3, status="completed", saves=(1, 2, 3))
    plan = planned(run_dir, Policy(keep_best=1, metric="eval/accuracy"))
    assert names(plan) == [] and "no checkpoint has the metric eval/accuracy" in plan.note


def test_what_is_younger_than_the_ttl_stays_and_so_it_does_when_the_clock_went_back(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=2, status="completed", saves=(1, 2))
    week = Policy(ttl=7 * 86400)
    assert names(planned(run_dir, week)) == [] == names(planned(run_dir, week, after=-1e6))
    assert names(planned(run_dir, week, after=8 * 86400)) == ["step-000001", "step-000002"]
    both = Policy(keep_best=1, ttl=7 * 86400)
    assert names(planned(run_dir, both, after=8 * 86400)) == ["step-000001"]


def test_only_what_has_outlived_its_own_ttl_is_expired(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=3, status="completed", saves=(1,))
    save(run_dir, 2, ttl_seconds=3600)
    save(run_dir, 3, ttl_seconds=7 * 86400)
    assert names(planned(run_dir, Policy(expired=True))) == []
    assert names(planned(run_dir, Policy(expired=True), after=86400)) == ["step-000002"]


def test_a_running_run_is_not_touched(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "runs" / "a", steps=8, saves=(2, 4, 6, 8))
    with locked(run_dir), RunStore(run_dir.parent) as store:
        assert plan_all(store, NOTHING) == [RunPlan(run_dir=run_dir, note="it is running")]


@pytest.mark.parametrize("status", [None, "failed", "interrupted"])
def test_a_run_that_is_not_complete_keeps_the_newest_and_the_one_before(tmp_path: Path, status: str | None) -> None:
    run_dir = written_run(tmp_path / "a", steps=8, status=status, saves=(2, 4, 6, 8))
    assert names(planned(run_dir, NOTHING)) == ["step-000002", "step-000004"]


def test_what_the_journals_last_points_name_stays_however_old(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=8, saves=(1, 2, 4, 6, 8))
    weights = "checkpoints/weights/step-00000"
    (run_dir / "journal.jsonl").write_text(
        point(0, reference=f"{weights}1", policy=f"{weights}2")
        + point(1, policy=f"{weights}6")
        + point(2, policy=f"{weights}8")
    )
    assert names(planned(run_dir, NOTHING)) == ["step-000002", "step-000004"]
    with (run_dir / "journal.jsonl").open("a") as file:  # continued from point 0: its checkpoint counts again
        file.write(line({"kind": "resume", "from": 0}))
    assert names(planned(run_dir, NOTHING)) == ["step-000004"]


def test_nothing_goes_from_a_run_whose_records_are_damaged(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=8, saves=(2, 4, 6, 8))
    (run_dir / "journal.jsonl").write_text('{"oops\n')
    assert "journal" in planned(run_dir, NOTHING).note
    with (run_dir / "checkpoints.jsonl").open("a") as file:
        file.write("{oops\n")
    assert "checkpoints.jsonl is damaged" in planned(run_dir, NOTHING).note


def test_what_another_run_starts_from_stays(tmp_path: Path) -> None:
    written_run(tmp_path / "runs" / "a", steps=6, status="completed", saves=(2, 4, 6))
    other = written_run(tmp_path / "runs" / "b")
    pipeline = [{"options": {"path": "runs/a/checkpoints/weights/step-000002"}}]
    (other / "experiment.json").write_text(json.dumps({"id": "x", "pipeline": pipeline}))
    with RunStore(tmp_path / "runs") as store:
        plan, _ = plan_all(store, NOTHING)
    assert names(plan) == ["step-000004", "step-000006"]


def test_deleting_frees_what_was_said_records_it_and_leaves_the_lines(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=8, status="completed", saves=(2, 4, 6), final=True)
    lines = (run_dir / "checkpoints.jsonl").read_text()
    plan = planned(run_dir, Policy(keep_best=2))
    assert plan.size == 2000 == apply(plan)
    left = sorted(path.name for path in (run_dir / "checkpoints" / "weights").iterdir())
    assert left == ["final", "step-000006"] and (run_dir / "checkpoints.jsonl").read_text() == lines
    records = [json.loads(line) for line in (run_dir / "retention.jsonl").read_text().splitlines()]
    assert [(one["name"], one["bytes"], one["paths"]) for one in records] == [
        (f"step-{step:06d}", 1000, [f"checkpoints/weights/step-{step:06d}"]) for step in (2, 4)
    ]
    deleted = [bool(one.deleted_at) for one in FolderReader(run_dir).read(running=False).contents.checkpoints]
    assert deleted == [True, True, False, False] and planned(run_dir, Policy(keep_best=2)).doomed == ()


def test_a_deletion_that_a_kill_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=2, status="completed", saves=(1, 2))
    weights = run_dir / "checkpoints" / "weights"
    (weights / "step-000001").rename(weights / ".deleting-step-000001")
    apply(planned(run_dir, BEST_1))
    assert [path.name for path in weights.iterdir()] == ["step-000002"]


def test_a_run_that_goes_on_or_has_changed_since_the_plan_is_left_alone(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=2, status="completed", saves=(1, 2))
    plan = planned(run_dir, BEST_1)
    with locked(run_dir):
        assert apply(plan) == 0
    (run_dir / "summary.json").unlink()
    assert apply(plan) == 0 and len(list((run_dir / "checkpoints" / "weights").iterdir())) == 2
    assert not (run_dir / "retention.jsonl").exists()


def test_a_path_that_leads_out_of_the_runs_folder_is_never_deleted(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=4, status="completed", saves=(1,))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("years of work")
    (run_dir / "checkpoints" / "link").symlink_to(mine)
    paths = [
        "x/checkpoints/../../mine",
        "x/checkpoints/link",
        "x/checkpoints/link/thesis",
        str(mine),
        "",
        "x/checkpoints/",
    ]
    with (run_dir / "checkpoints.jsonl").open("a") as file:
        file.writelines(json.dumps({"name": f"{n}", "step": 1, "state_path": p}) + "\n" for n, p in enumerate(paths))
    plan = planned(run_dir, NOTHING)
    apply(plan)
    assert names(plan) == ["step-000001"] and (mine / "thesis").read_text() == "years of work"


def test_a_folder_that_two_lines_share_stays_if_one_of_them_does(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "a", steps=2, status="completed", saves=(1,))
    shared = {"name": "final", "step": 2, "final": True, "state_path": "checkpoints/weights/step-000001"}
    with (run_dir / "checkpoints.jsonl").open("a") as file:
        file.write(json.dumps(shared) + "\n")
    assert planned(run_dir, NOTHING).doomed == ()


def test_a_policy_that_says_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="--keep-best, --ttl"):
        Policy()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from run_folders import real_run
from crucible.telemetry import default_bus

def at_step_9(event):
    if event.measurements["step"] == 9:
        os.kill(os.getpid(), signal.SIGKILL)

default_bus().attach("killer", "training.step", at_step_9)
real_run(Path(sys.argv[1]), limit=60, max_steps=12)
"""


def test_a_killed_run_whose_checkpoints_were_tidied_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    real_run(tmp_path / "straight", limit=60, max_steps=12)
    run_dir = tmp_path / "runs" / "a"
    words = [sys.executable, "-c", KILLED, str(run_dir), str(Path(__file__).parent)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    with RunStore(run_dir.parent) as store:
        (plan,) = plan_all(store, NOTHING)
        assert names(plan) == ["step-000002", "step-000004"] and apply(plan) > 0
    result = crucible.resume(run_dir)
    assert isinstance(result, RunResult) and result.status == "completed"
    assert (run_dir / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    saves=st.lists(st.integers(1, 9), unique=True, max_size=6).map(sorted),
    status=st.sampled_from([None, "failed", "interrupted", "completed"]),
    keep=st.one_of(st.none(), st.integers(0, 3)),
    ttl=st.one_of(st.none(), st.sampled_from([0.0, 60.0])),
    ages=st.lists(st.sampled_from([0, 100]), min_size=6, max_size=6),
)
def test_the_newest_of_a_run_that_is_not_complete_and_every_final_one_survive_any_policy(
    tmp_path_factory: pytest.TempPathFactory,
    saves: list[int],
    status: str | None,
    keep: int | None,
    ttl: float | None,
    ages: list[int],
) -> None:
    if keep is None and ttl is None:
        keep = 0
    run_dir = written_run(tmp_path_factory.mktemp("runs") / "a", steps=9, status=status, final=status == "completed")
    for step, age in zip(saves, ages, strict=False):
        folder = save(run_dir, step)
        for path in (folder / "adapter.safetensors", folder):
            os.utime(path, (time.time() - age,) * 2)
    apply(planned(run_dir, Policy(keep_best=keep, ttl=ttl)))
    left = {path.name for path in (run_dir / "checkpoints" / "weights").glob("*")}
    newest = {f"step-{step:06d}" for step in saves[-2:]} if status != "completed" else {"final"}
    assert newest <= left


def test_what_is_left_of_a_real_run_is_what_it_needs(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "a"
    real_run(run_dir)
    with RunStore(run_dir.parent) as store:
        (plan,) = plan_all(store, BEST_1)
        apply(plan)
        checkpoints = store.contents("a").checkpoints
    assert [bool(one.deleted_at) for one in checkpoints] == [not one.final for one in checkpoints]
