"""Do handlers hear exactly the events that they asked for, and can none of them hurt a run?"""

import logging
import threading

import pytest

from crucible import telemetry
from crucible.errors import ConfigError
from crucible.telemetry import EVENTS, Bus, Event


def heard_by(*filters: str) -> list[str]:
    bus, names = Bus(), list[str]()
    bus.attach("list", filters, lambda event: names.append(event.name))
    for name in (*EVENTS, "plugin.done"):
        bus.emit(name)
    return names


def test_the_events_are_those_of_the_seeds_and_those_of_resume_retry_and_cache() -> None:
    assert (
        *("workflow.start", "workflow.stop", "workflow.exception", "workflow.resume"),
        *("stage.start", "stage.stop", "stage.exception", "stage.retry", "stage.uncached"),
        "data.examined",
        *("training.step", "training.epoch", "training.checkpoint"),
        *("eval.start", "eval.stop", "eval.result"),
    ) == EVENTS


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["training.step"], ["training.step"]),
        (["training"], ["training.step", "training.epoch", "training.checkpoint"]),
        (["eval.", "workflow.stop"], ["workflow.stop", "eval.start", "eval.stop", "eval.result"]),
        (["plugin"], ["plugin.done"]),
        (["*"], [*EVENTS, "plugin.done"]),
        ([], []),
    ],
)
def test_a_filter_is_an_event_a_prefix_or_a_star(filters: list[str], names: list[str]) -> None:
    assert heard_by(*filters) == names


@pytest.mark.parametrize("filters", ["traning.step", "training.stop", "stage.strat", ""])
def test_a_misspelt_filter_is_refused(filters: str) -> None:
    with pytest.raises(ConfigError, match="no telemetry event matches this filter"):
        Bus().attach("h", filters, print)


def test_an_event_carries_what_was_emitted_and_when() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "training.step", events.append)
    bus.emit("training.step", {"loss": 1.5}, {"run_id": "r"})
    bus.emit("training.step")
    assert (events[0].name, events[0].measurements, events[0].metadata) == (
        "training.step",
        {"loss": 1.5},
        {"run_id": "r"},
    )
    assert 0 < events[0].time_ns <= events[1].time_ns and events[1].measurements == {}


def test_handlers_are_called_in_the_order_they_were_attached() -> None:
    bus, calls = Bus(), list[str]()
    for name in ("a", "b", "c"):
        bus.attach_many(name, ["workflow", "stage"], lambda _, name=name: calls.append(name))
    bus.detach("b")
    bus.emit("stage.stop")
    assert calls == ["a", "c"] == list(bus.attached())


def test_a_failing_handler_is_detached_and_reported_once_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, calls = Bus(), list[Event]()
    bus.attach("bad", "*", lambda _: 1 / 0)
    bus.attach("good", "*", calls.append)
    with caplog.at_level(logging.ERROR, logger="crucible"):
        for _ in range(3):
            bus.emit("stage.stop")
    assert len(calls) == 3 and bus.attached() == ("good",)
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry handler 'bad' failed on stage.stop and was detached"
    ]


def test_an_interrupt_in_a_handler_is_not_held_back() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt(event.name)

    bus = Bus()
    bus.attach("bad", "*", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.emit("stage.stop")


def test_an_id_is_attached_once_until_it_is_detached() -> None:
    bus = Bus()
    bus.attach("h", "stage", print)
    with pytest.raises(ConfigError, match="attached already"):
        bus.attach("h", "stage", print)
    assert bus.detach("h") and not bus.detach("h")
    bus.attach("h", "stage", print)


def test_events_from_many_threads_all_arrive() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage", events.append)
    threads = [threading.Thread(target=lambda: [bus.emit("stage.stop") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events) == 400


def test_the_module_speaks_to_the_default_bus() -> None:
    events = list[Event]()
    telemetry.attach("test.one", "eval", events.append)
    telemetry.attach_many("test.two", ["eval.stop"], events.append)
    telemetry.emit("eval.stop", {"seconds": 1.0})
    assert telemetry.detach("test.one") and telemetry.detach("test.two")
    telemetry.emit("eval.stop")
    assert [event.measurements for event in events] == [{"seconds": 1.0}, {"seconds": 1.0}]


def test_the_default_handlers_are_attached_once() -> None:
    bus = Bus()
    for _ in range(2):
        telemetry.attach_default_handlers(bus=bus)
    assert bus.attached() == ("crucible.console",)
