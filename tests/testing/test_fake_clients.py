"""The contract suites of chat models, embeddings and vectors, over every fake and every adapter; and the fakes' own."""

from collections.abc import Iterator

import numpy as np
import pytest
from chat_server import serving

from crucible.adapters.llm import OpenAIClient
from crucible.adapters.vectors import MemoryVectorStore
from crucible.testing import contracts
from crucible.testing.fakes import FakeEmbeddingClient, FakeLLMClient, FakeVectorStore


class TestFakeLLMClient(contracts.LLMClientContract):
    @pytest.fixture
    def client(self) -> FakeLLMClient:
        return FakeLLMClient()


class TestOpenAIClient(contracts.LLMClientContract):
    @pytest.fixture
    def client(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIClient]:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with serving() as chat:
            client = OpenAIClient(model="m", base_url=chat.url, timeout=30)
            yield client
            client.close()


class TestFakeEmbeddingClient(contracts.EmbeddingClientContract):
    @pytest.fixture
    def client(self) -> FakeEmbeddingClient:
        return FakeEmbeddingClient()


class TestFakeVectorStore(contracts.VectorStoreContract):
    @pytest.fixture
    def store(self) -> FakeVectorStore:
        return FakeVectorStore()


class TestMemoryVectorStore(contracts.VectorStoreContract):
    @pytest.fixture
    def store(self) -> MemoryVectorStore:
        return MemoryVectorStore()


def test_the_fakes_are_noop_adapters() -> None:
    for fake in (FakeLLMClient, FakeEmbeddingClient, FakeVectorStore):
        assert (fake.adapter_name, fake.is_noop) == ("noop", True)


def test_the_fake_embeddings_follow_spelling() -> None:
    cat, cats, rates = FakeEmbeddingClient().embed_texts(["the cat", "the cats", "rising rates"]).result()
    assert cat @ cats > cat @ rates
    assert FakeEmbeddingClient(dimension=8).embed_texts(["a"]).result().shape == (1, 8)


def test_the_fake_fills_in_every_kind_of_schema() -> None:
    kinds = {
        "pick": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "same": {"const": 7},
        "many": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        "size": {"type": "number", "maximum": -1.5},
        "text": {"type": ["string", "null"]},
    }
    schema = {"type": "object", "properties": kinds, "required": [*kinds], "additionalProperties": False}
    answer = FakeLLMClient().chat([{"role": "user", "content": "go"}], schema=schema).result()
    assert answer.structured == {"pick": None, "same": 7, "many": [False, False], "size": -1.5, "text": "word"}


def test_two_stores_of_vectors_agree() -> None:
    random = np.random.default_rng(2)
    vectors, asked = random.normal(size=(50, 5)).astype(np.float32), random.normal(size=5).astype(np.float32)
    from crucible.ports.vector_store import VectorRecord

    found: list[list[str]] = []
    for store in (FakeVectorStore(), MemoryVectorStore()):
        store.create_collection("c", dimension=5)
        store.add("c", [VectorRecord(id=str(row), vector=vector) for row, vector in enumerate(vectors)])
        found.append([match.id for match in store.query("c", asked, limit=50)])
    assert found[0] == found[1]
