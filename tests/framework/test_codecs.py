"""Does a durable slot's value come back as it was, or is it refused?"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from toys import Put, run_nodes

from crucible.errors import WorkflowError
from crucible.framework import Durable, Place, Slot
from crucible.framework.codec import JsonCodec

NOWHERE = Place(name="", run_dir=None, ports={})


@dataclass
class Best:
    loss: float


async def through(kind: Any, value: object) -> object:
    """The value after it was saved, written into a journal's line, read, and loaded."""
    slot: Slot[Any] = Slot("s", kind, Durable("json"))
    line = msgspec.json.encode(await JsonCodec().save(slot, value, NOWHERE))
    return await JsonCodec().load(slot, msgspec.json.decode(line), NOWHERE)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict, {1: 10}),
        (dict, {1: "a", "1": "b"}),
        (dict, {"best": float("nan")}),
        (list, [float("inf")]),
        (float, float("nan")),
        (dict, {"pair": (1, 2)}),
        (dict, Counter(a=1)),
        (list, [Best(0.5)]),
        (object, Best(0.5)),
        (list, [b"ab"]),
        (list, [{1}]),
        (list[float], [1]),
    ],
)
async def test_what_would_come_back_as_another_value_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(WorkflowError, match="slot s: the value cannot be saved as JSON"):
        await through(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[int, int], {3: 10, 1: 20}),
        (dict, {"a": [1, 2.0, None, "ä", 2**70]}),
        (tuple[int, str], (1, "b")),
        (set[int], {1, 70, 4096}),
        (Best, Best(0.5)),
        (list[Best], [Best(-0.0)]),
        (bytes, b"ab"),
    ],
)
async def test_what_the_slots_type_can_hold_comes_back_as_it_was(kind: Any, value: object) -> None:
    assert repr(await through(kind, value)) == repr(value)


async def test_a_set_comes_back_whatever_order_its_items_had() -> None:
    crowded = set(range(5000))
    for number in range(5000):
        if number not in (1, 70, 4096):
            crowded.discard(number)
    assert await through(set, crowded) == {1, 70, 4096}


async def test_a_whole_number_in_a_float_slot_is_a_float_before_and_after_a_kill() -> None:
    loss = Slot("loss", float, Durable("json"))
    result = await run_nodes(Put("put", into=loss, value=0))
    assert repr(result.state["loss"]) == "0.0" == repr(await through(float, 0))
