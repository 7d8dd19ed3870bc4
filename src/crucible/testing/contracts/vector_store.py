"""Does a vector adapter keep the whole contract of its port?"""

import numpy as np
import pytest
from numpy.typing import NDArray

from crucible.ports.vector_store import Collection, Scalar, VectorRecord, VectorStore
from crucible.testing.contracts.suite import NotExercised, Suite, needed

X, Y, Z = np.eye(3, dtype=np.float32)


def record(name: str, vector: NDArray[np.float32], **metadata: Scalar) -> VectorRecord:
    """A record whose text tells its id."""
    return VectorRecord(id=name, vector=vector, text=f"the text of {name}", metadata=metadata)


class VectorStoreContract(Suite):
    """The contract of `crucible.ports.VectorStore`.

    Fixture that the subclass gives:
        store: the adapter, empty, fresh for every test.
    """

    @pytest.fixture
    def store(self) -> VectorStore:
        raise needed("store")

    @pytest.fixture
    def filled(self, store: VectorStore) -> VectorStore:
        """Three directions in the collection `axes`."""
        store.create_collection("axes", dimension=3)
        records = [record("x", X, kind="a", n=1), record("y", 5 * Y, kind="b", n=True), record("z", Z, kind="a")]
        store.add("axes", records)
        return store

    def test_a_collection_is_made_found_and_deleted(self, store: VectorStore) -> None:
        made = store.create_collection("one", dimension=3)
        assert made == store.get_collection("one") == Collection(name="one", dimension=3, size=0)
        assert store.get_or_create_collection("one", dimension=3) == made
        assert store.get_or_create_collection("two", dimension=5).dimension == 5
        store.delete_collection("one")
        store.delete_collection("one")
        with pytest.raises(LookupError):
            store.get_collection("one")
        assert store.get_collection("two").dimension == 5

    def test_a_taken_name_no_name_or_another_dimension_is_refused(self, store: VectorStore) -> None:
        store.create_collection("one", dimension=3)
        for name, dimension in (("one", 3), ("", 3), ("two", 0)):
            with pytest.raises(ValueError):
                store.create_collection(name, dimension=dimension)
        with pytest.raises(ValueError):
            store.get_or_create_collection("one", dimension=4)

    def test_a_deleted_collection_comes_back_empty(self, filled: VectorStore) -> None:
        filled.delete_collection("axes")
        filled.create_collection("axes", dimension=3)
        assert filled.query("axes", X) == []

    def test_the_nearest_by_direction_come_first_with_what_they_stand_for(self, filled: VectorStore) -> None:
        found = filled.query("axes", 2 * X + Y)
        assert [match.id for match in found] == ["x", "y", "z"]
        assert [match.score for match in found] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0], abs=1e-5)
        assert (found[0].text, found[0].metadata) == ("the text of x", {"kind": "a", "n": 1})
        assert filled.query("axes", -X)[-1].score == pytest.approx(-1, abs=1e-5)
        assert filled.get_collection("axes").size == 3

    def test_a_query_gives_at_most_its_limit(self, filled: VectorStore) -> None:
        assert [match.id for match in filled.query("axes", X, limit=1)] == ["x"]
        with pytest.raises(ValueError):
            filled.query("axes", X, limit=0)

    def test_the_ranking_is_that_of_plain_cosines(self, store: VectorStore, not_exercised: NotExercised) -> None:
        random = np.random.default_rng(0)
        vectors, asked = random.normal(size=(200, 16)).astype(np.float32), random.normal(size=16).astype(np.float32)
        store.create_collection("many", dimension=16)
        for start in (0, 150):
            batch = vectors[start : start + 150]
            store.add("many", [record(str(start + row), vector) for row, vector in enumerate(batch)])
        cosines = vectors.astype(np.float64) @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
        best = [str(row) for row in np.argsort(-cosines)[:20]]
        found = [match.id for match in store.query("many", asked, limit=20)]
        if store.capabilities().exact:
            assert found == best
        else:
            not_exercised("the exact ranking: the backend's index is approximate")
            assert len({*found} & {*best}) >= 10

    def test_what_is_equally_near_comes_in_the_order_added(
        self, store: VectorStore, not_exercised: NotExercised
    ) -> None:
        if not store.capabilities().exact:
            not_exercised("the order of what is equally near: the backend's index is approximate")
            return
        vector = np.random.default_rng(1).normal(size=7).astype(np.float32)
        store.create_collection("same", dimension=7)
        store.add("same", [record(str(number), vector) for number in range(13)])
        assert [match.id for match in store.query("same", vector, limit=13)] == [str(n) for n in range(13)]

    def test_a_filter_keeps_what_has_the_value_or_one_of_the_values(self, filled: VectorStore) -> None:
        def ids(where: dict[str, Scalar | list[Scalar]]) -> list[str]:
            return [match.id for match in filled.query("axes", X + Y, where=where)]

        assert ids({"kind": "a"}) == ["x", "z"]
        assert ids({"kind": ["b", "c"]}) == ["y"]
        assert ids({"kind": "a", "n": 1}) == ["x"]
        assert ids({"n": True}) == ["y"]
        assert ids({"missing": "a"}) == ids({"kind": []}) == []
        assert ids({}) == ["x", "y", "z"]

    def test_a_filter_comes_before_the_limit(self, filled: VectorStore) -> None:
        assert [match.id for match in filled.query("axes", X, limit=1, where={"kind": "b"})] == ["y"]

    def test_a_wrong_record_is_refused_with_all_that_came_with_it(self, filled: VectorStore) -> None:
        nan, flat = np.array([1, np.nan, 0], dtype=np.float32), np.zeros(3, dtype=np.float32)
        for wrong in (
            record("x", X),
            record("", X),
            record("new", X),
            record("short", X[:2]),
            record("nan", nan),
            record("flat", flat),
        ):
            with pytest.raises(ValueError):
                filled.add("axes", [record("new", Y), wrong])
            assert filled.get_collection("axes").size == 3
        filled.add("axes", [record("new", Y)])
        for vector in (X[:2], nan, flat):
            with pytest.raises(ValueError):
                filled.query("axes", vector)

    def test_a_collection_that_is_not_there_is_not_found(self, store: VectorStore) -> None:
        with pytest.raises(LookupError):
            store.add("missing", [record("x", X)])
        with pytest.raises(LookupError):
            store.query("missing", X)

    def test_what_was_added_stays_as_it_was(self, store: VectorStore) -> None:
        vector, metadata = X.copy(), {"kind": "a"}
        store.create_collection("one", dimension=3)
        store.add("one", [VectorRecord(id="x", vector=vector, metadata=metadata)])
        vector[:], metadata["kind"] = Y, "b"
        found = store.query("one", X)[0]
        assert (found.score, found.metadata) == (pytest.approx(1, abs=1e-5), {"kind": "a"})

    def test_it_may_be_closed_twice(self, store: VectorStore) -> None:
        store.close()
        store.close()
