"""What can be set on the embedded engine?"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from crucible.errors import ManifestError, Problem, did_you_mean

DTypeName: TypeAlias = Literal["float32", "bfloat16"]
"""What the engine computes in."""

ExportDTypeName: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""What a merged model is written in."""

DeviceName: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engine's settings.

    checkpoint_dir: folder that checkpoints are written under; made when the first one is saved.
    dtype: of the base model and of all computation on it. Adapters, gradients and optimizer stay float32.
    device: `auto` is cuda where there is one, then mps, then cpu.
    threads: CPU threads of one operation; None is PyTorch's own choice. Part of what makes bytes repeat.
    token_budget: most tokens in one micro-batch (a longer sequence goes alone). It bounds the memory that
        activations take, and changes gradients only by rounding.
    slots: most sequences that are decoded together. More of them share the reading of the weights, and each keeps a KV
        cache; there are fewer where those would not fit.
    mix_adapters: let the waiting calls of several sessions go through the base model in one pass. Faster for many
        small calls; a result's last bits then depend on what else was waiting, so the same calls no longer give the
        same bytes.
    max_memory: most bytes that base models, activations, adapters, optimizers and KV caches may take together, as
        counted by their sizes (`crucible.engine.memory`); a session that does not fit into what is free is refused
        with a retryable PortError. None is no limit.

    Raises:
        ManifestError: naming every option that is wrong.
    """

    checkpoint_dir: Path
    dtype: DTypeName = "float32"
    device: DeviceName = "auto"
    threads: int | None = None
    token_budget: int = 512
    slots: int = 64
    mix_adapters: bool = False
    max_memory: int | None = None

    def __post_init__(self) -> None:
        problems = [*_wrong_name("dtype", self.dtype, get_args(DTypeName))]
        problems += _wrong_name("device", self.device, get_args(DeviceName))
        if self.threads is not None:
            problems += _wrong_count("threads", self.threads)
        problems += _wrong_count("token_budget", self.token_budget)
        problems += _wrong_count("slots", self.slots)
        if self.max_memory is not None:
            problems += _wrong_count("max_memory", self.max_memory)
        if problems:
            raise ManifestError(problems)
        object.__setattr__(self, "checkpoint_dir", Path(self.checkpoint_dir))


OPTION_NAMES = tuple(field.name for field in fields(EngineOptions))
"""The options' names, in order."""


def _wrong_name(option: str, given: object, known: tuple[str, ...]) -> list[Problem]:
    if given in known:
        return []
    return [Problem(what="is not a known name", where=option, given=repr(given), fix=did_you_mean(str(given), known))]


def _wrong_count(option: str, given: object) -> list[Problem]:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return []
    return [Problem(what="is not a whole number of at least 1", where=option, given=repr(given))]
