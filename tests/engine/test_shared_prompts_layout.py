"""Does the tree of prefixes hold every sequence, each beginning once, and does a plan keep within its budget?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import VOCAB, datum

from crucible.engine.losses import LOSSES
from crucible.engine.prefix_tree import PrefixTree
from crucible.engine.rows import Row, rows_of
from crucible.engine.shared_prompts import plan
from crucible.errors import DataError

SEQUENCES = st.lists(st.lists(st.integers(0, 1), max_size=7).map(np.array), min_size=1, max_size=8)
LOSS = LOSSES["ppo"]


def row(text: list[int], *, prompt: int) -> Row:
    """A row whose targets have a loss from the prompt's last token on."""
    active = np.arange(len(text)) >= prompt - 1
    inputs = {"logprobs": -active.astype(np.float32), "advantages": active.astype(np.float32)}
    return Row(tokens=np.array(text, np.int64), targets=np.array(text, np.int64), inputs=inputs, active=active)


@given(SEQUENCES)
def test_each_sequence_is_found_at_its_places(sequences: list[np.ndarray]) -> None:
    tree = PrefixTree.of(sequences)
    for sequence, places in zip(sequences, tree.places, strict=True):
        assert tree.tokens[places].tolist() == sequence.tolist()
        assert tree.positions[places].tolist() == list(range(len(sequence)))


@given(SEQUENCES)
def test_a_place_sees_what_it_continues_and_nothing_else(sequences: list[np.ndarray]) -> None:
    tree = PrefixTree.of(sequences)
    for places in tree.places:
        for depth, place in enumerate(places):
            seen = [key for key in range(place + 1) if place < tree.until[key]]
            assert seen == places[: depth + 1].tolist()


@given(SEQUENCES)
def test_sorted_sequences_have_every_beginning_once(sequences: list[np.ndarray]) -> None:
    tree = PrefixTree.of(sorted(sequences, key=lambda sequence: sequence.tolist()))
    beginnings = {tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))}
    assert len(tree.tokens) == len(beginnings)


@given(SEQUENCES, SEQUENCES)
def test_trees_that_are_joined_do_not_see_each_other(some: list[np.ndarray], others: list[np.ndarray]) -> None:
    first, second = PrefixTree.of(some), PrefixTree.apart(others)
    tree = PrefixTree.joined([first, second])
    assert (tree.until[: len(first.tokens)] <= len(first.tokens)).all()
    assert len(second.tokens) == sum(map(len, others))
    for sequence, places in zip([*some, *others], tree.places, strict=True):
        assert tree.tokens[places].tolist() == sequence.tolist()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=1, max_size=6)), max_size=9),
    st.integers(1, 30),
)
def test_a_plan_has_every_row_once_within_the_budget(members: list[tuple[int, list[int]]], budget: int) -> None:
    rows = [row([7, 7, 7, group, *text], prompt=4) for group, text in members]
    planned = plan(rows, loss=LOSS, wanted="all", can_share=True)
    runs = planned.runs(budget)
    assert sorted(index for run in runs for index in run) == list(range(len(rows)))
    for run in runs:
        taken = planned.taken(run)
        tree = PrefixTree.of(taken.sequences or [one.tokens for one in taken.rows])
        assert len(run) == 1 or len(tree.tokens) <= budget


def test_only_the_whole_prompt_of_another_row_is_a_reason_to_share() -> None:
    alike = [row([*range(20), 7, 8], prompt=20), row([*range(20), 9], prompt=20)]
    apart = [row([*range(20), 7, 8], prompt=21), row([*range(20), 9], prompt=21)]
    assert plan(alike, loss=LOSS, wanted="all", can_share=True).sequences is not None
    assert plan(apart, loss=LOSS, wanted="all", can_share=True).sequences is None
    assert plan(alike, loss=LOSS, wanted="all", can_share=False).sequences is None


@pytest.mark.parametrize(("completion", "shared"), [(12, True), (13, False)])
def test_a_short_prompt_of_long_texts_is_not_worth_sharing(completion: int, shared: bool) -> None:
    rows = [row([1, 2, 3, 4, *[5 + member] * completion], prompt=4) for member in range(2)]
    assert (plan(rows, loss=LOSS, wanted="all", can_share=True).sequences is not None) == shared


def test_rows_without_a_loss_are_left_out_unless_their_logprobs_are_asked_for() -> None:
    rows = [row([1, 2, 3, own, 4], prompt=3) for own in (5, 6, 7)]
    rows[1].active[:] = False
    assert list(plan(rows, loss=LOSS, wanted="weighted", can_share=True).order) == [0, 2]
    assert list(plan(rows, loss=LOSS, wanted="all", can_share=True).order) == [0, 1, 2]


def test_an_empty_row_is_refused_by_its_index() -> None:
    with pytest.raises(DataError, match="datum 1"):
        plan([row([1], prompt=1), row([], prompt=1)], loss=LOSS, wanted="all", can_share=True).runs(8)


def test_a_sequences_cost_is_no_less_than_its_positions_with_a_loss() -> None:
    rows = rows_of(
        [datum(9, weights=[0] * 5 + [1] * 4)] * 3, LOSSES["cross_entropy"], vocab_size=VOCAB, context_length=9
    )
    planned = plan(rows, loss=LOSSES["cross_entropy"], wanted="all", can_share=True)
    assert [planned.cost(place, first=not place) for place in range(3)] == [9, 4, 4]
