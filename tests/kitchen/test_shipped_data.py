"""The data sets that come as packages raise no alarm with the packaged model. Needs both (slow tier)."""

from collections.abc import Mapping

import pytest

from crucible.adapters.assets import resolve_model
from crucible.engine.facts import model_facts
from crucible.ports.model_facts import ModelFacts
from crucible.runtime.examining import doctor
from crucible.testing.fakes import FakeTrainingClient
from crucible.train.checks import CHECKS, Finding

pytestmark = pytest.mark.slow


class Describing(FakeTrainingClient):
    """Trains nothing, and says of a model what its folder says."""

    def model_facts(self, model: str) -> ModelFacts | None:
        return model_facts(resolve_model(model))


def examined(recipe: str, config: Mapping[str, object]) -> list[Finding]:
    adapters = {"dataset_store": "auto", "tokenizer_store": "hf", "training_client": Describing()}
    return doctor(recipe, config, manifest="test", adapters=adapters, only=list(CHECKS))


@pytest.mark.parametrize(
    ("recipe", "config"),
    [
        ("sl_basic", {}),
        ("sl_basic", {"preset": "demo"}),
        ("chat_sl", {}),
        ("chat_sl", {"train_on": "last_assistant_message"}),
        ("chat_sl", {"renderer": "template"}),
    ],
)
def test_shipped_data_raise_no_alarm(recipe, config) -> None:
    found = examined(recipe, config)
    assert [str(finding) for finding in found if finding.status in ("warn", "fail")] == []
    passed = {finding.check for finding in found if finding.status == "pass"}
    assert {"trained", "end_of_turn", "bos", "template", "round_trip", "vocabulary", "overlap"} <= passed


def test_the_copies_in_a_data_set_that_has_some_are_told_and_stop_nothing() -> None:
    found = {finding.check: finding for finding in examined("sl_basic", {"dataset": "alpaca_en_demo"})}
    assert {name for name, finding in found.items() if finding.status == "warn"} == {"duplicates", "overlap"}
    assert "12 of 967 rows" in found["duplicates"].sentence and "2 exactly" in found["overlap"].sentence
