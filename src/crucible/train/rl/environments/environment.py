"""What is known of an environment before anything of it is loaded, and what is it given when it is?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from crucible.errors import Problem
from crucible.ports.dataset_store import DatasetStore
from crucible.ports.tokenizer import Tokenizer
from crucible.train.renderers.renderer import Renderer
from crucible.train.rl.types import RLDataset

Split: TypeAlias = Literal["train", "eval"]
"""`eval` has problems that `train` has not, but where an environment says that it has too few for that."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentRequest:
    """What an environment is made from.

    renderer: for those that talk (`Environment.needs_renderer`). datasets: for those whose problems are rows.
    group_size: attempts at one problem; groups_per_batch: problems of a batch.
    seed: of the order of problems, and of generated ones. rows: the most problems taken; None: all there are.
    options: the environment's own (`Environment.options`); those left out have their defaults.
    """

    tokenizer: Tokenizer
    group_size: int
    groups_per_batch: int
    seed: int
    split: Split = "train"
    renderer: Renderer | None = None
    datasets: DatasetStore | None = None
    rows: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of an environment: a value of the default's own type.

    choices: the only values it may have; least, most: the smallest and the greatest number it may be.
    """

    default: int | float | str | bool
    description: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A name of the table, and what a plan or a doctor may know of it without loading it.

    description: one line. load: (variant, request) to the problems; the registry has checked both, and has filled in
    the options' defaults.
    variants: what may follow the name and a colon, the first being meant where nothing does; none: nothing may.
    list_variants: the same where an extra has to be asked; a variant must then be named, as `example` is.
    needs_renderer: whether it talks in messages; the others are plain text, for models that were never taught to chat.
    needs_rows: whether its problems come from a dataset store.
    graders: which of them its answers go to, unless its option `grader` names another.
    extra, module: what has to be installed beside the base package.
    turns: the most that an episode takes by itself; 0: no limit that is known here. players: how many share one game.
    max_tokens: room enough for a turn; count_tokens: (variant, options) to the same, where they make a difference.
    options: its own; with `list_options`, those of a variant beside them; any_options: it takes whatever it is given.
    check: (variant, options with their defaults) to what stands against it: options that do not fit together, or what
    this machine lacks. Cheap enough for a plan; reads no data.
    """

    name: str
    description: str
    load: Callable[[str, EnvironmentRequest], RLDataset]
    variants: tuple[str, ...] = ()
    list_variants: Callable[[], Sequence[str]] | None = None
    example: str = ""
    needs_renderer: bool = False
    needs_rows: bool = False
    graders: tuple[str, ...] = ()
    extra: str = ""
    module: str = ""
    turns: int = 1
    players: int = 1
    max_tokens: int = 256
    count_tokens: Callable[[str, Mapping[str, Any]], int] | None = None
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    list_options: Callable[[str], Mapping[str, Option]] | None = None
    any_options: bool = False
    check: Callable[[str, Mapping[str, Any]], Iterable[Problem]] | None = None

    def graders_with(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Which graders answers go to, with these options."""
        return (str(options["grader"]),) if "grader" in options else self.graders

    def tokens(self, variant: str, options: Mapping[str, Any] | None = None) -> int:
        """Room enough for a turn: what `max_tokens` should be where nobody says otherwise."""
        return self.max_tokens if self.count_tokens is None else self.count_tokens(variant, options or {})
