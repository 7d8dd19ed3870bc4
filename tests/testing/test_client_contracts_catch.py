"""The suites of chat models, embeddings and vectors catch each of these faults."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CAUGHT_BY = {
    "IgnoresStop": "test_a_stop_text_ends_the_answer_and_is_not_in_it",
    "StreamsOnlyTheStart": "test_the_pieces_of_a_stream_are_the_answer",
    "InventsStructure": "test_an_answer_to_a_schema_that_was_cut_has_no_structure",
    "DrawsAnew": "test_the_same_seed_gives_the_same_answer",
    "ForgetsTheLength": "test_every_text_has_a_row_of_length_one",
    "LooksAtNeighbours": "test_a_row_is_a_function_of_its_own_text",
    "EmbedsNothing": "test_a_text_that_is_empty_is_refused",
    "RanksByLength": "test_the_nearest_by_direction_come_first_with_what_they_stand_for",
    "AddsHalf": "test_a_wrong_record_is_refused_with_all_that_came_with_it",
    "FiltersAfterTheLimit": "test_a_filter_comes_before_the_limit",
    "TurnsTies": "test_what_is_equally_near_comes_in_the_order_added",
}


@pytest.fixture(scope="module")
def output():
    """What pytest says of the broken adapters."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    file = Path(__file__).parent / "broken_clients.py"
    return subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize(("broken", "caught_by"), CAUGHT_BY.items())
def test_a_broken_promise_is_caught(output, broken, caught_by):
    assert caught_by in set(re.findall(rf"FAILED \S+::Test{broken}::(\w+)", output))


def test_no_broken_adapter_is_forgotten(output):
    assert set(re.findall(r"FAILED \S+::Test(\w+)::", output)) == set(CAUGHT_BY)
