"""Does our server do what the vendor's own end-to-end suite asks of the service, beyond what conformance checks?

Source: thinking-machines-lab/tinker, e2e/test_{correctness,sampling,oai}.py at 494a47f6.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tinker

from serving import TINY_MODEL, running, sdk, torch_served

POEM = "the cat sat on the mat, and that was that"


@pytest.fixture(scope="module")
def url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with torch_served(folder, {TINY_MODEL: tiny_model}) as served, running(served) as server:
        yield server.url


@pytest.fixture(scope="module")
def service(url: str) -> Iterator[tinker.ServiceClient]:
    with sdk(url) as service:
        yield service


@pytest.fixture(scope="module")
def overfitted(service: tinker.ServiceClient) -> tinker.TrainingClient:
    """A run that has learned POEM by heart."""
    trainer = service.create_lora_training_client(TINY_MODEL, rank=16, seed=1).result()
    tokens = trainer.get_tokenizer().encode(POEM)
    example = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)},
    )
    for _ in range(400):
        loss = trainer.forward_backward([example], "cross_entropy").result().metrics["loss:sum"]
        if loss < 0.5:
            return trainer
        trainer.optim_step(tinker.AdamParams(learning_rate=1e-2)).result()
    raise AssertionError(f"after 400 steps the loss is {loss}")


def test_what_was_overfitted_is_recited_from_the_saved_path(
    service: tinker.ServiceClient, overfitted: tinker.TrainingClient
) -> None:
    path = overfitted.save_weights_for_sampler("poem").result().path
    sampler = service.create_sampling_client(model_path=path).result()
    tokens = overfitted.get_tokenizer().encode(POEM)
    prompt, rest = tokens[:8], tokens[8:]
    params = tinker.SamplingParams(max_tokens=len(rest), temperature=0.0)
    assert sampler.sample(tinker.ModelInput.from_ints(prompt), 1, params).result().sequences[0].tokens == rest


@pytest.mark.parametrize("prefix", ["/v1", "/oai/api/v1"])
def test_what_was_overfitted_is_recited_through_the_openai_api(
    url: str, overfitted: tinker.TrainingClient, prefix: str
) -> None:
    path = overfitted.save_weights_for_sampler(f"poem-{len(prefix)}").result().path
    asked = {"model": path, "prompt": POEM[:8], "max_tokens": len(POEM) - 8, "temperature": 0}
    reply = httpx.post(url + prefix + "/completions", json=asked, headers={"Authorization": "Bearer tml-local"})
    assert reply.json()["choices"][0]["text"] == POEM[8:]


@pytest.mark.parametrize("prefix", ["/v1", "/oai/api/v1"])
def test_the_openai_api_lists_the_base_models(url: str, prefix: str) -> None:
    reply = httpx.get(url + prefix + "/models", headers={"Authorization": "Bearer tml-local"})
    assert TINY_MODEL in [each["id"] for each in reply.json()["data"]]
