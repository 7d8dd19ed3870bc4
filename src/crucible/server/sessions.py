"""Who is here? Clients' sessions, with the runs and samplers that live in them, and end with them."""

import asyncio
from dataclasses import dataclass, field

from crucible.ports.training_client import TrainingSession
from crucible.server.completions import Completions
from crucible.server.opened import Weights
from crucible.server.refusals import Refusal
from crucible.server.replays import Replays
from crucible.server.results import Result
from crucible.server.turns import Turns

MOST_CLIENTS = 10_000


@dataclass(eq=False, kw_only=True)
class Session:
    """One client. seen_at: when it was last heard of, on the clock that goes up. starting: runs being made.

    replays: requests for runs; openings: requests for sampling sessions.
    """

    session_id: str
    owner: str
    seen_at: float
    ended: bool = False
    starting: int = 0
    runs: dict[str, "Run"] = field(default_factory=dict[str, "Run"])
    samplers: dict[str, "Sampler"] = field(default_factory=dict[str, "Sampler"])
    replays: Replays[int, Result] = field(default_factory=Replays[int, Result])
    openings: Replays[int, asyncio.Task["Sampler"]] = field(default_factory=Replays[int, "asyncio.Task[Sampler]"])


@dataclass(eq=False, kw_only=True)
class Run:
    """One adapter in training. base_model: its public name; training: its session at the port.

    inflight: what its samplers of kind `inflight` sample from.
    """

    run_id: str
    session: Session
    base_model: str
    training: TrainingSession
    arch: str | None
    tokenizer_id: str
    turns: Turns
    used_at: float
    replays: Replays[int, Result] = field(default_factory=Replays[int, Result])
    inflight: "Source | None" = None


@dataclass(eq=False, kw_only=True)
class Source:
    """What a sampler samples from: fixed weights, or what a run published last. holders: samplers, and the run."""

    weights: Weights
    holders: int = 1


@dataclass(eq=False, kw_only=True)
class Sampler:
    """One sampling session. base_model: its public name; model_path: what it was made from, unless the base model
    or weights without a name.

    context_length: most positions, where the model states it. clients: how many were counted.
    """

    sampler_id: str
    session: Session
    base_model: str
    model_path: str | None
    source: Source
    context_length: int | None
    clients: int = 0
    replays: Replays[int, tuple[Result, list[str]]] = field(default_factory=Replays[int, tuple[Result, list[str]]])
    completions: dict[int, Completions] = field(default_factory=dict[int, Completions])

    def completions_of(self, client: int) -> Completions:
        """What is done of one client's requests.

        Raises:
            Refusal: 429 if there are too many clients.
        """
        found = self.completions.get(client)
        if found is None:
            if len(self.completions) >= MOST_CLIENTS:
                raise Refusal(429, f"a sampling session has at most {MOST_CLIENTS} clients", category="server")
            found = self.completions[client] = Completions()
        return found
