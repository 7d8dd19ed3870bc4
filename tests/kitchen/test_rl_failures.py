"""What becomes of an RL run when something in it fails, or when it is asked to stop?"""

import asyncio
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

import crucible
from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.errors import ConfigError, DataError
from crucible.framework import Run, RunStopped, Stop, execute
from crucible.kitchen.config import Layer
from crucible.telemetry import Event, default_bus
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.registry import register_environment
from crucible.train.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from crucible.train.rl.prompt_form import TextForm
from crucible.train.rl.record import read_rollouts, rollouts_file
from crucible.train.rl.rollout import RolloutError
from crucible.train.rl.types import RLDataset
from rl_letters import write_letter_model
from rl_runs import SMALL, run_rl, steps_of


class Failing(ProblemEnv):
    """Fails for the letter b."""

    async def check_answer(self, answer: str) -> float:
        if self.question == "b":
            raise ConnectionResetError("the game server is gone")
        return float(answer.startswith(self.reference))


def failing(request: EnvironmentRequest) -> RLDataset:
    form = TextForm(tokenizer=request.tokenizer, after=">")

    def group(letter: str) -> ProblemGroupBuilder:
        return ProblemGroupBuilder(
            make_env=lambda seat: Failing(form=form, seat=seat, question=letter, reference=letter),
            group_size=request.group_size,
            name=letter,
        )

    return ProblemDataset(
        "abcdefgh" if request.rows is None else "b",
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=False,
    )


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    register_environment("failing", failing)
    return write_letter_model(tmp_path_factory.mktemp("models") / "letters")


def test_a_failing_environment_ends_the_run_and_says_where(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match=r"group 1 \(b\), member 0, turn 0: .*the game server is gone"):
        run_rl(letters, tmp_path / "run", env="failing", waive="all")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("ahead", [0, 2])
def test_it_may_be_data_with_a_reason_that_trains_nothing(ahead: int, letters: Path, tmp_path: Path) -> None:
    config = {"env": "failing", "on_failure": "minimum", "waive": "all", "max_steps_off_policy": ahead}
    run_rl(letters, tmp_path / "run", **config, max_steps=3)
    assert [row["members_failed"] for row in steps_of(tmp_path / "run")] == [4, 0, 4]
    groups = read_rollouts(rollouts_file(tmp_path / "run", 1)).groups
    reasons = [one.failure.what for one in groups[1].trajectories if one.failure is not None]
    assert len(reasons) == 4 and all("game server is gone" in reason for reason in reasons)


@pytest.mark.parametrize("mode", [{}, {"stream_minibatches": 2}])
def test_a_step_in_which_nobody_earns_a_reward_ends_the_run_with_the_reason(
    mode: dict[str, int], letters: Path, tmp_path: Path
) -> None:
    config = {"env": "failing", "on_failure": "minimum", "waive": "all", "rows": 1}
    with pytest.raises(DataError, match=r"none of the 16 rollouts .*16 of them: .*the game server is gone"):
        run_rl(letters, tmp_path / "run", **config, **mode)


def test_a_failure_far_ahead_ends_an_asynchronous_run(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match="game server"):
        run_rl(letters, tmp_path / "run", env="failing", waive="all", max_steps_off_policy=2, stream_minibatches=2)


@pytest.fixture
def stopping() -> Iterator[Stop]:
    """Asks the run to stop when its third step is done."""
    stop, seen = Stop(), list[Event]()

    def listen(event: Event) -> None:
        seen.append(event)
        if len(seen) == 3:
            stop.request()

    default_bus().attach("stopping", "training.step", listen)
    yield stop
    default_bus().detach("stopping")


@pytest.mark.parametrize("mode", [{}, {"max_steps_off_policy": 2}, {"stream_minibatches": 2}])
def test_a_run_that_is_asked_to_stop_goes_on_as_if_it_had_not(
    mode: dict[str, int], stopping: Stop, letters: Path, tmp_path: Path
) -> None:
    config = {**SMALL, **mode, "model": str(letters), "max_steps": 6}
    options = {"torch": {"threads": 1}}
    with pytest.raises(RunStopped):
        asyncio.run(crucible.arun("rl_basic", config, run_dir=tmp_path / "run", options=options, stop=stopping))
    assert len(steps_of(tmp_path / "run")) < 6
    crucible.resume(tmp_path / "run")
    run_rl(letters, tmp_path / "straight", **mode, max_steps=6)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


def test_an_environment_that_needs_what_is_not_there_is_refused_before_the_model_is_loaded(
    letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no such environment"):
        run_rl(letters, tmp_path / "run", env="nowhere")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_that_fails_leaves_no_session_and_no_rollout_behind(ahead: int, letters: Path, tmp_path: Path) -> None:
    tokenizers = HfTokenizerStore(resolve_model=Path)
    backend = TorchBackend(checkpoint_dir=tmp_path, resolve_model=Path, tokenizers=tokenizers, threads=1)
    ports = {one.port_name: one for one in (backend.training_client, backend.sampling_client, tokenizers)}
    config = {**SMALL, "model": str(letters), "env": "failing", "waive": "all", "max_steps_off_policy": ahead}
    recipe = crucible.describe("rl_basic")
    workflow = recipe.workflow(recipe.configure(Layer(origin="test", values=config)).value)

    async def run() -> int:
        with pytest.raises(RolloutError):
            await execute(workflow, Run(run_id="it", recipe=recipe.name, workflow=workflow.name), ports=ports)
        return len(asyncio.all_tasks()) - 1

    try:
        assert asyncio.run(run()) == 0
        held = backend.sampling_client.statistics()
        assert (held["training_sessions"], held["sampling_sessions"]) == (0, 0)
    finally:
        backend.close()
