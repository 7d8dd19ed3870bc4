"""Which config values name something on this machine, and where is it from any other folder?"""

from pathlib import Path

from crucible.kitchen.config import Configured, config_fields


def anchored(built: Configured) -> Configured:
    """The config with every local file and folder named from the root.

    So a run's records say what they mean in every folder, whichever one the run was started in. A name that the
    kitchen knows stays a name, also where a file of that name is at hand, as for the stores that resolve it.
    """
    known = _known_names()
    absolute: dict[str, object] = {}
    for name, field in config_fields(built.value.__class__).items():
        value = getattr(built.value, name)
        if field.may_be_local and isinstance(value, str) and value not in known and (path := _local(value)):
            absolute[name] = path
    return built.with_values(absolute)


def _known_names() -> set[str]:
    from crucible.adapters.assets import PACKAGED
    from crucible.cookbook.datasets import DATASETS

    return {*PACKAGED, *DATASETS}


def _local(reference: str) -> str | None:
    """The absolute path of what is there. The last part stays: a link's name may be all that tells its kind."""
    try:
        path = Path(reference).expanduser()
        there = bool(reference) and path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a NUL: no path
        return None
    return str(path.parent.resolve() / path.name) if there else None
