"""What is an experiment, as plain data? JSON in, JSON out, schema, validation; it never runs and does no I/O."""

from crucible.ir.condition import AndCondition as AndCondition
from crucible.ir.condition import CompareCondition as CompareCondition
from crucible.ir.condition import Condition as Condition
from crucible.ir.condition import EveryCondition as EveryCondition
from crucible.ir.condition import NamedCondition as NamedCondition
from crucible.ir.condition import NotCondition as NotCondition
from crucible.ir.condition import OrCondition as OrCondition
from crucible.ir.experiment import DurableSurvival as DurableSurvival
from crucible.ir.experiment import Experiment as Experiment
from crucible.ir.experiment import RebuiltSurvival as RebuiltSurvival
from crucible.ir.experiment import SlotDef as SlotDef
from crucible.ir.experiment import Survival as Survival
from crucible.ir.file import from_json as from_json
from crucible.ir.file import json_schema as json_schema
from crucible.ir.file import to_json as to_json
from crucible.ir.json_data import Json as Json
from crucible.ir.json_data import json_problems as json_problems
from crucible.ir.node import ConditionalNode as ConditionalNode
from crucible.ir.node import LoopNode as LoopNode
from crucible.ir.node import Node as Node
from crucible.ir.node import ParallelNode as ParallelNode
from crucible.ir.node import StageNode as StageNode
from crucible.ir.node import StreamNode as StreamNode
from crucible.ir.node import WorkflowNode as WorkflowNode
from crucible.ir.node import blocks_of as blocks_of
from crucible.ir.validation import validate as validate

__all__ = [
    "AndCondition",
    "CompareCondition",
    "Condition",
    "ConditionalNode",
    "DurableSurvival",
    "EveryCondition",
    "Experiment",
    "Json",
    "LoopNode",
    "NamedCondition",
    "Node",
    "NotCondition",
    "OrCondition",
    "ParallelNode",
    "RebuiltSurvival",
    "SlotDef",
    "StageNode",
    "StreamNode",
    "Survival",
    "WorkflowNode",
    "blocks_of",
    "from_json",
    "json_problems",
    "json_schema",
    "to_json",
    "validate",
]
