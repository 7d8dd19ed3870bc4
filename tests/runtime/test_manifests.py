"""Manifests are names to adapters; the user's own come from crucible.toml."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crucible.errors import ManifestError
from crucible.runtime.manifests import DEFAULT_PORTS, find_manifest, manifest_names


def toml(folder: Path, text: str) -> Path:
    (folder / "crucible.toml").write_text(text, encoding="utf-8")
    return folder


def test_the_built_in_manifests_are_there(tmp_path: Path) -> None:
    assert manifest_names(start=tmp_path) == ["default", "dev", "local", "prod", "test", "tinker"]
    assert set(find_manifest("test", start=tmp_path).ports) == set(DEFAULT_PORTS)


def test_an_unknown_manifest_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="Did you mean local"):
        find_manifest("locale", start=tmp_path)


def test_a_users_manifest_extends_another(tmp_path: Path) -> None:
    start = toml(
        tmp_path,
        '[manifests.box]\nextends = "dev"\nmetrics_store = "noop"\n[manifests.box.options.torch]\nthreads = 2\n',
    )
    found = find_manifest("box", start=start)
    assert found.ports == {"metrics_store": "noop"}
    assert found.options["torch"] == {"dtype": "float32", "device": "cpu", "threads": 2}


def test_a_users_manifest_is_found_from_a_folder_below(tmp_path: Path) -> None:
    toml(tmp_path, "[manifests.box]\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_manifest("box", start=below).name == "box"


def test_a_users_local_may_extend_the_built_in_local(tmp_path: Path) -> None:
    start = toml(tmp_path, '[manifests.local]\nextends = "local"\nhub_client = "noop"\n')
    assert find_manifest("local", start=start).ports == {"hub_client": "noop"}


def test_a_circle_of_manifests_is_refused(tmp_path: Path) -> None:
    start = toml(tmp_path, '[manifests.a]\nextends = "b"\n[manifests.b]\nextends = "a"\n')
    with pytest.raises(ManifestError):
        find_manifest("a", start=start)


def test_every_problem_of_the_file_is_reported_at_once(tmp_path: Path) -> None:
    start = toml(tmp_path, '[manifests.a]\ntraining_clint = "torch"\nhub_client = 3\noptions = 4\n')
    with pytest.raises(ManifestError) as caught:
        find_manifest("a", start=start)
    assert len(caught.value.problems) == 3 and "Did you mean training_client?" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_file_gives_manifests_or_a_manifest_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "crucible.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert "default" in manifest_names(start=tmp_path)
    except ManifestError as error:
        assert error.problems
