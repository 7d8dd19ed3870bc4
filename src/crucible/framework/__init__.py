"""How is an experiment written, checked, run and recorded? Nodes, slots, the plan's checks, the runner, the journal."""

from crucible.framework.atomic import write_atomically as write_atomically
from crucible.framework.check import check as check
from crucible.framework.codec import Codec as Codec
from crucible.framework.codec import Place as Place
from crucible.framework.codec import register_codec as register_codec
from crucible.framework.conditions import And as And
from crucible.framework.conditions import Compare as Compare
from crucible.framework.conditions import Condition as Condition
from crucible.framework.conditions import Every as Every
from crucible.framework.conditions import Named as Named
from crucible.framework.conditions import Not as Not
from crucible.framework.conditions import Or as Or
from crucible.framework.conditions import register_condition as register_condition
from crucible.framework.context import StageContext as StageContext
from crucible.framework.declaration import declaration as declaration
from crucible.framework.draw import draw_mermaid as draw_mermaid
from crucible.framework.draw import draw_text as draw_text
from crucible.framework.entries import Keep as Keep
from crucible.framework.execution import execute as execute
from crucible.framework.journal import Journal as Journal
from crucible.framework.journal_file import read_records as read_records
from crucible.framework.lift import lift as lift
from crucible.framework.lower import lower as lower
from crucible.framework.nodes import Loop as Loop
from crucible.framework.nodes import Node as Node
from crucible.framework.nodes import Parallel as Parallel
from crucible.framework.nodes import Range as Range
from crucible.framework.nodes import Stream as Stream
from crucible.framework.nodes import When as When
from crucible.framework.nodes import Workflow as Workflow
from crucible.framework.nodes import stages_in as stages_in
from crucible.framework.result import RunResult as RunResult
from crucible.framework.resuming import History as History
from crucible.framework.resuming import read_history as read_history
from crucible.framework.resuming import repair as repair
from crucible.framework.run import Run as Run
from crucible.framework.slot import Durable as Durable
from crucible.framework.slot import Reads as Reads
from crucible.framework.slot import Rebuilt as Rebuilt
from crucible.framework.slot import Slot as Slot
from crucible.framework.slot import Updates as Updates
from crucible.framework.slot import Writes as Writes
from crucible.framework.stage import Stage as Stage
from crucible.framework.stage import StageTimeoutError as StageTimeoutError
from crucible.framework.stopping import RunStopped as RunStopped
from crucible.framework.stopping import Stop as Stop
from crucible.framework.versioned import Versioned as Versioned
from crucible.framework.workflow import optional_ports as optional_ports
from crucible.framework.workflow import required_ports as required_ports

__all__ = [
    "And",
    "Codec",
    "Compare",
    "Condition",
    "Durable",
    "Every",
    "History",
    "Journal",
    "Keep",
    "Loop",
    "Named",
    "Node",
    "Not",
    "Or",
    "Parallel",
    "Place",
    "Range",
    "Reads",
    "Rebuilt",
    "Run",
    "RunResult",
    "RunStopped",
    "Slot",
    "Stage",
    "StageContext",
    "StageTimeoutError",
    "Stop",
    "Stream",
    "Updates",
    "Versioned",
    "When",
    "Workflow",
    "Writes",
    "check",
    "declaration",
    "draw_mermaid",
    "draw_text",
    "execute",
    "lift",
    "lower",
    "optional_ports",
    "read_history",
    "read_records",
    "register_codec",
    "register_condition",
    "repair",
    "required_ports",
    "stages_in",
    "write_atomically",
]
