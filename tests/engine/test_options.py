"""Are wrong engine options found all at once?"""

from pathlib import Path

import pytest

from crucible.engine.options import EngineOptions
from crucible.errors import ManifestError


def test_every_wrong_option_is_named() -> None:
    with pytest.raises(ManifestError) as raised:
        EngineOptions(checkpoint_dir=Path(), dtype="flaot32", device="tpu", threads=0, token_budget=True, max_memory=0)
    wrong = ["dtype", "device", "threads", "token_budget", "max_memory"]
    assert [problem.where for problem in raised.value.problems] == wrong
    assert "Did you mean float32?" in str(raised.value)


def test_threads_may_be_left_to_torch() -> None:
    assert EngineOptions(checkpoint_dir=Path()).threads is None
