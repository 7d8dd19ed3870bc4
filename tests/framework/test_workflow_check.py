"""Does the plan find everything that is wrong, at once, in sentences?"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
from toys import (
    Add,
    Copy,
    Engine,
    Fail,
    Log,
    Put,
    Save,
    Submit,
    epoch,
    future,
    row,
    rows,
    slot,
    step,
    supervised,
    total,
)

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
    Updates,
    When,
    Workflow,
    Writes,
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


@pytest.mark.parametrize("thing", [lambda: None, Fail, "stage", None], ids=["lambda", "class", "text", "None"])
def test_what_is_no_node_is_refused_where_it_stands(thing: object) -> None:
    (text,) = problems_of(put, thing)
    assert "expected a node" in text and "A node is a Stage, Loop, When" in text


@pytest.mark.parametrize(
    "value",
    [len, lambda: 0, object(), (1, 2), {1: 2}, float("nan")],
    ids=["function", "lambda", "object", "tuple", "key", "nan"],
)
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


def test_what_a_stage_tells_the_runner_is_checked() -> None:
    class Apart(Stage):
        runs_in: ClassVar = "process"
        ports: ClassVar = (Engine,)

        def execute(self, ctx: StageContext) -> None: ...

    class Threaded(Stage):
        runs_in: ClassVar = "thread"

        def execute(self, ctx: StageContext) -> None: ...

    wrong = Fail("f", timeout=0, retry=-1, backoff=-1.0, on_error="retry")
    assert [text.split(" (given")[0] for text in problems_of(wrong, Apart("a"), Threaded("t", timeout=1.0))] == [
        "w > f.timeout: a timeout is a number of seconds above 0",
        "w > f.retry: retry is a number of further attempts from 0",
        "w > f.backoff: backoff is a number of seconds from 0",
        "w > f.on_error: on_error is halt or skip",
        "w > a: a stage in a process of its own has no ports. Leave its ports to another stage, or run it in the loop "
        "or a thread.",
        "w > t: a stage in a thread takes no timeout: a thread cannot be killed. Run it in a process, or leave the "
        "timeout out.",
    ]


def test_branches_that_touch_what_another_one_writes_are_refused() -> None:
    other = Put("other", into=total, value=1)
    parallel = Parallel("p", branches=[[put], [other, Log("log", step=total, value=n)]])
    (text, *_) = problems_of(parallel)
    assert text.startswith("w > p: one branch writes a slot that another branch touches")
    assert problems_of(Parallel("p", branches=[[put], [other]]), Log("log", step=total, value=n)) == []


def test_what_a_branch_writes_is_not_certain_if_its_failure_is_let_pass() -> None:
    parallel = Parallel("p", branches=[[put], [Put("other", into=total, value=1)]], on_error="continue")
    assert "read where it may hold nothing" in problems_of(parallel, Log("log", step=total, value=n))[0]


def test_what_a_skipped_stage_writes_is_not_certain() -> None:
    assert "may hold nothing" in problems_of(Put("s", into=n, value=1, on_error="skip"), Save("save", step=n))[0]


def test_a_stream_whose_producer_reads_what_the_consumer_writes_is_refused() -> None:
    stream = Stream("s", over=Range(2), produce=[Log("log", step=n, value=n)], consume=[Add("add", to=n)])
    assert problems_of(put, stream)[0].startswith("w > s: the produce or until reads a slot that consume writes")


@pytest.mark.parametrize("place", ["settle", "branch", "produce", "nested"])
def test_a_checkpoint_is_refused_where_the_run_could_not_be_continued(place: str) -> None:
    save = Save("save", step=n)
    where: dict[str, Node] = {
        "settle": Loop("l", over=Range(1), body=[Fail("f")], settle=[save]),
        "branch": Parallel("p", branches=[[save], [Fail("f")]]),
        "produce": Stream("s", over=Range(1), produce=[save], consume=[Fail("f")]),
        "nested": Loop("l", over=Range(1), body=[Loop("m", over=Range(1), body=[save])], settle=[Fail("f")]),
    }
    assert "a checkpoint cannot be taken in " in problems_of(put, where[place])[0]


def test_a_rebuilt_slot_that_another_stage_changes_is_refused() -> None:
    count = Slot("count", int, Rebuilt(by="zero"))
    loop = Loop("l", over=Range(2), body=[Add("add", to=count)])
    (text,) = problems_of(Put("zero", into=count, value=0), loop, Log("log", step=count, value=count))
    assert text.startswith("slot count: the slot is rebuilt by zero, but add changes it: that would be lost")
    fresh = Slot("count", int, Rebuilt(by="zero", afresh=True))
    assert problems_of(Put("zero", into=fresh, value=0), Loop("l", over=Range(2), body=[Add("add", to=fresh)])) == []


def test_a_slot_rebuilt_from_what_has_changed_since_is_refused() -> None:
    """DPO's reference: scored with the policy before training, it must not be scored again with a trained one."""
    reference = Slot("reference", int, Rebuilt(by="score"))
    score = Copy("score", of=n, into=reference)
    train = Loop("l", over=Range(2), body=[Add("train", to=n, other=reference)])
    (text,) = problems_of(put, score, train)
    assert text.startswith("slot reference: score, which rebuilds the slot, reads n, which has changed since it ran")


