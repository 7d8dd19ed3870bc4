"""Eight processes write to one store at once, and no row is lost."""

import subprocess
import sys

from crucible.store.database import Database
from crucible.store.index import RunIndex

WRITERS, ROWS, BATCH = 8, 12_500, 250

WRITER = """
import sys
from crucible.store.database import Database
from crucible.store.index import RunIndex
from crucible.store.records import MetricLine, RunContents, RunRecord

url, name, shared, rows, batch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
with RunIndex(Database(url, patience=60), folder=".") as index:
    index.write(RunContents(run=RunRecord(name=name, state="running", config={}, results={})), whole=True)
    index.write(RunContents(run=RunRecord(name=shared, state="running", config={}, results={})), whole=False)
    for start in range(0, rows, batch):
        lines = [MetricLine(line=n, step=n, values={"loss": n / 7}) for n in range(start, start + batch)]
        index.append_metrics(name, lines)
        run = RunRecord(name=shared, state="running", step=start, config={}, results={})
        index.write(RunContents(run=run), whole=False)
"""


def write_at_once(url: str, *, rows: int) -> list[list[tuple[int, float]]]:
    """What each writer's run holds in the end; the tables do not exist when they start."""
    words = [sys.executable, "-c", WRITER, url]
    processes = [subprocess.Popen([*words, f"w{n}", "shared", str(rows), str(BATCH)]) for n in range(WRITERS)]
    assert [process.wait(timeout=300) for process in processes] == [0] * WRITERS
    with RunIndex(Database(url), folder=".") as index:
        assert len(index.runs()) == WRITERS + 1
        return [index.curve(f"w{n}", "loss") for n in range(WRITERS)]


def test_a_hundred_thousand_rows_from_eight_processes_are_all_there(url: str) -> None:
    expected = [(n, n / 7) for n in range(ROWS)]
    assert write_at_once(url, rows=ROWS) == [expected] * WRITERS
