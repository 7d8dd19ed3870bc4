"""Is something wrong with data, tokenizer and settings before they train? Named checks, each with a finding."""

from crucible.train.checks.finding import Finding as Finding
from crucible.train.checks.finding import Status as Status
from crucible.train.checks.registry import CHECKS as CHECKS
from crucible.train.checks.registry import examine as examine
from crucible.train.checks.seen import Examined as Examined
from crucible.train.checks.seen import RowKey as RowKey
from crucible.train.checks.seen import SeenRow as SeenRow
from crucible.train.checks.seen import look as look

__all__ = ["CHECKS", "Examined", "Finding", "RowKey", "SeenRow", "Status", "examine", "look"]
