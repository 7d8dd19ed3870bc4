"""How does one try a recipe without a backend? On fakes, in memory, in about a second."""

import asyncio
from collections.abc import Mapping

from crucible.framework import Run, RunResult, execute
from crucible.kitchen.config import Layer
from crucible.kitchen.recipe import Recipe
from crucible.ports import Port
from crucible.testing.fakes import (
    FakeBackend,
    FakeBlobStore,
    FakeDatasetStore,
    FakeEmbeddingClient,
    FakeHubClient,
    FakeLLMClient,
    FakeMetricsStore,
    FakeTokenizerStore,
    FakeVectorStore,
)


def run_noop(
    recipe: Recipe, config: Mapping[str, object] | None = None, *, ports: Mapping[str, Port] | None = None
) -> RunResult:
    """Run the recipe's workflow with a fake behind every port, or with yours where `ports` names one.

    Nothing is written to disk. The numbers follow no model: what is tested is the recipe.

    Raises:
        UserError: if the config or the workflow is wrong.
    """
    built = recipe.configure(Layer(origin="run_noop", values=config or {}))
    workflow = recipe.workflow(built.value)
    backend = FakeBackend()
    fakes: dict[str, Port] = {
        "training_client": backend.training_client,
        "sampling_client": backend.sampling_client,
        "tokenizer_store": FakeTokenizerStore(),
        "dataset_store": FakeDatasetStore(),
        "blob_store": FakeBlobStore(),
        "hub_client": FakeHubClient(),
        "metrics_store": FakeMetricsStore(),
        "llm_client": FakeLLMClient(),
        "embedding_client": FakeEmbeddingClient(),
        "vector_store": FakeVectorStore(),
    }
    run = Run(run_id="noop", recipe=recipe.name, workflow=workflow.name, config=built.to_json())
    try:
        return asyncio.run(execute(workflow, run, ports={**fakes, **(ports or {})}))
    finally:
        backend.close()
