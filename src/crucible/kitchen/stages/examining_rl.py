"""Is something wrong with the environment before the first step? The checks of `train/rl`, as a stage."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import ClassVar

from crucible.errors import DataError, Problem
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.stages.examining import failure_problem, waive_problems, waived
from crucible.ports import Tokenizer, TrainingClient
from crucible.train.graders.graders import Graders
from crucible.train.rl.problem_checks import RLExamined, examine_problems
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.types import RLDataset


class ExamineEnvironment(Stage):
    """Play known answers through environment and graders, measure the prompts; stop the run if a check fails.

    Warnings are announced as `data.examined`, and recorded with all else that was found as the result `examination`.

    model: the session's. waive: names of checks that may fail, with commas between them; `all` for every one.
    """

    ports: ClassVar = (TrainingClient,)
    tokenizer: Reads[Tokenizer]
    problems: Reads[RLDataset]
    graders: Reads[Graders]
    limits: Reads[RolloutLimits]
    model: str
    learning_rate: float
    waive: str = ""
    seed: int = 0

    def check(self) -> Iterable[Problem]:
        yield from waive_problems(self.waive)

    async def execute(self, ctx: StageContext) -> None:
        client = ctx.port(TrainingClient)
        examined = self.look(
            ctx.read(self.problems), ctx.read(self.tokenizer), ctx.read(self.graders), ctx.read(self.limits), client
        )
        findings = waived(await examine_problems(examined), self.waive)
        failed = [finding for finding in findings if finding.status == "fail"]
        if failed:
            raise DataError([failure_problem(finding) for finding in failed])
        ctx.record_result("examination", [asdict(finding) for finding in findings])
        counts = {status: sum(each.status == status for each in findings) for status in ("pass", "warn", "skipped")}
        warnings = [str(finding) for finding in findings if finding.status == "warn"]
        ctx.emit("data.examined", {**counts}, {"warnings": warnings})

    def look(
        self,
        problems: RLDataset,
        tokenizer: Tokenizer,
        graders: Graders,
        limits: RolloutLimits,
        client: TrainingClient,
    ) -> RLExamined:
        """What the checks examine.

        Raises:
            ModelError: if there is no such model.
        """
        return RLExamined(
            problems=problems,
            tokenizer=tokenizer,
            graders=graders,
            limits=limits,
            model=self.model,
            facts=client.model_facts(self.model),
            learning_rate=self.learning_rate,
            computes=client.capabilities().computes,
            seed=self.seed,
        )
