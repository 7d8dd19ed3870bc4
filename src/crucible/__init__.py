"""Crucible Kitchen: LLM post-training recipes that run on a laptop, a cluster or a service.

    import crucible
    result = crucible.run("sl_basic", {"preset": "demo"}, run_dir="runs/first")

Importing this package imports nothing heavy: each name below is fetched when it is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from crucible.runtime.examining import doctor as doctor
    from crucible.runtime.facade import arun as arun
    from crucible.runtime.facade import build_ports as build_ports
    from crucible.runtime.facade import build_spec as build_spec
    from crucible.runtime.facade import describe as describe
    from crucible.runtime.facade import eval as eval  # noqa: A004  (the facade's fixed name)
    from crucible.runtime.facade import recipes as recipes
    from crucible.runtime.facade import resume as resume
    from crucible.runtime.facade import run as run
    from crucible.runtime.facade import run_spec as run_spec
    from crucible.runtime.facade import train as train
    from crucible.runtime.facade import validate as validate
    from crucible.runtime.planning import plan as plan
    from crucible.train.graders.registry import register_grader as register_grader
    from crucible.train.rl.environments.registry import register_environment as register_environment

_FACADE = (
    "arun",
    "build_ports",
    "build_spec",
    "describe",
    "eval",
    "recipes",
    "resume",
    "run",
    "run_spec",
    "train",
    "validate",
)

__all__ = [
    "arun",
    "build_ports",
    "build_spec",
    "describe",
    "doctor",
    "eval",
    "plan",
    "recipes",
    "register_environment",
    "register_grader",
    "resume",
    "run",
    "run_spec",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name == "plan":
        from crucible.runtime.planning import plan

        return plan
    if name == "doctor":
        from crucible.runtime.examining import doctor

        return doctor
    if name == "register_environment":
        from crucible.train.rl.environments.registry import register_environment

        return register_environment
    if name == "register_grader":
        from crucible.train.graders.registry import register_grader

        return register_grader
    if name in _FACADE:
        from crucible.runtime import facade

        return getattr(facade, name)
    raise AttributeError(f"module 'crucible' has no attribute {name!r}")
