"""Which exceptions can a user meet?

A `UserError` is the user's to mend: what, where, what was given, what to do; the command exits with 2
and prints no traceback. A `PortError` is a backend's failure, translated at the adapter's edge.
Everything else that escapes is our own bug.
"""

from crucible.errors.interrupted import Interrupted as Interrupted
from crucible.errors.port import PortError as PortError
from crucible.errors.problem import Problem as Problem
from crucible.errors.problem import did_you_mean as did_you_mean
from crucible.errors.user import CheckpointError as CheckpointError
from crucible.errors.user import ConfigError as ConfigError
from crucible.errors.user import DataError as DataError
from crucible.errors.user import ForeignCheckpointError as ForeignCheckpointError
from crucible.errors.user import ManifestError as ManifestError
from crucible.errors.user import MissingExtraError as MissingExtraError
from crucible.errors.user import ModelError as ModelError
from crucible.errors.user import RendererError as RendererError
from crucible.errors.user import ResumeError as ResumeError
from crucible.errors.user import RolloutGapError as RolloutGapError
from crucible.errors.user import SpecError as SpecError
from crucible.errors.user import StaleWeightsError as StaleWeightsError
from crucible.errors.user import UndeclaredSlotError as UndeclaredSlotError
from crucible.errors.user import UnsupportedError as UnsupportedError
from crucible.errors.user import UserError as UserError
from crucible.errors.user import WorkflowError as WorkflowError

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ForeignCheckpointError",
    "Interrupted",
    "ManifestError",
    "MissingExtraError",
    "ModelError",
    "PortError",
    "Problem",
    "RendererError",
    "ResumeError",
    "RolloutGapError",
    "SpecError",
    "StaleWeightsError",
    "UndeclaredSlotError",
    "UnsupportedError",
    "UserError",
    "WorkflowError",
    "did_you_mean",
]
