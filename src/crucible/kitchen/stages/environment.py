"""Which problems does an RL run have, and who grades the answers?"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import ClassVar

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext, Writes
from crucible.ports import DatasetStore, Tokenizer, TrainingClient
from crucible.train.graders.graders import Graders
from crucible.train.graders.journal import JournalledGraders
from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.pool import GraderPool
from crucible.train.renderers import get_renderer, renderer_problems
from crucible.train.rl.environments.environment import EnvironmentRequest, Split
from crucible.train.rl.environments.registry import environment_problems, find_environment, load_environment
from crucible.train.rl.record import FOLDER
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.types import RLDataset
from crucible.train.seeding import derive_seed

VERDICTS = "verdicts.jsonl"
"""The graders' verdicts, beside the rollouts."""


class ClearRollouts(Stage):
    """Take away rollouts and verdicts that an earlier run has left in this folder: a run goes by its own record."""

    async def execute(self, ctx: StageContext) -> None:
        if ctx.run.run_dir is not None:
            shutil.rmtree(ctx.run.run_dir / FOLDER, ignore_errors=True)


class BuildEnvironment(Stage):
    """Make the problems to learn from and those to measure on, and count the steps.

    env: `name` or `name:variant` of the environments' table. options: its own. renderer: how messages become tokens,
    for environments that talk. rows: most problems of each split; None: all. eval_groups: problems to measure on.
    max_turns: None: as the environment says. max_tokens: of one turn. max_steps: None: all problems, `epochs` times.
    env_seconds: see `RolloutLimits`; 0: no limit.
    """

    ports: ClassVar = (TrainingClient,)
    optional_ports: ClassVar = (DatasetStore,)
    tokenizer: Reads[Tokenizer]
    problems: Writes[RLDataset]
    eval_problems: Writes[RLDataset]
    limits: Writes[RolloutLimits]
    iterations: Writes[range]
    total_steps: Writes[int]
    env: str
    model: str
    renderer: str = "auto"
    options: Mapping[str, int | float | str | bool] = field(default_factory=dict[str, int | float | str | bool])
    group_size: int = 8
    groups_per_batch: int = 8
    eval_groups: int = 0
    rows: int | None = None
    max_tokens: int = 256
    max_turns: int | None = None
    env_seconds: float = 0.0
    epochs: int = 1
    max_steps: int | None = None
    seed: int = 0

    def check(self) -> Iterable[Problem]:
        for name in ("group_size", "groups_per_batch", "max_tokens", "epochs"):
            if getattr(self, name) < 1:
                yield Problem(what="must be at least 1", where=name, given=str(getattr(self, name)))
        if self.env_seconds < 0:
            yield Problem(what="must be 0 or more", where="env_seconds", given=str(self.env_seconds))
        yield from renderer_problems(self.renderer)
        yield from environment_problems(self.env, self.options)

    async def execute(self, ctx: StageContext) -> None:
        store = ctx.port(DatasetStore) if ctx.has_port(DatasetStore) else None
        tokenizer = ctx.read(self.tokenizer)
        problems = self.over("train", tokenizer, store)
        ctx.write(self.problems, problems)
        ctx.write(self.eval_problems, self.over("eval", tokenizer, store) if self.eval_groups else problems)
        steps = self.steps(problems)
        ctx.write(self.total_steps, steps)
        ctx.write(self.iterations, range(steps))
        ctx.write(self.limits, self.rollout_limits(ctx.port(TrainingClient)))

    def steps(self, problems: RLDataset) -> int:
        """How many the run takes."""
        return self.max_steps or len(problems) * self.epochs

    def rollout_limits(self, client: TrainingClient) -> RolloutLimits:
        """How far an episode may go.

        Raises:
            ModelError: if there is no such model.
        """
        facts = client.model_facts(self.model)
        context = facts.context_length if facts is not None else None
        turns = self.max_turns or find_environment(self.env)[0].turns or None
        seconds = self.env_seconds or None
        return RolloutLimits(max_turns=turns, context_length=context, max_tokens=self.max_tokens, env_seconds=seconds)

    def over(self, split: Split, tokenizer: Tokenizer, store: DatasetStore | None) -> RLDataset:
        """The problems of a split, as this stage is set; those to measure on one by one, with one attempt at each.

        Raises:
            ConfigError, MissingExtraError, DataError: as `load_environment`.
        """
        talks = find_environment(self.env)[0].needs_renderer
        training = split == "train"
        request = EnvironmentRequest(
            split=split,
            tokenizer=tokenizer,
            renderer=get_renderer(self.renderer, tokenizer) if talks else None,
            datasets=store,
            group_size=self.group_size if training else 1,
            groups_per_batch=self.groups_per_batch if training else 1,
            seed=derive_seed(self.seed, "environment", int(not training)),
            rows=self.rows,
            options=self.options,
        )
        return load_environment(self.env, request)


class StartGraders(Stage):
    """Start the processes that grade. What they say is written to the run's record before it is used.

    workers: how many; 0: as many as there are cores, up to 4. cpu_seconds: most CPU time of one grading.
    """

    graders: Writes[Graders]
    workers: int = 0
    cpu_seconds: float = 10.0

    def check(self) -> Iterable[Problem]:
        if self.workers < 0:
            yield Problem(what="must be 0 or more", where="workers", given=str(self.workers))
        if not self.cpu_seconds > 0:
            yield Problem(what="must be more than 0", where="cpu_seconds", given=str(self.cpu_seconds))

    async def execute(self, ctx: StageContext) -> None:
        pool = GraderPool(workers=self.workers or None, limits=GraderLimits(cpu_seconds=self.cpu_seconds))
        folder = ctx.run.run_dir
        ctx.write(self.graders, pool if folder is None else RecordedGraders(pool, folder / FOLDER / VERDICTS))

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.graders):
            close_graders(ctx.read(self.graders))


class RecordedGraders(JournalledGraders):
    """The journal over a pool, closed together."""

    def __init__(self, pool: GraderPool, path: Path) -> None:
        super().__init__(pool, path)
        self.pool = pool


def close_graders(graders: Graders) -> None:
    """End the graders' processes. Safe to call twice."""
    if isinstance(graders, RecordedGraders):
        graders.close()
        graders.pool.close()
    elif isinstance(graders, GraderPool):
        graders.close()


class CloseGraders(Stage):
    """End the processes that grade: nothing is graded any more."""

    graders: Reads[Graders]

    async def execute(self, ctx: StageContext) -> None:
        close_graders(ctx.read(self.graders))
