"""What is `JsonlMetricsStore`'s own: the file, its bytes, and what a kill leaves."""

import math
import resource
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.adapters.metrics import JsonlMetricsStore
from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow


def test_a_runs_own_folder_holds_its_file(tmp_path):
    store = JsonlMetricsStore(tmp_path / "run-7")
    store.record("run-7", 1, {"loss": 2.5, "count": 3})
    store.close()
    text = (tmp_path / "run-7" / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "count": 3.0, "loss": 2.5}\n'


def test_a_folder_of_runs_holds_one_file_each(tmp_path):
    store = JsonlMetricsStore(tmp_path)
    store.record("one", 1, {"loss": 2.5})
    store.close()
    assert (tmp_path / "one" / "metrics.jsonl").is_file()
    again = JsonlMetricsStore(tmp_path / "one")
    assert again.read("one") == [MetricsRow(step=1, values={"loss": 2.5})]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8")).filter(lambda name: name != "step"), st.floats(), min_size=1, max_size=4
    )
)
def test_every_float_and_name_comes_back(tmp_path_factory, values):
    store = JsonlMetricsStore(tmp_path_factory.mktemp("metrics"))
    store.record("run", 0, values)
    read = store.read("run")[0].values
    store.close()
    assert read.keys() == values.keys()
    assert all(read[name] == value or math.isnan(value) for name, value in values.items())


def test_the_order_of_the_mapping_does_not_change_the_bytes(tmp_path):
    for folder, values in (("a", {"x": 1.0, "y": 2.0}), ("b", {"y": 2.0, "x": 1.0})):
        store = JsonlMetricsStore(tmp_path / folder)
        store.record(folder, 1, values)
        store.close()
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


def test_a_row_survives_a_kill_right_after_it(tmp_path):
    code = (
        "import os, signal, sys; from crucible.adapters.metrics import JsonlMetricsStore\n"
        "JsonlMetricsStore(sys.argv[1]).record('run', 1, {'a': 1.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert JsonlMetricsStore(tmp_path).read("run") == [MetricsRow(step=1, values={"a": 1.0})]


def test_a_line_that_a_kill_cut_short_is_no_row_and_the_next_takes_its_place(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a":')
    store = JsonlMetricsStore(tmp_path)
    assert [row.step for row in store.read("run")] == [1]
    store.record("run", 3, {"a": 3.0})
    assert [row.step for row in store.read("run")] == [1, 3]
    store.close()


@pytest.mark.parametrize("line", ["no json", "[]", '{"a": 1}', '{"step": 1, "a": "b"}', ""])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text(f'{{"step": 1, "a": 1.0}}\n{line}\n')
    with pytest.raises(PortError, match=r"metrics\.jsonl:2"):
        JsonlMetricsStore(tmp_path).read("run")


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "/a"])
def test_a_run_id_is_a_plain_file_name(tmp_path, run_id):
    with pytest.raises(ValueError, match="plain file name"):
        JsonlMetricsStore(tmp_path).record(run_id, 0, {"a": 1.0})


ROWS = st.lists(st.tuples(st.integers(0, 9), st.dictionaries(st.sampled_from("abc"), st.floats(), min_size=1)))


@settings(deadline=None)
@given(before=ROWS, after=ROWS, data=st.data())
def test_after_a_truncation_the_file_has_the_bytes_of_one_that_only_ever_had_those_rows(
    tmp_path_factory, before, after, data
):
    kept = data.draw(st.integers(0, len(before)))
    folder = tmp_path_factory.mktemp("metrics")
    cut, straight = JsonlMetricsStore(folder / "cut"), JsonlMetricsStore(folder / "straight")
    for step, values in before:
        cut.record("cut", step, values)
    cut.truncate("cut", kept)
    for step, values in after:
        cut.record("cut", step, values)
    for step, values in before[:kept] + after:
        straight.record("straight", step, values)
    for store in (cut, straight):
        store.close()
    ends = [path.read_bytes() if path.exists() else b"" for path in (cut.path("cut"), straight.path("straight"))]
    assert ends[0] == ends[1]


def test_truncating_drops_a_line_that_a_kill_cut_short(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a":')
    store = JsonlMetricsStore(tmp_path)
    with pytest.raises(PortError, match="has 1 rows; it cannot keep the first 2"):
        store.truncate("run", 2)
    store.truncate("run", 1)
    store.close()
    assert path.read_text() == '{"step": 1, "a": 1.0}\n'


def test_a_full_disk_is_said_and_no_half_line_stays_behind(tmp_path):
    store = JsonlMetricsStore(tmp_path)
    store.record("run", 1, {"a": 1.0})
    path = store.path("run")
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for room, reason in ((0, "File too large"), (7, "the disk took only a part of it")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
        try:
            with pytest.raises(PortError, match=rf"metrics\.jsonl: the row of step 2 was not recorded: {reason}"):
                store.record("run", 2, {"a": 2.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
    store.record("run", 3, {"a": 3.0})
    assert [row.step for row in store.read("run")] == [1, 3]
    store.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(PortError, match="the row of step 0 was not recorded"):
        JsonlMetricsStore(tmp_path / "runs").record("one", 0, {"a": 1.0})


def test_rows_of_several_threads_are_whole_lines(tmp_path):
    store = JsonlMetricsStore(tmp_path)

    def write(writer: float) -> None:
        for step in range(100):
            store.record("run", step, {"writer": writer})

    threads = [threading.Thread(target=write, args=(float(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.read("run")) == 300
    store.close()
