"""Does the plan find everything that is wrong, at once, in sentences?"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
from toys import Add, Engine, Fail, Log, Put, Save, Submit, epoch, future, row, rows, slot, step, supervised, total

from crucible.errors import Problem
from crucible.framework import (
    And,
    Compare,
    Durable,
    Every,
    Loop,
    Named,
    Node,
    Parallel,
    Range,
    Reads,
    Rebuilt,
    Slot,
    Stage,
    StageContext,
    Stream,
    When,
    Workflow,
    check,
    optional_ports,
    required_ports,
)
from crucible.ports import MetricsStore

n = slot("n", int)
put = Put("put", into=n, value=1)


def problems_of(*nodes: Any, **options: Any) -> list[str]:
    return [str(problem) for problem in check(Workflow("w", body=nodes), **options)]


def test_a_sound_workflow_has_no_problems() -> None:
    assert check(supervised(), ports={"engine": Engine()}) == []


def test_all_problems_of_a_workflow_are_found_at_once() -> None:
    loose = Slot("loose", int)
    nodes = [
        Put("put", into=loose, value=print),
        Loop("put", over=rows, bind=row, depth=-1, body=[Save("save", step=step)], until=lambda: True),
        When(Every(2), [Submit("submit", number=total, into=future)]),
    ]
    found = problems_of(*nodes, ports={})
    assert [text.split(" (given")[0].split(". ")[0] for text in found] == [
        "w > put: the name is taken",
        "w > put.value: a function is not data, so the run could not start from its file alone",
        "w > put.depth: a depth needs an integer of 0 or more",
        "w > put.until: expected a condition; a function is not data, so the run could not start from its file alone",
        "w > put: the slot is read where it may hold nothing",
        "w > put > save: the slot is read where it may hold nothing",
        "w: Every without a slot counts a loop's iterations, and there is no loop here",
        "w > submit: the slot is read where it may hold nothing",
        "slot loose: the slot does not say how it survives a kill",
        "slot rows: the slot is rebuilt by a node that does not exist",
        "slot row: the slot is rebuilt by a node that does not exist",
        "w > submit: the stage needs the port engine, which this run lacks",
    ]


@pytest.mark.parametrize("thing", [lambda: None, Fail, "stage", None], ids=repr)
def test_what_is_no_node_is_refused_where_it_stands(thing: object) -> None:
    (text,) = problems_of(put, thing)
    assert "expected a node" in text and "A node is a Stage, Loop, When" in text


@pytest.mark.parametrize("value", [len, lambda: 0, object(), (1, 2), {1: 2}, float("nan")], ids=repr)
def test_an_option_that_is_not_json_data_is_refused(value: object) -> None:
    (text,) = problems_of(Put("put", into=n, value=value))
    assert text.startswith("w > put.value: ")


def test_an_option_of_another_type_than_annotated_is_refused() -> None:
    (text,) = problems_of(put, Add("add", to=n, amount="1"))
    assert text == "w > add.amount: Expected `int`, got `str` (given: '1')."


def test_a_stages_own_checks_are_part_of_the_plan() -> None:
    class Bounded(Stage):
        limit: int

        def check(self) -> Iterable[Problem]:
            if self.limit > 3:
                yield Problem(what="the limit is above 3", where="limit", given=str(self.limit))

        async def execute(self, ctx: StageContext) -> None: ...

    assert problems_of(Bounded("b", limit=4)) == ["w > b.limit: the limit is above 3 (given: 4)."]
    assert "Expected `int`" in problems_of(Bounded("b", limit="x"))[0]


def test_a_slot_of_the_wrong_type_is_refused() -> None:
    (text,) = problems_of(Put("put", into=rows, value=[]), Log("log", step=rows, value=rows))[:1]
    assert text == "w > log.step: the stage reads a int (given: slot rows of list[int]). Give a slot of that type."


def test_types_that_can_fit_are_let_through() -> None:
    class Wide(Stage):
        many: Reads[Sequence[int]]
        real: Reads[float]
        either: Reads[str | int]
        plain: Reads[object]

        async def execute(self, ctx: StageContext) -> None: ...

    stage = Wide("wide", many=rows, real=n, either=n, plain=rows)
    assert problems_of(Put("load", into=rows, value=[]), put, stage) == []


def test_a_field_that_needs_a_slot_takes_nothing_else() -> None:
    assert problems_of(put, Add("a", to="n")) == ["w > a.to: expected a Slot (given: 'n')."]


def test_a_value_written_in_one_branch_only_is_not_certain_after_it() -> None:
    branch = Put("b", into=total, value=1)
    assert problems_of(put, When(Compare(n, ">", 0), [branch]), Save("save", step=total)) == [
        "w > save: the slot is read where it may hold nothing (given: total). "
        "Written by b, later or only sometimes: write it before this."
    ]
    both = When(Compare(n, ">", 0), [branch], otherwise=[Put("c", into=total, value=2)])
    assert problems_of(put, both, Save("save", step=total)) == []


def test_a_value_written_in_a_loop_is_certain_after_it_only_if_the_loop_surely_runs() -> None:
    body: list[Node] = [Put("b", into=total, value=1)]
    load = Put("load", into=rows, value=[])
    assert problems_of(Loop("l", over=Range(1), body=body), Save("save", step=total)) == []
    assert len(problems_of(Loop("l", over=Range(0), body=body), Save("save", step=total))) == 1
    assert len(problems_of(load, Loop("l", over=rows, body=body), Save("save", step=total))) == 1


def test_a_value_carried_to_the_next_iteration_must_exist_in_the_first() -> None:
    body: list[Node] = [Save("save", step=total), Put("b", into=total, value=1)]
    assert (
        "w > l > save: the slot is read where it may hold nothing"
        in problems_of(Loop("l", over=Range(3), body=body))[0]
    )


def test_one_slot_name_means_one_slot() -> None:
    other = Slot("n", int, Durable("other"))
    (text,) = problems_of(put, Save("save", step=other))
    assert text.startswith("save: the slot is defined twice, differently")


def test_a_slot_is_rebuilt_by_a_node_that_writes_it() -> None:
    wrong = Slot("x", int, Rebuilt(by="save"))
    texts = problems_of(Put("put", into=wrong, value=1), Save("save", step=wrong))
    assert texts == ["slot x: the slot is rebuilt by a node that does not write it (given: save). Written by: put."]


def test_a_condition_nobody_registered_is_refused_with_a_hint() -> None:
    (text,) = problems_of(put, When(And(Compare(n, "==", 1), Named("plateu")), [put.__class__("p2", into=n, value=2)]))
    assert text.startswith("w: no condition has this name (given: plateu)")


def test_conditions_are_checked_to_their_leaves() -> None:
    wrong = And(Every(-1, n), Compare(n, "=", 1), Compare("n", "==", print))
    whats = [text.split(" (given")[0] for text in problems_of(put, When(wrong, [Save("s", step=n)]))]
    assert whats == [
        "w: Every needs an integer of 0 or more",
        "w: unknown comparison",
        "w: expected a Slot",
        "w: a function is not data, so the run could not start from its file alone",
    ]


def test_parallel_stream_and_processes_are_refused_by_name() -> None:
    class Apart(Stage):
        runs_in: ClassVar = "process"

        def execute(self, ctx: StageContext) -> None: ...

    parallel = Parallel("p", branches=[[put], [Apart("apart")]])
    stream = Stream("s", produce=[Put("other", into=n, value=1)], consume=[Save("save", step=n)])
    assert [text.split(". ")[0] for text in problems_of(parallel, stream)] == [
        "w > p: the runner cannot run a Parallel yet",
        "w > p > apart: the runner cannot run a stage in a process yet",
        "w > s: the runner cannot run a Stream yet",
    ]


def test_empty_names_and_bodies_are_refused() -> None:
    found = problems_of(Put("", into=n, value=1), Loop("l", over=Range(1), body=[]), Workflow("inner", body=[]))
    assert [text.split(". ")[0] for text in found] == [
        "w > : a Put needs a name.",
        "w > inner: the workflow has no nodes.",
        "w > l: the loop's body is empty.",
    ]


def test_names_are_unique_within_a_workflow_and_free_in_another() -> None:
    inner = Workflow("inner", body=[Put("put", into=n, value=1)])
    assert problems_of(put, inner) == []
    assert "the name is taken" in problems_of(put, inner, Workflow("inner", body=[Save("s", step=n)]))[0]


def test_a_port_of_the_wrong_kind_is_refused() -> None:
    found = [str(problem) for problem in check(supervised(), ports={"engine": object()})]
    assert found == ["supervised > epochs > batches > submit: the adapter for engine is no Engine (given: object)."]


def test_a_workflow_says_which_ports_it_needs_and_which_it_can_use() -> None:
    class Both(Stage):
        ports: ClassVar = (Engine,)
        optional_ports: ClassVar = (MetricsStore, Engine)

        async def execute(self, ctx: StageContext) -> None: ...

    workflow = Workflow("w", body=[Loop("l", over=Range(1), body=[Both("a"), Both("b")])])
    assert required_ports(workflow) == (Engine,)
    assert optional_ports(workflow) == (MetricsStore,)
    assert epoch.survives == Rebuilt(by="epochs")
