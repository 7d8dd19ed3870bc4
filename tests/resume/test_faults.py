"""What happens to a run whose disk, files or clock fail? Nothing is lost: it ends with the bytes of a straight run."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faulty import SmallDisk, bytes_of, in_a_child, resumed

from crucible.__main__ import main
from crucible.framework import read_records
from crucible.framework.journal_file import JournalFile

BEGINNING, LOADED = "the beginning", "after examine_data"
FIRST, SECOND = "epochs[0] > batches[4]", "epochs[0] > batches[8]"
DAY_NS = 24 * 3600 * 10**9


@dataclass(frozen=True)
class Fault:
    """What is done to a run's folder; from where the run then goes on, and what it says of each thing it skips."""

    name: str
    do: Callable[[Path], None]
    goes_on: str
    says: tuple[str, ...] = ()


def truncate(*parts: str) -> Callable[[Path], None]:
    def do(run_dir: Path) -> None:
        file = run_dir.joinpath(*parts)
        os.truncate(file, file.stat().st_size // 2)

    return do


def flip(*parts: str, at: Callable[[bytes], int] = lambda data: len(data) // 2) -> Callable[[Path], None]:
    """Change one bit of one byte."""

    def do(run_dir: Path) -> None:
        file = run_dir.joinpath(*parts)
        data = bytearray(file.read_bytes())
        data[at(bytes(data))] ^= 1
        file.write_bytes(data)

    return do


def delete(*parts: str) -> Callable[[Path], None]:
    def do(run_dir: Path) -> None:
        path = run_dir.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def append(name: str, text: bytes) -> Callable[[Path], None]:
    def do(run_dir: Path) -> None:
        with (run_dir / name).open("ab") as file:
            file.write(text)

    return do


def cut_last_line(name: str) -> Callable[[Path], None]:
    """Leave the half of it that a kill can leave."""

    def do(run_dir: Path) -> None:
        data = (run_dir / name).read_bytes()
        start = data[:-1].rfind(b"\n") + 1
        os.truncate(run_dir / name, (start + len(data)) // 2)

    return do


def in_line(number: int, text: bytes) -> Callable[[bytes], int]:
    """Where, counted from 0, the byte behind a text stands in a line."""

    def find(data: bytes) -> int:
        start = sum(len(line) for line in data.splitlines(keepends=True)[:number])
        return data.index(text, start) + len(text)

    return find


def both(*faults: Callable[[Path], None]) -> Callable[[Path], None]:
    def do(run_dir: Path) -> None:
        for fault in faults:
            fault(run_dir)

    return do


def leave_half_a_checkpoint(run_dir: Path) -> None:
    left = run_dir / "checkpoints" / "weights" / ".step-000012.x1y2z3w4"
    left.mkdir()
    (left / "adapter.safetensors").write_bytes(b"half")


WEIGHTS = ("checkpoints", "weights", "step-000008")
UNUSABLE = f"the checkpoint at {SECOND} cannot be used: "
REDONE = "; what came after it is done again"
CHANGED = "the metrics of the point at {} are missing or changed"

DAMAGED_CHECKPOINTS = [
    Fault(f"{how.__name__} {file}", how(*WEIGHTS, file), FIRST, (UNUSABLE,))
    for file in ("adapter.safetensors", "optimizer.safetensors", "checkpoint.json")
    for how in (truncate, flip, delete)
]
FAULTS = [
    *DAMAGED_CHECKPOINTS,
    Fault("delete a checkpoint", delete(*WEIGHTS), FIRST, (UNUSABLE,)),
    Fault("delete all checkpoints", delete("checkpoints"), LOADED, (UNUSABLE, f"the checkpoint at {FIRST}")),
    Fault("leave half a checkpoint", leave_half_a_checkpoint, SECOND),
    Fault("flip a bit of the journal's last line", flip("journal.jsonl", at=in_line(6, b'"name":"')), FIRST, (REDONE,)),
    Fault("flip a bit within the journal", flip("journal.jsonl", at=in_line(5, b'"name":"')), LOADED, (REDONE,)),
    Fault("flip the end of a journal's line", flip("journal.jsonl", at=in_line(5, b"}}")), LOADED, (REDONE,)),
    Fault("cut the journal's last line", cut_last_line("journal.jsonl"), FIRST),
    Fault("begin a line of the journal", append("journal.jsonl", b'{"sha256":"0123'), SECOND),
    Fault("begin a row of metrics", append("metrics.jsonl", b'{"step": 11, "lo'), SECOND),
    Fault("cut the metrics' last row", cut_last_line("metrics.jsonl"), SECOND),
    Fault(
        "flip a digit of the metrics",
        flip("metrics.jsonl", at=in_line(6, b'"loss": ')),
        FIRST,
        (CHANGED.format(SECOND),),
    ),
    Fault(
        "flip a digit of the first metrics",
        flip("metrics.jsonl", at=in_line(2, b'"loss": ')),
        LOADED,
        (CHANGED.format(SECOND), CHANGED.format(FIRST)),
    ),
    Fault(
        "make a row of metrics unreadable",
        flip("metrics.jsonl", at=in_line(6, b'"loss')),
        FIRST,
        (CHANGED.format(SECOND),),
    ),
    Fault("delete the metrics", delete("metrics.jsonl"), LOADED, (CHANGED.format(SECOND), CHANGED.format(FIRST))),
    Fault("begin a checkpoint's line", append("checkpoints.jsonl", b'{"name":"step-0'), SECOND),
    Fault("delete the checkpoints' lines", delete("checkpoints.jsonl"), SECOND),
    Fault("delete the events", delete("events.jsonl"), SECOND),
    Fault(
        "damage metrics, journal and checkpoint at once",
        both(cut_last_line("journal.jsonl"), flip("checkpoints", "weights", "step-000004", "adapter.safetensors")),
        LOADED,
        (f"the checkpoint at {FIRST} cannot be used",),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_is_damaged_is_said_and_the_point_before_it_used(
    fault: Fault, killed: Path, straight: Path, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(killed, tmp_path / "run")
    fault.do(run_dir)
    position, skipped = resumed(run_dir)
    assert position == fault.goes_on
    assert len(skipped) == len(fault.says)
    assert all(words in sentence for words, sentence in zip(fault.says, skipped, strict=True))
    assert bytes_of(run_dir) == bytes_of(straight)


FULL = {
    "checkpoint": "optimizer.safetensors could not be written",
    "metrics": "the row of step 6 was not recorded",
    "journal": "the disk took only a part of a record",
}


def sentence(said: str) -> str:
    """The one error that a command told."""
    (line,) = [line for line in said.splitlines() if line.startswith(("error: ", "unexpected error: "))]
    return line


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_ends_the_run_with_one_sentence_and_costs_nothing(
    what: str, tiny_model: Path, rows: Path, straight: Path, tmp_path: Path
) -> None:
    said = in_a_child(tmp_path / "run", tiny_model, rows, what, check=1)
    assert FULL[what] in sentence(said)
    assert said.splitlines()[-1] == f"continue with: crucible resume {tmp_path / 'run'}"
    assert resumed(tmp_path / "run") == (FIRST, [])
    assert bytes_of(tmp_path / "run") == bytes_of(straight)


def test_a_disk_that_is_really_full_says_so_and_takes_the_rest_when_there_is_room(
    small_disk: SmallDisk, tiny_model: Path, rows: Path, straight: Path, tmp_path: Path
) -> None:
    said = small_disk.run(tiny_model, rows, keep=tmp_path / "run")
    assert small_disk.words in sentence(said)
    assert bytes_of(tmp_path / "run") == bytes_of(straight)


@contextmanager
def unwritable(folder: Path) -> Iterator[Path]:
    """The folder, read-only; where not even root may make it so, a path that can be no folder."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
    elif subprocess.run(["chattr", "+i", folder], capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["chattr", "-i", folder], check=True)
    else:
        yield folder / "experiment.json" / "run"


def test_a_read_only_folder_is_refused_and_left_as_it_is(
    killed: Path, straight: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = shutil.copytree(killed, tmp_path / "run")
    before = bytes_of(run_dir)
    with unwritable(run_dir) as refused:
        assert main(["resume", str(refused)]) == 2
    assert sentence(capfd.readouterr().err)
    assert bytes_of(run_dir) == before
    assert resumed(run_dir) == (SECOND, [])
    assert bytes_of(run_dir) == bytes_of(straight)


def test_a_clock_that_goes_backwards_changes_nothing(killed: Path, straight: Path, tmp_path: Path) -> None:
    """What the run had written is from next year: for the process that continues it, the clock went back."""
    run_dir = shutil.copytree(killed, tmp_path / "run")
    journal, events = run_dir / "journal.jsonl", run_dir / "events.jsonl"
    next_year = datetime.now(UTC) + timedelta(days=365)
    records, _, _ = read_records(journal)
    journal.unlink()
    rewritten = JournalFile(journal)
    for record in records:
        rewritten.append({**record, **({"at": next_year.isoformat()} if "at" in record else {})}, durable=False)
    rewritten.close()
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    late = [{**line, "time_ns": line["time_ns"] + 365 * DAY_NS} for line in lines]
    events.write_text("".join(json.dumps(line) + "\n" for line in late))
    for path in [run_dir, *run_dir.rglob("*")]:
        os.utime(path, (next_year.timestamp(),) * 2)
    assert resumed(run_dir) == (SECOND, [])
    assert bytes_of(run_dir) == bytes_of(straight)
    assert 0 <= json.loads((run_dir / "summary.json").read_text())["seconds"] < 300
