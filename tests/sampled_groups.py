"""Groups of rollouts that a tiny model really sampled, for tests of how they are kept and shown."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.sampling_client import SamplingParams, SamplingSession
from crucible.ports.training_client import SessionConfig
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message, text_of
from crucible.train.renderers import Renderer, get_renderer
from crucible.train.renderers.transcript import Transcript
from crucible.train.rl.advantages import advantages
from crucible.train.rl.assembly import assemble
from crucible.train.rl.types import Action, Failure, GroupReward, StepResult, Trajectory, TrajectoryGroup, Transition
from crucible.train.seeding import derive_seed
from crucible.train.token_record import VERSION, StepRecord, recorded_row

VERDICTS = (Verdict.of(1.0, "as asked"), Verdict.of(0.0, "it is not"), Verdict.timed_out("CPU time", repeatable=False))


def sample_groups(
    model: Path, folder: Path, *, groups: int = 2, members: int = 4, turns: int = 2, tokens: int = 12
) -> list[TrajectoryGroup]:
    """Conversations of the tiny model with somebody who only asks again, graded in turn by `VERDICTS`; of each group
    the last member failed."""
    store = HfTokenizerStore(resolve_model=Path)
    backend = TorchBackend(checkpoint_dir=folder, resolve_model=Path, tokenizers=store, device="cpu", threads=1)
    renderer = get_renderer("auto", store.load(str(model)))

    async def sample() -> list[TrajectoryGroup]:
        session = await backend.sampling_client.start_session(base_model=str(model))
        found: list[TrajectoryGroup] = []
        for index in range(groups):
            asked: list[Message] = [{"role": "user", "content": f"Say {index} <b>&</b> once."}]
            trajectories = [
                await _trajectory(backend, session, renderer, asked, place=(index, member), turns=turns, tokens=tokens)
                for member in range(members)
            ]
            found.append(_group(index, trajectories))
        return found

    try:
        return asyncio.run(sample())
    finally:
        backend.close()


def train_once(model: Path, folder: Path, groups: Sequence[TrajectoryGroup], *, step: int) -> StepRecord:
    """What the trainer says of those of the groups that have an advantage, as the run's token record has it."""
    store = HfTokenizerStore(resolve_model=Path)
    backend = TorchBackend(checkpoint_dir=folder, resolve_model=Path, tokenizers=store, device="cpu", threads=1)
    datums = assemble(groups, advantages(groups, kind="group_mean"), loss="importance_sampling")

    async def train() -> StepRecord:
        session = await backend.training_client.start_session(SessionConfig(model=str(model), lora_rank=2))
        given = [one.datum for one in datums]
        output = await backend.training_client.forward_backward(session, given, loss_fn="importance_sampling")
        rows = [
            recorded_row(one.datum, told, row=row, origin=one.place, policy_version=one.policy_version)
            for row, (one, told) in enumerate(zip(datums, output.loss_fn_outputs, strict=True))
        ]
        return StepRecord(version=VERSION, step=step, epoch=0, rows=rows, dropped=[])

    try:
        return asyncio.run(train())
    finally:
        backend.close()


def _group(index: int, trajectories: Sequence[Trajectory]) -> TrajectoryGroup:
    return TrajectoryGroup(
        index=index,
        problem=f"row {index}",
        tags=("say", f"say/{'even' if index % 2 == 0 else 'odd'}"),
        trajectories=tuple(trajectories),
        group_rewards=tuple(GroupReward(reward=0.25 * member) for member in range(len(trajectories))),
    )


async def _trajectory(
    backend: TorchBackend,
    session: SamplingSession,
    renderer: Renderer,
    asked: Sequence[Message],
    *,
    place: tuple[int, int],
    turns: int,
    tokens: int,
) -> Trajectory:
    transcript, transitions = Transcript.begin(renderer, asked), list[Transition]()
    for turn in range(turns):
        seed = derive_seed(7, "turn", *place, turn)
        params = SamplingParams(max_tokens=tokens, temperature=1.0, seed=seed, stop=renderer.stop_sequences)
        response = await backend.sampling_client.sample(session, transcript.prompt, params=params)
        (drawn,) = response.sequences
        action = Action(
            tokens=drawn.tokens,
            logprobs=drawn.logprobs,
            stop_reason=drawn.stop_reason,
            seed=seed,
            provenance=response.provenance,
        )
        seen, transcript = transcript.prompt, transcript.sampled(drawn.tokens, drawn.logprobs)
        answer, again = transcript.messages[-1], Message(role="user", content="Again.")
        last = turn == turns - 1
        if not last:
            transcript = transcript.answered([again])
        result = StepResult(
            reward=float(last),
            episode_done=last,
            next_observation=None if last else transcript.prompt,
            next_stop=tuple(renderer.stop_sequences),
            metrics={"length": float(len(drawn.tokens)), "stopped": float(drawn.stop_reason == "stop")},
            logs={"answer": text_of(answer), "turn": turn},
            said=(answer,) if last else (answer, again),
            verdict=VERDICTS[sum(place) % len(VERDICTS)] if last else None,
            ended="cut" if last and drawn.stop_reason == "length" else "done",
        )
        transitions.append(Transition(observation=seen, action=action, result=result))
    return _ended(transitions, asked, failed=place[1] == 3)


def _ended(transitions: Sequence[Transition], asked: Sequence[Message], *, failed: bool) -> Trajectory:
    if failed:
        failure = Failure(kind="OSError", what="the game's server is gone", attempts=2)
        return Trajectory(transitions=tuple(transitions[:1]), ended="failed", first=tuple(asked), failure=failure)
    return Trajectory(transitions=tuple(transitions), ended=transitions[-1].result.ended, first=tuple(asked))
