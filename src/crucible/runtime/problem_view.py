"""What will an RL run ask of its policy? The first observations of its problems, in the run's order, as token rows."""

from collections.abc import Iterator
from dataclasses import replace

from crucible.errors import DataError, UserError
from crucible.framework import Workflow
from crucible.kitchen.materials import only_stage
from crucible.kitchen.stages.environment import BuildEnvironment
from crucible.kitchen.stages.loading import InitSession
from crucible.kitchen.stages.sampling import StartRollouts
from crucible.ports import DatasetStore, TokenizerStore
from crucible.runtime.token_rows import Inspection, ViewRow
from crucible.train.graders.graders import Graders
from crucible.train.graders.pool import GraderPool
from crucible.train.rl.environments.registry import find_environment
from crucible.train.rl.environments.rehearsed import Rehearsed
from crucible.train.rl.players import PlayerEnv
from crucible.train.rl.tree_parts import tokens_of
from crucible.train.rl.types import EnvGroupBuilder, StopCondition, Surroundings
from crucible.train.seeding import derive_seed
from crucible.train.token_texts import TokenReader


async def inspect_problems(
    title: str, workflow: Workflow, *, datasets: DatasetStore, tokenizers: TokenizerStore, rows: int, start: int
) -> Inspection:
    """The problems `start` to `start + rows` of the first epoch, as their group's first member would see them.

    Raises:
        UserError: if environment or tokenizer cannot be had, or there is no such problem.
    """
    build = only_stage(workflow, (BuildEnvironment,))
    seed = only_stage(workflow, (StartRollouts,)).seed
    tokenizer = tokenizers.load(only_stage(workflow, (InitSession,)).model)
    problems, reader = build.over("train", tokenizer, datasets), TokenReader(tokenizer)
    total = len(problems) * build.groups_per_batch
    if start >= total:
        raise DataError.of(f"the environment has no problem {start + 1:,}: an epoch has {total:,}", where=build.env)
    views: list[ViewRow] = []
    with GraderPool() as graders:
        for index in range(start, min(start + rows, total)):
            batch, place = divmod(index, build.groups_per_batch)
            builder = problems.get_batch(batch)[place]
            views.append(await _view(builder, index, step=batch + 1, seed=seed, graders=graders, reader=reader))
    talks = find_environment(build.env)[0].needs_renderer
    facts = {
        "model": build.model,
        "env": build.env,
        "problems": f"{total:,} in an epoch",
        "group_size": str(build.group_size),
        "groups_per_batch": str(build.groups_per_batch),
        **({"renderer": build.renderer} if talks else {}),
        "max_tokens": f"{build.max_tokens:,}",
    }
    return Inspection(title=title, facts=facts, notes=(_NOTHING_TRAINS,), rows=tuple(views))


_NOTHING_TRAINS = "these are prompts: what trains is what the policy answers to them"


async def _view(
    builder: EnvGroupBuilder, index: int, *, step: int, seed: int, graders: Graders, reader: TokenReader
) -> ViewRow:
    """A problem as its group of the run would meet it: of the same seed."""
    around = Surroundings(seed=derive_seed(seed, "group", index), graders=graders, place=f"{step}/{index}")
    told = ViewRow(origin=builder.problem, row=index, step=step, epoch=0, notes=tuple(_known(builder)))
    try:
        envs = await builder.make_envs(around)
        first = envs[0]
        try:
            if isinstance(first, PlayerEnv) and not first.starts:
                return replace(told, problems=("its first member's turn comes after another player's",))
            observation, stop = await first.initial_observation()
        finally:
            for env in envs:
                await env.close()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever an environment raises is what is to be shown)
        return replace(told, problems=(f"it cannot be begun: {type(error).__name__}: {error}",))
    ids = tokens_of(observation)
    return replace(
        told,
        ids=ids,
        texts=reader.read(ids),
        weights=[0.0] * len(ids),
        kept=len(ids),
        notes=(*told.notes, _ends(stop, reader)),
    )


def _known(builder: EnvGroupBuilder) -> Iterator[str]:
    if builder.tags:
        yield f"tags: {', '.join(builder.tags)}"
    if isinstance(builder, Rehearsed) and builder.rehearsal.right is not None:
        yield f"a right answer: {', then '.join(map(repr, builder.rehearsal.right))}"


def _ends(stop: StopCondition, reader: TokenReader) -> str:
    names = [repr(one) if isinstance(one, str) else reader.read([one])[0].text for one in stop]
    return f"a turn ends at {' or '.join(names)}" if names else "a turn ends at max_tokens only"
