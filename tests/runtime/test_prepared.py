"""Preparing a run, which is all that a dry run does, names local files from the root and finds wrong option values."""

from pathlib import Path

import pytest

import crucible
from crucible.errors import ManifestError
from crucible.runtime.facade import Prepared


def test_a_dry_run_finds_wrong_option_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for option, value in (("dtype", "int3"), ("threads", -1)):
        with pytest.raises(ManifestError, match=option):
            crucible.run("sl_basic", {}, options={"torch": {option: value}}, dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_local_file_is_named_from_the_root_in_all_that_a_run_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("")
    wanted = str(tmp_path.resolve() / "rows.jsonl")
    prepared = crucible.run("sl_basic", {"dataset": "rows.jsonl"}, dry_run=True)
    assert isinstance(prepared, Prepared)
    assert prepared.experiment.config is not None and prepared.experiment.config["dataset"] == wanted
    assert crucible.build_spec("sl_basic", {"dataset": "rows.jsonl"}) == prepared.experiment
