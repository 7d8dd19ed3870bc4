"""JSON that a stranger wrote is read as the standard has it, or is a ValueError."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.train.messages import ToolCall
from crucible.train.strict_json import read_json, read_json_at

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(value=values, ascii_only=st.booleans(), before=st.text(" \n\t\r"), after=st.text(" \n\t\r"))
def test_what_was_written_is_read(value, ascii_only, before, after) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert read_json(before + text + after) == value
    assert read_json_at(f"x{before}{text}x", 1) == (value, 1 + len(before) + len(text))


@given(text=st.text(alphabet='{}[]",:\\ud80NnI1 \u00a0', max_size=30))
def test_anything_else_is_a_value_error(text) -> None:
    try:
        assert json.loads(text) == read_json(text)
    except ValueError:
        assert ToolCall(name="f", arguments=text).object is None


@pytest.mark.parametrize(
    "text", ["NaN", "[-Infinity]", '"\\ud800"', '{"\\udc00": 1}', "[" * 100_000, "9" * 5000, "1e999", ""]
)
def test_what_python_reads_but_no_one_can_write_again_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)
