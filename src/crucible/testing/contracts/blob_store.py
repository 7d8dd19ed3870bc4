"""Does a blob adapter keep the whole contract of its port?"""

import pytest

from crucible.ports.blob_store import BlobStore
from crucible.testing.contracts.suite import Suite, needed

BAD_KEYS = ("", "/absolute", "..", "../a", "a/../b", "a/..")
"""Absolute, empty, or climbing."""


class BlobStoreContract(Suite):
    """The contract of `crucible.ports.BlobStore`.

    Fixture that the subclass gives:
        store: the adapter, empty, fresh for every test.
    """

    @pytest.fixture
    def store(self) -> BlobStore:
        raise needed("store")

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 9])
    def test_what_was_written_is_read(self, store: BlobStore, data: bytes) -> None:
        store.write("a/b.bin", data)
        assert store.read("a/b.bin") == data
        assert b"".join(store.stream("a/b.bin", chunk_size=100)) == data
        assert store.exists("a/b.bin")

    def test_a_stream_comes_in_chunks_of_at_most_the_size_asked(self, store: BlobStore) -> None:
        store.write("a", b"0123456789")
        assert all(0 < len(chunk) <= 3 for chunk in store.stream("a", chunk_size=3))

    def test_writing_again_replaces(self, store: BlobStore) -> None:
        store.write("a", b"a longer old value")
        store.write("a", b"new")
        assert store.read("a") == b"new"
        assert store.list() == ["a"]

    def test_a_reader_sees_the_old_bytes_or_the_new_never_a_part(self, store: BlobStore) -> None:
        old, new = b"old" * 1000, b"new" * 1000
        store.write("a", old)
        reading = store.stream("a", chunk_size=7)
        first = next(reading)
        store.write("a", new)
        assert first + b"".join(reading) in (old, new)

    def test_list_gives_every_key_with_the_prefix_sorted(self, store: BlobStore) -> None:
        for key in ("b", "a/2", "a/10", "ab", "c/d/e"):
            store.write(key, b"x")
        assert store.list() == ["a/10", "a/2", "ab", "b", "c/d/e"]
        assert store.list("a") == ["a/10", "a/2", "ab"]
        assert store.list("a/") == ["a/10", "a/2"]
        assert store.list("nothing") == []

    def test_a_deleted_key_is_gone_and_may_be_deleted_again(self, store: BlobStore) -> None:
        store.write("a/b", b"x")
        store.delete("a/b")
        store.delete("a/b")
        assert not store.exists("a/b")
        assert store.list() == []

    def test_a_key_that_is_not_there_is_not_found(self, store: BlobStore) -> None:
        store.write("a/b", b"x")
        for key in ("b", "a", "a/b/c"):
            assert not store.exists(key)
            with pytest.raises(FileNotFoundError):
                store.read(key)
            with pytest.raises(FileNotFoundError):
                next(store.stream(key))

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_is_no_relative_path_is_refused_by_every_method(self, store: BlobStore, key: str) -> None:
        with pytest.raises(ValueError):
            store.write(key, b"x")
        with pytest.raises(ValueError):
            store.read(key)
        with pytest.raises(ValueError):
            next(store.stream(key))
        with pytest.raises(ValueError):
            store.exists(key)
        with pytest.raises(ValueError):
            store.delete(key)

    def test_it_may_be_closed_twice(self, store: BlobStore) -> None:
        store.close()
        store.close()
