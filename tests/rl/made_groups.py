"""Groups for the tests of learning quantities: written out by hand, and sampled from a tiny model that also trains."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import Provenance, SamplingParams, SamplingSession
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, SessionConfig, TrainingSession
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.assembly import RLDatum, assemble
from crucible.train.rl.types import (
    Action,
    Ended,
    Failure,
    GroupReward,
    StepResult,
    Trajectory,
    TrajectoryGroup,
    Transition,
)

_NAMES = count()
PROMPTS = ("max(3, 8) =", "What is 7 plus 5? It is ")


def action(tokens: Sequence[int], logprobs: Sequence[float] | None = None, *, version: int = 0) -> Action:
    return Action(
        tokens=tuple(tokens),
        logprobs=tuple(logprobs) if logprobs is not None else tuple(-0.5 - 0.125 * t for t in range(len(tokens))),
        stop_reason="stop",
        seed=0,
        provenance=Provenance(base_model="tiny", digest="d", policy_version=version, temperature=1.0),
    )


def turn(
    observed: Sequence[int], acted: Action, *, reward: float = 0.0, last: bool = True, **result: Any
) -> Transition:
    following = None if last else ModelInput.from_ints([*observed, *acted.tokens])
    said = StepResult(reward=reward, episode_done=last, next_observation=following, **result)
    return Transition(observation=ModelInput.from_ints(observed), action=acted, result=said)


def member(
    reward: float | None, *, tokens: int = 3, ended: Ended = "done", failed: bool = False, **result: Any
) -> Trajectory:
    """One turn after a prompt of two tokens. reward: None: its grader timed out."""
    graded = {"verdict": Verdict.timed_out("CPU time")} if reward is None and not failed else {}
    only = turn([5, 6], action(range(10, 10 + tokens)), reward=reward or 0.0, **graded, **result)
    failure = Failure(kind="OSError", what="gone") if failed else None
    return Trajectory(transitions=(only,), ended="failed" if failed else ended, failure=failure)


def group_of(*trajectories: Trajectory, index: int = 0, tags: Sequence[str] = ()) -> TrajectoryGroup:
    return TrajectoryGroup(
        index=index,
        problem=f"row {index}",
        tags=tuple(tags),
        trajectories=trajectories,
        group_rewards=tuple(GroupReward() for _ in trajectories),
    )


def rewarded(*rewards: float | None, index: int = 0, tags: Sequence[str] = ()) -> TrajectoryGroup:
    return group_of(*(member(reward) for reward in rewards), index=index, tags=tags)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A tiny model in training, and whatever is sampled from it."""

    backend: TorchBackend
    model: str
    trainer: TrainingSession

    def base(self) -> SamplingSession:
        return self.backend.sampling_client.start_session(base_model=self.model).result()

    def snapshot(self) -> SamplingSession:
        saved = self.backend.training_client.save_weights_for_sampler(self.trainer, f"s{next(_NAMES)}").result()
        return self.backend.sampling_client.start_session(model_path=saved.path).result()

    def another(self) -> "Policy":
        """A policy of the same backend that is still the base model."""
        return replace(self, trainer=self.backend.training_client.start_session(self.trainer.config).result())

    def rollouts(self, session: SamplingSession, *, members: int = 3, turns: int = 2) -> list[TrajectoryGroup]:
        """Of each prompt a group whose members answer, are told `?` and answer again; rewards of both signs."""
        return [
            group_of(*(self._member(session, prompt, 10 * index + one, turns) for one in range(members)), index=index)
            for index, prompt in enumerate(PROMPTS)
        ]

    def outputs(self, datums: Sequence[RLDatum], loss: str, **config: float) -> ForwardBackwardOutput:
        return self.backend.training_client.forward_backward(
            self.trainer, [one.datum for one in datums], loss_fn=loss, loss_fn_config=config
        ).result()

    def step(self, learning_rate: float) -> None:
        self.backend.training_client.optim_step(self.trainer, AdamParams(learning_rate=learning_rate)).result()

    def learn(self, groups: Sequence[TrajectoryGroup], *, steps: int = 3) -> None:
        """Steps that change the weights much."""
        signs = [[float((-1) ** place) for place, _ in enumerate(group.trajectories)] for group in groups]
        datums = assemble(groups, signs, loss="importance_sampling")
        for _ in range(steps):
            self.outputs(datums, "importance_sampling")
            self.step(3e-2)

    def _member(self, session: SamplingSession, prompt: str, seed: int, turns: int) -> Trajectory:
        tokenizer = self.backend.sampling_client.get_tokenizer(session)
        observed, transitions = list(tokenizer.encode(prompt).ids), list[Transition]()
        for number in range(turns):
            params = SamplingParams(max_tokens=6, seed=seed + 100 * number, stop=[])
            response = self.backend.sampling_client.sample(
                session, ModelInput.from_ints(observed), params=params
            ).result()
            (drawn,) = response.sequences
            acted = replace(action(drawn.tokens, drawn.logprobs), provenance=response.provenance)
            transitions.append(turn(observed, acted, reward=float(seed % 3), last=number == turns - 1))
            observed = [*observed, *drawn.tokens, *tokenizer.encode("?").ids]
        return Trajectory(transitions=tuple(transitions), ended="done")


@contextmanager
def policy_on(model: Path, folder: Path, *, dtype: str = "float32") -> Iterator[Policy]:
    store = HfTokenizerStore(resolve_model=Path)
    backend = TorchBackend(
        checkpoint_dir=folder, resolve_model=Path, tokenizers=store, device="cpu", threads=1, dtype=dtype
    )
    config = SessionConfig(model=str(model), lora_rank=4)
    try:
        trainer = backend.training_client.start_session(config).result()
        yield Policy(backend=backend, model=str(model), trainer=trainer)
    finally:
        backend.close()


def all_finite(metrics: dict[str, float]) -> bool:
    return all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())
