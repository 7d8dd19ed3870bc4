"""What did the user get wrong, and in which part of their input?"""

from collections.abc import Sequence
from typing import Self

from crucible.errors.problem import Problem


class UserError(ValueError):
    """The user's input is wrong; all the problems found, at once. Exit code 2."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        assert self.problems, "a UserError names at least one problem"
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, what: str, *, where: str = "", given: object = "", fix: str = "") -> Self:
        """The error with a single problem."""
        shown = given if isinstance(given, str) else repr(given)
        return cls(Problem(what=what, where=where, given=shown, fix=fix))


class ConfigError(UserError):
    """A recipe's name, a config key or a config value is wrong."""


class ManifestError(UserError):
    """A manifest, an adapter's name or an adapter's option is wrong."""


class SpecError(UserError):
    """An experiment file (`experiment.json`) is malformed or names what does not exist."""


class WorkflowError(UserError):
    """A workflow is wrong before it runs: a slot, a name, a node the runner cannot do."""


class UndeclaredSlotError(WorkflowError):
    """A stage touched a slot that it did not declare."""


class DataError(UserError):
    """A data set is missing, malformed (`file:line`), empty, or trains on nothing."""


class ModelError(UserError):
    """A model or tokenizer is missing, unreadable or of an unsupported kind."""


class RendererError(UserError):
    """A renderer is unknown, or does not fit the model's template."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint is whole, but of another base model than the session's, or of other weights of it."""


class StaleWeightsError(UserError):
    """Tokens of one policy were asked for, and another policy, or the base model, drew them."""


class RolloutGapError(UserError):
    """The sampler's logprobs of on-policy tokens are not the trainer's: what is trained on is not what was sampled."""


class ResumeError(UserError):
    """A run cannot be continued as asked: its config, its data, its machine or its folder is not what it was."""


class UnsupportedError(UserError):
    """A backend lacks what was asked of it, said by name."""


class MissingExtraError(UserError):
    """A feature needs an optional dependency that is not installed."""

    @classmethod
    def for_extra(cls, extra: str, *, needed_by: str, module: str) -> Self:
        """The one sentence with the install command."""
        return cls.of(
            f"{needed_by} needs the package {module!r}, which is not installed",
            fix=f"Install it with: pip install 'crucible-kitchen[{extra}]'",
        )
