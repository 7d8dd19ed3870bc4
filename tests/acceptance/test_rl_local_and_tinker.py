"""RL on manifest local and on manifest tinker (the official SDK, HTTP, our server): one reward curve, in turn and with
sampling that runs ahead; and a killed run goes on."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.framework import RunResult
from rl_letters import write_letter_model
from rl_runs import SMALL
from serving import KEY, Serving, raw, running, torch_served

CONFIG = {**SMALL, "max_steps": 6, "save_every": 2, "eval_groups": 4}
MODES: dict[str, dict[str, Any]] = {
    "in turn": {},
    "one step ahead": {"max_steps_off_policy": 1},
    "minibatches and a penalty": {"gradient_accumulation_steps": 2, "kl_coef": 0.1, "loss": "ppo"},
}

KILLED = """
import os, signal, sys
from crucible.__main__ import main
from crucible.telemetry import default_bus

steps = []

def listen(event):
    steps.append(event)
    if len(steps) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

default_bus().attach("kill", "training.step", listen)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letter_model(tmp_path_factory.mktemp("models") / "letters")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, letters: Path) -> Iterator[Serving]:
    """Our server, of one model under the name that local runs give it."""
    models = {str(letters): letters}
    with torch_served(tmp_path_factory.mktemp("server"), models) as served, running(served) as serving:
        yield serving


@pytest.fixture(autouse=True)
def where(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    monkeypatch.setenv("TINKER_API_KEY", KEY)


def train(manifest: str, letters: Path, run_dir: Path, **more: object) -> list[dict[str, Any]]:
    config = {**CONFIG, "model": str(letters), **more}
    options = {"torch": {"threads": 1}} if manifest == "local" else {}
    result = crucible.run("rl_basic", config, manifest=manifest, options=options, run_dir=run_dir)
    assert isinstance(result, RunResult)
    return metrics(run_dir)


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", MODES)
def test_local_and_tinker_give_one_curve(mode: str, letters: Path, tmp_path: Path) -> None:
    local = train("local", letters, tmp_path / "local", **MODES[mode])
    hosted = train("tinker", letters, tmp_path / "hosted", **MODES[mode])
    assert [row.keys() for row in hosted] == [row.keys() for row in local]
    for one, other in zip(local, hosted, strict=True):
        assert other == pytest.approx(one, abs=1e-4, rel=1e-4)


def test_a_killed_run_at_the_service_goes_on_where_it_was(letters: Path, tmp_path: Path) -> None:
    straight = train("tinker", letters, tmp_path / "straight", max_steps_off_policy=1)
    config = {**CONFIG, "model": letters, "max_steps_off_policy": 1}
    words = [f"{key}={value}" for key, value in config.items()]
    command = ["run", "rl_basic", *words, "--manifest", "tinker", "--run-dir", str(tmp_path / "run")]
    died = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr
    crucible.resume(tmp_path / "run")
    assert metrics(tmp_path / "run") == straight


def test_of_the_policies_only_those_that_a_checkpoint_refers_to_stay_at_the_service(
    server: Serving, letters: Path, tmp_path: Path
) -> None:
    before = policies_at(server)
    train("tinker", letters, tmp_path / "run", save_every=3)
    left = sorted(path.rpartition("/")[2] for path in policies_at(server) - before)
    assert left == ["policy-00000003", "policy-00000006"]


def policies_at(server: Serving) -> set[str]:
    """The paths of all snapshots of a policy that the service holds."""
    with raw(server) as client:
        found = client.get("/checkpoints", params={"limit": 1000}).json()["checkpoints"]
    return {one["tinker_path"] for one in found if "/policy-" in one["tinker_path"]}
