"""The seven acceptance criteria of the seed documents (requirements, row N1), each as a test."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import crucible
from crucible.framework import Stage, lift, lower, stages_in
from crucible.ir import Experiment, from_json, to_json
from crucible.kitchen.registry import gather_stages
from crucible.kitchen.stages import STAGES
from crucible.ports import Port
from crucible.runtime.manifests import BUILTIN
from crucible.testing.run_noop import run_noop

ROOT = Path(__file__).parents[2]
COOKBOOK = sorted((ROOT / "src" / "crucible" / "cookbook").rglob("*.py"))
RECIPES = crucible.recipes()


def test_1_the_cookbook_owns_no_loop_and_stays_small() -> None:
    loops = (ast.For, ast.While, ast.AsyncFor)
    for file in COOKBOOK:
        assert not any(isinstance(node, loops) for node in ast.walk(ast.parse(file.read_text()))), file
    assert sum(len(file.read_text().splitlines()) for file in COOKBOOK) < 4000


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_2_recipes_delegate_all_work_to_the_kitchens_stages(name: str) -> None:
    kinds = {type(stage) for stage in stages_in(RECIPES[name].workflow_at_defaults().body)}
    assert kinds and kinds <= set(STAGES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_3_recipes_become_experiments_that_the_framework_runs(name: str) -> None:
    experiment = crucible.build_spec(name, {})
    assert isinstance(experiment, Experiment) and from_json(to_json(experiment)) == experiment
    workflow = lift(experiment, gather_stages(STAGES))
    assert workflow == RECIPES[name].workflow_at_defaults()
    assert lower(workflow, id=experiment.id).pipeline == experiment.pipeline
    assert run_noop(RECIPES[name], {"max_steps": 2}).status == "completed"


def test_4_the_cookbook_reaches_no_port_and_no_backend() -> None:
    allowed = {"crucible.cookbook", "crucible.kitchen", "crucible.framework", "crucible.errors"}
    for file in COOKBOOK:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crucible"):
                assert ".".join((node.module or "").split(".")[:2]) in allowed, f"{file}: {node.module}"


def test_5_manifests_are_strings_and_small() -> None:
    assert set(BUILTIN) == {"default", "local", "dev", "prod", "test", "tinker"}
    for manifest in BUILTIN.values():
        assert all(isinstance(name, str) for pair in manifest.ports.items() for name in pair)


def test_6_everything_outside_is_reached_through_an_adapter() -> None:
    for package in ("adapters", "testing"):
        for module in pkgutil.walk_packages(
            importlib.import_module(f"crucible.{package}").__path__, f"crucible.{package}."
        ):
            if "contracts" not in module.name:
                importlib.import_module(module.name)
    concrete = [kind for kind in _below(Port) if not inspect.isabstract(kind)]
    assert len(concrete) > 10
    for kind in concrete:
        if kind.__module__.startswith("crucible."):
            assert kind.__module__.startswith(("crucible.adapters.", "crucible.testing.")), kind


def test_7_tests_pass_with_warnings_as_errors() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "error" in settings["filterwarnings"]


def test_an_experiment_runs_where_the_cookbook_cannot_be_imported(tmp_path: Path) -> None:
    spec = tmp_path / "experiment.json"
    spec.write_bytes(to_json(crucible.build_spec("sl_basic", {"max_steps": 2, "eval_rows": 4})))
    program = f"""
import sys
sys.modules["crucible.cookbook"] = None
import crucible
from crucible.ir import from_json
experiment = from_json(open({str(spec)!r}, "rb").read())
result = crucible.run_spec(experiment, manifest="test", run_dir={str(tmp_path / "run")!r})
print(result.results["steps"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2


def test_every_stage_of_the_kitchen_is_documented() -> None:
    assert all(issubclass(stage, Stage) and inspect.getdoc(stage) for stage in STAGES)


def _below(kind: type[Port]) -> set[type[Port]]:
    return {found for child in kind.__subclasses__() for found in {child, *_below(child)}}
