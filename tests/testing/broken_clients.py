"""Adapters of chat models, embeddings and vectors, each with one fault; `test_client_contracts_catch.py` runs them."""

import dataclasses
import itertools

import numpy as np
import pytest

from crucible.ports.future import Future
from crucible.testing import contracts, fakes


class IgnoresStop(fakes.FakeLLMClient):
    def _answer(self, messages, params, schema):
        return super()._answer(messages, dataclasses.replace(params, stop=()), schema)


class StreamsOnlyTheStart(fakes.FakeLLMClient):
    async def stream_chat(self, messages, **options):
        async for chunk in super().stream_chat(messages, **options):
            yield dataclasses.replace(chunk, text="" if chunk.response else chunk.text)


class InventsStructure(fakes.FakeLLMClient):
    def _answer(self, messages, params, schema):
        return dataclasses.replace(super()._answer(messages, params, schema), structured=schema and {})


class DrawsAnew(fakes.FakeLLMClient):
    seeds = itertools.count()

    def _answer(self, messages, params, schema):
        return super()._answer(messages, dataclasses.replace(params, seed=next(self.seeds)), schema)


class _LLM(contracts.LLMClientContract):
    broken: type

    @pytest.fixture
    def client(self):
        return self.broken()


class TestIgnoresStop(_LLM):
    broken = IgnoresStop


class TestStreamsOnlyTheStart(_LLM):
    broken = StreamsOnlyTheStart


class TestInventsStructure(_LLM):
    broken = InventsStructure


class TestDrawsAnew(_LLM):
    broken = DrawsAnew


class ForgetsTheLength(fakes.FakeEmbeddingClient):
    def _embed(self, texts):
        return super()._embed(texts) * 2


class LooksAtNeighbours(fakes.FakeEmbeddingClient):
    def _embed(self, texts):
        rows = super()._embed(texts)
        rows = rows + 0.1 * rows[:1]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class EmbedsNothing(fakes.FakeEmbeddingClient):
    def embed_texts(self, texts):
        return Future.of(lambda: self._embed([text.strip() or "nothing" for text in texts]))


class _Embeddings(contracts.EmbeddingClientContract):
    broken: type

    @pytest.fixture
    def client(self):
        return self.broken()


class TestForgetsTheLength(_Embeddings):
    broken = ForgetsTheLength


class TestLooksAtNeighbours(_Embeddings):
    broken = LooksAtNeighbours


class TestEmbedsNothing(_Embeddings):
    broken = EmbedsNothing


class RanksByLength(fakes.FakeVectorStore):
    def add(self, collection, records):
        super().add(collection, records)
        self._records[collection].update((record.id, record) for record in records)


class AddsHalf(fakes.FakeVectorStore):
    def add(self, collection, records):
        for record in records:
            super().add(collection, [record])


class FiltersAfterTheLimit(fakes.FakeVectorStore):
    def query(self, collection, vector, *, limit=10, where=None):
        kept = {match.id for match in super().query(collection, vector, limit=1000, where=where)}
        return [match for match in super().query(collection, vector, limit=limit) if match.id in kept]


class TurnsTies(fakes.FakeVectorStore):
    def query(self, collection, vector, *, limit=10, where=None):
        found = super().query(collection, vector, limit=1000, where=where)
        found.reverse()
        return sorted(found, key=lambda match: -match.score)[:limit]


class _Vectors(contracts.VectorStoreContract):
    broken: type

    @pytest.fixture
    def store(self):
        return self.broken()


class TestRanksByLength(_Vectors):
    broken = RanksByLength


class TestAddsHalf(_Vectors):
    broken = AddsHalf


class TestFiltersAfterTheLimit(_Vectors):
    broken = FiltersAfterTheLimit


class TestTurnsTies(_Vectors):
    broken = TurnsTies
