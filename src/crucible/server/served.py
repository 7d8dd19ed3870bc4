"""What does a server serve? The parts that it talks to, and nothing else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crucible.ports.sampling_client import SamplingClient
from crucible.ports.tokenizer import TokenizerStore
from crucible.ports.training_client import TrainingClient
from crucible.server.limits import Limits
from crucible.server.meters import Meters
from crucible.server.vault import Vault
from crucible.store.server_store import ServerStore


@dataclass(frozen=True, kw_only=True)
class Served:
    """Everything behind the routes.

    models: public name -> the model reference that the ports take.
    training, sampling, tokenizers: where the work is done. Nothing else is asked to compute.
    tokenizer_folder: model reference -> local folder with its tokenizer's files, which clients are told of.
    store: sessions, runs, checkpoints and keys. vault: saved weights. limits: what is refused for its size.
    meters: what was done. clock: seconds since the epoch, for what is stored.
    """

    models: Mapping[str, str]
    training: TrainingClient
    sampling: SamplingClient
    tokenizers: TokenizerStore
    tokenizer_folder: Callable[[str], str]
    store: ServerStore
    vault: Vault
    limits: Limits
    meters: Meters = field(default_factory=Meters)
    clock: Callable[[], float] = time.time
