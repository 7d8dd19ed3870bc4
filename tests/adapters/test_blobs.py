"""What is `LocalBlobStore`'s own: files, atomic writes, durable folders."""

import os
import signal
import subprocess
import sys

import pytest

from crucible.adapters.blobs import LocalBlobStore


def test_a_key_is_a_file_below_the_root(tmp_path):
    LocalBlobStore(tmp_path).write("a/b.bin", b"x")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"x"


def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(tmp_path):
    store = LocalBlobStore(tmp_path)
    store.write("a", b"old")
    with pytest.raises(TypeError):
        store.write("a", "not bytes")
    assert store.read("a") == b"old"
    assert list((tmp_path / ".incomplete").iterdir()) == []


def test_what_a_killed_writer_left_is_no_blob(tmp_path):
    code = (
        "import os, signal, sys; from crucible.adapters.blobs import LocalBlobStore\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalBlobStore(sys.argv[1]).write('a', b'half')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / ".incomplete").iterdir())) == 1
    assert LocalBlobStore(tmp_path).list() == []


def test_no_key_reaches_the_folder_of_incomplete_files(tmp_path):
    for key in (".incomplete", ".incomplete/a"):
        with pytest.raises(ValueError, match="incomplete"):
            LocalBlobStore(tmp_path).write(key, b"x")


def test_a_root_that_does_not_exist_holds_nothing_and_is_made_by_a_write(tmp_path):
    store = LocalBlobStore(tmp_path / "not" / "yet")
    assert store.list() == []
    assert not store.exists("a")
    store.write("a", b"x")
    assert store.list() == ["a"]


def test_a_write_is_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), real_fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), real_replace(*paths)))
    LocalBlobStore(tmp_path).write("a", b"x")
    assert events == ["sync", "rename", "sync"]
