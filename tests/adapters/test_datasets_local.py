"""Local files of rows: what is read, and what is said about what cannot be."""

import contextlib
import json
import sys

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from crucible.adapters.datasets import LocalFilesStore
from crucible.errors import DataError, MissingExtraError
from crucible.ports.dataset_store import fingerprint_of_rows

ROWS = [
    {"question": "one", "answer": "1"},
    {"question": "zwei, “2”\nlines", "answer": ""},
    {"question": "3", "answer": "é"},
]
STORE = LocalFilesStore()


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    import csv

    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS = {
    "jsonl": write_jsonl,
    "json": lambda path, rows: path.write_text(json.dumps(rows)),
    "csv": write_csv,
    "parquet": lambda path, rows: parquet.write_table(pyarrow.Table.from_pylist(rows), path),
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A file of ROWS in each format."""
    path = tmp_path / f"rows.{request.param}"
    WRITERS[request.param](path, ROWS)
    return path


def problems(path, **options):
    with pytest.raises(DataError) as raised:
        STORE.load(str(path), **options)
    return [str(problem).replace(str(path), path.name) for problem in raised.value.problems]


def test_every_format_gives_the_same_rows(written):
    assert STORE.to_list(STORE.load(str(written))) == ROWS


def test_the_extension_may_be_in_capitals(tmp_path):
    write_jsonl(tmp_path / "ROWS.JSONL", ROWS)
    assert len(STORE.load(str(tmp_path / "ROWS.JSONL"))) == 3


def test_a_row_of_text_says_its_file_and_line(tmp_path):
    for name in ("rows.jsonl", "rows.csv"):
        WRITERS[name.split(".")[1]](tmp_path / name, ROWS)
    jsonl, csv = (STORE.load(str(tmp_path / name)) for name in ("rows.jsonl", "rows.csv"))
    assert [jsonl.origin(index) for index in range(3)] == [f"{tmp_path}/rows.jsonl:{line}" for line in (1, 2, 3)]
    assert [csv.origin(index) for index in range(3)] == [f"{tmp_path}/rows.csv:{line}" for line in (2, 3, 5)]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
    (tmp_path / "rows.json").write_bytes(b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]')
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbfa\r\n1\r\n\r\n2")
    for name in ("rows.jsonl", "rows.json", "rows.csv"):
        assert [str(row["a"]) for row in STORE.load(str(tmp_path / name))] == ["1", "2"]


def test_a_line_that_spans_others_does_not_hide_the_next_mistake(tmp_path):
    (tmp_path / "rows.csv").write_text('a,b\n1,"two\nlines"\n3\n4,5,6\n')
    assert problems(tmp_path / "rows.csv") == [
        "rows.csv:4: 1 values under 2 columns.",
        "rows.csv:5: 3 values under 2 columns.",
    ]


def test_every_wrong_line_is_named_at_once(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n{"a": \n[1]\n"\xff"\n{"a": NaN}\n')
    assert [problem.split(": ")[0] for problem in problems(tmp_path / "rows.jsonl")] == [
        f"rows.jsonl:{line}" for line in (2, 3, 4, 5)
    ]
    assert problems(tmp_path / "rows.jsonl")[1] == "rows.jsonl:3: a row is a JSON object, not a list (given: [1])."


def test_at_most_twenty_problems_are_shown(tmp_path):
    (tmp_path / "rows.jsonl").write_text("wrong\n" * 1000)
    assert len(problems(tmp_path / "rows.jsonl")) == 20


def test_malformed_json_is_named_by_line(tmp_path):
    (tmp_path / "rows.json").write_text('[\n{"a": 1},\n{"a": }\n]')
    assert problems(tmp_path / "rows.json")[0].startswith("rows.json:3: this is not JSON")
    (tmp_path / "rows.json").write_text('[\n{"a": 1}\n')
    assert problems(tmp_path / "rows.json")[0].startswith("rows.json:2: this is not JSON")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert problems(tmp_path / name) == [f"{name}: there are no rows in it."]


def test_a_header_alone_is_empty_too(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n")
    assert problems(tmp_path / "rows.csv") == ["rows.csv: there are no rows in it."]


@pytest.mark.parametrize("header", ["a,a", "a,"])
def test_a_csv_header_names_every_column_once(tmp_path, header):
    (tmp_path / "rows.csv").write_text(f"{header}\n1,2\n")
    assert problems(tmp_path / "rows.csv")[0].startswith("rows.csv:1: the header names every column")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_utf_16_is_named_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes('[{"a": 1}]'.encode("utf-16"))
    assert problems(tmp_path / name) == [f"{name}: the file is UTF-16. Save it as UTF-8."]


def test_an_unknown_extension_gets_the_nearest_one(tmp_path):
    (tmp_path / "rows.jsnl").write_text("")
    assert "did you mean .jsonl?" in problems(tmp_path / "rows.jsnl")[0]
    assert STORE.accepts("data/rows.jsnl"), "a misspelt extension is still a file"


def test_a_missing_file_gets_its_nearest_neighbour(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    assert "did you mean train.jsonl?" in problems(tmp_path / "trian.jsonl")[0]


def test_a_json_mapping_has_its_keys_as_splits(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"train": ROWS, "held_out": ROWS[:1]}))
    assert dict(STORE.info(str(path)).splits) == {"train": 3, "held_out": 1}
    assert STORE.load(str(path), split="held_out").origin(0) == f"{path}[held_out] row 1"
    assert "It has held_out, train" in problems(path, split="test")[0]


@pytest.mark.parametrize("content", ['{"train": 1}', '{"a": "b"}', "{}", "3", "null", '"text"'])
def test_json_that_is_neither_list_nor_splits_is_refused(tmp_path, content):
    (tmp_path / "rows.json").write_text(content)
    assert "list" in problems(tmp_path / "rows.json")[0]


def test_a_folder_has_its_files_as_splits(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    write_csv(tmp_path / "test.csv", ROWS[:2])
    (tmp_path / "README.md").write_text("not rows")
    (tmp_path / ".hidden.jsonl").write_text("not rows")
    assert dict(STORE.info(str(tmp_path)).splits) == {"test": 2, "train": 3}
    assert STORE.load(f"{tmp_path}/", split="test").origin(1) == f"{tmp_path}/test.csv:3"


def test_a_folder_without_rows_or_with_one_split_twice_is_refused(tmp_path):
    assert "no file of rows" in problems(tmp_path)[0]
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    write_csv(tmp_path / "train.csv", ROWS)
    assert "two files are the split 'train'" in problems(tmp_path)[0]


def test_a_limit_reads_no_further(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\nwrong\n')
    assert len(STORE.load(str(tmp_path / "rows.jsonl"), limit=2)) == 2


def test_a_stream_gives_the_rows_before_the_mistake(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\nwrong\n{"a": 3}\nalso wrong\n')
    stream = STORE.stream(str(tmp_path / "rows.jsonl"))
    assert next(stream) == {"a": 1}
    with pytest.raises(DataError) as raised:
        next(stream)
    assert len(raised.value.problems) == 2


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"crucible-kitchen\[data\]"):
        STORE.load(str(tmp_path / "rows.parquet"))


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not Parquet" in problems(path)[0]


def test_json_nested_past_reason_is_refused(tmp_path):
    for name, text in (("rows.jsonl", "[" * 100_000), ("rows.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
        assert "not JSON" in problems(tmp_path / name)[0]


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    loop = tmp_path / "rows.jsonl"
    loop.symlink_to(loop)
    with pytest.raises(DataError):
        STORE.load(str(loop))
    with pytest.raises(DataError):
        STORE.load("x" * 5000 + ".jsonl")
    with pytest.raises(DataError):
        STORE.load("")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_accepted_or_not_and_loads_or_says_why_not(reference):
    assert STORE.accepts(reference) in (True, False)
    with contextlib.suppress(DataError):
        STORE.load(reference)


@pytest.mark.parametrize("extension", ["jsonl", "json", "csv", "parquet"])
@settings(deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
def test_any_bytes_are_rows_or_a_data_error(tmp_path_factory, extension, data):
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / f"rows.{extension}"
    path.write_bytes(data)
    try:
        assert len(STORE.load(str(path))) > 0
    except DataError as error:
        assert all(str(path) in problem.where for problem in error.problems)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3), min_size=1, max_size=4))
def test_any_json_objects_come_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "rows.jsonl"
    for ascii_only in (True, False):
        path.write_text("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows), encoding="utf-8")
        assert STORE.to_list(STORE.load(str(path))) == rows


@settings(deadline=None)
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_comes_back_from_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "rows.csv"
    expected = [dict(zip(("a", "b"), row, strict=True)) for row in rows]
    write_csv(path, expected)
    assert STORE.to_list(STORE.load(str(path))) == expected


def test_a_file_is_known_by_its_bytes_and_its_rows_by_their_content(written, tmp_path):
    store, copy = LocalFilesStore(), tmp_path / f"copy{written.suffix}"
    copy.write_bytes(written.read_bytes())
    known = store.fingerprint(str(written))
    assert len(known) == 64 and store.fingerprint(str(copy)) == known
    assert store.load(str(written)).fingerprint() == store.load(str(copy)).fingerprint()
    WRITERS[written.suffix[1:]](copy, ROWS[:2])
    assert store.fingerprint(str(copy)) != known
    assert store.load(str(written)).fingerprint() != store.load(str(copy)).fingerprint()


def test_every_format_gives_the_same_fingerprint_of_the_same_rows(written):
    assert STORE.load(str(written)).fingerprint() == fingerprint_of_rows(ROWS)


def test_rows_that_no_json_can_hold_have_a_fingerprint_that_every_process_finds():
    class Picture:
        """Known by its type alone: its address is another in each process."""

    assert fingerprint_of_rows([{"image": Picture()}]) == fingerprint_of_rows([{"image": Picture()}])
    assert fingerprint_of_rows([{"text": "\ud800"}]) == fingerprint_of_rows([{"text": "\ud800"}])
    assert fingerprint_of_rows([{"a": 1}, {"b": 2}]) != fingerprint_of_rows([{"b": 2}, {"a": 1}])
    assert fingerprint_of_rows([{"a": 1, "b": 2}]) == fingerprint_of_rows([{"b": 2, "a": 1}])
