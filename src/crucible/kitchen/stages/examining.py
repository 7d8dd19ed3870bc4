"""Is something wrong with the data before the first step? The checks of `train/checks`, as a stage."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from typing import ClassVar

from crucible.errors import DataError, Problem, did_you_mean
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.backend_checks import BACKEND_CHECKS
from crucible.ports import TrainingClient
from crucible.ports.dataset_store import RowSet
from crucible.train.checks import CHECKS, Examined, Finding, examine, look
from crucible.train.data import StreamedDataset, SupervisedDataset, TrainingData
from crucible.train.rl.problem_checks import PROBLEM_CHECKS

EXAMINED_ROWS = 200
"""Rows that are rendered before a run: enough for the shares that the checks go by, and under a second."""
TOLD_APART = 20_000
"""Rows that are compared with each other for repetition, without being rendered: under a second."""
EXAMINED_CHARACTERS = 5_000_000
"""How much text is read for each of the two, so that rows of whole books take no longer than about two seconds."""
ALL = "all"
"""The name that waives every check."""


class ExamineData(Stage):
    """Examine the first rows with tokenizer, model and settings; stop the run if a check fails.

    Warnings are announced as `data.examined`, and recorded with all else that was found as the result `examination`.

    model: the session's. waive: names of checks that may fail, with commas between them; `all` for every one.
    rows: how many are rendered. characters: how much text of them, at most (None: all of it).
    """

    ports: ClassVar = (TrainingClient,)
    dataset: Reads[TrainingData]
    heldout: Reads[SupervisedDataset]
    model: str
    learning_rate: float | None = None
    waive: str = ""
    rows: int = EXAMINED_ROWS
    characters: int | None = EXAMINED_CHARACTERS

    def check(self) -> Iterable[Problem]:
        if self.rows < 1:
            yield Problem(what="must be at least 1", where="rows", given=str(self.rows))
        yield from waive_problems(self.waive)

    async def execute(self, ctx: StageContext) -> None:
        client = ctx.port(TrainingClient)
        findings = examine(self.look(ctx.read(self.dataset), ctx.read(self.heldout), client))
        findings = waived(findings, self.waive)
        failed = [finding for finding in findings if finding.status == "fail"]
        if failed:
            raise DataError([failure_problem(finding) for finding in failed])
        ctx.record_result("examination", [asdict(finding) for finding in findings])
        counts = {status: sum(each.status == status for each in findings) for status in ("pass", "warn", "skipped")}
        warnings = [str(finding) for finding in findings if finding.status == "warn"]
        ctx.emit("data.examined", {**counts}, {"warnings": warnings})

    def look(self, dataset: TrainingData, heldout: SupervisedDataset, client: TrainingClient) -> Examined:
        """What the checks examine: the first rows, rendered, and what the backend says of the model.

        Raises:
            ModelError: if there is no such model.
        """
        assert isinstance(dataset, SupervisedDataset | StreamedDataset), f"{type(dataset).__name__} has rows to look at"
        rows = dataset.rows if isinstance(dataset.rows, RowSet) else dataset.rows.head(self.rows)
        return look(
            rows,
            heldout=heldout.rows,
            rendering=dataset.rendering,
            first=self.rows,
            told_apart=TOLD_APART,
            characters=self.characters,
            learning_rate=self.learning_rate,
            model=self.model,
            facts=client.model_facts(self.model),
            computes=client.capabilities().computes,
        )


def waive_problems(waive: str) -> Iterable[Problem]:
    """What is wrong with the names of a `waive`."""
    known = list(dict.fromkeys([*CHECKS, *BACKEND_CHECKS, *PROBLEM_CHECKS, ALL]))
    for name in _names(waive):
        if name not in known:
            yield Problem(what="there is no such check", where="waive", given=name, fix=did_you_mean(name, known))


def waived(findings: Iterable[Finding], waive: str) -> list[Finding]:
    """The findings, failures of the checks that `waive` names being warnings."""
    names = _names(waive)

    def after(finding: Finding) -> Finding:
        if finding.status == "fail" and (finding.check in names or ALL in names):
            return replace(finding, status="warn", sentence=f"{finding.sentence} (waived)")
        return finding

    return [after(finding) for finding in findings]


def _names(waive: str) -> Collection[str]:
    return [name.strip() for name in waive.split(",") if name.strip()]


def failure_problem(finding: Finding) -> Problem:
    """What a failed check says to the user, and how to go on in spite of it."""
    fix = (
        f"{finding.fix}; or accept it with waive={finding.check}"
        if finding.fix
        else f"waive={finding.check} accepts it"
    )
    where = f"check {finding.check}" + (f", {finding.where}" if finding.where else "")
    return Problem(what=finding.sentence, where=where, fix=fix)
