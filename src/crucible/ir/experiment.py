"""What is an experiment, as plain data?"""

from typing import Any, TypeAlias

import msgspec

from crucible.ir.node import Node


class DurableSurvival(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="durable", tag_field="survives"):
    """Saved with every checkpoint by this codec."""

    codec: str


class RebuiltSurvival(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="rebuilt", tag_field="survives"):
    """Made again on resume by the stage or loop of this name. afresh: a new value will do."""

    by: str
    afresh: bool = False


Survival: TypeAlias = DurableSurvival | RebuiltSurvival


class SlotDef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slot: its value's type, by name, and how it survives a kill."""

    type: str
    survival: Survival | None = None


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pipeline and the config it was made from. It says what to run and never runs.

    id: names the experiment. name: the workflow's name; empty means the id. pipeline: the nodes in order
    (`stages` in an input file means the same). slots: by name. config: every value, by key. metadata: what
    says where it came from, such as each config value's origin.
    """

    id: str
    pipeline: tuple[Node, ...]
    name: str = ""
    description: str = ""
    slots: dict[str, SlotDef] = {}
    config: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
