"""What is said of an RL step? Its numbers, what learning made of its rollouts, and the tokens that were trained on."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext, Updates
from crucible.kitchen.policies import Policies
from crucible.kitchen.rl_slots import LearningBatch, PolicyUpdate
from crucible.kitchen.rolling import StepRollouts
from crucible.kitchen.slots import StepStart, Totals
from crucible.kitchen.stages.evaluating import peak_memory_bytes
from crucible.ports.datum import TensorData
from crucible.train.rl.assembly import RLDatum
from crucible.train.rl.gap import sampler_gap
from crucible.train.rl.record import learned_group, row_origin, write_learned
from crucible.train.rl.rl_metrics import learning_metrics, rollout_metrics
from crucible.train.token_record import VERSION, StepRecord, is_due, keep_within, recorded_row, write_record


class LogRLMetrics(Stage):
    """Record the step's numbers, and announce `training.step`.

    Recorded (a function of config, data and seed): those of `rollout_metrics` over all groups, what was left out of
    training and why, those of `learning_metrics` over what was trained, sampler_gap of the on-policy tokens,
    learning_rate, epoch, and the backend's grad_norm (of several optimizer steps, the mean). Announced beside them:
    seconds, those of them in which rollouts were waited for, those since, and sampled tokens per second.

    ahead: whether sampling runs ahead of learning, so that tokens of other weights are no part of the gap.
    """

    start: Reads[StepStart]
    rollouts: Reads[StepRollouts]
    batch: Reads[LearningBatch]
    update: Reads[PolicyUpdate]
    policies: Reads[Policies]
    total_steps: Reads[int]
    totals: Updates[Totals]
    settled_at: Updates[float]
    loss: str
    loss_config: Mapping[str, float]
    ahead: bool = False

    async def execute(self, ctx: StageContext) -> None:
        start, rollouts = ctx.read(self.start), ctx.read(self.rollouts)
        batch, update = ctx.read(self.batch), ctx.read(self.update)
        version = ctx.read(self.policies).newest.weights.policy_version
        values: dict[str, float] = {
            "epoch": start.epoch,
            "learning_rate": start.learning_rate,
            **rollout_metrics(rollouts.groups),
            **batch.counts,
            **self._learned(batch, update, version),
            **_means([step.metrics for step in update.steps]),
        }
        ctx.record_metrics(start.step, values)
        now = time.perf_counter()
        begun = max(start.at, ctx.read(self.settled_at))
        seconds = now - begun
        sampled, trained = int(values["total_ac_tokens"]), sum(int(datum.mask.sum()) for datum in batch.datums)
        told = {
            "step": start.step,
            "total_steps": ctx.read(self.total_steps),
            "seconds": seconds,
            "seconds_waiting": rollouts.at - begun,
            "seconds_learning": now - rollouts.at,
            "tokens_per_second": sampled / seconds if seconds > 0 else 0.0,
        }
        ctx.emit("training.step", {**values, **told}, {})
        totals = ctx.read(self.totals)
        ctx.write(
            self.totals,
            replace(
                totals,
                steps=totals.steps + 1,
                tokens=totals.tokens + sampled,
                trained_tokens=totals.trained_tokens + trained,
                seconds=totals.seconds + seconds,
            ),
        )
        ctx.write(self.settled_at, now)

    def _learned(self, batch: LearningBatch, update: PolicyUpdate, version: int) -> dict[str, float]:
        datums = batch.datums
        outputs = [
            _with_a_loss(datum, output, everywhere=self.loss == "dro")
            for datum, output in zip(datums, _outputs(update), strict=True)
        ]
        metrics = learning_metrics(
            datums, outputs, loss=self.loss, loss_config=self.loss_config, policy_version=version
        )
        first = sum(len(call) for call in batch.substeps[0])  # the later substeps differ by design
        gap = sampler_gap(datums[:first], outputs[:first], policy_version=version if self.ahead else None)
        return {**metrics, **(gap.metrics() if gap is not None else {})}


def _outputs(update: PolicyUpdate) -> list[Mapping[str, TensorData]]:
    return [output for result in update.outputs for output in result.loss_fn_outputs]


def _with_a_loss(datum: RLDatum, output: Mapping[str, TensorData], *, everywhere: bool) -> Mapping[str, TensorData]:
    """The output, without logprobs where a token had no loss: some backends compute those, and others do not."""
    lost = datum.mask & ((datum.advantages != 0) | everywhere)
    logprobs = np.where(lost, output["logprobs"].data, np.nan).astype(np.float32)
    return {**output, "logprobs": TensorData(logprobs)}


def _means(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric that all of them report, in the order of the first."""
    if not several:
        return {}
    shared = [name for name in several[0] if all(name in one for one in several)]
    return {name: sum(one[name] for one in several) / len(several) for name in shared}


class RecordLearned(Stage):
    """Write what was trained on: of every member its advantage or why it had none, and, now and then, every token.

    every: steps between those whose tokens are written; 0: 1, 2, 4, 8, ...; -1: none. max_tokens: of a step's tokens
    so many are written, and the rest counted.
    """

    start: Reads[StepStart]
    rollouts: Reads[StepRollouts]
    batch: Reads[LearningBatch]
    update: Reads[PolicyUpdate]
    every: int = 0
    max_tokens: int = 65_536

    def check(self) -> Iterable[Problem]:
        if self.every < -1:
            yield Problem(what="is -1 (none), 0 (1, 2, 4, 8, ...) or n", where="every", given=str(self.every))
        if self.max_tokens < 1:
            yield Problem(what="must be at least 1", where="max_tokens", given=str(self.max_tokens))

    async def execute(self, ctx: StageContext) -> None:
        folder = ctx.run.run_dir
        if folder is None:
            return
        start, batch, groups = ctx.read(self.start), ctx.read(self.batch), ctx.read(self.rollouts).groups
        outputs = _outputs(ctx.read(self.update))

        def write() -> None:
            learned = [
                learned_group(group.index, advantages=advantages, left_out=left_out)
                for group, advantages, left_out in zip(groups, batch.advantages, batch.left_out, strict=True)
            ]
            write_learned(folder, start.step, learned)
            if is_due(start.step, self.every):
                write_record(folder, self._tokens(start, batch.datums, outputs))

        await asyncio.to_thread(write)

    def _tokens(
        self, start: StepStart, datums: Sequence[RLDatum], outputs: Sequence[Mapping[str, TensorData]]
    ) -> StepRecord:
        rows = (
            recorded_row(
                datum.datum,
                output,
                row=number,
                origin=row_origin(datum.group, datum.member, datum.part),
                policy_version=datum.policy_version,
            )
            for number, (datum, output) in enumerate(zip(datums, outputs, strict=True))
        )
        kept, not_kept = keep_within(rows, tokens=self.max_tokens)
        return StepRecord(version=VERSION, step=start.step, epoch=start.epoch, rows=kept, dropped=[], not_kept=not_kept)


class SummarizeRL(Stage):
    """Record what the whole training cost: steps, sampled tokens (and those of them that trained), sampled tokens per
    second, peak memory of this process."""

    totals: Reads[Totals]

    async def execute(self, ctx: StageContext) -> None:
        totals = ctx.read(self.totals)
        results: dict[str, Any] = {
            "steps": totals.steps,
            "tokens": totals.tokens,
            "trained_tokens": totals.trained_tokens,
            "training_seconds": totals.seconds,
            "tokens_per_second": totals.tokens / totals.seconds if totals.seconds > 0 else 0.0,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        for name, value in results.items():
            ctx.record_result(name, value)
