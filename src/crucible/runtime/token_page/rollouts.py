"""How do the rollouts of a run stand in its page? As their tree, whose turns point into the page's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from crucible.runtime.token_rows import RolloutPlace, RolloutsView, StepPoint, ViewRow
from crucible.train.rl.record_values import figure_of
from crucible.train.rl.tree import GroupTree, MemberTree, StepTree, TurnTree
from crucible.train.token_record import Figure


def rollouts_data(view: RolloutsView, rows: Sequence[ViewRow]) -> dict[str, Any]:
    """The tree as JSON data. Of a turn whose tokens are in a row of the page, the row has the text."""
    places = {row.rollout: place for place, row in enumerate(rows) if row.rollout is not None}
    return {"curve": [_point(point) for point in view.curve], "steps": [_step(tree, places) for tree in view.steps]}


def _point(point: StepPoint) -> dict[str, Any]:
    return {
        "purpose": point.purpose,
        "step": point.step,
        "mean": _figure(point.metrics.get("reward/mean")),
        "stderr": _figure(point.metrics.get("reward/stderr")),
        "lowest": _figure(point.lowest),
        "highest": _figure(point.highest),
        "ended": dict(point.ended),
        "shown": point.shown,
    }


def _figure(value: float | None) -> Figure:
    return None if value is None else figure_of(value)


def _step(tree: StepTree, places: Mapping[RolloutPlace, int]) -> dict[str, Any]:
    return {
        **_data(tree, without="groups"),
        "groups": [_group(tree, group, places) for group in tree.groups],
    }


def _group(tree: StepTree, group: GroupTree, places: Mapping[RolloutPlace, int]) -> dict[str, Any]:
    return {
        **_data(group, without="members"),
        "members": [_member(tree, group, member, places) for member in group.members],
    }


def _member(tree: StepTree, group: GroupTree, member: MemberTree, places: Mapping[RolloutPlace, int]) -> dict[str, Any]:
    found: dict[int, int | None] = {}
    number = 0
    for part in sorted({turn.part for turn in member.turns}):
        sampled = any(turn.tokens for turn in member.turns if turn.part == part)
        where = RolloutPlace(purpose=tree.purpose, step=tree.step, group=group.index, member=member.member, part=number)
        found[part] = places.get(where) if sampled else None
        number += sampled
    turns = [_turn(turn, found[turn.part]) for turn in member.turns]
    return {**_data(member, without="turns"), "turns": turns}


def _turn(turn: TurnTree, row: int | None) -> dict[str, Any]:
    data = {**_data(turn), "row": row}
    return data if row is None else {name: data[name] for name in data if name not in ("observed", "answered")}


def _data(one: msgspec.Struct, *, without: str = "") -> dict[str, Any]:
    names = (name for name in one.__struct_fields__ if name != without)
    return {name: msgspec.to_builtins(getattr(one, name)) for name in names}
