"""How is a recipe examined from outside? Config, ports and workflow as for a run, then the kitchen's doctor."""

from collections.abc import Collection, Mapping, Sequence

from crucible.framework import Workflow
from crucible.ir import Experiment
from crucible.kitchen.config import Layer
from crucible.kitchen.doctor import diagnose
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.rl_doctor import diagnose_rl, is_rl
from crucible.ports import DatasetStore, SamplingClient, TokenizerStore, TrainingClient
from crucible.runtime.blocking import block_on
from crucible.runtime.facade import prepare
from crucible.runtime.wiring import Override
from crucible.train.checks import Finding


def doctor(
    recipe_or_workflow: "str | Recipe | Workflow | Experiment",
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    only: Collection[str] = (),
) -> list[Finding]:
    """Examine data or environment, tokenizer, settings and backend: all checks, or those that `only` names.

    Makes no run folder.

    Raises:
        UserError: if something cannot be read at all, `only` names no check, or the workflow trains nothing. What a
            check finds is a finding.
    """
    prepared = prepare(recipe_or_workflow, config, manifest=manifest, adapters=adapters, options=options)
    try:
        datasets = prepared.wiring.port("dataset_store")
        tokenizers = prepared.wiring.port("tokenizer_store")
        training = prepared.wiring.port("training_client")
        assert isinstance(datasets, DatasetStore)
        assert isinstance(tokenizers, TokenizerStore)
        assert isinstance(training, TrainingClient)
        if not is_rl(prepared.workflow):
            work = diagnose(prepared.workflow, datasets=datasets, tokenizers=tokenizers, training=training, only=only)
            return block_on(work)
        sampling = prepared.wiring.port("sampling_client")
        assert isinstance(sampling, SamplingClient)
        rolled = diagnose_rl(
            prepared.workflow,
            datasets=datasets,
            tokenizers=tokenizers,
            training=training,
            sampling=sampling,
            only=only,
        )
        return block_on(rolled)
    finally:
        prepared.wiring.close()
