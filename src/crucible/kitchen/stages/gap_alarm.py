"""Is what was sampled what is trained on? If sampler and trainer disagree, the run stops and says why."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from crucible.errors import Problem, RolloutGapError
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.policies import Policies
from crucible.kitchen.rl_slots import LearningBatch
from crucible.ports import SamplingClient, TrainingClient
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import ForwardBackwardOutput, TrainingSession
from crucible.train.rl.gap import (
    UNDIAGNOSED,
    GapDiagnosis,
    GapEvidence,
    SamplerGap,
    diagnose,
    off_policy_gap,
    sampler_gap,
)
from crucible.train.rl.gap_evidence import gather_evidence

SHOWN = 4
"""So many datums are scored again for a diagnosis."""


class CheckSamplerGap(Stage):
    """Compare the sampler's logprobs with the trainer's, before the first optimizer step: from the same weights both
    should have the same.

    Where sampling runs ahead of learning, older weights have sampled, as they were meant to. Then every `every` steps
    a few datums are scored again, by the policy that drew them and by what the trainer's weights are now: each must
    agree with what was said of its own.

    limit: the mean distance, in nats a token, beyond which the run stops. ahead: optimizer steps that sampling may run
    ahead by; what older weights have sampled is stale. temperature: that is sampled at.
    """

    ports: ClassVar = (TrainingClient, SamplingClient)
    session: Reads[TrainingSession]
    policies: Reads[Policies]
    batch: Reads[LearningBatch]
    result: Reads[ForwardBackwardOutput]
    step: Reads[int]
    model: str
    limit: float
    ahead: int = 0
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
        if gap is None or gap.mean <= self.limit:
            return
        diagnosis = UNDIAGNOSED
        if ctx.port(SamplingClient).capabilities().prompt_logprobs:
            version = ctx.read(self.policies).newest.weights.policy_version
            evidence, _ = await self._evidence(ctx, gap.worst[:SHOWN], version)
            diagnosis = diagnose(evidence)
        self._stop(ctx, gap, diagnosis)

    async def _check_older(self, ctx: StageContext) -> None:
        outputs = ctx.read(self.result).loss_fn_outputs
        datums = ctx.read(self.batch).datums[: len(outputs)]
        can_tell = ctx.port(SamplingClient).capabilities().prompt_logprobs
        if (ctx.read(self.step) - 1) % self.every or not datums or not can_tell:
            return
        version = datums[0].policy_version
        if version < 0 or all(policy.weights.policy_version != version for policy in ctx.read(self.policies).entries):
            return  # the service does not say who has sampled it; or it is of a record, and who sampled it is gone
        shown = [place for place, datum in enumerate(datums) if datum.policy_version == version][:SHOWN]
        gap = sampler_gap([datums[place] for place in shown], [outputs[place] for place in shown])
        if gap is None:
            return
        evidence, trained = await self._evidence(ctx, shown, version)
        meant = trained - version <= self.ahead
        if off_policy_gap(evidence) > self.limit or not meant:
            self._stop(ctx, gap, diagnose(evidence, off_policy=meant))

    async def _evidence(self, ctx: StageContext, places: Sequence[int], version: int) -> tuple[GapEvidence, int]:
        """Those datums, scored by whoever may be at fault, and the version of the weights that are trained.

        version: of the policy that drew them.
        """
        training, sampling = ctx.port(TrainingClient), ctx.port(SamplingClient)
        datums, outputs = ctx.read(self.batch).datums, ctx.read(self.result).loss_fn_outputs
        drew = [policy for policy in ctx.read(self.policies).entries if policy.weights.policy_version == version]
        saved = await training.save_weights_for_sampler(ctx.read(self.session), "gap-alarm", overwrite=True)
        opened: list[SamplingSession] = []
        try:
            opened.append(await sampling.start_session(model_path=saved.path))
            opened.append(await sampling.start_session(base_model=self.model))
            evidence = await gather_evidence(
                sampling,
                [datums[place] for place in places],
                [outputs[place] for place in places],
                session=drew[-1].session,
                snapshot=opened[0],
                base=opened[1],
                temperature=self.temperature,
            )
            return evidence, saved.policy_version
        finally:
            for session in opened:
                await sampling.close_session(session)
            await training.delete_checkpoint(saved.path)

    def _stop(self, ctx: StageContext, gap: SamplerGap, diagnosis: GapDiagnosis) -> None:
        raise RolloutGapError(diagnosis.problem(gap, limit=self.limit, where=f"step {ctx.read(self.step)}"))
