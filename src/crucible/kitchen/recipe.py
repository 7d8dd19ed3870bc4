"""What is a recipe? A name, a config class, and the workflow that a config gives."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crucible.errors import Problem
from crucible.framework import Workflow, optional_ports, required_ports
from crucible.kitchen.config import Configured, Layer, build_config, config_fields


def _nothing_to_say(_: Any) -> Iterable[Problem]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A declarative description of one kind of post-training.

    config: a `chz` class; every field has a default, a type and a `doc`.
    workflow: the config's workflow. Pure: it calls no port and reads no file.
    presets: named sets of values; `default_preset` applies when the user names none.
    validate: problems that no single field shows (a field's own validator sits on the field).
    needs: one phrase for the table of recipes.
    evaluation: (config, checkpoint path or "") -> a workflow that only measures; None where there is none.
    """

    name: str
    description: str
    config: type[Any]
    workflow: Callable[[Any], Workflow]
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict[str, Mapping[str, object]])
    default_preset: str = ""
    validate: Callable[[Any], Iterable[Problem]] = _nothing_to_say
    needs: str = ""
    evaluation: Callable[[Any, str], Workflow] | None = None

    def configure(self, *layers: Layer, preset: str | None = None) -> Configured:
        """The config from its layers, later ones winning: class defaults < preset < `layers`.

        Raises:
            ConfigError: with every problem of every layer, the recipe's own `validate` included.
        """
        return build_config(
            self.config,
            layers,
            presets=self.presets,
            preset=preset or self.default_preset,
            validate=self.validate,
        )

    def workflow_at_defaults(self) -> Workflow:
        """The workflow of the default preset: what `describe` draws."""
        return self.workflow(self.configure().value)

    @property
    def required_ports(self) -> tuple[str, ...]:
        """Names of the ports that the workflow's stages cannot do without."""
        return tuple(port.port_name for port in required_ports(self.workflow_at_defaults()))

    @property
    def optional_ports(self) -> tuple[str, ...]:
        """Names of the ports that the workflow uses when the manifest has them."""
        return tuple(port.port_name for port in optional_ports(self.workflow_at_defaults()))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the config's fields."""
        return tuple(config_fields(self.config))
