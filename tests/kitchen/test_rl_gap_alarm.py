"""A run whose sampler does not sample from what is trained stops, and says why."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest

import crucible
from crucible.errors import RolloutGapError, StaleWeightsError
from crucible.framework import Loop, Node, Stage, StageContext, Stream, Workflow
from crucible.kitchen.config import Layer
from crucible.kitchen.policies import Policies
from crucible.kitchen.stages.sampling import SavePolicy, closed, snapshot
from crucible.ports import SamplingClient, TrainingClient
from rl_letters import write_letter_model
from rl_runs import SMALL, steps_of

FAST = {"learning_rate": 1e-2, "gap_limit": 1e-3, "max_steps": 12}


class KeepFirstPolicy(SavePolicy):
    """The fault that a run learns nothing from and nobody sees: new weights never reach the sampler."""

    async def execute(self, ctx: StageContext) -> None:
        (first, *_) = ctx.read(self.policies).entries
        ctx.write(self.policies, Policies(entries=(replace(first, index=ctx.read(self.step)),)))


class KeepSecondPolicy(SavePolicy):
    """The same, from the second step on."""

    async def execute(self, ctx: StageContext) -> None:
        if ctx.read(self.step) == 1:
            await super().execute(ctx)
        else:
            newest = ctx.read(self.policies).newest
            ctx.write(self.policies, Policies(entries=(replace(newest, index=ctx.read(self.step)),)))


class SampleFromTheFirst(SavePolicy):
    """The same, while the new weights are said to sample."""

    async def execute(self, ctx: StageContext) -> None:
        training, sampling, live = ctx.port(TrainingClient), ctx.port(SamplingClient), ctx.read(self.live)
        newest = await snapshot(training, sampling, ctx.read(self.session), index=ctx.read(self.step), live=live)
        await closed(training, sampling, [newest], live=live)
        (first, *_) = ctx.read(self.policies).entries
        ctx.write(self.policies, Policies(entries=(replace(newest, session=first.session),)))


def with_stage(nodes: Sequence[Node], kind: type[SavePolicy]) -> list[Node]:
    """The nodes, with that stage where `SavePolicy` was."""
    changed: list[Node] = []
    for node in nodes:
        match node:
            case SavePolicy():
                options = {each.name: getattr(node, each.name) for each in fields(node) if each.name != "name"}
                changed.append(kind(node.name, **options))
            case Loop():
                changed.append(replace(node, body=with_stage(node.body, kind)))
            case Stream():
                changed.append(replace(node, consume=with_stage(node.consume, kind)))
            case _:
                assert isinstance(node, Stage)
                changed.append(node)
    return changed


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letter_model(tmp_path_factory.mktemp("models") / "letters")


def run(letters: Path, run_dir: Path, kind: type[SavePolicy], **config: object) -> None:
    recipe = crucible.describe("rl_basic")
    layer = Layer(origin="test", values={**SMALL, **FAST, "model": str(letters), **config})
    right = recipe.workflow(recipe.configure(layer).value)
    wrong = Workflow(right.name, body=with_stage(right.body, kind))
    crucible.run(wrong, run_dir=run_dir, options={"torch": {"threads": 1}})


@pytest.mark.parametrize(
    ("kind", "diagnosis"),
    [
        (KeepFirstPolicy, "the tokens were drawn from the base model"),
        (KeepSecondPolicy, "the sampler runs other weights than the trainer"),
    ],
)
def test_a_sampler_that_is_kept_stale_is_caught_with_a_diagnosis(
    kind: type[SavePolicy], diagnosis: str, letters: Path, tmp_path: Path
) -> None:
    with pytest.raises(RolloutGapError, match=diagnosis) as caught:
        run(letters, tmp_path / "run", kind)
    assert "save_weights_for_sampler" in str(caught.value) or "weights just saved" in str(caught.value)
    assert len(steps_of(tmp_path / "run")) < 4


def test_a_stale_sampler_is_caught_where_sampling_runs_ahead_too(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(RolloutGapError, match="the tokens were drawn from the base model"):
        run(letters, tmp_path / "run", KeepFirstPolicy, max_steps_off_policy=2)


def test_a_sampler_that_says_it_has_the_new_weights_is_caught_at_once(letters: Path, tmp_path: Path) -> None:
    with pytest.raises(StaleWeightsError, match="policy version"):
        run(letters, tmp_path / "run", SampleFromTheFirst)
    assert len(steps_of(tmp_path / "run")) <= 2


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_in_order_is_left_alone(ahead: int, letters: Path, tmp_path: Path) -> None:
    run(letters, tmp_path / "run", SavePolicy, max_steps_off_policy=ahead)
    assert len(steps_of(tmp_path / "run")) == 12
