"""How is a recipe planned from outside? Config, ports and workflow as for a run, then the kitchen's plan."""

from collections.abc import Mapping, Sequence

from crucible.kitchen.config import Layer
from crucible.kitchen.plan import Plan, plan_supervised
from crucible.kitchen.rl_doctor import is_rl
from crucible.kitchen.rl_plan import RLPlan, plan_rl
from crucible.ports import DatasetStore, TokenizerStore, TrainingClient
from crucible.runtime.blocking import block_on
from crucible.runtime.facade import prepare
from crucible.runtime.wiring import Override


def plan(
    name: str,
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Plan | RLPlan:
    """What running this would do and cost. Reads the data and the tokenizer; makes no run folder.

    Raises:
        UserError: if anything the user gave is wrong.
    """
    prepared = prepare(name, config, manifest=manifest, adapters=adapters, options=options)
    try:
        datasets = prepared.wiring.port("dataset_store")
        tokenizers = prepared.wiring.port("tokenizer_store")
        training = prepared.wiring.port("training_client")
        assert isinstance(datasets, DatasetStore)
        assert isinstance(tokenizers, TokenizerStore)
        assert isinstance(training, TrainingClient)
        if is_rl(prepared.workflow):
            work = plan_rl(prepared.workflow, datasets=datasets, tokenizers=tokenizers, training=training)
            return block_on(work)
        return plan_supervised(prepared.workflow, datasets=datasets, tokenizers=tokenizers, training=training)
    finally:
        prepared.wiring.close()
