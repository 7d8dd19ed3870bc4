"""Does an embedding adapter keep the whole contract of its port?"""

import numpy as np
import pytest

from crucible.errors import PortError
from crucible.ports.embedding_client import EmbeddingClient
from crucible.testing.contracts.suite import NotExercised, Suite, needed

WAIT = 120.0
"""Seconds that the suite waits for one call."""

TEXTS = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Interest rates rose again in March.", "東京 🙂", "?"]


class EmbeddingClientContract(Suite):
    """The contract of `crucible.ports.EmbeddingClient`.

    Fixture that the subclass gives:
        client: the adapter, open.
    """

    @pytest.fixture
    def client(self) -> EmbeddingClient:
        raise needed("client")

    def test_every_text_has_a_row_of_length_one(self, client: EmbeddingClient) -> None:
        rows = client.embed_texts(TEXTS).result(WAIT)
        assert rows.shape == (len(TEXTS), client.capabilities().dimension)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_no_text_has_no_row(self, client: EmbeddingClient) -> None:
        assert client.embed_texts([]).result(WAIT).shape == (0, client.capabilities().dimension)

    def test_a_row_is_a_function_of_its_own_text(self, client: EmbeddingClient) -> None:
        rows = client.embed_texts(TEXTS).result(WAIT)
        turned = client.embed_texts([*reversed(TEXTS)]).result(WAIT)[::-1]
        alone = np.vstack([client.embed_texts([text]).result(WAIT) for text in TEXTS])
        if client.capabilities().exact:
            assert rows.tobytes() == np.ascontiguousarray(turned).tobytes() == alone.tobytes()
        np.testing.assert_allclose(turned, rows, atol=1e-4)
        np.testing.assert_allclose(alone, rows, atol=1e-4)

    def test_different_texts_have_different_rows(self, client: EmbeddingClient) -> None:
        rows = client.embed_texts(TEXTS).result(WAIT)
        cosines = rows @ rows.T
        assert (cosines[~np.eye(len(TEXTS), dtype=bool)] < 0.999).all()

    def test_what_means_the_same_is_nearer(self, client: EmbeddingClient, not_exercised: NotExercised) -> None:
        if not client.capabilities().computes:
            not_exercised("nearness in meaning: the vectors follow no model")
            return
        cat, also_cat, rates, *_ = client.embed_texts(TEXTS).result(WAIT)
        assert cat @ also_cat > cat @ rates + 0.1

    @pytest.mark.parametrize("text", ["", "  ", "\n\t"])
    async def test_a_text_that_is_empty_is_refused(self, client: EmbeddingClient, text: str) -> None:
        with pytest.raises(ValueError):
            await client.embed_texts(["a text", text])

    def test_it_may_be_closed_twice_and_then_embeds_no_more(self, client: EmbeddingClient) -> None:
        client.close()
        client.close()
        with pytest.raises(PortError) as raised:
            client.embed_texts(TEXTS).result(WAIT)
        assert not raised.value.retryable
