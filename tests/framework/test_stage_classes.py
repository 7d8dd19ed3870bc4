"""Does a stage class say what it uses, and is one that does not refused when it is made?"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import pytest
from toys import Add, Put, Submit, row, slot

from crucible.framework import Reads, Slot, Stage, StageContext, Writes, declaration
from crucible.ports.future import Future


def test_a_stage_is_a_frozen_value_with_its_name_first() -> None:
    stage = Add("count", to=slot("n", int), amount=2)
    assert stage == Add("count", to=slot("n", int), amount=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.amount = 3


def test_fields_marked_as_slots_are_slots_and_all_others_are_options() -> None:
    declared = declaration(Add)
    assert {name: field.access for name, field in declared.slots.items()} == {"to": "updates", "other": "reads"}
    assert declared.slots["other"].optional and not declared.slots["to"].optional
    assert dict(declared.options) == {"amount": int}


def test_a_slot_annotated_without_its_use_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Careless\.source: annotate a slot as Reads\[T\], Writes\[T\] or Updates"):

        class Careless(Stage):
            source: Slot[int]


def test_an_execute_that_does_not_fit_where_it_runs_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Blocking\.execute must be a coroutine"):

        class Blocking(Stage):
            def execute(self, ctx: StageContext) -> None: ...

    with pytest.raises(TypeError, match=r"Threaded\.execute must be a plain function"):

        class Threaded(Stage):
            runs_in: ClassVar = "thread"

            async def execute(self, ctx: StageContext) -> None: ...


def test_a_stage_may_be_generic_over_the_slots_type() -> None:
    assert Put("put", into=row, value=1) == Put[int]("put", into=row, value=1)


def test_a_slots_type_is_compared_by_its_name() -> None:
    assert Slot("a", int) == Slot("a", object, type_name="int") != Slot("a", str)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Future[int], "Future[int]"),
        (dict[str, list[int] | None], "dict[str, list[int] | None]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (Annotated[int, "a count"], "int"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Any, "Any"),
    ],
)
def test_a_slots_type_is_named_without_modules(kind: Any, name: str) -> None:
    assert Slot("a", kind).type_name == name


def test_an_annotation_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(TypeError, match="annotations are read when the class is made: import their types"):

        class Forward(Stage):
            source: "Reads[Missing]"  # noqa: F821  (that it is undefined is the point)


def test_a_stage_inherits_the_slots_of_its_base() -> None:
    class Louder(Submit):
        note: Writes[str]
        hint: Reads[str] | None = None

        async def execute(self, ctx: StageContext) -> None: ...

    assert list(declaration(Louder).slots) == ["number", "into", "note", "hint"]
    assert Louder.ports == Submit.ports
