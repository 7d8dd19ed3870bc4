"""Rows and settings to examine: each check is shown what it catches and what it lets pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from crucible.ports.dataset_store import RowSet
from crucible.train.checks import CHECKS, Examined, Finding, look
from crucible.train.data import RowRenderer
from crucible.train.renderers import Renderer, TrainOn

Look = Callable[..., Examined]
Find = Callable[..., Finding]


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


ROWS = [asked(f"what is {number} plus {number}?", f"{number + number}, I think") for number in range(30)]


@pytest.fixture(scope="session")
def clean() -> list[dict[str, Any]]:
    """Thirty rows with nothing wrong."""
    return [dict(row) for row in ROWS]


@pytest.fixture(scope="session")
def looked(renderers: dict[str, Renderer]) -> Look:
    """Examines rows; `renderer` is a name of the fixtures or an object."""

    def make(
        rows: Sequence[Mapping[str, Any]] = ROWS,
        *,
        heldout: Sequence[Mapping[str, Any]] = (),
        renderer: str | Renderer = "chatml",
        train_on: str = "all_assistant_messages",
        max_length: int | None = 512,
        **more: Any,
    ) -> Examined:
        rendering = RowRenderer(
            renderer=renderers[renderer] if isinstance(renderer, str) else renderer,
            train_on=TrainOn(train_on),
            row_format="messages",
            max_length=max_length,
            reduction="mean",
        )
        kept = RowSet(list(heldout), name="held")
        return look(
            RowSet(list(rows), name="rows"), heldout=kept, rendering=rendering, first=200, told_apart=999, **more
        )

    return make


@pytest.fixture(scope="session")
def find(looked: Look) -> Find:
    """What one check finds of rows."""

    def one(name: str, *rows: Any, **options: Any) -> Finding:
        return CHECKS[name](looked(*rows, **options))

    return one
