"""Is what was sampled what is trained on? If sampler and trainer disagree, the run stops and says why."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from crucible.errors import Problem, RolloutGapError
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.policies import Policies
from crucible.kitchen.rl_slots import LearningBatch
from crucible.ports import SamplingClient, TrainingClient
from crucible.ports.training_client import ForwardBackwardOutput, TrainingSession
from crucible.train.rl.gap import GapEvidence, SamplerGap, diagnose, off_policy_gap, sampler_gap
from crucible.train.rl.gap_evidence import gather_evidence

SHOWN = 4
"""So many datums are scored again for a diagnosis."""


class CheckSamplerGap(Stage):
    """Compare the sampler's logprobs with the trainer's, before the first optimizer step: from the same weights both
    should have the same.

    Where sampling runs ahead of learning, older weights have sampled, as they were meant to. Then every `every` steps
    a few datums are scored again, by the policy that drew them and by what the trainer's weights are now: each must
    agree with what was said of its own.

    limit: the mean distance, in nats a token, beyond which the run stops. ahead: whether sampling runs ahead.
    temperature: that is sampled at.
    """

    ports: ClassVar = (TrainingClient, SamplingClient)
    session: Reads[TrainingSession]
    policies: Reads[Policies]
    batch: Reads[LearningBatch]
    result: Reads[ForwardBackwardOutput]
    step: Reads[int]
    model: str
    limit: float
    ahead: bool = False
    every: int = 10
    temperature: float = 1.0

    def check(self) -> Iterable[Problem]:
        if not self.limit > 0:
            yield Problem(what="must be more than 0", where="limit", given=str(self.limit))
        if self.every < 1:
            yield Problem(what="must be at least 1", where="every", given=str(self.every))

    async def execute(self, ctx: StageContext) -> None:
        if not ctx.port(TrainingClient).capabilities().computes:
            return
        if self.ahead:
            await self._check_older(ctx)
            return
        outputs = ctx.read(self.result).loss_fn_outputs
        gap = sampler_gap(ctx.read(self.batch).datums[: len(outputs)], outputs)
        if gap is not None and gap.mean > self.limit:
            version = ctx.read(self.policies).newest.weights.policy_version
            evidence = await self._evidence(ctx, gap.worst[:SHOWN], version)
            self._stop(ctx, gap, evidence)

    async def _check_older(self, ctx: StageContext) -> None:
        outputs = ctx.read(self.result).loss_fn_outputs
        datums = ctx.read(self.batch).datums[: len(outputs)]
        if (ctx.read(self.step) - 1) % self.every or not datums:
            return
        version = datums[0].policy_version
        if all(policy.weights.policy_version != version for policy in ctx.read(self.policies).entries):
            return  # taken from the record of a run that was killed: who has sampled it is gone
        shown = [place for place, datum in enumerate(datums) if datum.policy_version == version][:SHOWN]
        gap = sampler_gap([datums[place] for place in shown], [outputs[place] for place in shown])
        if gap is None:
            return
        evidence = await self._evidence(ctx, shown, version)
        if off_policy_gap(evidence) > self.limit:
            self._stop(ctx, gap, evidence)

    async def _evidence(self, ctx: StageContext, places: Sequence[int], version: int) -> GapEvidence:
        """Those datums, scored by whoever may be at fault. version: of the policy that drew them."""
        training, sampling = ctx.port(TrainingClient), ctx.port(SamplingClient)
        datums, outputs = ctx.read(self.batch).datums, ctx.read(self.result).loss_fn_outputs
        drew = [policy for policy in ctx.read(self.policies).entries if policy.weights.policy_version == version]
        saved = await training.save_weights_for_sampler(ctx.read(self.session), "gap-alarm", overwrite=True)
        snapshot = await sampling.start_session(model_path=saved.path)
        base = await sampling.start_session(base_model=self.model)
        try:
            return await gather_evidence(
                sampling,
                [datums[place] for place in places],
                [outputs[place] for place in places],
                session=drew[-1].session,
                snapshot=snapshot,
                base=base,
                temperature=self.temperature,
            )
        finally:
            await sampling.close_session(snapshot)
            await sampling.close_session(base)
            await training.delete_checkpoint(saved.path)

    def _stop(self, ctx: StageContext, gap: SamplerGap, evidence: GapEvidence) -> None:
        diagnosis = diagnose(evidence, off_policy=self.ahead)
        raise RolloutGapError(diagnosis.problem(gap, limit=self.limit, where=f"step {ctx.read(self.step)}"))