def test_a_slot_rebuilt_in_a_loop_that_is_over_is_refused() -> None:
    last = Slot("last", int, Rebuilt(by="note"))
    loop = Loop("l", over=Range(2), body=[Add("add", to=n), Put("note", into=last, value=1)])
    (text,) = problems_of(put, loop, Log("log", step=last, value=last))
    assert "stands in a loop or branch that is over when the slot is read" in text


def test_a_slot_rebuilt_from_what_its_stage_itself_changes_is_refused() -> None:
    class Draw(Stage):
        seed: Updates[int]
        into: Writes[int]

        async def execute(self, ctx: StageContext) -> None: ...

    drawn = Slot("drawn", int, Rebuilt(by="draw"))
    (text,) = problems_of(put, Draw("draw", seed=n, into=drawn), Log("log", step=n, value=drawn))
    assert text.startswith("slot drawn: draw, which rebuilds the slot, reads n and changes it itself")


def test_a_slot_that_two_stages_of_the_rebuilders_name_write_comes_from_the_last_or_is_refused() -> None:
    drawn = Slot("drawn", int, Rebuilt(by="draw"))
    first, second = (Workflow(name, body=[Put("draw", into=drawn, value=1)]) for name in ("first", "second"))
    log = Log("log", step=n, value=drawn)
    assert problems_of(put, first, second, log) == []
    (text,) = problems_of(put, first, When(Compare(n, "==", 1), [second]), put.__class__("p", into=n, value=2), log)
    assert text.startswith("slot drawn: draw, which rebuilds the slot, is not the last that wrote it")


@pytest.mark.parametrize("part", ["body", "settle", "bind", "produce"])
def test_a_loop_that_changes_what_it_runs_over_is_refused(part: str) -> None:
    todo, item = slot("todo", list[int]), Slot("item", int, Rebuilt(by="l"))
    grow = Put("grow", into=todo, value=[])
    loops: dict[str, Node] = {
        "body": Loop("l", over=todo, bind=item, body=[grow]),
        "settle": Loop("l", over=todo, bind=item, body=[Save("save", step=item)], settle=[grow]),
        "bind": Loop("l", over=todo, bind=todo, body=[Save("save", step=todo)]),
        "produce": Stream("l", over=todo, bind=item, produce=[grow], consume=[Save("save", step=item)]),
    }
    texts = problems_of(Put("start", into=todo, value=[1]), loops[part])
    assert any(text.startswith("w > l: the loop changes the slot that it runs over") for text in texts)


def test_a_codec_that_does_not_exist_or_cannot_save_the_type_is_refused() -> None:
    odd, unknown = Slot("odd", Engine, Durable("json")), Slot("unknown", int, Durable("jsno"))
    found = problems_of(Put("a", into=odd, value=1), Put("b", into=unknown, value=1))
    assert found[0].startswith("slot odd: codec json cannot save a Engine: ")
    assert found[1] == "slot unknown: no codec has this name (given: jsno). Did you mean json?"


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
