"""Ports come from defaults, then the manifest, then overrides; what does not fit is refused before it is made."""

from pathlib import Path

import pytest

from crucible.errors import ManifestError
from crucible.ports import MetricsStore
from crucible.runtime.facade import build_ports
from crucible.testing.fakes import FakeMetricsStore


def test_overrides_beat_the_manifest_which_beats_the_defaults() -> None:
    mine = FakeMetricsStore()
    wiring = build_ports("test", {"metrics_store": mine, "hub_client": "hf"})
    assert wiring.port("metrics_store") is mine
    assert wiring.names["hub_client"] == "hf" and wiring.names["blob_store"] == "noop"
    assert build_ports().names["blob_store"] == "local"


def test_an_adapter_may_be_an_instance_a_class_a_pair_or_a_name() -> None:
    for choice in (FakeMetricsStore(), FakeMetricsStore, (FakeMetricsStore, {}), "noop"):
        assert isinstance(build_ports("test", {"metrics_store": choice}).port("metrics_store"), MetricsStore)


def test_training_and_sampling_of_one_backend_are_one_object() -> None:
    wiring = build_ports("test")
    training, sampling = wiring.port("training_client"), wiring.port("sampling_client")
    assert build_ports("test").port("training_client") is not training
    assert wiring.port("sampling_client") is sampling


def test_a_sampler_that_could_not_see_the_trained_weights_is_refused() -> None:
    with pytest.raises(ManifestError, match="could never see the trained weights"):
        build_ports("default", {"sampling_client": "noop"})


def test_a_strict_manifest_refuses_fakes() -> None:
    with pytest.raises(ManifestError, match="is a fake"):
        build_ports("prod", {"metrics_store": "noop"})
    with pytest.raises(ManifestError, match="is a fake"):
        build_ports("prod", {"metrics_store": FakeMetricsStore})


def test_unknown_ports_adapters_and_options_are_reported_together() -> None:
    with pytest.raises(ManifestError) as caught:
        build_ports("test", {"metric_store": "noop", "blob_store": "locl"}, options={"torch": {"dtyp": "float32"}})
    said = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "Did you mean metrics_store?" in said and "Did you mean local?" in said and "Did you mean dtype?" in said


def test_wrong_options_of_a_class_are_one_sentence() -> None:
    with pytest.raises(ManifestError, match="cannot be made"):
        build_ports("test", {"metrics_store": (FakeMetricsStore, {"nonsense": 1})}).port("metrics_store")


def test_wrong_option_values_are_found_without_a_model(tmp_path: Path) -> None:
    wiring = build_ports(options={"torch": {"dtype": "int3", "threads": -1}}, run_dir=tmp_path / "run")
    with pytest.raises(ManifestError) as caught:
        wiring.verify(["training_client", "sampling_client", "metrics_store"])
    assert [problem.where for problem in caught.value.problems] == ["dtype", "threads"]
    with pytest.raises(ManifestError, match="cannot be made"):
        build_ports("test", {"metrics_store": (FakeMetricsStore, {"nonsense": 1})}).verify(["metrics_store"])
    assert list(tmp_path.iterdir()) == []


def test_options_of_adapters_that_no_stage_uses_are_left_alone() -> None:
    build_ports("test", {"llm_client": "openai"}, options={"openai": {"timeout": -1}}).verify(["training_client"])


def test_a_strict_manifest_refuses_a_default_fake_when_a_run_needs_it() -> None:
    wiring = build_ports("prod")
    wiring.verify(["training_client", "blob_store"])
    assert "llm_client" not in wiring.names
    for ask in (lambda: wiring.verify(["llm_client"]), lambda: wiring.port("llm_client")):
        with pytest.raises(ManifestError, match=r"llm_client is a fake by default.*Name a real one: openai"):
            ask()
    with pytest.raises(ManifestError, match="is a fake, and this manifest is strict"):
        build_ports("prod", {"llm_client": "noop"})


def test_the_three_services_beside_training_have_adapters() -> None:
    names = {"llm_client": "openai", "vector_store": "memory", "embedding_client": "noop"}
    wiring = build_ports("test", names, options={"openai": {"model": "m"}})
    assert {wiring.port(port).port_name for port in names} == set(names)
    assert {build_ports().names[port] for port in names} == {"noop"}


def test_naming_an_adapter_makes_nothing(tmp_path: Path) -> None:
    build_ports("local", run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
